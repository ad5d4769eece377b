//! Counts of one namespace since the programs were attached.

use serde::Serialize;

/// Everything that is counted, over all CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Entries allocated.
    pub allocs: u64,
    /// Allocations refused: table full and nothing to evict, or no memory.
    pub allocs_failed: u64,
    /// Packets dropped because the table was full and nothing could be evicted.
    pub table_full: u64,
    /// Entries hashed by a packet.
    pub inserts_packet: u64,
    /// Entries hashed through ctnetlink or a BPF kfunc.
    pub inserts_ctnetlink: u64,
    /// Entries taken out of the hash, for whatever reason.
    pub deletes: u64,
    /// Entries evicted early to make room for new ones; part of `deletes`.
    pub evictions: u64,
    /// Entries freed, whether they had been hashed or not.
    pub frees: u64,
    /// Frees that a test had left out of `frees`.
    pub frees_skipped: u64,
    /// Events that found the ring buffer full.
    pub events_lost: u64,
}

impl Totals {
    /// Entries hashed, by whatever path.
    #[must_use]
    pub const fn inserts(&self) -> u64 {
        self.inserts_packet + self.inserts_ctnetlink
    }

    /// What the count of entries follows from.
    #[must_use]
    pub const fn balance(&self) -> Balance {
        Balance { allocs: self.allocs, frees: self.frees }
    }

    /// What was counted after `earlier`.
    #[must_use]
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            allocs: self.allocs.saturating_sub(earlier.allocs),
            allocs_failed: self.allocs_failed.saturating_sub(earlier.allocs_failed),
            table_full: self.table_full.saturating_sub(earlier.table_full),
            inserts_packet: self.inserts_packet.saturating_sub(earlier.inserts_packet),
            inserts_ctnetlink: self.inserts_ctnetlink.saturating_sub(earlier.inserts_ctnetlink),
            deletes: self.deletes.saturating_sub(earlier.deletes),
            evictions: self.evictions.saturating_sub(earlier.evictions),
            frees: self.frees.saturating_sub(earlier.frees),
            frees_skipped: self.frees_skipped.saturating_sub(earlier.frees_skipped),
            events_lost: self.events_lost.saturating_sub(earlier.events_lost),
        }
    }
}

/// Allocations and frees: the kernel's count is what it was before, plus the one, less the other
/// (`__nf_conntrack_alloc` and `nf_conntrack_free`, net/netfilter/nf_conntrack_core.c).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// Entries allocated.
    pub allocs: u64,
    /// Entries freed.
    pub frees: u64,
}

impl Balance {
    /// Entries that came, less entries that went.
    #[must_use]
    pub const fn net(self) -> i64 {
        self.allocs as i64 - self.frees as i64
    }
}

/// What is counted at all: a hook that could not be attached leaves a gap that is no zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// `inserts_packet`
    pub inserts_packet: bool,
    /// `inserts_ctnetlink`
    pub inserts_ctnetlink: bool,
    /// `deletes`
    pub deletes: bool,
    /// `table_full` and, with `deletes`, `evictions`
    pub early_drops: bool,
}

impl Counted {
    /// Everything.
    pub const ALL: Self =
        Self { inserts_packet: true, inserts_ctnetlink: true, deletes: true, early_drops: true };

    /// Whether inserts are counted on every path.
    #[must_use]
    pub const fn all_inserts(&self) -> bool {
        self.inserts_packet && self.inserts_ctnetlink
    }
}
