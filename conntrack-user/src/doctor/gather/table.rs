//! The table of the network namespace of process 1, or where that cannot be entered of this process.

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{Roots, file};
use crate::{
    doctor::facts::{EntryBytes, Fact, SettingsOf, Statistics, Table},
    source::{
        live,
        procfs::{discover, enter, seen, stat},
    },
};

const PREFIX: &str = "nf_conntrack_";

/// `from_btf`: bytes of an entry where the allocator does not say.
pub(super) fn read(roots: &Roots, from_btf: Fact<EntryBytes>) -> Table {
    let (settings_of, sysctls) = settings(&roots.procfs);
    let process = if settings_of == SettingsOf::Own { "self" } else { "1" };
    Table {
        settings_of,
        sysctls,
        entry_bytes: entry_bytes(roots).or_else(|| from_btf),
        statistics: file::text(&statistics(&roots.procfs, process)).and_then(|text| {
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

/// The kernel's statistics of the network namespace that `process` is in.
pub(super) fn statistics(procfs: &Path, process: &str) -> PathBuf {
    procfs.join(process).join("net/stat/nf_conntrack")
}

/// The settings of the network namespace of process 1, else of this process, and which it is.
fn settings(procfs: &Path) -> (SettingsOf, Fact<BTreeMap<String, String>>) {
    let of_first = if discover::is_in_pid_namespace(procfs) {
        SettingsOf::Container
    } else {
        SettingsOf::Host
    };
    let first = procfs.join("1/ns/net");
    let inode = |link: &Path| std::fs::metadata(link).map(|metadata| metadata.ino());
    let mark = |process: &str| seen::mark(&procfs.join(process));
    let is_first = mark("self").is_some() && mark("self") == mark("1");
    if is_first {
        return (of_first, sysctls(procfs));
    }
    let target = inode(&first).map(|inode| vec![(inode, Some(first))]).unwrap_or_default();
    let entered = enter::within(target, || Ok(sysctls(procfs)));
    match entered.into_iter().find_map(|(_, entered)| entered.ok()) {
        Some(sysctls) => (of_first, sysctls),
        None => (SettingsOf::Own, sysctls(procfs)),
    }
}

fn sysctls(procfs: &Path) -> Fact<BTreeMap<String, String>> {
    let folder = procfs.join("sys/net/netfilter");
    if let Err(error) = std::fs::metadata(&folder) {
        let hidden = live::hidden_conntrack(procfs);
        return Fact::Unavailable(hidden.unwrap_or_else(|| file::why(&folder, &error)));
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
