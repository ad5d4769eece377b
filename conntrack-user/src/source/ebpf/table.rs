//! The counters of the kernel programs, mapped: reading them costs no system call, however many
//! namespaces there are, and looking for those in which something was counted does not depend on how
//! many there are without.

use std::mem::offset_of;

use anyhow::Result;
use aya::maps::{HashMap, MapData, Queue};
use conntrack_ebpf::{
    Activity, COPIES, Counters, GROUP, GROUPS, Netns, OVERFLOW_SLOT, SLOTS, blocks,
};

use super::{hook::Family, mapped::Mapped, maps::Maps};
use crate::model::counts::{Books, ByProtocol, ByStatus, Totals};

/// Ticks back to which activity is looked at. What was noted in one tick may be counted in the next, so
/// one more than the last.
const LOOK_BACK: u32 = 2;

/// In so many ticks everything is looked at once, active or not: a virtual CPU can stand still for longer than
/// [`LOOK_BACK`] between reading the tick and noting it.
const REVIEW: u32 = GROUPS as u32;

/// Counters as numbers to be added up.
type Sums = [u64; size_of::<Counters>() / 8];

/// The maps of the counters.
pub(super) struct Table {
    blocks: Mapped<Counters>,
    netns: Mapped<Netns>,
    owners: Mapped<u32>,
    block_of: Mapped<u32>,
    activity: Mapped<Activity>,
    free_blocks: Queue<MapData, u32>,
    free_slots: Queue<MapData, u32>,
    slot_of: HashMap<MapData, u64, u32>,
    cpus: usize,
    family: Family,
    /// The number of the tick, as the programs see it.
    now: u32,
    /// Nothing was looked at yet: something may have been counted long ago.
    is_first: bool,
    /// The owner of each block, as last read.
    owner_of: Vec<u32>,
    /// The blocks of each slot.
    blocks_of: Vec<Vec<u32>>,
}

impl Table {
    /// Maps them, for `cpus` possible CPUs.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(super) fn map(maps: &Maps, cpus: u32, family: Family) -> Result<Self> {
        let all_blocks = blocks(cpus) as usize;
        let cpus = cpus as usize;
        let slots = SLOTS as usize;
        let mut blocks_of = vec![Vec::new(); slots];
        blocks_of[OVERFLOW_SLOT as usize] = (0..cpus as u32).collect();
        let mut table = Self {
            blocks: Mapped::new(maps, "BLOCKS", all_blocks)?,
            netns: Mapped::new(maps, "NETNS", slots)?,
            owners: Mapped::new(maps, "OWNERS", all_blocks)?,
            block_of: Mapped::new(maps, "BLOCK_OF", slots * cpus)?,
            // It comes first of what the programs keep.
            activity: Mapped::new(maps, "CPUS", cpus)?,
            free_blocks: maps.queue("FREE_BLOCKS")?,
            free_slots: maps.queue("FREE_SLOTS")?,
            slot_of: maps.hash("SLOT_OF")?,
            cpus,
            family,
            now: LOOK_BACK,
            is_first: true,
            owner_of: vec![0; all_blocks],
            blocks_of,
        };
        table.next_tick();
        Ok(table)
    }

    fn next_tick(&mut self) {
        // 0 is never a tick.
        self.now = self.now.checked_add(1).unwrap_or(1);
        set_tick(&self.activity, self.cpus, self.now);
    }

    /// Begins a tick: the slots in which something may have been counted since the one before last,
    /// with their namespaces. Some of them may have been idle.
    pub(super) fn active(&mut self) -> Vec<(u32, Netns)> {
        self.next_tick();
        let is_recent = |tick: u32| tick != 0 && self.now.wrapping_sub(tick) <= LOOK_BACK;
        let is_first = std::mem::take(&mut self.is_first);
        let mut groups = [is_first; GROUPS];
        let mut has_new_blocks = is_first;
        for cpu in 0..self.cpus {
            let activity = self.activity.read(cpu);
            has_new_blocks |= is_recent(activity.blocks);
            for (group, tick) in groups.iter_mut().zip(activity.groups) {
                *group |= is_recent(tick);
            }
        }
        let due = self.now % REVIEW;
        groups[due as usize] = true;
        if has_new_blocks || due == 0 {
            self.find_blocks();
        }
        let active = groups.iter().enumerate().filter(|(_, is_active)| **is_active);
        let slots = active.flat_map(|(group, _)| {
            let first = group as u32 * GROUP;
            first..(first + GROUP).min(SLOTS)
        });
        slots.filter_map(|slot| Some((slot, self.netns(slot)?))).collect()
    }

    /// Learns which blocks were taken since.
    fn find_blocks(&mut self) {
        for block in self.cpus..self.owner_of.len() {
            let owner = self.owners.read(block);
            if owner != self.owner_of[block] {
                self.owner_of[block] = owner;
                if let Some(blocks) = self.blocks_of.get_mut(owner as usize) {
                    blocks.push(block as u32);
                }
            }
        }
    }

    /// The namespace of `slot`.
    fn netns(&self, slot: u32) -> Option<Netns> {
        let netns = self.netns.read(slot as usize);
        (netns.cookie != 0).then_some(netns)
    }

    /// What all CPUs have counted in `slot`. Each field is exact at some moment during the call.
    pub(super) fn counters(&self, slot: u32) -> Totals {
        let mut sum: Sums = [0; _];
        for block in self.blocks_of(slot) {
            let block: Sums = zerocopy::transmute!(block);
            for (sum, number) in sum.iter_mut().zip(block) {
                *sum += number;
            }
        }
        totals(&zerocopy::transmute!(sum), self.family)
    }

    /// What entries in `slot` came to: as [`Table::counters`].
    pub(super) fn books(&self, slot: u32) -> Books {
        let mut books = Books::default();
        let mut sum = Counters::default();
        for block in self.blocks_of(slot) {
            books.balance.allocs += copies(block.allocs);
            books.balance.frees += copies(block.frees);
            books.frees_unhashed += copies(block.frees_unhashed);
            books.inserts +=
                block.inserts_packet.iter().chain(&block.inserts_ctnetlink).sum::<u64>();
            books.deletes += block.deletes.as_flattened().iter().sum::<u64>();
            sum.table_full_drops += block.table_full_drops;
            sum.full_evicted += block.full_evicted;
        }
        let refused = refused(&sum, self.family);
        books.balance.allocs = books.balance.allocs.saturating_sub(refused);
        books
    }

    fn blocks_of(&self, slot: u32) -> impl Iterator<Item = Counters> {
        self.blocks_of[slot as usize].iter().map(|block| self.blocks.read(*block as usize))
    }

    /// Blocks that are taken, without those of the overflow slot, and how many there are.
    pub(super) fn blocks(&self) -> (u64, u64) {
        let taken: usize = self.blocks_of.iter().skip(1).map(Vec::len).sum();
        (taken as u64, (self.owner_of.len() - self.cpus) as u64)
    }

    /// Gives back what belongs to a slot whose namespace has ended: nothing is counted in it any more.
    ///
    /// # Errors
    /// Those of bpf(2); what could not be given back stays taken.
    pub(super) fn release(&mut self, slot: u32) -> Result<()> {
        self.find_blocks();
        let netns = self.netns.read(slot as usize);
        for block in std::mem::take(&mut self.blocks_of[slot as usize]) {
            self.blocks.write(block as usize, Counters::default());
            self.owners.write(block as usize, 0);
            self.owner_of[block as usize] = 0;
            self.free_blocks.push(block, 0)?;
        }
        let first = slot as usize * self.cpus;
        (first..first + self.cpus).for_each(|place| self.block_of.write(place, 0));
        // Left by the program when the namespace is one that it did not see end.
        if self.slot_of.get(&netns.cookie, 0).is_ok_and(|found| found == slot) {
            self.slot_of.remove(&netns.cookie)?;
        }
        self.netns.write(slot as usize, Netns::default());
        self.free_slots.push(slot, 0)?;
        Ok(())
    }
}

