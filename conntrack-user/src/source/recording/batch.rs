//! Events of flows as columns: one array a field, which compresses to less than one object an event.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::known::{Flows as Known, Identity, Numbers, alias, is_insert};
use crate::{
    model::{
        flow::{Cause, EventKind, FlowEvent, Sample, Status, Tuple},
        reading::NetnsId,
    },
    source::item::{Flows, NetnsFlow},
};

/// Kinds of events; the place in this list is the number in the file.
const KINDS: [EventKind; 9] = [
    EventKind::InsertPacket,
    EventKind::InsertCtnetlink,
    EventKind::Destroy(Cause::Kernel),
    EventKind::Destroy(Cause::User),
    EventKind::Destroy(Cause::NetnsExit),
    EventKind::Destroy(Cause::EarlyDrop),
    EventKind::TableFullDrop,
    EventKind::EarlyDrop,
    EventKind::Destroy(Cause::NoUser),
];

/// A message of the channel `flow`. A column whose values are all the same has it once.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Batch {
    utc_offset_ns: i64,
    /// The number of the batch's first insert; the next ones follow.
    first_flow: u64,
    /// The namespaces that `netns` counts from 0.
    namespaces: Vec<NetnsId>,
    /// How long after the event before; the first: since the clock's start.
    time_ns: Vec<i64>,
    kind: Vec<u8>,
    status: Vec<u32>,
    threshold: Vec<u32>,
    /// Of events that are no inserts: how many inserts ago that of the flow was, counted from the number
    /// that the next insert would get; 0: it is not known, and the tuples are here.
    inserts_ago: Vec<u64>,
    /// From here on: of inserts, and of events whose insert is not known. What stands for the entry; 0: nothing
    /// does yet.
    entry: Vec<u64>,
    netns: Vec<u32>,
    zone: Vec<u16>,
    hash: Vec<u32>,
    original: Tuples,
    /// Whether the reply's tuple is the original with its ends exchanged.
    mirrored: Vec<bool>,
    /// Of those whose is not.
    reply: Tuples,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tuples {
    source: Vec<Address>,
    destination: Vec<Address>,
    source_port: Vec<u16>,
    destination_port: Vec<u16>,
    protocol: Vec<u8>,
}

/// An address as 4 or 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Address(IpAddr);

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            IpAddr::V4(address) => serializer.serialize_bytes(&address.octets()),
            IpAddr::V6(address) => serializer.serialize_bytes(&address.octets()),
        }
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address of 4 or 16 bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Address, E> {
                let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
                let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
                address.map(Address).map_err(|_| E::invalid_length(bytes.len(), &self))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

/// A column as it is written.
fn pack<T: PartialEq>(column: &mut Vec<T>) {
    if column.windows(2).all(|two| two[0] == two[1]) {
        column.truncate(1);
    }
}

/// A column as it is read, value by value.
struct Column<'a, T> {
    name: &'static str,
    values: &'a [T],
    at: usize,
}

impl<'a, T: Copy> Column<'a, T> {
    const fn new(name: &'static str, values: &'a [T]) -> Self {
        Self { name, values, at: 0 }
    }

    fn next(&mut self) -> Result<T, String> {
        let at = if self.values.len() == 1 { 0 } else { self.at };
        self.at += 1;
        self.values.get(at).copied().ok_or_else(|| format!("the column {} is too short", self.name))
    }
}

impl Tuples {
    fn push(&mut self, tuple: &Tuple) {
        self.source.push(Address(tuple.source));
        self.destination.push(Address(tuple.destination));
        self.source_port.push(tuple.source_port);
        self.destination_port.push(tuple.destination_port);
        self.protocol.push(tuple.protocol);
    }

    fn pack(&mut self) {
        pack(&mut self.source);
        pack(&mut self.destination);
        pack(&mut self.source_port);
        pack(&mut self.destination_port);
        pack(&mut self.protocol);
    }

    fn columns(&self) -> impl FnMut() -> Result<Tuple, String> {
        let mut source = Column::new("source", &self.source);
        let mut destination = Column::new("destination", &self.destination);
        let mut source_port = Column::new("source_port", &self.source_port);
        let mut destination_port = Column::new("destination_port", &self.destination_port);
        let mut protocol = Column::new("protocol", &self.protocol);
        move || {
            Ok(Tuple {
                source: source.next()?.0,
                destination: destination.next()?.0,
                source_port: source_port.next()?,
                destination_port: destination_port.next()?,
                protocol: protocol.next()?,
            })
        }
    }
}

