//! A network namespace as it is seen from outside.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

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
    /// Its name under /run/netns.
    pub name: Option<String>,
}

/// What a look for network namespaces showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// Those that were seen.
    pub seen: Vec<Seen>,
    /// Processes whose namespace may not be looked at; none where processes themselves are hidden.
    pub hidden: Option<u64>,
}

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
pub(super) fn mark(process: &Path) -> Option<u64> {
    fs::metadata(process.join("net/stat")).map(|metadata| metadata.ino()).ok()
}
