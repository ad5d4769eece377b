//! The kernel's type information.

use std::{path::Path, sync::Arc};

use super::file;
use crate::{
    doctor::{
        MODULE,
        facts::{EntryBytes, Fact},
    },
    source::ebpf::btf::Btf,
};

/// What the type information says.
pub(super) struct Types {
    pub(super) vmlinux: Fact<u64>,
    pub(super) module: Fact<u64>,
    pub(super) entry_bytes: Fact<EntryBytes>,
}

/// Entries begin at multiples of this (`SLAB_HWCACHE_ALIGN`, 64 bytes a cache line on most machines).
const ALIGN: u64 = 64;

pub(super) fn read(sysfs: &Path, file: Option<&Path>) -> Types {
    let folder = sysfs.join("kernel/btf");
    let path = file.map_or_else(|| folder.join("vmlinux"), Path::to_owned);
    let vmlinux = parse(&path, Btf::parse);
    let base = vmlinux.known().map(|(_, btf)| Arc::clone(btf));
    let module = match base {
        Some(base) => parse(&folder.join(MODULE), |bytes| Btf::parse_split(bytes, base)),
        None => Fact::Unavailable("it continues that of vmlinux, which is not known".into()),
    };
    let types = module.known().or(vmlinux.known());
    let entry_bytes = match types.map(|(_, types)| types.member("nf_conn", "proto")) {
        // The last member: what protocols keep.
        Some(Ok(last)) => Fact::Known(EntryBytes {
            bytes: (u64::from(last.offset) + u64::from(last.size)).next_multiple_of(ALIGN),
            is_estimate: true,
        }),
        Some(Err(error)) => Fact::Unavailable(error.to_string()),
        None => Fact::Unavailable("there is no BTF".into()),
    };
    Types {
        vmlinux: vmlinux.map(|(bytes, _)| bytes),
        module: module.map(|(bytes, _)| bytes),
        entry_bytes,
    }
}

fn parse<E: std::fmt::Display>(
    path: &Path,
    parse: impl FnOnce(Vec<u8>) -> Result<Btf, E>,
) -> Fact<(u64, Arc<Btf>)> {
    let bytes = match file::bytes(path) {
        Ok(bytes) => bytes,
        Err(error) => return Fact::Unavailable(file::why(path, &error)),
    };
    let length = bytes.len() as u64;
    match parse(bytes) {
        Ok(btf) => Fact::Known((length, Arc::new(btf))),
        Err(error) => Fact::Unavailable(format!("{} is of no use: {error}", path.display())),
    }
}
