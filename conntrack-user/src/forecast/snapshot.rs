//! What a forecast is made from.

use serde::{Deserialize, Serialize};

use crate::model::{
    class::{EntryStatus, PROTOCOLS, Protocol, STATUSES},
    tick::Limit,
};

/// Numbers by final or present status and protocol, in the orders of [`crate::model::class::EntryStatus::ALL`]
/// and [`crate::model::class::Protocol::ALL`].
pub type ByClass<T> = [[T; PROTOCOLS]; STATUSES];

/// A table at one moment, as far as it is known. What is not known is none, and makes a forecast less certain.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Nanoseconds on a clock that never jumps.
    pub time_ns: u64,
    /// Entries in the table.
    pub entries: Option<u64>,
    /// Entries it may have (`nf_conntrack_max`).
    pub limit: Limit,
    /// What happened since the snapshot before; none at the first, after a gap, and where only counts are polled.
    pub change: Option<Change>,
    /// Status of the live entries whose insert was seen, estimated from a sample; none where none are read.
    pub live: Option<Live>,
    /// How long entries lived that have ended since the snapshot before, of a sample of those whose insert was seen;
    /// none where no events are sent.
    pub ended: Option<Vec<Ended>>,
    /// How long entries live before the kernel takes them out for lack of packets.
    pub timeouts: Timeouts,
}

/// What happened in a table between two snapshots; exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// Entries put into the table, by protocol.
    pub inserts: [u64; PROTOCOLS],
    /// Entries taken out of it, by final status and protocol; evictions too.
    pub deletes: ByClass<u64>,
    /// Entries evicted to make room at the limit (`early_drop`); part of `deletes`.
    pub early_drops: u64,
    /// Entries that a user deleted, or that went with their namespace; part of `deletes`. None where causes are not told.
    pub removed: Option<u64>,
    /// Packets dropped because the table was full.
    pub refused: u64,
}

impl Change {
    /// Reports whether nothing has happened.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self { removed: self.removed.map(|_| 0), ..Self::default() }
    }
}

/// An entry that has ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ended {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its final status.
    pub status: EntryStatus,
    /// Seconds that it lived.
    pub seconds: f64,
    /// Entries that it stands for: 1 where every one is in the sample.
    pub weight: f64,
}

/// Live entries by present status and protocol, estimated; those that were there before events came are not among them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Live {
    /// Entries.
    pub entries: ByClass<f64>,
    /// TCP entries among them in the state ESTABLISHED: open connections, which the kernel keeps for
    /// [`Timeouts::tcp_established`] after their last packet.
    pub established: f64,
    /// Part in ESTABLISHED of the answered TCP entries that are older than the mean, 0 to 1; none where it is not known. Short
    /// connections are open while they are young.
    pub old_established: Option<f64>,
    /// TCP entries among them that have more than an hour left until they expire.
    pub lasting: f64,
    /// Those that have expired, and wait for the collector.
    pub expired: f64,
    /// How many entries were read for it.
    pub reads: u32,
}

/// Timeouts in seconds (`net.netfilter.nf_conntrack_*_timeout*`): what lifetimes are taken to be until they are
/// observed. Written down as whole seconds in the order of [`Timeouts::SYSCTLS`], as the kernel has them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "[u32; 9]", into = "[u32; 9]")]
pub struct Timeouts {
    /// `udp_timeout`: UDP without an answer, or with one only.
    pub udp: f64,
    /// `udp_timeout_stream`: UDP that goes to and fro.
    pub udp_stream: f64,
    /// `tcp_timeout_syn_sent`: TCP without an answer.
    pub tcp_syn_sent: f64,
    /// `tcp_timeout_syn_recv`: TCP answered, not acknowledged.
    pub tcp_syn_recv: f64,
    /// `tcp_timeout_established`: an open TCP connection.
    pub tcp_established: f64,
    /// `tcp_timeout_time_wait`: a closed one.
    pub tcp_time_wait: f64,
    /// `tcp_timeout_close`: one that was reset.
    pub tcp_close: f64,
    /// `icmp_timeout`
    pub icmp: f64,
    /// `generic_timeout`: all other protocols.
    pub generic: f64,
}

impl Timeouts {
    /// The sysctls that they are, without `nf_conntrack_`.
    pub const SYSCTLS: [&'static str; 9] = [
        "udp_timeout",
        "udp_timeout_stream",
        "tcp_timeout_syn_sent",
        "tcp_timeout_syn_recv",
        "tcp_timeout_established",
        "tcp_timeout_time_wait",
        "tcp_timeout_close",
        "icmp_timeout",
        "generic_timeout",
    ];
}

impl From<[u32; 9]> for Timeouts {
    /// From the values of [`Timeouts::SYSCTLS`]. One of 0 is taken as 1: the kernel looks for what has expired about
    /// once a second.
    fn from(seconds: [u32; 9]) -> Self {
        let [
            udp,
            udp_stream,
            tcp_syn_sent,
            tcp_syn_recv,
            tcp_established,
            tcp_time_wait,
            tcp_close,
            icmp,
            generic,
        ] = seconds.map(|seconds| f64::from(seconds.max(1)));
        Self {
            udp,
            udp_stream,
            tcp_syn_sent,
            tcp_syn_recv,
            tcp_established,
            tcp_time_wait,
            tcp_close,
            icmp,
            generic,
        }
    }
}

impl From<Timeouts> for [u32; 9] {
    /// The values of [`Timeouts::SYSCTLS`], in whole seconds.
    fn from(timeouts: Timeouts) -> Self {
        [
            timeouts.udp,
            timeouts.udp_stream,
            timeouts.tcp_syn_sent,
            timeouts.tcp_syn_recv,
            timeouts.tcp_established,
            timeouts.tcp_time_wait,
            timeouts.tcp_close,
            timeouts.icmp,
            timeouts.generic,
        ]
        .map(|seconds| seconds.round() as u32)
    }
}

impl Default for Timeouts {
    /// The kernel's defaults (net/netfilter/nf_conntrack_proto_*.c).
    fn default() -> Self {
        Self {
            udp: 30.0,
            udp_stream: 120.0,
            tcp_syn_sent: 120.0,
            tcp_syn_recv: 60.0,
            tcp_established: 432_000.0,
            tcp_time_wait: 120.0,
            tcp_close: 10.0,
            icmp: 30.0,
            generic: 600.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_written_down_in_the_order_of_their_sysctls() {
        let seconds = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        let timeouts = Timeouts::from(seconds);
        assert_eq!((timeouts.udp, timeouts.tcp_established, timeouts.generic), (1.0, 5.0, 9.0));
        assert_eq!(<[u32; 9]>::from(timeouts), seconds);
        assert_eq!(Timeouts::from([0; 9]), Timeouts::from([1; 9]));
        let default = Timeouts::default();
        assert_eq!(Timeouts::from(<[u32; 9]>::from(default)), default);
    }
}
