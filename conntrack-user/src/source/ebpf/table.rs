//! The counters of the kernel programs, mapped: reading them costs no system call, however many
//! namespaces there are.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::maps::MapData;
use conntrack_ebpf::{COPIES, Counters, Netns, SLOTS};
use memmap2::{MmapOptions, MmapRaw};

use crate::model::counts::{Balance, Totals};

/// The maps `COUNTERS` and `NETNS`.
#[derive(Debug)]
pub(super) struct Table {
    counters: MmapRaw,
    netns: MmapRaw,
    cpus: usize,
}

impl Table {
    /// Maps both, for `cpus` possible CPUs.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(super) fn map(counters: &MapData, netns: &MapData, cpus: u32) -> io::Result<Self> {
        let cpus = cpus as usize;
        let map = |map: &MapData, bytes| {
            MmapOptions::new().len(bytes).map_raw_read_only(map.fd().as_fd().as_raw_fd())
        };
        Ok(Self {
            counters: map(counters, SLOTS as usize * cpus * size_of::<Counters>())?,
            netns: map(netns, SLOTS as usize * size_of::<Netns>())?,
            cpus,
        })
    }

    /// The namespaces that have a slot, with it.
    pub(super) fn netns(&self) -> impl Iterator<Item = (u32, Netns)> {
        (0..SLOTS).filter_map(|slot| {
            let netns: Netns = read(&self.netns, slot as usize);
            (netns.cookie != 0).then_some((slot, netns))
        })
    }

    /// What all CPUs have counted in `slot`. Each field is exact at some moment during the call.
    pub(super) fn counters(&self, slot: u32) -> Totals {
        self.per_cpu(slot).fold(Totals::default(), |sum, cpu| Totals {
            allocs: sum.allocs + copies(cpu.allocs),
            allocs_failed: sum.allocs_failed + copies(cpu.allocs_failed),
            table_full: sum.table_full + copies(cpu.table_full),
            inserts_packet: sum.inserts_packet + cpu.inserts_packet,
            inserts_ctnetlink: sum.inserts_ctnetlink + copies(cpu.inserts_ctnetlink),
            deletes: sum.deletes + cpu.deletes,
            evictions: sum.evictions + cpu.evictions,
            frees: sum.frees + copies(cpu.frees),
            frees_skipped: sum.frees_skipped + cpu.frees_skipped,
            events_lost: sum.events_lost
                + cpu.lost_inserts_packet
                + cpu.lost_deletes
                + copies(cpu.lost_inserts_ctnetlink),
        })
    }

    /// Allocations and frees in `slot`: as [`Table::counters`], but reads one cache line a CPU.
    pub(super) fn balance(&self, slot: u32) -> Balance {
        self.per_cpu(slot).fold(Balance::default(), |sum, cpu| Balance {
            allocs: sum.allocs + copies(cpu.allocs),
            frees: sum.frees + copies(cpu.frees),
        })
    }

    fn per_cpu(&self, slot: u32) -> impl Iterator<Item = Counters> {
        let first = slot as usize * self.cpus;
        (first..first + self.cpus).map(|index| read(&self.counters, index))
    }
}

/// What the copies of a program have counted together.
fn copies(counter: [u64; COPIES]) -> u64 {
    counter.iter().sum()
}

/// A map value that is integers only.
trait Plain: Copy {}
impl Plain for Counters {}
impl Plain for Netns {}

/// The value at `index`.
fn read<T: Plain>(map: &MmapRaw, index: usize) -> T {
    assert!((index + 1) * size_of::<T>() <= map.len(), "index {index} is outside the map");
    // SAFETY: inside the mapping, which starts at a page, and the size of `T` is a multiple of its
    // alignment. `T` is integers only, so any bytes are a value. The programs write meanwhile, each
    // field by one aligned store; volatile, so that every call reads anew.
    unsafe { map.as_ptr().cast::<T>().add(index).read_volatile() }
}
