//! The classes of entries that scenarios tell apart.

use serde::{Deserialize, Serialize};

use crate::{
    forecast::snapshot::Timeouts,
    model::class::{EntryStatus, Protocol},
};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// TCP without an answer: scans, floods, dead servers.
    TcpUnreplied,
    /// TCP that is opened, used and closed.
    TcpAssured,
    /// TCP that stays open for long.
    TcpLong,
    /// UDP without an answer.
    UdpUnreplied,
    /// UDP that goes to and fro.
    UdpStream,
    /// ICMP, answered.
    Icmp,
    /// Other protocols, answered.
    Other,
}

impl Class {
    /// Its protocol.
    #[must_use]
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::TcpUnreplied | Self::TcpAssured | Self::TcpLong => Protocol::Tcp,
            Self::UdpUnreplied | Self::UdpStream => Protocol::Udp,
            Self::Icmp => Protocol::Icmp,
            Self::Other => Protocol::Other,
        }
    }

    /// The status that it comes to and ends with.
    #[must_use]
    pub const fn status(self) -> EntryStatus {
        match self {
            Self::TcpUnreplied | Self::UdpUnreplied => EntryStatus::Unreplied,
            Self::Icmp | Self::Other => EntryStatus::Replied,
            Self::TcpAssured | Self::TcpLong | Self::UdpStream => EntryStatus::Assured,
        }
    }

    /// The status that it has at first, and for how many seconds.
    #[must_use]
    pub const fn young(self) -> (EntryStatus, f64) {
        match self {
            Self::TcpUnreplied | Self::UdpUnreplied => (EntryStatus::Unreplied, 0.0),
            // A round trip.
            Self::TcpAssured | Self::TcpLong | Self::Icmp | Self::Other => {
                (EntryStatus::Unreplied, 0.05)
            }
            // It is a stream when packets still come after 2 s.
            Self::UdpStream => (EntryStatus::Replied, 2.0),
        }
    }

    /// Whether the kernel may evict it at the limit.
    #[must_use]
    pub const fn is_evictable(self) -> bool {
        !matches!(self.status(), EntryStatus::Assured)
    }

    /// Seconds that it would stay if no packet came while packets pass, where they are not those after its last.
    #[must_use]
    pub const fn open(self, timeouts: &Timeouts) -> Option<f64> {
        match self {
            Self::TcpAssured | Self::TcpLong => Some(timeouts.tcp_established),
            _ => None,
        }
    }

    /// Seconds that it stays after its last packet.
    #[must_use]
    pub const fn timeout(self, timeouts: &Timeouts) -> f64 {
        match self {
            Self::TcpUnreplied => timeouts.tcp_syn_sent,
            Self::TcpAssured | Self::TcpLong => timeouts.tcp_time_wait,
            Self::UdpUnreplied => timeouts.udp,
            Self::UdpStream => timeouts.udp_stream,
            Self::Icmp => timeouts.icmp,
            Self::Other => timeouts.generic,
        }
    }
}
