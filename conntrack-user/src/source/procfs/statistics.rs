//! The kernel's own counters of a network namespace where its processes do not show them: by entering it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::{super::netlink::statistics, stat};
use crate::{file, model::reading::KernelStat};

/// Reads the counters of the namespace that a thread is in.
#[derive(Debug)]
pub(in crate::source) struct Reader {
    procfs: PathBuf,
    /// Set where ctnetlink is built into the kernel; looked up once, because that takes reading all symbols.
    is_built_in: OnceLock<bool>,
}

impl Reader {
    /// `procfs`: where procfs is mounted.
    pub(in crate::source) const fn new(procfs: PathBuf) -> Self {
        Self { procfs, is_built_in: OnceLock::new() }
    }

    /// From procfs, else from ctnetlink if that is there: asking would load its module.
    ///
    /// # Errors
    /// The kernel has neither, or asking is not permitted.
    pub(in crate::source) fn read(&self) -> io::Result<KernelStat> {
        match file::read_text(&self.procfs.join("thread-self").join(stat::FILE), file::KERNEL) {
            Ok(text) => stat::parse(&text).ok_or_else(|| io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Err(_) if self.has_ctnetlink() => statistics::ask(),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the kernel has no /proc/net/stat/nf_conntrack (CONFIG_NF_CONNTRACK_PROCFS), and the module \
                 nf_conntrack_netlink, which would tell them, is not loaded",
            )),
        }
    }

    fn has_ctnetlink(&self) -> bool {
        has_ctnetlink_loaded(&self.procfs)
            || *self.is_built_in.get_or_init(|| has_ctnetlink_symbols(&self.procfs))
    }
}

/// Reports whether the counters have to be asked of ctnetlink, and can be, which takes `CAP_NET_ADMIN`.
#[must_use]
pub fn takes_ctnetlink(procfs: &Path) -> bool {
    let has_conntrack = procfs.join("sys/net/netfilter/nf_conntrack_count").exists();
    has_conntrack
        && !procfs.join("self").join(stat::FILE).exists()
        && (has_ctnetlink_loaded(procfs) || has_ctnetlink_symbols(procfs))
}

fn has_ctnetlink_loaded(procfs: &Path) -> bool {
    let modules = file::read_text(&procfs.join("modules"), file::KERNEL).unwrap_or_default();
    modules.lines().any(|line| line.starts_with("nf_conntrack_netlink "))
}

fn has_ctnetlink_symbols(procfs: &Path) -> bool {
    let symbols = file::read(&procfs.join("kallsyms"), file::KERNEL).unwrap_or_default();
    let name = b" ctnetlink_";
    symbols.windows(name.len()).any(|part| part == name)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder that stands for procfs.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    const COUNT: (&str, &str) = ("sys/net/netfilter/nf_conntrack_count", "5");
    const LOADED: (&str, &str) = ("modules", "nf_conntrack_netlink 57344 0 - Live 0x0\n");

    #[test]
    fn ctnetlink_is_asked_only_where_procfs_has_nothing_and_it_is_there() {
        let stat = ("self/net/stat/nf_conntrack", "entries drop\n1 2\n");
        let built_in = ("kallsyms", "0000000000000000 t ctnetlink_stat_ct_cpu\n");
        for (files, expected) in [
            (vec![COUNT, LOADED], true),
            (vec![COUNT, built_in], true),
            (vec![COUNT, stat, LOADED], false),
            (vec![COUNT], false),
            (vec![COUNT, ("modules", "nf_conntrack 1 0 - Live 0x0\n")], false),
            (vec![LOADED], false),
        ] {
            let folder = folder(&files);
            assert_eq!(takes_ctnetlink(folder.path()), expected, "{files:?}");
        }
    }

    #[test]
    fn without_either_the_reason_names_both() {
        let with = folder(&[("thread-self/net/stat/nf_conntrack", "entries drop\n1 f\n")]);
        assert_eq!(Reader::new(with.path().into()).read().unwrap().drop, Some(15));
        let error = Reader::new(folder(&[COUNT]).path().into()).read().unwrap_err().to_string();
        assert!(
            error.contains("CONFIG_NF_CONNTRACK_PROCFS") && error.contains("netlink"),
            "{error}"
        );
    }
}
