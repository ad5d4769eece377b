//! What is remembered of each namespace that the programs count in.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use super::super::ebpf::EbpfSource;
use crate::model::{counts::Totals, name::Name, reading::NetnsReading};

/// After this time without a count a namespace is idle.
const IDLE_AFTER: Duration = Duration::from_secs(10);

/// A namespace that the programs count in.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) number: u32,
    /// As the programs have it: it may be an address.
    pub(super) cookie: u64,
    pub(super) inode: u64,
    /// What was counted by now.
    pub(super) totals: Totals,
    /// When something was last counted.
    pub(super) changed: Instant,
    /// Nothing will be counted any more.
    pub(super) ended: bool,
    /// Some of it was counted together with others.
    pub(super) spilled: bool,
    /// Its name, as long as it could be asked for.
    pub(super) name: Option<Name>,
}

/// All of them. What a tick costs depends on those in which something is counted, but for one look at
/// a number in memory for each group of the others.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: HashMap<u32, Slot>,
    by_cookie: HashMap<u64, u32>,
    by_inode: HashMap<u64, u32>,
    /// Those in which something was counted less than [`IDLE_AFTER`] ago.
    busy: HashSet<u32>,
    /// What was counted in all namespaces, ended ones too.
    total: Totals,
    has_new: bool,
    has_ended: bool,
}

impl Slots {
    /// Takes in what was counted since the last call.
    pub(super) fn update(&mut self, programs: &mut EbpfSource, now: Instant) {
        for (number, netns) in programs.active() {
            let totals = programs.counters(number);
            let slot = self.slots.entry(number).or_insert_with(|| {
                self.has_new = true;
                self.by_cookie.insert(netns.cookie, number);
                self.by_inode.insert(netns.inode.into(), number);
                Slot {
                    number,
                    cookie: netns.cookie,
                    inode: netns.inode.into(),
                    totals: Totals::default(),
                    changed: now,
                    ended: false,
                    spilled: false,
                    name: None,
                }
            });
            if totals != slot.totals {
                self.total = self.total.plus(&totals.since(&slot.totals));
                slot.totals = totals;
                slot.changed = now;
                self.busy.insert(number);
            }
            slot.spilled = netns.spilled != 0;
            slot.ended |= netns.ended != 0;
            self.has_ended |= slot.ended;
        }
        let slots = &self.slots;
        self.busy.retain(|number| {
            let slot = slots.get(number).filter(|slot| !slot.ended);
            slot.is_some_and(|slot| now.duration_since(slot.changed) < IDLE_AFTER)
        });
    }

    /// Those in which something was counted lately, and that have not ended.
    pub(super) fn busy(&self) -> impl Iterator<Item = &Slot> {
        self.busy.iter().filter_map(|number| self.slots.get(number))
    }

    /// The numbers of those in which something was counted lately.
    pub(super) const fn busy_numbers(&self) -> &HashSet<u32> {
        &self.busy
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values()
    }

    /// The slot of the namespace with this cookie.
    pub(super) fn of_cookie(&self, cookie: u64) -> Option<&Slot> {
        self.slots.get(self.by_cookie.get(&cookie)?).filter(|slot| !slot.ended)
    }

    /// The slot of the namespace that has this inode now.
    pub(super) fn of_inode(&self, inode: u64) -> Option<&Slot> {
        self.slots.get(self.by_inode.get(&inode)?).filter(|slot| !slot.ended)
    }

    /// The inode of the namespace with this cookie, ended or not.
    pub(super) fn inode_of(&self, cookie: u64) -> Option<u64> {
        Some(self.slots.get(self.by_cookie.get(&cookie)?)?.inode)
    }

    /// Keeps what cannot be asked for any more once the namespace has ended.
    pub(super) fn remember(&mut self, number: u32, reading: &NetnsReading) {
        if let Some(slot) = self.slots.get_mut(&number)
            && slot.name != reading.name
            && reading.name.is_some()
        {
            slot.name.clone_from(&reading.name);
        }
    }

    /// Those that have ended; they are forgotten.
    pub(super) fn take_ended(&mut self) -> Vec<Slot> {
        if !std::mem::take(&mut self.has_ended) {
            return Vec::new();
        }
        let ended: Vec<Slot> =
            self.slots.extract_if(|_, slot| slot.ended).map(|(_, slot)| slot).collect();
        for slot in &ended {
            // Another one may have the inode, or the address, by now.
            if self.by_cookie.get(&slot.cookie) == Some(&slot.number) {
                self.by_cookie.remove(&slot.cookie);
            }
            if self.by_inode.get(&slot.inode) == Some(&slot.number) {
                self.by_inode.remove(&slot.inode);
            }
        }
        ended
    }

    /// What was counted in all namespaces that have, or had, a slot.
    pub(super) const fn total(&self) -> Totals {
        self.total
    }

    /// Whether there are new ones since [`Slots::forget_new`].
    pub(super) const fn has_new(&self) -> bool {
        self.has_new
    }

    pub(super) const fn forget_new(&mut self) {
        self.has_new = false;
    }
}
