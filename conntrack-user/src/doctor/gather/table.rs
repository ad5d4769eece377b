//! The table of the network namespace that this process is in.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Roots, file};
use crate::{
    doctor::facts::{EntryBytes, Fact, Statistics, Table},
    source::procfs::stat,
};

const PREFIX: &str = "nf_conntrack_";

/// `from_btf`: bytes of an entry where the allocator does not say.
pub(super) fn read(roots: &Roots, from_btf: Fact<EntryBytes>) -> Table {
    Table {
        sysctls: sysctls(&roots.procfs),
        entry_bytes: entry_bytes(roots).or_else(|| from_btf),
        statistics: file::text(&statistics(&roots.procfs)).and_then(|text| {
            match stat::parse(&text) {
                Some(stat) => Fact::Known(Statistics {
                    drop: stat.drop,
                    early_drop: stat.early_drop,
                    insert_failed: stat.insert_failed,
                    chaintoolong: stat.chaintoolong,
                }),
                None => Fact::Unavailable("/proc/net/stat/nf_conntrack is not understood".into()),
            }
        }),
    }
}

/// The kernel's statistics of the own network namespace.
pub(super) fn statistics(procfs: &Path) -> PathBuf {
    procfs.join("self/net/stat/nf_conntrack")
}

fn sysctls(procfs: &Path) -> Fact<BTreeMap<String, String>> {
    let folder = procfs.join("sys/net/netfilter");
    if let Err(error) = std::fs::metadata(&folder) {
        return Fact::Unavailable(file::why(&folder, &error));
    }
    let values = file::names(&folder).into_iter().filter_map(|file| {
        let name = file.strip_prefix(PREFIX)?.to_owned();
        Some((name, file::text(&folder.join(&file)).known()?.clone()))
    });
    Fact::Known(values.collect())
}

/// What the allocator says: for everyone in sysfs, or for root in procfs.
fn entry_bytes(roots: &Roots) -> Fact<EntryBytes> {
    let exact = |bytes| EntryBytes { bytes, is_estimate: false };
    let slab = roots.sysfs.join("kernel/slab/nf_conntrack/slab_size");
    file::number(&slab).map(exact).or_else(|| {
        let path = roots.procfs.join("slabinfo");
        file::text(&path).and_then(|text| {
            // Name, objects in use, objects, bytes of one.
            let line = text.lines().find_map(|line| line.strip_prefix("nf_conntrack "));
            let bytes = line.and_then(|line| line.split_whitespace().nth(2)?.parse().ok());
            let missing =
                || Fact::Unavailable(format!("{} has no cache nf_conntrack", path.display()));
            bytes.map(exact).map_or_else(missing, Fact::Known)
        })
    })
}
