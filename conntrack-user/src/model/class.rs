//! The classes that entries are told apart by: those that the kernel programs count.

use serde::{Deserialize, Serialize};

use super::flow::Status;

/// Protocols that are told apart.
pub const PROTOCOLS: usize = conntrack_ebpf::PROTOCOLS;
/// Kinds of status that are told apart.
pub const STATUSES: usize = conntrack_ebpf::STATUSES;

/// A kind of protocol. As a number: its place in [`Protocol::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// ICMP and `ICMPv6`
    Icmp,
    /// All others
    Other,
}

impl Protocol {
    /// All of them, in the order in which the kernel programs count.
    pub const ALL: [Self; PROTOCOLS] = [Self::Tcp, Self::Udp, Self::Icmp, Self::Other];

    /// Of an IP protocol number.
    #[must_use]
    pub const fn of(number: u8) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            1 | 58 => Self::Icmp,
            _ => Self::Other,
        }
    }

    /// Its name in capitals, as in text for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Icmp => "ICMP",
            Self::Other => "other protocols",
        }
    }

    /// Name in labels of metrics and in JSON.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Other => "other",
        }
    }
}

/// A kind of status; of several that hold, the last. As a number: its place in [`EntryStatus::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum EntryStatus {
    /// No answer was seen.
    Unreplied,
    /// Packets were seen in both directions (`IPS_SEEN_REPLY`).
    Replied,
    /// Worth keeping, never evicted early (`IPS_ASSURED`).
    Assured,
    /// In a flow table (`IPS_OFFLOAD`, `IPS_HW_OFFLOAD`).
    Offloaded,
}

impl EntryStatus {
    /// All of them, in the order in which the kernel programs count.
    pub const ALL: [Self; STATUSES] =
        [Self::Unreplied, Self::Replied, Self::Assured, Self::Offloaded];

    /// Of an entry's status bits, as the kernel programs tell them apart.
    #[must_use]
    pub const fn of(status: Status) -> Self {
        match (status.is_offloaded(), status.is_assured(), status.is_replied()) {
            (true, ..) => Self::Offloaded,
            (_, true, _) => Self::Assured,
            (_, _, true) => Self::Replied,
            _ => Self::Unreplied,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreplied => "unreplied",
            Self::Replied => "replied",
            Self::Assured => "assured",
            Self::Offloaded => "offloaded",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_the_kernel_programs() {
        for (class, place) in [
            (Protocol::of(6), conntrack_ebpf::TCP),
            (Protocol::of(17), conntrack_ebpf::UDP),
            (Protocol::of(58), conntrack_ebpf::ICMP),
            (Protocol::of(132), conntrack_ebpf::OTHER),
        ] {
            assert_eq!((class as usize, Protocol::ALL[place]), (place, class));
        }
        for (bits, place) in [
            (0x8, conntrack_ebpf::UNREPLIED),
            (0x2, conntrack_ebpf::REPLIED),
            (0x6, conntrack_ebpf::ASSURED),
            (0x4006, conntrack_ebpf::OFFLOADED),
            (0x8000, conntrack_ebpf::OFFLOADED),
        ] {
            let class = EntryStatus::of(Status(bits));
            assert_eq!((class as usize, EntryStatus::ALL[place]), (place, class));
        }
    }
}
