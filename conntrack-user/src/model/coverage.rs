//! Coverage of network namespaces: how many tables are read, which known ones are not, and what may hide others.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    bounds::{self, at_most},
    reading::NetnsId,
    tick::{Entries, Limit},
};

/// Namespaces without a read table that are listed one by one, at most; the others are counted.
pub const LISTED_NETNS: usize = 16;

/// Coverage of the network namespaces of this machine at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Namespaces whose table is read: entries and limit.
    pub read: u64,
    /// Namespaces that only kernel programs count: they cannot be entered, so their limit and fill are not read.
    pub counted: u64,
    /// Known namespaces of which no number is available.
    pub unread: u64,
    /// Set where there are no others: the kernel's own list of namespaces was read.
    pub is_total_exact: bool,
    /// Namespaces among `counted` and `unread`, [`LISTED_NETNS`] at most.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::REMEMBERED }>")]
    pub not_read: Vec<NetnsNotRead>,
    /// Causes that may hide further namespaces; empty where the kernel's own list was read.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::REMEMBERED }>")]
    pub blind_spots: Vec<BlindSpot>,
    /// Files in folders of namespaces that stand for none, as a failed `ip netns delete` leaves them.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::REMEMBERED }>")]
    pub stale_files: Vec<String>,
}

/// A known namespace whose table is not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsNotRead {
    /// Identity; inode 0 where only a hidden process shows that it is there.
    pub id: NetnsId,
    /// Name, where one is known.
    pub name: Option<String>,
    /// Set where kernel programs count in it.
    pub is_counted: bool,
    /// Entries in its table, by the kernel's own list; none where that was not read.
    pub entries: Option<u64>,
    /// Why its table is not read.
    pub reason: Reason,
}

impl NetnsNotRead {
    /// Fill of its table by `limit`, entries by limit; none where it is not counted, or its entries are not known.
    /// `limit`: that of all tables, see [`super::tick::Tick::common_limit`].
    #[must_use]
    pub fn fill_ratio(&self, limit: Limit) -> Option<f64> {
        let entries = self.entries.filter(|_| self.is_counted)?;
        limit.fill(Entries::Exact(entries))
    }
}

/// Reason for which the table of a known namespace is not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The kernel refused to let ctmon enter it.
    Refused(String),
    /// No process that ctmon sees is in it, and no file that ctmon finds stands for it.
    NoPath,
    /// All of its processes hide their namespace from ctmon.
    HiddenProcess,
}

/// Cause that may hide further namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlindSpot {
    /// ctmon runs in a PID namespace of its own, as in a container, and sees its processes only.
    PidNamespace,
    /// procfs hides processes of other users (mount option `hidepid`).
    Hidepid,
    /// So many processes hide their namespace, and nothing shows which one they are in.
    HiddenProcesses(u64),
    /// The mounts of so many mount namespaces were not looked through.
    MountNamespaces(u64),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused(why) => why,
            Self::NoPath => "no process and no file leads to it",
            Self::HiddenProcess => {
                "its processes hide it from who may not trace them (CAP_SYS_PTRACE)"
            }
        })
    }
}

impl BlindSpot {
    /// Name in JSON.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::PidNamespace => "pid_namespace",
            Self::Hidepid => "hidepid",
            Self::HiddenProcesses(_) => "hidden_processes",
            Self::MountNamespaces(_) => "mount_namespaces",
        }
    }

    /// Advice for who wants to see more.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::PidNamespace => {
                "--pid=host (Docker, Podman) or hostPID: true (Kubernetes) shows those of the node"
            }
            Self::Hidepid | Self::HiddenProcesses(_) => {
                "run ctmon as root, or with CAP_SYS_PTRACE and CAP_SYS_ADMIN"
            }
            Self::MountNamespaces(_) => {
                "run ctmon for longer: it looks through more each time; of who has thousands of mounts it keeps a part"
            }
        }
    }
}

impl fmt::Display for BlindSpot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PidNamespace => {
                f.write_str("ctmon sees only the processes of its own container (PID namespace)")
            }
            Self::Hidepid => f.write_str("procfs hides processes of others (mount option hidepid)"),
            Self::HiddenProcesses(1) => {
                f.write_str("a process hides its own from who may not trace it (CAP_SYS_PTRACE)")
            }
            Self::HiddenProcesses(processes) => write!(
                f,
                "{processes} processes hide theirs from who may not trace them (CAP_SYS_PTRACE)"
            ),
            Self::MountNamespaces(all) => {
                write!(
                    f,
                    "the mounts of {all} mount namespaces were not, or not all, looked through"
                )
            }
        }
    }
}

impl Coverage {
    /// Known namespaces; a lower bound unless [`Coverage::is_total_exact`].
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.read + self.counted + self.unread
    }

    /// Reports whether every known table is read, and nothing is known to hide others.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.counted == 0 && self.unread == 0 && self.blind_spots.is_empty()
    }

    /// Adds a namespace whose table is not read. The first [`LISTED_NETNS`] are listed: the one with the most entries is to
    /// come first.
    pub fn add(&mut self, netns: NetnsNotRead) {
        if netns.is_counted {
            self.counted += 1;
        } else {
            self.unread += 1;
        }
        if self.not_read.len() < LISTED_NETNS {
            self.not_read.push(netns);
        }
    }
}

/// Reads and writes a coverage that is shared as one that is not.
pub mod shared {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    use super::Coverage;

    /// Writes it.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(
        coverage: &Option<Arc<Coverage>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        coverage.as_deref().serialize(serializer)
    }

    /// Reads it.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<Coverage>>, D::Error> {
        Ok(Option::<Coverage>::deserialize(deserializer)?.map(Arc::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn not_read(inode: u64, is_counted: bool) -> NetnsNotRead {
        let id = NetnsId { cookie: None, inode };
        NetnsNotRead { id, name: None, is_counted, entries: None, reason: Reason::NoPath }
    }

    #[test]
    fn a_namespace_is_read_or_counted_or_neither() {
        let mut coverage = Coverage { read: 3, ..Coverage::default() };
        assert!(coverage.is_whole());
        coverage.add(not_read(7, true));
        coverage.add(not_read(8, false));
        assert_eq!((coverage.counted, coverage.unread, coverage.total()), (1, 1, 5));
        assert!(!coverage.is_whole());
    }

    #[test]
    fn a_counted_table_has_a_fill_by_the_limit_of_all() {
        let with = |is_counted, entries| NetnsNotRead { entries, ..not_read(7, is_counted) };
        let limit = Limit::Entries(1000);
        assert_eq!(with(true, Some(950)).fill_ratio(limit), Some(0.95));
        assert_eq!(with(true, None).fill_ratio(limit), None);
        assert_eq!(with(false, Some(950)).fill_ratio(limit), None);
        assert_eq!(with(true, Some(950)).fill_ratio(Limit::Unlimited), None);
    }

    #[test]
    fn a_blind_spot_is_not_whole() {
        let blind_spots = vec![BlindSpot::PidNamespace];
        assert!(!Coverage { read: 1, blind_spots, ..Coverage::default() }.is_whole());
        let stale_files = vec!["/run/netns/old".into()];
        assert!(Coverage { read: 1, stale_files, ..Coverage::default() }.is_whole());
    }

    #[test]
    fn the_list_is_bounded_and_the_counts_are_not() {
        let mut coverage = Coverage::default();
        (0..100).for_each(|inode| coverage.add(not_read(inode, false)));
        assert_eq!((coverage.unread, coverage.not_read.len()), (100, LISTED_NETNS));
    }
}