impl Batch {
    /// Events to columns.
    pub(super) fn new(flows: &Flows, numbers: &mut Numbers) -> Self {
        let mut batch = Self {
            utc_offset_ns: flows.utc_offset_ns,
            first_flow: numbers.next(),
            ..Self::default()
        };
        let mut before = 0;
        for event in &flows.events {
            let flow = &event.flow;
            batch.time_ns.push(flow.time_ns.wrapping_sub(before) as i64);
            before = flow.time_ns;
            let kind = KINDS.iter().position(|kind| *kind == flow.kind);
            batch.kind.push(kind.unwrap_or_default() as u8);
            batch.status.push(flow.status.0);
            batch.threshold.push(flow.sample.threshold);
            let identity = Identity::of(event);
            if is_insert(flow.kind) {
                batch.entry.push(numbers.insert(flow.entry, &identity).unwrap_or(0));
            } else {
                let ends = matches!(flow.kind, EventKind::Destroy(_));
                let (number, entry) = numbers.find(flow.entry, &identity, ends);
                batch.inserts_ago.push(number.map_or(0, |number| numbers.next() - number));
                if number.is_some() {
                    continue;
                }
                batch.entry.push(entry.unwrap_or(0));
            }
            batch.push_identity(&identity);
        }
        batch.pack();
        batch
    }

    fn push_identity(&mut self, identity: &Identity) {
        let known = self.namespaces.iter().position(|netns| *netns == identity.netns);
        let netns = known.unwrap_or_else(|| {
            self.namespaces.push(identity.netns);
            self.namespaces.len() - 1
        });
        self.netns.push(netns as u32);
        self.zone.push(identity.zone);
        self.hash.push(identity.hash);
        self.original.push(&identity.original);
        let mirrored = identity.reply == identity.original.turned();
        self.mirrored.push(mirrored);
        if !mirrored {
            self.reply.push(&identity.reply);
        }
    }

    fn pack(&mut self) {
        pack(&mut self.kind);
        pack(&mut self.status);
        pack(&mut self.threshold);
        pack(&mut self.inserts_ago);
        pack(&mut self.entry);
        pack(&mut self.netns);
        pack(&mut self.zone);
        pack(&mut self.hash);
        pack(&mut self.mirrored);
        self.original.pack();
        self.reply.pack();
    }

    /// Columns to events; and how many were left out, because the chunk with their insert was.
    pub(super) fn flows(&self, known: &mut Known) -> Result<(Flows, u64), String> {
        let mut kinds = Column::new("kind", &self.kind);
        let mut status = Column::new("status", &self.status);
        let mut threshold = Column::new("threshold", &self.threshold);
        let mut inserts_ago = Column::new("inserts_ago", &self.inserts_ago);
        let mut entry = Column::new("entry", &self.entry);
        let mut netns = Column::new("netns", &self.netns);
        let mut zone = Column::new("zone", &self.zone);
        let mut hash = Column::new("hash", &self.hash);
        let mut original = self.original.columns();
        let mut mirrored = Column::new("mirrored", &self.mirrored);
        let mut reply = self.reply.columns();
        let mut identity = || -> Result<Identity, String> {
            let original = original()?;
            let netns = netns.next()? as usize;
            Ok(Identity {
                netns: *self.namespaces.get(netns).ok_or("a namespace that is not listed")?,
                original,
                reply: if mirrored.next()? { original.turned() } else { reply()? },
                zone: zone.next()?,
                hash: hash.next()?,
            })
        };
        let mut events = Vec::with_capacity(self.time_ns.len());
        let (mut left_out, mut time_ns, mut next) = (0, 0u64, self.first_flow);
        for delta in &self.time_ns {
            time_ns = time_ns.wrapping_add_signed(*delta);
            let kind = kinds.next()?;
            let kind = *KINDS.get(usize::from(kind)).ok_or_else(|| format!("the kind {kind}"))?;
            let (status, threshold) = (Status(status.next()?), threshold.next()?);
            let (entry, identity) = if is_insert(kind) {
                let (number, identity) = (next, identity()?);
                let entry = match entry.next()? {
                    0 => alias(number),
                    known => known,
                };
                known.insert(number, identity.clone(), entry);
                next = next.checked_add(1).ok_or("a flow's number is too large")?;
                (entry, identity)
            } else {
                match inserts_ago.next()? {
                    0 => {
                        let entry = match (entry.next()?, kind) {
                            (0, EventKind::TableFullDrop) => 0,
                            (0, _) => known.stranger(),
                            (entry, _) => entry,
                        };
                        (entry, identity()?)
                    }
                    ago => {
                        let number = next.checked_sub(ago).ok_or("a flow before the first one")?;
                        let ends = matches!(kind, EventKind::Destroy(_));
                        let Some((identity, entry)) = known.find(number, ends) else {
                            left_out += 1;
                            continue;
                        };
                        (entry, identity)
                    }
                }
            };
            let Identity { netns, original, reply, zone, hash } = identity;
            let flow = FlowEvent {
                time_ns,
                netns_cookie: cookie(netns),
                entry,
                kind,
                original,
                reply,
                status,
                zone,
                sample: Sample { hash, threshold },
            };
            events.push(NetnsFlow { netns, flow });
        }
        Ok((Flows { utc_offset_ns: self.utc_offset_ns, events }, left_out))
    }
}

/// What stands for a namespace's cookie in a file: where the kernel makes none, the programs have an
/// address of the kernel in its place, which no file is to have.
pub(super) fn cookie(netns: NetnsId) -> u64 {
    netns.cookie.unwrap_or(netns.inode)
}
