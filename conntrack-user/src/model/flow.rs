//! Single flows.

use std::net::IpAddr;

use conntrack_ebpf::{EVERY_FLOW, IPS_ASSURED, IPS_HW_OFFLOAD, IPS_OFFLOAD, IPS_SEEN_REPLY};
use serde::{Deserialize, Serialize};

/// Something happened to an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEvent {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub time_ns: u64,
    /// The namespace (`net->net_cookie`; on kernels that make it on demand, up to 5.11, its address).
    pub netns_cookie: u64,
    /// Tells the entry from all others that are there at the same time; a later one may have it again. 0
    /// where there was none. It is an address of the kernel, and leaves this process with nothing.
    #[serde(skip)]
    pub entry: u64,
    /// What happened.
    pub kind: EventKind,
    /// The tuple of the first packet.
    pub original: Tuple,
    /// The tuple of the answers, after NAT.
    pub reply: Tuple,
    /// The entry's status bits at that moment.
    pub status: Status,
    /// The original direction's zone.
    pub zone: u16,
    /// How it came into the sample.
    pub sample: Sample,
}

#[cfg(test)]
impl FlowEvent {
    /// An insert that says as little as it can.
    pub(crate) fn example(entry: u64, protocol: u8) -> Self {
        let localhost = std::net::Ipv4Addr::LOCALHOST.into();
        let original = Tuple {
            source: localhost,
            destination: localhost,
            source_port: 1,
            destination_port: 2,
            protocol,
        };
        Self {
            time_ns: 0,
            netns_cookie: 1,
            entry,
            kind: EventKind::InsertPacket,
            original,
            reply: original,
            status: Status(0),
            zone: 0,
            sample: Sample::EVERY,
        }
    }
}

/// How an event came into the sample. Insert and destroy of an entry have the same hash, so that both or
/// none are in the sample as long as the threshold stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Of the entry's identity ([`conntrack_ebpf::FlowHash`]).
    pub hash: u32,
    /// In the sample were entries whose hash is below; [`EVERY_FLOW`]: all.
    pub threshold: u32,
}

impl Sample {
    /// Without sampling.
    pub const EVERY: Self = Self { hash: 0, threshold: EVERY_FLOW };

    /// The probability with which an entry was in the sample: above 0, at most 1.
    #[must_use]
    pub fn ratio(self) -> f64 {
        ratio(self.threshold)
    }
}

/// The probability with which an entry is in the sample at `threshold`: at most 1.
#[must_use]
pub fn ratio(threshold: u32) -> f64 {
    if threshold == EVERY_FLOW { 1.0 } else { f64::from(threshold) / 4_294_967_296.0 }
}

/// The threshold at which an entry is in the sample with the probability `ratio`: at least 1, so that the
/// sample is never empty for ever.
#[must_use]
pub fn threshold(ratio: f64) -> u32 {
    if ratio >= 1.0 {
        EVERY_FLOW
    } else {
        ((ratio * 4_294_967_296.0) as u32).clamp(1, EVERY_FLOW - 1)
    }
}

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// A packet put it into the table.
    InsertPacket,
    /// ctnetlink or a BPF kfunc put it into the table.
    InsertCtnetlink,
    /// It has left the table.
    Destroy(Cause),
    /// There was no room for it.
    #[serde(alias = "Refused")]
    TableFullDrop,
    /// It had to make room for another one; sent besides the one that it has left.
    #[serde(alias = "Evicted")]
    EarlyDrop,
}

/// Why an entry has left the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The kernel: it expired, was reset, or its device went away.
    Kernel,
    /// Somebody asked for it through ctnetlink.
    User,
    /// Its namespace ended.
    NetnsExit,
    /// It had to make room for another one.
    #[serde(alias = "Eviction")]
    EarlyDrop,
    /// Any of these but a user: ctnetlink's events do not say which.
    NoUser,
}

/// One direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port; ICMP: the id; GRE: the key.
    pub source_port: u16,
    /// Destination port; ICMP: type (upper byte) and code; GRE: the key.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl Tuple {
    /// That of the answers, where there is no NAT.
    #[must_use]
    pub const fn turned(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}

/// `nf_conn.status`, the bits of `enum ip_conntrack_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status(pub u32);

impl Status {
    /// Packets have been seen in both directions.
    #[must_use]
    pub const fn is_replied(self) -> bool {
        self.0 & IPS_SEEN_REPLY != 0
    }

    /// The entry is never evicted early.
    #[must_use]
    pub const fn is_assured(self) -> bool {
        self.0 & IPS_ASSURED != 0
    }

    /// The entry is in a flow table: its packets pass by connection tracking.
    #[must_use]
    pub const fn is_offloaded(self) -> bool {
        self.0 & (IPS_OFFLOAD | IPS_HW_OFFLOAD) != 0
    }
}
