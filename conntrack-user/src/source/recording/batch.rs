//! Events of flows as columns: one array a field, which compresses to less than one object an event.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::known::{Flows as Known, Identity, Numbers, alias, is_insert};
use crate::{
    model::{
        bounds::{self, at_most},
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
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    namespaces: Vec<NetnsId>,
    /// How long after the event before; the first: since the clock's start.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    time_ns: Vec<i64>,
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    kind: Vec<u8>,
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    status: Vec<u32>,
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    threshold: Vec<u32>,
    /// Of events that are no inserts: how many inserts ago that of the flow was, counted from the number
    /// that the next insert would get; 0: it is not known, and the tuples are here.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    inserts_ago: Vec<u64>,
    /// From here on: of inserts, and of events whose insert is not known. What stands for the entry; 0: nothing
    /// does yet.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    entry: Vec<u64>,
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    netns: Vec<u32>,
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    zone: Vec<u16>,
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    hash: Vec<u32>,
    original: Tuples,
    /// Whether the reply's tuple is the original with its ends exchanged.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    mirrored: Vec<bool>,
    /// Of those whose is not.
    reply: Tuples,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Tuples {
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    source: Vec<Address>,
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    destination: Vec<Address>,
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    source_port: Vec<u16>,
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
    destination_port: Vec<u16>,
    #[serde(deserialize_with = "at_most::<_, _, { bounds::EVENTS }>")]
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

    /// Checks that nothing is left: as many values as events have one, or a single one.
    fn end(&self) -> Result<(), String> {
        if self.values.len() > self.at.max(1) {
            return Err(format!("the column {} is too long", self.name));
        }
        Ok(())
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

    fn columns(&self) -> TupleColumns<'_> {
        TupleColumns {
            source: Column::new("source", &self.source),
            destination: Column::new("destination", &self.destination),
            source_port: Column::new("source_port", &self.source_port),
            destination_port: Column::new("destination_port", &self.destination_port),
            protocol: Column::new("protocol", &self.protocol),
        }
    }
}

/// The columns of tuples as they are read.
struct TupleColumns<'a> {
    source: Column<'a, Address>,
    destination: Column<'a, Address>,
    source_port: Column<'a, u16>,
    destination_port: Column<'a, u16>,
    protocol: Column<'a, u8>,
}

impl TupleColumns<'_> {
    fn next(&mut self) -> Result<Tuple, String> {
        Ok(Tuple {
            source: self.source.next()?.0,
            destination: self.destination.next()?.0,
            source_port: self.source_port.next()?,
            destination_port: self.destination_port.next()?,
            protocol: self.protocol.next()?,
        })
    }

    fn end(&self) -> Result<(), String> {
        self.source.end()?;
        self.destination.end()?;
        self.source_port.end()?;
        self.destination_port.end()?;
        self.protocol.end()
    }
}

/// The columns of identities as they are read.
struct Identities<'a> {
    namespaces: &'a [NetnsId],
    netns: Column<'a, u32>,
    zone: Column<'a, u16>,
    hash: Column<'a, u32>,
    original: TupleColumns<'a>,
    mirrored: Column<'a, bool>,
    reply: TupleColumns<'a>,
}

impl Identities<'_> {
    fn next(&mut self) -> Result<Identity, String> {
        let original = self.original.next()?;
        let netns = self.netns.next()? as usize;
        Ok(Identity {
            netns: *self.namespaces.get(netns).ok_or("a namespace that is not listed")?,
            original,
            reply: if self.mirrored.next()? { original.turned() } else { self.reply.next()? },
            zone: self.zone.next()?,
            hash: self.hash.next()?,
        })
    }

    fn end(&self) -> Result<(), String> {
        self.netns.end()?;
        self.zone.end()?;
        self.hash.end()?;
        self.original.end()?;
        self.mirrored.end()?;
        self.reply.end()
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
        let mut identities = Identities {
            namespaces: &self.namespaces,
            netns: Column::new("netns", &self.netns),
            zone: Column::new("zone", &self.zone),
            hash: Column::new("hash", &self.hash),
            original: self.original.columns(),
            mirrored: Column::new("mirrored", &self.mirrored),
            reply: self.reply.columns(),
        };
        let mut events = Vec::with_capacity(self.time_ns.len());
        let (mut left_out, mut time_ns, mut next) = (0, 0u64, self.first_flow);
        for delta in &self.time_ns {
            time_ns = time_ns.wrapping_add_signed(*delta);
            let kind = kinds.next()?;
            let kind = *KINDS.get(usize::from(kind)).ok_or_else(|| format!("the kind {kind}"))?;
            let (bits, below) = (Status(status.next()?), threshold.next()?);
            let (standing, identity) = if is_insert(kind) {
                let (number, identity) = (next, identities.next()?);
                let standing = match entry.next()? {
                    0 => alias(number),
                    known => known,
                };
                known.insert(number, identity.clone(), standing);
                next = next.checked_add(1).ok_or("a flow's number is too large")?;
                (standing, identity)
            } else {
                match inserts_ago.next()? {
                    0 => {
                        let entry = match (entry.next()?, kind) {
                            (0, EventKind::TableFullDrop) => 0,
                            (0, _) => known.stranger(),
                            (entry, _) => entry,
                        };
                        (entry, identities.next()?)
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
                entry: standing,
                kind,
                original,
                reply,
                status: bits,
                zone,
                sample: Sample { hash, threshold: below },
            };
            events.push(NetnsFlow { netns, flow });
        }
        kinds.end()?;
        status.end()?;
        threshold.end()?;
        inserts_ago.end()?;
        entry.end()?;
        identities.end()?;
        Ok((Flows { utc_offset_ns: self.utc_offset_ns, events }, left_out))
    }
}

/// What stands for a namespace's cookie in a file: where the kernel makes none, the programs have an
/// address of the kernel in its place, which no file is to have.
pub(super) fn cookie(netns: NetnsId) -> u64 {
    netns.cookie.unwrap_or(netns.inode)
}
