//! A network namespace as it is seen from outside.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::model::name::NameKind;

/// A network namespace that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `net->ns.inum`
    pub inode: u64,
    /// Whether this process is in it.
    pub is_own: bool,
    /// Whether process 1 is in it.
    pub is_first: bool,
    /// A process that is in it.
    pub process: Option<u32>,
    /// The name of a file on which it is mounted, and its kind; readable characters, 255 at most.
    pub name: Option<(NameKind, String)>,
}

/// What a look for network namespaces showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// Those that were seen.
    pub seen: Vec<Seen>,
    /// Signs of others.
    pub unseen: Unseen,
}

/// Signs of network namespaces that a look did not show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    /// Processes whose namespace may not be looked at; none where processes themselves are hidden.
    pub hidden: Option<u64>,
    /// Marks of namespaces that such processes are in, each with their number; 64 at most. A mark is the inode of
    /// /proc/PID/net/stat.
    pub marks: Vec<(u64, u64)>,
    /// Set where procfs shows the processes of a PID namespace other than the machine's, as in a container.
    pub is_in_pid_namespace: bool,
    /// Mount namespaces whose mounts were not looked through.
    pub mount_namespaces: u64,
    /// Files in folders of namespaces that stand for none, 4 at most.
    pub stale_files: Vec<String>,
}

/// Marks that are kept of one look.
pub(super) const MARKS: usize = 64;
/// Stale files that are named, and characters of each.
pub(super) const STALE_FILES: usize = 4;
pub(super) const STALE_CHARS: usize = 128;

impl Seen {
    /// The folder of a process that is in it.
    #[must_use]
    pub(super) fn folder(&self, procfs: &Path) -> Option<PathBuf> {
        match self.process {
            _ if self.is_own => Some(procfs.join("self")),
            process => Some(procfs.join(process?.to_string())),
        }
    }
}

/// The inode of `/proc/net/stat` as the process with this folder sees it. Every namespace has one of its own
/// (`proc_net_ns_init`, fs/proc/proc_net.c), so it tells whether the process is in a namespace to who may not look
/// at its link ns/net. Costs a stat(2).
#[must_use]
pub(crate) fn mark(process: &Path) -> Option<u64> {
    fs::metadata(process.join("net/stat")).map(|metadata| metadata.ino()).ok()
}