/// Tells the programs, which are not attached yet, the number of the tick that [`Table::map`] begins with.
///
/// # Errors
/// Those of mmap(2).
pub(super) fn begin(maps: &Maps, cpus: u32) -> Result<()> {
    let cpus = cpus as usize;
    set_tick(&Mapped::new(maps, "CPUS", cpus)?, cpus, LOOK_BACK + 1);
    Ok(())
}

fn set_tick(activity: &Mapped<Activity>, cpus: usize, tick: u32) {
    for cpu in 0..cpus {
        activity.set_field(cpu, offset_of!(Activity, tick), tick);
    }
}

/// What the copies of a program have counted together.
fn copies(counter: [u64; COPIES]) -> u64 {
    counter.iter().sum()
}

/// Calls of `__nf_conntrack_alloc` that are in `allocs` and came to nothing. With kprobes, which see
/// calls only: `early_drop` was called and evicted nothing.
fn refused(counters: &Counters, family: Family) -> u64 {
    match family {
        Family::Tracing => 0,
        Family::Kprobe => counters.table_full_drops.saturating_sub(counters.full_evicted),
    }
}

fn totals(counters: &Counters, family: Family) -> Totals {
    let refused = refused(counters, family);
    let (allocs_failed, table_full_drops) = match family {
        Family::Tracing => (counters.allocs_failed, counters.table_full_drops),
        Family::Kprobe => (refused, refused),
    };
    let unresolved = counters.clashes - counters.clashes_resolved.min(counters.clashes);
    let dropped_alive = counters.confirm_dropped.saturating_sub(counters.confirm_dying);
    Totals {
        allocs: copies(counters.allocs).saturating_sub(refused),
        allocs_failed,
        table_full_drops,
        inserts_packet: ByProtocol::from(counters.inserts_packet),
        inserts_ctnetlink: ByProtocol::from(counters.inserts_ctnetlink),
        deletes: ByStatus::from(counters.deletes.map(ByProtocol::from)),
        deletes_user: counters.deletes_user,
        deletes_netns_exit: counters.deletes_netns_exit,
        early_drops: counters.early_drops,
        clashes: counters.clashes,
        clashes_resolved: counters.clashes_resolved,
        failed_clash: unresolved,
        failed_chain_too_long: dropped_alive.saturating_sub(unresolved),
        failed_dying: counters.confirm_dying,
        frees: copies(counters.frees),
        events_sampled_out: counters.events_sampled_out.iter().sum(),
        events_lost: counters.events_lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_kprobes_what_was_refused_is_derived() {
        let counters = Counters {
            allocs: [100, 0, 0],
            table_full_drops: 10,
            full_evicted: 7,
            ..Counters::default()
        };
        let totals = totals(&counters, Family::Kprobe);
        assert_eq!((totals.allocs, totals.allocs_failed, totals.table_full_drops), (97, 3, 3));
    }

    #[test]
    fn failed_inserts_have_one_reason_each() {
        let counters = Counters {
            clashes: 9,
            clashes_resolved: 5,
            confirm_dropped: 10,
            confirm_dying: 2,
            ..Counters::default()
        };
        let totals = totals(&counters, Family::Tracing);
        let failed = (totals.failed_clash, totals.failed_chain_too_long, totals.failed_dying);
        assert_eq!(failed, (4, 4, 2));
    }
}
