//! Flows whose insert was recorded: their destroy names them by number.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// Whether an event of this kind gives its flow a number.
pub(super) const fn is_insert(kind: EventKind) -> bool {
    matches!(kind, EventKind::InsertPacket | EventKind::InsertCtnetlink)
}

/// The writer's side: numbers by the kernel's address of the entry, which is used again later.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    next: u64,
    by_entry: HashMap<u64, (u64, u64)>,
    /// The entries of the last inserts, the newest last.
    last: VecDeque<u64>,
}

impl Numbers {
    /// The number that the next insert gets.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Gives the flow of an insert its number.
    pub(super) fn insert(&mut self, entry: u64, identity: &Identity) {
        self.by_entry.insert(entry, (self.next, identity.digest()));
        self.last.push_back(entry);
        self.next += 1;
        if self.last.len() as u64 > WINDOW
            && let Some(entry) = self.last.pop_front()
            && self.by_entry.get(&entry).is_some_and(|(number, _)| self.next - number > WINDOW)
        {
            self.by_entry.remove(&entry);
        }
    }

    /// The number of a flow, if its insert is among the last ones and said the same. `ends`: it is
    /// forgotten.
    pub(super) fn find(&mut self, entry: u64, identity: &Identity, ends: bool) -> Option<u64> {
        let (number, digest) = *self.by_entry.get(&entry)?;
        if ends {
            self.by_entry.remove(&entry);
        }
        (digest == identity.digest()).then_some(number)
    }
}

/// The reader's side.
#[derive(Debug, Default)]
pub(super) struct Flows(HashMap<u64, Identity>);

impl Flows {
    /// Remembers the flow of an insert.
    pub(super) fn insert(&mut self, number: u64, identity: Identity) {
        self.0.insert(number, identity);
        if let Some(old) = number.checked_sub(WINDOW) {
            self.0.remove(&old);
        }
        if self.0.len() as u64 > WINDOW {
            // Numbers that do not go up by one: a damaged chunk was left out, or somebody's invention.
            self.0.retain(|known, _| known.abs_diff(number) < WINDOW / 2);
        }
    }

    /// The flow of this number. `ends`: it is forgotten.
    pub(super) fn find(&mut self, number: u64, ends: bool) -> Option<Identity> {
        if ends { self.0.remove(&number) } else { self.0.get(&number).cloned() }
    }
}
