//! Reads the facts: thin shells, one subject each. All paths are below [`Roots`].

mod btf;
mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod hooks;
mod kernel;
mod modules;
mod namespaces;
mod observed;
mod process;
mod settings;
mod surroundings;
mod table;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::facts::{Conntrack, Fact, Facts, Kernel};

/// Where the file systems are that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// procfs
    pub procfs: PathBuf,
    /// sysfs
    pub sysfs: PathBuf,
    /// A file with the kernel's types (BTF), in place of those in sysfs.
    pub btf: Option<PathBuf>,
    /// The folder that has the names of pods.
    pub pods: PathBuf,
    /// The root file system: /etc, /boot, /lib/modules.
    pub rootfs: PathBuf,
}

impl Roots {
    /// `path`, which is absolute, below the root file system.
    fn file(&self, path: &str) -> PathBuf {
        self.rootfs.join(path.trim_start_matches('/'))
    }
}

/// Reads everything. What cannot be read is unknown, with the reason. Attaches the programs for a
/// moment, which takes a fraction of a second, or for `observe`.
#[must_use]
pub fn gather(roots: &Roots, observe: Option<Duration>) -> Facts {
    let look = observed::Look::begin(roots);
    // Before anything is attached, which raises limits of this process.
    let process = process::read(roots);
    let release = file::text(&roots.procfs.join("sys/kernel/osrelease"));
    let loaded = modules::loaded(&roots.procfs);
    let conntrack = modules::conntrack(roots, loaded.as_ref(), &release);
    let types = btf::read(&roots.sysfs, roots.btf.as_deref());
    let (attach, programs) = match &conntrack {
        Fact::Known(Conntrack::Absent { .. }) => {
            (hooks::untried("not tried, because nf_conntrack is not loaded"), None)
        }
        Fact::Known(_) | Fact::Unavailable(_) => hooks::attach(roots, observe),
    };
    let own = namespaces::own(roots);
    let namespaces = namespaces::read(roots, own, programs.as_ref());
    drop(programs);
    Facts {
        ctmon: env!("CARGO_PKG_VERSION").into(),
        kernel: Kernel {
            config: kernel::config(roots, &release),
            build: file::text(&roots.procfs.join("sys/kernel/version")),
            architecture: std::env::consts::ARCH.into(),
            vmlinux_btf: types.vmlinux,
            module_btf: types.module,
            bpf_jit_enable: file::number(&roots.procfs.join("sys/net/core/bpf_jit_enable")),
            ftrace_enabled: file::number(&roots.procfs.join("sys/kernel/ftrace_enabled")),
            kprobes: kernel::kprobes(&roots.sysfs),
            release,
        },
        conntrack,
        attach,
        process,
        namespaces,
        table: table::read(roots, types.entry_bytes),
        surroundings: surroundings::read(roots, loaded),
        observed: look.end(),
    }
}

/// The statistics of the network namespace that this process is in, as the kernel writes them.
#[must_use]
pub fn statistics_text(procfs: &Path) -> Fact<String> {
    file::text(&table::statistics(procfs, "self"))
}

/// The name of this host, and the kernel's command line. Both are private.
#[must_use]
pub fn private(procfs: &Path) -> [(&'static str, Fact<String>); 2] {
    [
        ("host name", file::text(&procfs.join("sys/kernel/hostname"))),
        ("kernel command line", file::text(&procfs.join("cmdline"))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::ebpf;

    fn roots(procfs: &str, sysfs: &str, rootfs: &str) -> Roots {
        Roots {
            procfs: procfs.into(),
            sysfs: sysfs.into(),
            btf: None,
            pods: "/var/log/pods".into(),
            rootfs: rootfs.into(),
        }
    }

    /// Needs no privilege: whatever is refused is said.
    #[test]
    fn this_machine_has_facts() {
        let facts = gather(&roots("/proc", "/sys", "/"), None);
        assert!(facts.kernel.release.known().is_some(), "{:?}", facts.kernel.release);
        assert!(facts.process.capabilities.known().is_some());
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&json).unwrap(), facts);
    }

    #[test]
    fn folders_that_are_no_file_systems_give_reasons() {
        let empty = tempfile::tempdir().unwrap();
        let path = empty.path().to_str().unwrap();
        let facts = gather(&roots(path, path, path), None);
        for why in [
            facts.kernel.release.unavailable(),
            facts.kernel.vmlinux_btf.unavailable(),
            facts.conntrack.unavailable(),
            facts.attach.hooks.unavailable(),
            facts.process.capabilities.unavailable(),
            facts.namespaces.own.unavailable(),
            facts.table.sysctls.unavailable(),
            facts.surroundings.modules.unavailable(),
            facts.surroundings.listeners.unavailable(),
        ] {
            let is_reason = |why: &str| why.contains(path) || why == ebpf::LEFT_OUT;
            assert!(why.is_some_and(is_reason), "{why:?}");
        }
    }
}
