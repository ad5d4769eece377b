//! What a tick tells of a namespace that matters for its level.

use super::{change::Lost, config::Config};
use crate::{
    forecast::outlook::Outlook,
    model::{
        reading::KernelStat,
        tick::{Entries, Limit, NetnsTick, Tick},
    },
};

/// It. Each is none where it cannot be told.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    /// Entries by limit: at least and at most; 0 without a limit.
    pub(super) fill: Option<(f64, f64)>,
    future: Future<'a>,
    /// In this tick.
    pub(super) lost: Lost,
}

#[derive(Debug)]
enum Future<'a> {
    Forecast(&'a Outlook),
    /// Nothing comes, or there is no limit.
    Never,
}

impl<'a> Facts<'a> {
    /// What `tick` tells of one of its namespaces. `before`: what its kernel had counted at the tick before.
    pub(super) fn of(
        netns: &'a NetnsTick,
        tick: &Tick,
        before: Option<&KernelStat>,
        config: &Config,
    ) -> Self {
        let fill = fill(netns.entries, netns.limit);
        let future = match netns.limit {
            Limit::Unlimited => Future::Never,
            Limit::Entries(_) | Limit::Unavailable => Future::Forecast(&netns.outlook),
        };
        let counted = tick.counted;
        let change = netns.change.filter(|_| counted.early_drops);
        let lost = Lost {
            dropped: change.map(|change| change.table_full),
            evicted: change.filter(|_| counted.deletes).map(|change| change.evictions),
        };
        let by_kernel = || {
            let is_full = fill.is_some_and(|(low, _)| low >= config.critical_fill);
            netns
                .kernel
                .as_ref()
                .zip(before)
                .map(|(now, before)| lost_by_kernel(now, before, is_full))
        };
        let lost = if change.is_none() { by_kernel().unwrap_or_default() } else { lost };
        Self { fill, future, lost }
    }

    /// Nothing was counted in it.
    pub(super) fn idle(entries: Entries, limit: Limit) -> Self {
        let lost = Lost { dropped: Some(0), evicted: Some(0) };
        Self { fill: fill(entries, limit), future: Future::Never, lost }
    }

    /// The probability that it is full within so many seconds.
    pub(super) fn full_by(&self, seconds: f64) -> Option<f64> {
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

/// What the kernel's own counters say, where no program counts. They have one number for packets dropped because the
/// table was full and for those dropped in a clash: in a table that is not full it tells nothing.
fn lost_by_kernel(now: &KernelStat, before: &KernelStat, is_full: bool) -> Lost {
    let since = |of: fn(&KernelStat) -> Option<u64>| {
        let (now, before) = (of(now)?, of(before)?);
        // Sums of 32-bit numbers, each of which wraps.
        Some(u64::from((now as u32).wrapping_sub(before as u32)))
    };
    Lost {
        dropped: since(|stat| stat.drop).filter(|drops| *drops == 0 || is_full),
        evicted: since(|stat| stat.early_drop),
    }
}
