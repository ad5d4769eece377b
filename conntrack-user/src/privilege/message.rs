//! What the halves say to each other: the serving half asks, the helper answers.
//!
//! A request names neither a path nor a program nor an option: these the helper was started with. The only numbers in
//! it are inodes, as an index of what the helper itself has found.

use serde::{Deserialize, Serialize};

use crate::{
    model::reading::KernelStat,
    source::{
        ebpf::{attach::Failure, parts::Facts},
        procfs::seen::{Seen, Unseen},
    },
};

/// Namespaces that are asked for, or told of, in one message.
pub const NETNS: usize = 32;
/// Bytes of a request, at most: [`NETNS`] inodes.
pub const REQUEST_BYTES: usize = 1024;
/// Bytes of an answer, at most: [`NETNS`] names of files, 255 characters of four bytes each, take half of it.
pub const ANSWER_BYTES: usize = 64 << 10;
/// Descriptors of a namespace that was entered: `nf_conntrack_count`, `nf_conntrack_max` and their folder.
pub const DESCRIPTORS_OF_NETNS: usize = 3;

/// All that can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// The kernel programs are to be loaded and attached.
    Attach,
    /// They are to be detached, also where they are pinned.
    Detach,
    /// They are to be detached unless they are pinned.
    Leave,
    /// They are to be timed, where the helper was told that it may.
    Time,
    /// Which namespaces there are.
    Discover,
    /// Files of namespaces that were found last, [`NETNS`] at the most.
    Enter(Vec<u64>),
    /// Sockets for the events of ctnetlink in such namespaces, as many at the most, where the helper was told that it may.
    Listen(Vec<u64>),
    /// The kernel's own counters in such namespaces, as many at the most.
    Statistics(Vec<u64>),
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The programs are attached; their descriptors are beside it.
    Attached(Box<Facts>),
    /// They are detached.
    Detached,
    /// They are timed until all copies of the descriptor beside it are closed.
    Timed,
    /// Namespaces; after one with `more` comes another one.
    Seen {
        /// Some of them.
        seen: Vec<Seen>,
        /// Signs of others, in each of these answers the same.
        unseen: Unseen,
        /// Whether that was not all.
        more: bool,
    },
    /// Visits, each that went well with [`DESCRIPTORS_OF_NETNS`] descriptors.
    Entered(Vec<Visited<Known>>),
    /// Visits, each that went well with the descriptor of a socket.
    Listening(Vec<Visited<()>>),
    /// Visits, each that went well with the counters.
    Statistics(Vec<Visited<KernelStat>>),
    /// It was not done.
    Failed(Failure),
}

/// What came of a visit to a namespace.
#[derive(Debug, Serialize, Deserialize)]
pub struct Visited<T> {
    /// Which one.
    pub inode: u64,
    /// What is known of it, or why what was asked for could not be done in it.
    pub outcome: Result<T, String>,
}

/// What is known of a namespace that was entered.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Known {
    /// `net->net_cookie`
    pub cookie: Option<u64>,
    /// The inode of /proc/net/stat in it.
    pub mark: Option<u64>,
}
