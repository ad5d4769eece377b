//! Source ports that no two flows of a run share.
//!
//! Sources and destinations use ranges apart from each other: were a flow the other way round of an
//! earlier one, it would be that one's answer and no entry of its own.

use std::{
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

/// Where TCP listens.
pub(crate) const LISTENERS: Range<u16> = 5_000..5_100;
/// Where nobody listens.
pub(crate) const CLOSED: Range<u16> = 5_200..5_300;
/// Where TCP connects from.
pub(crate) const TCP_SOURCES: Range<u16> = 6_000..65_000;
/// Where UDP sends to.
pub(crate) const UDP_DESTINATIONS: Range<u16> = 1_024..51_024;
/// Where UDP sends from: a socket each.
const UDP_SOURCES: Range<u16> = 60_000..65_000;

/// TCP connections to one listener before another one is taken: the sources come round after these.
pub(crate) const FLOWS_PER_LISTENER: u64 = 50_000;

const _: () = assert!(UDP_DESTINATIONS.end <= UDP_SOURCES.start);
const _: () = assert!(LISTENERS.end <= CLOSED.start && CLOSED.end <= TCP_SOURCES.start);
const _: () = assert!(FLOWS_PER_LISTENER < (TCP_SOURCES.end - TCP_SOURCES.start) as u64);

fn next(counter: &OnceLock<AtomicU32>, range: &Range<u16>) -> u16 {
    let size = u32::from(range.end - range.start);
    // A run soon after another one must not repeat tuples that the table still holds.
    let begin = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        AtomicU32::new(now.subsec_nanos() % size)
    };
    let number = counter.get_or_init(begin).fetch_add(1, Relaxed) % size;
    range.start + u16::try_from(number).unwrap_or_default()
}

/// The next source port for a TCP connection.
pub(crate) fn tcp_source() -> u16 {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    next(&NEXT, &TCP_SOURCES)
}

/// The next source port for a UDP socket.
pub(crate) fn udp_source() -> u16 {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    next(&NEXT, &UDP_SOURCES)
}

/// The next identifier for echo requests: what a port is to others.
pub(crate) fn icmp_identifier() -> u16 {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    next(&NEXT, &(0..u16::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_come_round_only_after_the_whole_range() {
        let ports: BTreeSet<u16> = (0..50_000).map(|_| tcp_source()).collect();
        assert_eq!(ports.len(), 50_000);
        assert!(ports.iter().all(|port| TCP_SOURCES.contains(port)));
    }
}
