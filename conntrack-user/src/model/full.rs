//! Facts about a full table: since when it is full, and what is lost meanwhile.

use serde::{Deserialize, Serialize};

use super::{
    reading::{KernelStat, Time},
    recent::Recent,
    tick::{Entries, Limit},
};

/// Time without a drop and an eviction, below the limit, after which a table is no longer full. A full table flickers: each
/// expired entry and each pass of the collector makes room for a moment. Less than the 10 s after which an idle namespace
/// gets no more ticks, so that none stays full for want of one.
pub const QUIET_NS: u64 = 5_000_000_000;
/// Fill from which on a table that evicts or drops is full: a pass of the collector may have made room within the tick.
const EVICTS: f64 = 0.9;
/// Fill below which it is no longer full, at once: the collector does not free so much between two ticks.
const HAS_ROOM: f64 = 0.75;
/// Fill from which on a table is full whose evictions are not counted: they keep it a little below the limit.
const UNSEEN: f64 = 0.999;

/// Facts about a table that is full: it refuses new entries, or makes room by eviction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Full {
    /// First tick at which it was full.
    pub since: Time,
    /// Seconds since then.
    pub seconds: f64,
    /// It was full when ctmon first read it, so it is full for longer.
    pub at_start: bool,
    /// Packets dropped because it is full.
    pub table_full_drops: Loss,
    /// Entries evicted to make room.
    pub early_drops: Loss,
}

/// A loss that goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Loss {
    /// A second, over the last 5 s or since it began; none: not counted.
    pub rate: Option<f64>,
    /// First tick with this loss, with less than 5 s without it since then; none while there is none.
    pub since: Option<Time>,
}

/// A tick of one table, as far as it tells whether the table is full.
#[derive(Debug, Clone, Copy)]
pub struct Observation {
    /// When.
    pub time: Time,
    /// Seconds since the tick before; none at the first.
    pub seconds: Option<f64>,
    /// Entries in the table.
    pub entries: Entries,
    /// Entries that it may have.
    pub limit: Limit,
    /// Packets dropped in the tick; none: not counted.
    pub table_full_drops: Option<u64>,
    /// Entries evicted in the tick; none: not counted.
    pub early_drops: Option<u64>,
    /// Kernel programs count evictions: a table that evicts shows it.
    pub is_counted: bool,
    /// By the forecast it is full within a second.
    pub is_full_at_once: bool,
}

/// Tells from tick to tick whether a table is full.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FullTracker {
    /// None while it is not full.
    since: Option<Time>,
    at_start: bool,
    /// It was seen below its limit.
    has_been_below: bool,
    /// When it was last at the limit, dropped or evicted.
    last_ns: u64,
    limit: Option<u32>,
    table_full_drops: Run,
    early_drops: Run,
}

/// A loss from its first tick on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Run {
    is_counted: bool,
    since: Option<Time>,
    last_ns: u64,
    recent: Recent,
}

impl FullTracker {
    /// Takes in a tick. The facts, if the table is full.
    pub fn observe(&mut self, tick: &Observation) -> Option<Full> {
        self.table_full_drops.observe(tick, tick.table_full_drops);
        self.early_drops.observe(tick, tick.early_drops);
        let (Limit::Entries(max), Some((low, high))) = (tick.limit, bounds(tick.entries)) else {
            self.since = None;
            return None;
        };
        let fill = |entries: u64| entries as f64 / f64::from(max);
        let is_at_limit = fill(low) >= if tick.is_counted { 1.0 } else { UNSEEN };
        let losses = [tick.table_full_drops, tick.early_drops];
        let is_losing = losses.into_iter().flatten().any(|count| count > 0);
        let has_another_limit = self.limit.replace(max).is_some_and(|before| before != max);
        let now_ns = tick.time.monotonic_ns;
        if is_at_limit || (is_losing && (fill(high) >= EVICTS || tick.is_full_at_once)) {
            if self.since.is_none() {
                (self.since, self.at_start) = (Some(tick.time), !self.has_been_below);
            }
            self.last_ns = now_ns;
        } else {
            let is_quiet = now_ns.saturating_sub(self.last_ns) >= QUIET_NS;
            if is_losing && fill(high) >= HAS_ROOM {
                self.last_ns = now_ns;
            } else if is_quiet || fill(high) < HAS_ROOM || has_another_limit {
                self.since = None;
            }
        }
        self.has_been_below |= fill(high) < 1.0 && self.since.is_none();
        let since = self.since?;
        Some(Full {
            since,
            seconds: now_ns.saturating_sub(since.monotonic_ns) as f64 / 1e9,
            at_start: self.at_start,
            table_full_drops: self.table_full_drops.loss(),
            early_drops: self.early_drops.loss(),
        })
    }
}

impl Run {
    fn observe(&mut self, tick: &Observation, count: Option<u64>) {
        self.is_counted = count.is_some();
        let Some(count) = count else {
            self.since = None;
            self.recent.clear();
            return;
        };
        let now_ns = tick.time.monotonic_ns;
        if count > 0 {
            self.since.get_or_insert(tick.time);
            self.last_ns = now_ns;
        } else if now_ns.saturating_sub(self.last_ns) >= QUIET_NS {
            self.since = None;
            self.recent.clear();
        }
        // Of what was counted in no known time there is no rate.
        if let (Some(seconds), Some(_)) = (tick.seconds, self.since) {
            self.recent.push(now_ns, seconds, count as f64, QUIET_NS);
        }
    }

    fn loss(&self) -> Loss {
        let rate = match self.since {
            Some(_) => self.recent.rate(),
            None => Some(0.0),
        };
        Loss { rate: rate.filter(|_| self.is_counted), since: self.since }
    }
}

/// Entries at least and at most; none: not available.
const fn bounds(entries: Entries) -> Option<(u64, u64)> {
    match entries {
        Entries::Exact(entries) => Some((entries, entries)),
        Entries::Between(low, high) => Some((low, high)),
        Entries::Unavailable => None,
    }
}

/// Losses since the tick before from the kernel's own counters, where no program counts: packets dropped, and entries
/// evicted. The kernel counts packets dropped by a full table and by a clash in one number: in a table that is not nearly
/// full it says nothing.
#[must_use]
pub fn losses_by_kernel(
    now: &KernelStat,
    before: &KernelStat,
    is_nearly_full: bool,
) -> [Option<u64>; 2] {
    let since = |of: fn(&KernelStat) -> Option<u64>| {
        let (now, before) = (of(now)?, of(before)?);
        // Sums of 32-bit numbers, each of which wraps.
        Some(u64::from((now as u32).wrapping_sub(before as u32)))
    };
    let drops = since(|stat| stat.drop).filter(|drops| *drops == 0 || is_nearly_full);
    [drops, since(|stat| stat.early_drop)]
}

#[cfg(test)]
#[path = "full_tests.rs"]
mod tests;
