//! The kernel's own counters of a namespace, followed from read to read: totals that do not wrap, and rates.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::reading::KernelStat;

/// Nanoseconds between two reads that rates are measured from. The counters are read about once a second, ticks may be
/// shorter.
const STEP_NS: u64 = 2_500_000_000;
/// Shortest time, in nanoseconds, over which a rate is measured: a read may be a second old.
const SHORTEST_NS: u64 = 950_000_000;

/// The kernel's counters of one namespace at a tick.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct KernelTick {
    /// Since the namespace began, as far as a 32-bit counter tells; from the first read on they do not wrap.
    pub totals: KernelStat,
    /// A second, over the last 3 to 6 s; none of any before the second read.
    pub rates: KernelStat<f64>,
}

/// Follows the counters of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KernelCounters {
    /// Counters as last read.
    last: Option<KernelStat>,
    totals: KernelStat,
    /// Totals at up to two moments (`CLOCK_MONOTONIC`, nanoseconds) to measure rates from, the oldest first.
    marks: VecDeque<(u64, KernelStat)>,
}

impl KernelCounters {
    /// Takes in what was read at `now_ns`; none: it could not be read.
    pub fn observe(&mut self, now_ns: u64, read: Option<KernelStat>) -> Option<KernelTick> {
        let read = read?;
        self.totals = match self.last.replace(read) {
            Some(last) => self.totals.zip(&read.zip(&last, since), |total, more| total + more),
            None => read,
        };
        let age_ns = |(at_ns, _): &(u64, KernelStat)| now_ns.saturating_sub(*at_ns);
        let base = self.marks.front().filter(|mark| age_ns(mark) >= SHORTEST_NS);
        let rates = base.map(|mark| {
            let seconds = age_ns(mark) as f64 / 1e9;
            self.totals.zip(&mark.1, |now, then| now.saturating_sub(then) as f64 / seconds)
        });
        if self.marks.back().is_none_or(|mark| age_ns(mark) >= STEP_NS) {
            self.marks.push_back((now_ns, self.totals));
            if self.marks.len() > 2 {
                self.marks.pop_front();
            }
        }
        Some(KernelTick { totals: self.totals, rates: rates.unwrap_or_default() })
    }

    /// Begins anew where [`Self::observe`] has nothing to go on from.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }
}

/// Counts between two reads. A sum of 32-bit counters becomes smaller when one of them wraps. Where none can have wrapped,
/// the namespace is another one, and has counted from 0.
const fn since(now: u64, before: u64) -> u64 {
    const HALF: u32 = 1 << 31;
    if now >= before {
        return now - before;
    }
    let wrapped = (now as u32).wrapping_sub(before as u32);
    if wrapped < HALF { wrapped as u64 } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn invalid(invalid: u64) -> KernelStat {
        KernelStat { invalid: Some(invalid), ..KernelStat::default() }
    }

    #[test]
    fn a_total_begins_with_what_the_kernel_has_counted_and_does_not_wrap() {
        let mut counters = KernelCounters::default();
        let mut total = |at, read| counters.observe(at * SECOND, read).map(|tick| tick.totals);
        assert_eq!(total(1, None), None);
        assert_eq!(total(2, Some(invalid(7_000_000_000))), Some(invalid(7_000_000_000)));
        // One of several CPUs wraps: it lost 2^32 and counted 5.
        let wrapped = 7_000_000_000 - (1 << 32) + 5;
        assert_eq!(total(3, Some(invalid(wrapped))), Some(invalid(7_000_000_005)));
        assert_eq!(total(4, None), None);
        assert_eq!(total(5, Some(invalid(wrapped + 5))), Some(invalid(7_000_000_010)));
    }

    #[test]
    fn another_namespace_with_the_same_number_counts_from_0() {
        let mut counters = KernelCounters::default();
        counters.observe(SECOND, Some(invalid(1_000)));
        let tick = counters.observe(2 * SECOND, Some(invalid(3))).unwrap();
        assert_eq!(tick.totals.invalid, Some(1_003));
    }

    #[test]
    fn a_rate_is_that_of_the_last_seconds_however_short_a_tick_is() {
        let mut counters = KernelCounters::default();
        let mut rates = Vec::new();
        // Ticks of 100 ms; the file is read each second, and 10 packets came in each.
        for tick in 0..=200u64 {
            let read = invalid(tick / 10 * 10);
            rates.push(counters.observe(tick * SECOND / 10, Some(read)).unwrap().rates.invalid);
        }
        assert_eq!((rates[0], rates[9]), (None, None));
        assert_eq!(rates[10], Some(10.0));
        let late: Vec<f64> = rates[60..].iter().map(|rate| rate.unwrap()).collect();
        assert!(late.iter().all(|rate| (6.0..=14.0).contains(rate)), "{late:?}");
        assert!(counters.marks.len() <= 2);
        // Nothing more comes: after 6 s it is 0.
        let read = Some(invalid(200));
        let last = (201..=270u64).map(|tick| counters.observe(tick * SECOND / 10, read)).last();
        assert_eq!(last.flatten().unwrap().rates.invalid, Some(0.0));
    }

    #[test]
    fn a_counter_that_this_kernel_lacks_stays_unknown() {
        let mut counters = KernelCounters::default();
        counters.observe(SECOND, Some(invalid(1)));
        let tick = counters.observe(3 * SECOND, Some(invalid(5))).unwrap();
        assert_eq!((tick.totals.drop, tick.rates.drop), (None, None));
        assert_eq!((tick.totals.invalid, tick.rates.invalid), (Some(5), Some(2.0)));
    }
}
