//! The flows that are alive: in a row, and found by their entry.
//!
//! The order in the row follows from the order of events alone, so that a replay in which the entries have
//! other addresses has it too.

use hashbrown::HashTable;

use crate::model::{class::Protocol, flow::Sample};

/// A flow that is alive, in 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flow {
    /// The address of its `struct nf_conn`.
    pub(super) entry: u64,
    /// When it was inserted, as `CLOCK_MONOTONIC` in nanoseconds.
    pub(super) inserted_ns: u64,
    /// Its hash, and the lowest threshold of its life so far.
    pub(super) sample: Sample,
    /// Its namespace's number.
    pub(super) netns: u16,
    /// Its zone.
    pub(super) zone: u16,
    /// Its protocol.
    pub(super) protocol: Protocol,
}

const _: () = assert!(size_of::<Flow>() <= 32);

/// The table.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    flows: Vec<Flow>,
    /// Places in the row.
    index: HashTable<u32>,
}

/// Addresses of kernel structures differ in the middle: one multiplication spreads them over the upper
/// half, which is folded down. Nobody outside chooses addresses.
const fn hash(entry: u64) -> u64 {
    let mixed = entry.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

impl Table {
    pub(super) const fn len(&self) -> usize {
        self.flows.len()
    }

    pub(super) fn as_slice(&self) -> &[Flow] {
        &self.flows
    }

    /// Bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        self.flows.capacity() * size_of::<Flow>() + self.index.allocation_size()
    }

    /// The place of an entry's flow.
    pub(super) fn find(&self, entry: u64) -> Option<usize> {
        let is_it = |at: &u32| self.flows.get(*at as usize).is_some_and(|flow| flow.entry == entry);
        self.index.find(hash(entry), is_it).map(|at| *at as usize)
    }

    pub(super) fn get(&self, at: usize) -> Option<&Flow> {
        self.flows.get(at)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Flow> {
        self.flows.get_mut(at)
    }

    /// Takes in a flow whose entry is not in the table. Not more than `u32` can tell apart.
    pub(super) fn push(&mut self, flow: Flow) {
        let Self { flows, index } = self;
        let Ok(at) = u32::try_from(flows.len()) else { return };
        flows.push(flow);
        let rehash = |at: &u32| flows.get(*at as usize).map_or(0, |flow| hash(flow.entry));
        index.insert_unique(hash(flow.entry), at, rehash);
    }

    /// Takes out the flow at `at`; the last in the row takes its place.
    pub(super) fn remove(&mut self, at: usize) -> Option<Flow> {
        let flow = *self.flows.get(at)?;
        let last = self.flows.len() - 1;
        if let Ok(entry) = self.index.find_entry(hash(flow.entry), |other| *other as usize == at) {
            entry.remove();
        }
        self.flows.swap_remove(at);
        if let Some(moved) = self.flows.get(at)
            && let Some(place) =
                self.index.find_mut(hash(moved.entry), |other| *other as usize == last)
        {
            *place = at as u32;
        }
        Some(flow)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::model::random::SplitMix64;

    #[test]
    fn it_holds_what_a_map_would() {
        let mut random = SplitMix64::new(1);
        let (mut table, mut map) = (Table::default(), HashMap::new());
        for step in 0..50_000 {
            let entry = 0xffff_8880_0000_0000 + random.below(2_000) * 320;
            if let Some(at) = table.find(entry) {
                assert_eq!(table.remove(at).map(|flow| flow.inserted_ns), map.remove(&entry));
            } else if random.below(100) < 70 {
                let flow = Flow {
                    entry,
                    inserted_ns: step,
                    sample: Sample::EVERY,
                    netns: 0,
                    zone: 0,
                    protocol: Protocol::Tcp,
                };
                table.push(flow);
                map.insert(entry, step);
            }
            assert_eq!(table.len(), map.len());
        }
        assert!(map.len() > 500);
        for (entry, inserted_ns) in map {
            let flow = table.find(entry).and_then(|at| table.get(at));
            assert_eq!(flow.map(|flow| flow.inserted_ns), Some(inserted_ns));
        }
        assert_eq!(table.remove(table.len()), None);
    }
}
