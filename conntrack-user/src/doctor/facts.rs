//! What is known about this machine, as plain data. Written out by `ctmon doctor --output json`:
//! docs/doctor.md says what each field means.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{model::coverage::BlindSpot, source::item::ProbedHook};

/// Something that is known, or why it is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact<T> {
    /// It is known.
    Known(T),
    /// It is not, for this reason.
    Unavailable(String),
}

impl<T> Fact<T> {
    /// The value, where it is known.
    #[must_use]
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unavailable(_) => None,
        }
    }

    /// Why it is not available.
    #[must_use]
    pub const fn unavailable(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Unavailable(why) => Some(why.as_str()),
        }
    }

    /// The same about a reference.
    #[must_use]
    pub fn as_ref(&self) -> Fact<&T> {
        match self {
            Self::Known(value) => Fact::Known(value),
            Self::Unavailable(why) => Fact::Unavailable(why.clone()),
        }
    }

    /// Something else made of the value.
    #[must_use]
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::Known(value) => Fact::Known(make(value)),
            Self::Unavailable(why) => Fact::Unavailable(why),
        }
    }

    /// A fact that rests on the value.
    #[must_use]
    pub fn and_then<U>(self, make: impl FnOnce(T) -> Fact<U>) -> Fact<U> {
        match self {
            Self::Known(value) => make(value),
            Self::Unavailable(why) => Fact::Unavailable(why),
        }
    }

    /// This fact, or `other` where this is not known.
    #[must_use]
    pub fn or_else(self, other: impl FnOnce() -> Self) -> Self {
        if self.known().is_some() { self } else { other() }
    }
}

impl<T: PartialEq> Fact<T> {
    /// Whether it is known to be `value`.
    #[must_use]
    pub fn is(&self, value: &T) -> bool {
        self.known() == Some(value)
    }
}

/// Everything that is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of ctmon.
    pub ctmon: String,
    /// The kernel and what it can do.
    pub kernel: Kernel,
    /// How connection tracking is there.
    pub conntrack: Fact<Conntrack>,
    /// How the programs attach.
    pub attach: Attach,
    /// What this process may do.
    pub process: Process,
    /// The network namespaces.
    pub namespaces: Namespaces,
    /// The table of the network namespace of process 1, or where that cannot be entered of this process.
    pub table: Table,
    /// What else has to do with connection tracking.
    pub surroundings: Surroundings,
    /// Changes while it was looked.
    pub observed: Fact<Observed>,
}

/// Changes while it was looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Nanoseconds of the look.
    pub interval_ns: u64,
    /// Values of `nf_conntrack_max`, one after the other; more than one: something has set it.
    pub limits: Vec<u32>,
    /// Network namespaces that lost something.
    pub losing: Vec<NetnsLosses>,
}

/// Losses of a network namespace by the kernel's statistics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsLosses {
    /// `net->ns.inum`
    pub inode: u64,
    /// Packets dropped: table full, or a clash that could not be resolved.
    pub drop: u64,
    /// Entries evicted to make room.
    pub early_drop: u64,
}

/// The kernel and what it can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// As `uname -r`.
    pub release: Fact<String>,
    /// As `uname -v`: SMP and how it pre-empts.
    pub build: Fact<String>,
    /// The architecture that ctmon was built for.
    pub architecture: String,
    /// Bytes of the BTF of vmlinux, which parses.
    pub vmlinux_btf: Fact<u64>,
    /// Bytes of the BTF of the module `nf_conntrack`, which parses.
    pub module_btf: Fact<u64>,
    /// `net.core.bpf_jit_enable`
    pub bpf_jit_enable: Fact<u32>,
    /// `kernel.ftrace_enabled`
    pub ftrace_enabled: Fact<u32>,
    /// Whether perf has the event source `kprobe`.
    pub kprobes: Fact<bool>,
    /// The options of the build that matter here; one that is not set is not in it.
    pub config: Fact<BTreeMap<String, String>>,
}

/// How connection tracking is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "as")]
pub enum Conntrack {
    /// As a loaded module.
    Module {
        /// Modules that need it.
        users: Vec<String>,
    },
    /// Built into the kernel.
    BuiltIn,
    /// Not there, and whether the module could be loaded.
    Absent {
        /// Whether a module of this kernel has its name.
        loadable: Fact<bool>,
    },
}

/// How the programs attach. They were detached at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Each hook and how its programs did, or why none could be tried.
    pub hooks: Fact<Vec<ProbedHook>>,
    /// Whether the kernel refused for want of permission.
    pub is_refused: bool,
    /// Reasons for kprobes where the kernel has fentry.
    #[serde(default)]
    pub without: Vec<String>,
}

/// What this process may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Effective user id.
    pub user: Fact<u32>,
    /// The effective set, a bit a capability.
    pub capabilities: Fact<u64>,
    /// `kernel.unprivileged_bpf_disabled`
    pub unprivileged_bpf_disabled: Fact<u32>,
    /// `kernel.perf_event_paranoid`
    pub perf_event_paranoid: Fact<i32>,
    /// `kernel.kptr_restrict`
    pub kptr_restrict: Fact<u32>,
    /// `none`, `integrity` or `confidentiality`
    pub lockdown: Fact<String>,
    /// 0: no seccomp, 1: strict, 2: a filter.
    pub seccomp: Fact<u32>,
    /// Whether it can gain no privileges by executing a file.
    pub no_new_privs: Fact<bool>,
    /// Locked memory in bytes; programs count as such before Linux 5.11.
    pub locked_memory: Fact<Limit>,
    /// Open files; ctmon keeps two a namespace.
    pub open_files: Fact<Limit>,
    /// Whether this is the initial user namespace: capabilities of others do not count for BPF.
    pub initial_user_namespace: Fact<bool>,
    /// Whether this is the initial PID namespace: others show only their own processes.
    pub initial_pid_namespace: Fact<bool>,
    /// Signs of a container.
    pub container_signs: Vec<String>,
}

