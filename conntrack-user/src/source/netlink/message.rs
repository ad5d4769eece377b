//! What ctnetlink sends when an entry is made or ends (`ctnetlink_conntrack_event`,
//! net/netfilter/nf_conntrack_netlink.c).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NetlinkBuffer, NlaBuffer, NlasIterator};
use thiserror::Error;

use crate::model::flow::{Status, Tuple};

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW`
const NEW: u16 = 0x100;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE`
const DELETE: u16 = 0x102;
/// `struct nfgenmsg`: before the attributes.
const GENERIC: usize = 4;

// enum ctattr_type, include/uapi/linux/netfilter/nfnetlink_conntrack.h
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
// enum ctattr_tuple
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_TUPLE_ZONE: u16 = 3;
// enum ctattr_ip
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
// enum ctattr_l4proto
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMP_TYPE: u16 = 5;
const CTA_PROTO_ICMP_CODE: u16 = 6;
const CTA_PROTO_ICMPV6_ID: u16 = 7;
const CTA_PROTO_ICMPV6_TYPE: u16 = 8;
const CTA_PROTO_ICMPV6_CODE: u16 = 9;

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It was put into the table.
    New,
    /// It was taken out of the table.
    Destroy,
}

/// Something happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub what: What,
    /// Whether a program asked for it through ctnetlink: its port is in the message (`nlmsg_pid`).
    pub by_user: bool,
    /// Tells the entry from others (`nf_ct_get_id`): a hash, so that two may have the same.
    pub id: u32,
    /// The tuple of the first packet.
    pub original: Tuple,
    /// The tuple of the answers, after NAT.
    pub reply: Tuple,
    /// The entry's status bits at that moment.
    pub status: Status,
    /// The original direction's zone.
    pub zone: u16,
}

/// Why a message is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The length that it says it has is not the one that it has.
    #[error("a message that is cut, or says a wrong length")]
    Length,
    /// The same of an attribute.
    #[error("an attribute that is cut, or says a wrong length")]
    Attribute,
    /// Something of an entry is not there.
    #[error("an entry without {0}")]
    Missing(&'static str),
}

/// The events in a datagram: mostly one. What is neither a new entry nor the end of one is passed over. Nothing in it is
/// trusted; behind an error of the length nothing more is read.
pub fn events(datagram: &[u8]) -> impl Iterator<Item = Result<Event, DecodeError>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let Ok(message) = NetlinkBuffer::new_checked(rest) else {
                rest = &[];
                return Some(Err(DecodeError::Length));
            };
            let length = (message.length() as usize).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
            let what = match message.message_type() {
                NEW => What::New,
                DELETE => What::Destroy,
                _ => continue,
            };
            return Some(event(what, message.port_number() != 0, message.payload()));
        }
        None
    })
}

fn event(what: What, by_user: bool, payload: &[u8]) -> Result<Event, DecodeError> {
    let attributes = payload.get(GENERIC..).ok_or(DecodeError::Length)?;
    let (mut original, mut reply) = (None, None);
    let (mut id, mut status, mut zone) = (None, None, 0);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(|_| DecodeError::Attribute)?;
        match attribute.kind() {
            CTA_TUPLE_ORIG => {
                let (tuple, of_tuple) = tuple(attribute.value())?;
                original = Some(tuple);
                zone = of_tuple.unwrap_or(zone);
            }
            CTA_TUPLE_REPLY => reply = Some(tuple(attribute.value())?.0),
            CTA_STATUS => status = Some(Status(u32::from_be_bytes(bytes(&attribute)?))),
            CTA_ID => id = Some(u32::from_be_bytes(bytes(&attribute)?)),
            CTA_ZONE => zone = u16::from_be_bytes(bytes(&attribute)?),
            _ => {}
        }
    }
    Ok(Event {
        what,
        by_user,
        id: id.ok_or(DecodeError::Missing("an id"))?,
        original: original.ok_or(DecodeError::Missing("an original tuple"))?,
        reply: reply.ok_or(DecodeError::Missing("a reply tuple"))?,
        status: status.ok_or(DecodeError::Missing("a status"))?,
        zone,
    })
}

/// A tuple, and the zone of its direction where that differs from the other's.
fn tuple(nested: &[u8]) -> Result<(Tuple, Option<u16>), DecodeError> {
    let (mut source, mut destination, mut ports, mut zone) = (None, None, None, None);
    for attribute in NlasIterator::new(nested) {
        let attribute = attribute.map_err(|_| DecodeError::Attribute)?;
        match attribute.kind() {
            CTA_TUPLE_IP => (source, destination) = addresses(attribute.value())?,
            CTA_TUPLE_PROTO => ports = Some(protocol(attribute.value())?),
            CTA_TUPLE_ZONE => zone = Some(u16::from_be_bytes(bytes(&attribute)?)),
            _ => {}
        }
    }
    let (protocol, source_port, destination_port) =
        ports.ok_or(DecodeError::Missing("a protocol"))?;
    let tuple = Tuple {
        source: source.ok_or(DecodeError::Missing("a source address"))?,
        destination: destination.ok_or(DecodeError::Missing("a destination address"))?,
        source_port,
        destination_port,
        protocol,
    };
    Ok((tuple, zone))
}

/// Source and destination.
fn addresses(nested: &[u8]) -> Result<(Option<IpAddr>, Option<IpAddr>), DecodeError> {
    let (mut source, mut destination) = (None, None);
    for attribute in NlasIterator::new(nested) {
        let attribute = attribute.map_err(|_| DecodeError::Attribute)?;
        match attribute.kind() {
            CTA_IP_V4_SRC => source = Some(Ipv4Addr::from(bytes::<4>(&attribute)?).into()),
            CTA_IP_V4_DST => destination = Some(Ipv4Addr::from(bytes::<4>(&attribute)?).into()),
            CTA_IP_V6_SRC => source = Some(Ipv6Addr::from(bytes::<16>(&attribute)?).into()),
            CTA_IP_V6_DST => destination = Some(Ipv6Addr::from(bytes::<16>(&attribute)?).into()),
            _ => {}
        }
    }
    Ok((source, destination))
}

/// Protocol, and the ports or what stands in their place as [`Tuple`] has it; 0 where there is neither.
fn protocol(nested: &[u8]) -> Result<(u8, u16, u16), DecodeError> {
    let (mut number, mut source, mut destination) = (None, 0, 0);
    for attribute in NlasIterator::new(nested) {
        let attribute = attribute.map_err(|_| DecodeError::Attribute)?;
        let port = || bytes(&attribute).map(u16::from_be_bytes);
        let byte = || bytes(&attribute).map(u8::from_be_bytes);
        match attribute.kind() {
            CTA_PROTO_NUM => number = Some(byte()?),
            CTA_PROTO_SRC_PORT | CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID => source = port()?,
            CTA_PROTO_DST_PORT => destination = port()?,
            CTA_PROTO_ICMP_TYPE | CTA_PROTO_ICMPV6_TYPE => destination |= u16::from(byte()?) << 8,
            CTA_PROTO_ICMP_CODE | CTA_PROTO_ICMPV6_CODE => destination |= u16::from(byte()?),
            _ => {}
        }
    }
    Ok((number.ok_or(DecodeError::Missing("a protocol"))?, source, destination))
}

fn bytes<const N: usize>(attribute: &NlaBuffer<&[u8]>) -> Result<[u8; N], DecodeError> {
    attribute.value().try_into().map_err(|_| DecodeError::Attribute)
}

#[cfg(test)]
#[path = "message_tests.rs"]
pub(super) mod tests;
