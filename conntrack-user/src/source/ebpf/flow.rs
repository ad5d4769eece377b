//! Flow events: what the ring buffers' records mean.

use std::net::{Ipv4Addr, Ipv6Addr};

use conntrack_ebpf as abi;
use thiserror::Error;
use zerocopy::FromBytes as _;

use crate::model::flow::{Cause, EventKind, FlowEvent, Sample, Status, Tuple};

/// Why a record is no event.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Not as long as a record.
    #[error("a record of {got} bytes, not {expected}")]
    Length {
        /// Bytes of a record.
        expected: usize,
        /// Bytes there were.
        got: usize,
    },
    /// An unknown kind of event.
    #[error("an event of the unknown kind {0}")]
    Kind(u8),
    /// An unknown cause of a delete.
    #[error("a delete for the unknown cause {0}")]
    Cause(u8),
    /// Neither IPv4 nor IPv6.
    #[error("a tuple of the unknown address family {0}")]
    Family(u16),
}

/// Reads a record.
///
/// # Errors
/// [`DecodeError`]; nothing in the record is trusted.
pub fn decode(record: &[u8]) -> Result<FlowEvent, DecodeError> {
    let expected = size_of::<abi::FlowEvent>();
    let event = abi::FlowEvent::read_from_bytes(record)
        .map_err(|_| DecodeError::Length { expected, got: record.len() })?;
    Ok(FlowEvent {
        time_ns: event.time_ns,
        netns_cookie: event.netns_cookie,
        entry: event.entry,
        kind: kind(event.kind, event.cause)?,
        original: event.original.try_into()?,
        reply: event.reply.try_into()?,
        status: Status(event.status),
        zone: event.zone,
        sample: Sample { hash: event.sample_hash, threshold: event.sample_threshold },
    })
}

fn kind(kind: u8, cause: u8) -> Result<EventKind, DecodeError> {
    match kind {
        abi::EVENT_INSERT_PACKET => Ok(EventKind::InsertPacket),
        abi::EVENT_INSERT_CTNETLINK => Ok(EventKind::InsertCtnetlink),
        abi::EVENT_DESTROY => match cause {
            abi::CAUSE_KERNEL => Ok(EventKind::Destroy(Cause::Kernel)),
            abi::CAUSE_USER => Ok(EventKind::Destroy(Cause::User)),
            abi::CAUSE_NETNS_EXIT => Ok(EventKind::Destroy(Cause::NetnsExit)),
            abi::CAUSE_EARLY_DROP => Ok(EventKind::Destroy(Cause::EarlyDrop)),
            other => Err(DecodeError::Cause(other)),
        },
        abi::EVENT_TABLE_FULL_DROP => Ok(EventKind::TableFullDrop),
        abi::EVENT_EARLY_DROP => Ok(EventKind::EarlyDrop),
        other => Err(DecodeError::Kind(other)),
    }
}

impl TryFrom<abi::Tuple> for Tuple {
    type Error = DecodeError;

    fn try_from(tuple: abi::Tuple) -> Result<Self, DecodeError> {
        let address = |bytes: [u8; 16]| match i32::from(tuple.family) {
            libc::AF_INET => Ok(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
            libc::AF_INET6 => Ok(Ipv6Addr::from(bytes).into()),
            _ => Err(DecodeError::Family(tuple.family)),
        };
        Ok(Self {
            source: address(tuple.source)?,
            destination: address(tuple.destination)?,
            source_port: u16::from_be_bytes(tuple.source_port),
            destination_port: u16::from_be_bytes(tuple.destination_port),
            protocol: tuple.protocol,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where a record says its kind, and the cause behind it.
    const KIND: usize = 118;

    /// A record as the programs write it: UDP, 10.0.0.1:4660 -> 10.0.0.2:53.
    fn record() -> Vec<u8> {
        let mut bytes = vec![0; size_of::<abi::FlowEvent>()];
        bytes[..8].copy_from_slice(&7u64.to_ne_bytes());
        bytes[8..16].copy_from_slice(&1u64.to_ne_bytes());
        bytes[16..24].copy_from_slice(&9u64.to_ne_bytes());
        for at in [24, 64] {
            bytes[at..at + 4].copy_from_slice(&[10, 0, 0, 1]);
            bytes[at + 16..at + 18].copy_from_slice(&[0x12, 0x34]);
            bytes[at + 18..at + 20].copy_from_slice(&2u16.to_ne_bytes());
            bytes[at + 20..at + 24].copy_from_slice(&[10, 0, 0, 2]);
            bytes[at + 36..at + 38].copy_from_slice(&[0, 53]);
            bytes[at + 38] = 17;
        }
        for (at, number) in [(104, 8u32), (108, 3), (112, 6)] {
            bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        }
        bytes[116..118].copy_from_slice(&5u16.to_ne_bytes());
        bytes[KIND] = abi::EVENT_INSERT_PACKET;
        bytes
    }

    #[test]
    fn a_record_becomes_an_event() {
        let event = decode(&record()).unwrap();
        let original = Tuple {
            source: Ipv4Addr::new(10, 0, 0, 1).into(),
            destination: Ipv4Addr::new(10, 0, 0, 2).into(),
            source_port: 0x1234,
            destination_port: 53,
            protocol: 17,
        };
        let expected = FlowEvent {
            time_ns: 7,
            netns_cookie: 1,
            entry: 9,
            kind: EventKind::InsertPacket,
            original,
            reply: original,
            status: Status(8),
            zone: 5,
            sample: Sample { hash: 3, threshold: 6 },
        };
        assert_eq!(event, expected);
        assert!(!event.status.is_replied() && !event.status.is_assured());
    }

    #[test]
    fn a_record_of_another_length_is_refused() {
        let whole = record();
        for len in 0..whole.len() {
            let error = decode(&whole[..len]).unwrap_err();
            assert!(matches!(error, DecodeError::Length { got, .. } if got == len));
        }
        assert!(decode(&[whole, vec![0]].concat()).is_err());
    }

    #[test]
    fn unknown_numbers_are_refused() {
        let mut other = record();
        other[KIND] = 9;
        assert_eq!(decode(&other), Err(DecodeError::Kind(9)));
        let mut other = record();
        other[KIND..KIND + 2].copy_from_slice(&[abi::EVENT_DESTROY, 4]);
        assert_eq!(decode(&other), Err(DecodeError::Cause(4)));
        let mut other = record();
        other[42..44].copy_from_slice(&77u16.to_ne_bytes());
        assert_eq!(decode(&other), Err(DecodeError::Family(77)));
    }

    /// Seeds of the fuzzer (docs/testing.md).
    const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/flow_record");

    #[test]
    #[ignore = "writes the seeds of the fuzzer's corpus anew, for a new record"]
    fn seeds() {
        for (kind, cause) in
            [(1, 0), (2, 0), (3, 0), (3, 1), (3, 2), (3, 3), (4, 0), (5, 0), (6, 0)]
        {
            let mut record = record();
            record[KIND..KIND + 2].copy_from_slice(&[kind, cause]);
            let path = std::path::Path::new(CORPUS).join(format!("seed-{kind}-{cause}"));
            std::fs::write(path, record).unwrap();
        }
    }
}
