//! Flows whose insert was recorded: their destroy names them by number.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    hash::{DefaultHasher, Hasher as _},
    net::IpAddr,
};

use zerocopy::IntoBytes as _;

use crate::{
    model::{
        flow::{EventKind, Tuple},
        reading::NetnsId,
    },
    source::item::NetnsFlow,
};

/// A destroy names its insert if it is one of so many last ones. What both sides remember is bounded
/// by it.
pub(super) const WINDOW: u64 = 1 << 18;

/// What the events of a flow have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) netns: NetnsId,
    pub(super) original: Tuple,
    pub(super) reply: Tuple,
    pub(super) zone: u16,
    pub(super) hash: u32,
}

impl Identity {
    pub(super) const fn of(event: &NetnsFlow) -> Self {
        let flow = &event.flow;
        Self {
            netns: event.netns,
            original: flow.original,
            reply: flow.reply,
            zone: flow.zone,
            hash: flow.sample.hash,
        }
    }

    fn digest(&self) -> u32 {
        let Self { netns, original, reply, zone, hash } = self;
        let first = netns.cookie.unwrap_or(0);
        let third = u64::from(*zone) << 32 | u64::from(*hash);
        let words = [[first, netns.inode, third, 0, 0], words(original), words(reply)];
        let mut hasher = DefaultHasher::new();
        // In one piece: fifteen take several times as long, and each event has its digest.
        hasher.write(words.as_bytes());
        hasher.finish() as u32
    }
}

/// All that a tuple says.
fn words(tuple: &Tuple) -> [u64; 5] {
    let address = |address| {
        let bits = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        [(bits >> 64) as u64, bits as u64]
    };
    let [source, source_too] = address(tuple.source);
    let [destination, destination_too] = address(tuple.destination);
    let ports = u64::from(tuple.source_port) << 16 | u64::from(tuple.destination_port);
    let rest = ports << 8 | u64::from(tuple.protocol);
    [source, source_too, destination, destination_too, rest]
}

/// Whether an event of this kind gives its flow a number.
pub(super) const fn is_insert(kind: EventKind) -> bool {
    matches!(kind, EventKind::InsertPacket | EventKind::InsertCtnetlink)
}

/// The writer's side: what stands for the kernel's address of an entry in the file.
#[derive(Debug)]
pub(super) struct Numbers {
    /// Entries that are remembered, at the most.
    most: usize,
    next: u64,
    /// Inserts before this one are not referred to.
    since: u64,
    by_entry: HashMap<u64, Last>,
}

/// The last flow that had an entry.
#[derive(Debug, Clone, Copy)]
struct Last {
    number: u64,
    digest: u32,
    /// The first flow that had the entry, as long as no destroy came between them, counted back from this one.
    first_ago: u32,
}

impl Last {
    /// What stands for the entry: its first flow does.
    const fn alias(self) -> u64 {
        alias(self.number - self.first_ago as u64)
    }
}

impl Numbers {
    /// None yet; `most` entries are remembered.
    pub(super) fn new(most: usize) -> Self {
        Self { most, next: 0, since: 0, by_entry: HashMap::new() }
    }

    /// What comes from now on is told without reference to what came before, but for what stands for its entry.
    pub(super) const fn begin_part(&mut self) {
        self.since = self.next;
    }

    /// Bytes that they take, about.
    pub(super) fn bytes(&self) -> usize {
        self.by_entry.capacity() * 8 / 7 * PLACE_BYTES
    }

    /// The number that the next insert gets.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Gives the flow of an insert its number. Returns what stood for its entry before, if the destroy of
    /// another flow there has not come.
    pub(super) fn insert(&mut self, entry: u64, identity: &Identity) -> Option<u64> {
        let number = self.next;
        self.next += 1;
        if self.by_entry.len() >= self.most && !self.by_entry.contains_key(&entry) {
            let half = self.most as u64 / 2;
            self.by_entry.retain(|_, last| number - last.number < half);
        }
        let place = self.by_entry.entry(entry);
        let before = match &place {
            Entry::Occupied(place) => Some(*place.get()),
            Entry::Vacant(_) => None,
        };
        // Beyond so many inserts the entry is taken for another one.
        let first_ago = before.map(|last| number - last.number + u64::from(last.first_ago));
        let first_ago = first_ago.and_then(|ago| u32::try_from(ago).ok());
        let last = Last { number, digest: identity.digest(), first_ago: first_ago.unwrap_or(0) };
        place.insert_entry(last);
        first_ago.map(|_| last.alias())
    }

    /// The number of a flow, if its insert is among the last [`WINDOW`] and said the same, and what stands
    /// for its entry. `ends`: it is forgotten.
    pub(super) fn find(
        &mut self,
        entry: u64,
        identity: &Identity,
        ends: bool,
    ) -> (Option<u64>, Option<u64>) {
        let Some(last) = self.by_entry.get(&entry).copied() else {
            return (None, None);
        };
        let same = last.digest == identity.digest();
        if ends && same {
            self.by_entry.remove(&entry);
        }
        let is_recent = self.next - last.number <= WINDOW && last.number >= self.since;
        ((same && is_recent).then_some(last.number), Some(last.alias()))
    }

    /// What stands for an entry.
    pub(super) fn alias_of(&self, entry: u64) -> Option<u64> {
        self.by_entry.get(&entry).map(|last| last.alias())
    }
}

/// Bytes of a place for an entry. A hash table has a power of two of them, of which 7 in 8 are taken at the most.
pub const PLACE_BYTES: usize = size_of::<(u64, Last)>() + 1;

/// What stands for the entry of the flow `number`, if nothing did before. 0 is no entry.
pub(super) const fn alias(number: u64) -> u64 {
    number.saturating_add(1)
}

/// Beyond all numbers of flows.
const STRANGERS: u64 = 1 << 62;

/// The reader's side: the flows of the last [`WINDOW`] numbers, in a row.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// The number of the first one in the row.
    first: u64,
    row: VecDeque<Option<(Identity, u64)>>,
    strangers: u64,
}

impl Flows {
    /// Remembers the flow of an insert, and what stands for its entry. Numbers go up by one, but where a damaged chunk was
    /// left out, or somebody invented them.
    pub(super) fn insert(&mut self, number: u64, identity: Identity, entry: u64) {
        let place = number.checked_sub(self.first);
        let place = place.filter(|place| *place < self.row.len() as u64 + WINDOW);
        let Some(place) = place else {
            self.row.clear();
            self.first = number;
            self.row.push_back(Some((identity, entry)));
            return;
        };
        let beyond = (place + 1).saturating_sub(WINDOW);
        self.row.drain(..self.row.len().min(beyond as usize));
        self.first += beyond;
        let place = (place - beyond) as usize;
        while self.row.len() <= place {
            self.row.push_back(None);
        }
        if let Some(flow) = self.row.get_mut(place) {
            *flow = Some((identity, entry));
        }
    }

    /// The flow of this number, and what stands for its entry. `ends`: it is forgotten.
    pub(super) fn find(&mut self, number: u64, ends: bool) -> Option<(Identity, u64)> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let flow = self.row.get_mut(place)?;
        if ends { flow.take() } else { flow.clone() }
    }

    /// What stands for an entry of which nothing is known: something that nothing else has.
    pub(super) const fn stranger(&mut self) -> u64 {
        self.strangers += 1;
        STRANGERS + self.strangers
    }
}
