//! Facts of a tick that a table is judged by.

use super::Thresholds;
use crate::{
    forecast::outlook::Outlook,
    model::{
        full::losses_by_kernel,
        reading::KernelStat,
        tick::{Entries, Limit, NetnsTick, Tick},
    },
};

/// Facts about one table in one tick; none: not available.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Entries by limit: at least and at most; 0 without a limit.
    pub fill: Option<(f64, f64)>,
    /// The table is full; none: not available.
    pub is_full: Option<bool>,
    future: Future<'a>,
    /// Losses in this tick.
    pub losses: Losses,
}

/// Losses of a full table; none: not available.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Packets dropped because the table was full.
    pub table_full_drops: Option<u64>,
    /// Entries evicted to make room for new ones.
    pub early_drops: Option<u64>,
}

impl Losses {
    /// Adds those of a tick, as far as they are known.
    pub fn add(&mut self, tick: Self) {
        let sum = |sum: Option<u64>, more: Option<u64>| match (sum, more) {
            (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
            (sum, more) => sum.or(more),
        };
        self.table_full_drops = sum(self.table_full_drops, tick.table_full_drops);
        self.early_drops = sum(self.early_drops, tick.early_drops);
    }
}

#[derive(Debug)]
enum Future<'a> {
    Forecast(&'a Outlook),
    /// Nothing comes, or there is no limit.
    Never,
}

impl<'a> Facts<'a> {
    /// Facts of `tick` about one of its namespaces. `before`: the kernel's own counters at the tick before.
    #[must_use]
    pub fn of(
        netns: &'a NetnsTick,
        tick: &Tick,
        before: Option<&KernelStat>,
        thresholds: &Thresholds,
    ) -> Self {
        let facts = Self::of_forecast(netns);
        let counted = tick.counted;
        let change = netns.change.filter(|_| counted.early_drops);
        let losses = Losses {
            table_full_drops: change.map(|change| change.table_full_drops),
            early_drops: change.filter(|_| counted.deletes).map(|change| change.early_drops),
        };
        let by_kernel = || {
            let is_full = facts.fill.is_some_and(|(low, _)| low >= thresholds.critical_fill);
            netns
                .kernel
                .as_ref()
                .zip(before)
                .map(|(now, before)| losses_by_kernel(now, before, is_full))
                .map(|[table_full_drops, early_drops]| Losses { table_full_drops, early_drops })
        };
        let losses = if change.is_none() { by_kernel().unwrap_or_default() } else { losses };
        Self { losses, ..facts }
    }

    /// Fill, whether it is full, and forecast alone: its losses are not available.
    #[must_use]
    pub fn of_forecast(netns: &'a NetnsTick) -> Self {
        let future = match netns.limit {
            Limit::Unlimited => Future::Never,
            Limit::Entries(_) | Limit::Unavailable => Future::Forecast(&netns.outlook),
        };
        let fill = fill(netns.entries, netns.limit);
        let is_full = fill.map(|_| netns.full.is_some());
        Self { fill, is_full, future, losses: Losses::default() }
    }

    /// Nothing was counted in it.
    #[must_use]
    pub fn idle(entries: Entries, limit: Limit) -> Self {
        let losses = Losses { table_full_drops: Some(0), early_drops: Some(0) };
        let fill = fill(entries, limit);
        // Nothing is refused, as nothing comes.
        Self { fill, is_full: fill.map(|_| false), future: Future::Never, losses }
    }

    /// The probability that it is full within so many seconds.
    #[must_use]
    pub fn full_by(&self, seconds: f64) -> Option<f64> {
        match self.future {
            Future::Forecast(outlook) => outlook.full_by(seconds),
            Future::Never => Some(0.0),
        }
    }
}

fn fill(entries: Entries, limit: Limit) -> Option<(f64, f64)> {
    let (low, high) = match entries {
        Entries::Exact(entries) => (entries, entries),
        Entries::Between(low, high) => (low, high),
        Entries::Unavailable if limit == Limit::Unlimited => (0, 0),
        Entries::Unavailable => return None,
    };
    match limit {
        Limit::Entries(max) => Some((low as f64 / f64::from(max), high as f64 / f64::from(max))),
        Limit::Unlimited => Some((0.0, 0.0)),
        Limit::Unavailable => None,
    }
}