/// A resource limit; none: unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// In force; ctmon raises it up to the hard limit.
    pub soft: Option<u64>,
    /// The highest that it may be raised to.
    pub hard: Option<u64>,
}

/// A capability, by its bit (include/uapi/linux/capability.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Modules' BTF, other namespaces; stands for the two below.
    SysAdmin = 21,
    /// Namespaces of other users' processes.
    SysPtrace = 19,
    /// Limits of the process.
    SysResource = 24,
    /// Tracing programs.
    Perfmon = 38,
    /// Programs and maps.
    Bpf = 39,
}

impl Process {
    /// Whether `capability` is effective, where that is known.
    #[must_use]
    pub fn has(&self, capability: Capability) -> Option<bool> {
        self.capabilities.known().map(|set| set >> capability as u32 & 1 == 1)
    }
}

/// The network namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Inode of the one that this process is in.
    pub own: Fact<u64>,
    /// Those that could be read.
    pub read: Vec<Namespace>,
    /// Those that were seen and could not be entered.
    pub refused: Vec<Refused>,
    /// Processes whose network namespace this process may not see.
    pub hidden_processes: Fact<u64>,
    /// Known ones that are not read, `refused` and `others` among them.
    pub unread: u64,
    /// Namespaces on the kernel's own list alone: no process and no file leads to them.
    #[serde(default)]
    pub others: Vec<OtherNetns>,
    /// Set where there are no more: the kernel's own list was read, which takes programs.
    #[serde(default)]
    pub is_total_exact: bool,
    /// Causes that may hide others.
    pub blind_spots: Vec<BlindSpot>,
    /// Files in folders of namespaces that stand for none. Private.
    pub stale_files: Vec<String>,
}

/// A network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// `net->ns.inum`
    pub inode: u64,
    /// Its name under /run/netns. Private.
    pub name: Option<String>,
    /// `nf_conntrack_count`
    pub entries: Fact<u32>,
    /// `nf_conntrack_max`
    pub entries_limit: Fact<u32>,
}

/// A network namespace on the kernel's own list that is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherNetns {
    /// `net->ns.inum`
    pub inode: u64,
    /// Entries in its table; none where the kernel does not tell.
    pub entries: Option<u64>,
}

/// A network namespace that could not be entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// `net->ns.inum`
    pub inode: u64,
    /// Why.
    pub reason: String,
}

/// The network namespace whose settings are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingsOf {
    /// Namespace of the machine's process 1.
    #[default]
    Host,
    /// Namespace of this container's process 1.
    Container,
    /// Namespace of this process, because the one of process 1 cannot be entered.
    Own,
}

/// The table of a network namespace: that of process 1, where it can be entered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Network namespace whose settings these are.
    pub settings_of: SettingsOf,
    /// The sysctls `net.netfilter.nf_conntrack_*`, without that prefix.
    pub sysctls: Fact<BTreeMap<String, String>>,
    /// Bytes of an entry without its extensions.
    pub entry_bytes: Fact<EntryBytes>,
    /// /proc/net/stat/nf_conntrack, summed over CPUs.
    pub statistics: Fact<Statistics>,
}

impl Table {
    /// The sysctl `nf_conntrack_NAME` as a number.
    #[must_use]
    pub fn sysctl(&self, name: &str) -> Option<u64> {
        self.sysctls.known()?.get(name)?.parse().ok()
    }
}

/// Bytes of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryBytes {
    /// Bytes.
    pub bytes: u64,
    /// Whether it is worked out from BTF, not said by the allocator.
    pub is_estimate: bool,
}

/// Counters of the kernel since the namespace was made; none: not in this kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Packets dropped: table full, or a clash that could not be resolved.
    pub drop: Option<u64>,
    /// Entries evicted to make room.
    pub early_drop: Option<u64>,
    /// Entries that could not be inserted.
    pub insert_failed: Option<u64>,
    /// Entries refused because their chain was too long.
    pub chaintoolong: Option<u64>,
}

/// What else has to do with connection tracking.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surroundings {
    /// Loaded modules that matter, and how often each is in use by other things than modules: rules of
    /// all namespaces, where the module brings matches or expressions.
    pub modules: Fact<BTreeMap<String, u32>>,
    /// Sockets of this network namespace that receive ctnetlink events of entries.
    pub listeners: Fact<u32>,
    /// Files that set the size of the table.
    pub settings: Vec<Setting>,
    /// Names of running programs that matter here, out of a fixed list.
    pub programs: Fact<Vec<String>>,
    /// Signs of Cilium.
    pub cilium_signs: Vec<String>,
    /// Whether kube-proxy works in this network namespace with IPVS (the interface `kube-ipvs0`).
    pub kube_ipvs: Fact<bool>,
}

/// A file that sets the size of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The file. Its name is private.
    pub file: String,
    /// `nf_conntrack_max`, `nf_conntrack_buckets` or `hashsize`.
    pub key: String,
    /// What it sets it to.
    pub value: String,
    /// No file that is read later sets it, and no file of the same name masks this one: it is the value that sysctl(8),
    /// systemd-sysctl(8) or modprobe(8) sets.
    pub effective: bool,
}
