//! What holds whatever a table does.

use std::collections::HashMap;

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    forecast::outlook::{Outlook, Quantiles, State},
    model::{counts::Totals, evictable::Evictable, tick::Rates},
};

/// A second of a table of 1,000: entries, probability to be full within each time, packets dropped, entries evicted.
type Second = (Option<u64>, Option<f64>, Option<u64>, u64);

const SECOND: u64 = 1_000_000_000;

fn netns(inode: u64, (entries, probability, dropped, evicted): Second) -> NetnsTick {
    let full = Quantiles { low: None, median: None, high: None };
    let change =
        |dropped| Totals { table_full_drops: dropped, early_drops: evicted, ..Totals::default() };
    NetnsTick {
        id: NetnsId { cookie: None, inode },
        name: None,
        ended: false,
        entries: entries.map_or(Entries::Unavailable, Entries::Exact),
        limit: Limit::Entries(1000),
        change: dropped.map(change),
        rates: Rates::default(),
        windows: None,
        totals: None,
        baseline: None,
        count_drift: None,
        in_flight: crate::model::in_flight::InFlightTick::default(),
        outlook: match probability {
            None => Outlook::unknown(State::Unknown, ""),
            Some(probability) => Outlook {
                seconds_to_full: Some(full),
                full_probability: Some([probability; 4]),
                ..Outlook::unknown(State::Steady, "")
            },
        },
        full: None,
        growth: None,
        evictable: Evictable::default(),
        timeouts_known: false,
        count: None,
        kernel: None,
        kernel_counters: None,
    }
}

fn tick(second: u64, netns: Vec<NetnsTick>) -> Tick {
    let time = Time { monotonic_ns: second * SECOND, unix_ns: 0 };
    Tick { time, ..Tick::example(netns) }
}

fn second() -> impl Strategy<Value = Second> {
    let entries = option::weighted(0.9, 0..=1000u64);
    let probability = option::weighted(0.9, 0.0..=1.0);
    let few = || prop_oneof![9 => Just(0u64), 1 => 1..100u64];
    (entries, probability, option::weighted(0.9, few()), few())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn changes_follow_from_each_other_and_a_better_level_takes_its_time(
        seconds in vec(vec(second(), 3), 1..400),
    ) {
        let mut warnings = Warnings::new(Thresholds::default());
        let mut levels: HashMap<u64, (Severity, u64)> = HashMap::new();
        let quiet = Thresholds::default().quiet_seconds as u64;
        for (at, tables) in (0..).zip(&seconds) {
            let tables = (0..).zip(tables).map(|(inode, second)| netns(inode, *second)).collect();
            for change in warnings.observe(&tick(at, tables)) {
                let (level, since) = levels.get(&change.id.inode).copied().unwrap_or((Severity::Ok, 0));
                prop_assert_eq!(change.from, level);
                let drops = change.conditions.contains(&Condition::TableFullDrops);
                prop_assert!(change.to != level || level == Severity::Critical && drops);
                prop_assert_eq!(change.to == Severity::Ok, change.conditions.is_empty());
                prop_assert!(change.to >= level || at - since >= quiet, "{} s", at - since);
                if change.to != level {
                    levels.insert(change.id.inode, (change.to, at));
                }
            }
        }
        for (id, level) in warnings.severities() {
            let told = levels.get(&id.inode).map_or(Severity::Ok, |(level, _)| *level);
            prop_assert_eq!(level, told);
        }
    }

    #[test]
    fn what_is_not_known_changes_nothing(before in vec(second(), 0..100), unknown in 1..1000u64) {
        let mut warnings = Warnings::new(Thresholds::default());
        for (at, second) in (0..).zip(&before) {
            warnings.observe(&tick(at, vec![netns(1, *second)]));
        }
        let begin = before.len() as u64;
        for at in begin..begin + unknown {
            let changes = warnings.observe(&tick(at, vec![netns(1, (None, None, None, 0))]));
            prop_assert_eq!(changes, vec![]);
        }
    }

    #[test]
    fn a_table_that_is_almost_full_is_critical_at_once(
        before in vec(second(), 0..100),
        entries in 950..=1000u64,
    ) {
        let mut warnings = Warnings::new(Thresholds::default());
        for (at, second) in (0..).zip(&before) {
            warnings.observe(&tick(at, vec![netns(1, *second)]));
        }
        let last = netns(1, (Some(entries), None, None, 0));
        warnings.observe(&tick(before.len() as u64, vec![last]));
        let levels: Vec<Severity> = warnings.severities().map(|(_, level)| level).collect();
        prop_assert_eq!(levels, [Severity::Critical]);
    }

    #[test]
    fn all_is_well_after_a_quiet_time(before in vec(second(), 0..400)) {
        let thresholds = Thresholds::default();
        let mut warnings = Warnings::new(thresholds);
        for (at, second) in (0..).zip(&before) {
            warnings.observe(&tick(at, vec![netns(1, *second)]));
        }
        let begin = before.len() as u64;
        for at in begin..=begin + thresholds.quiet_after_loss_seconds as u64 {
            warnings.observe(&tick(at, vec![netns(1, (Some(10), Some(0.0), Some(0), 0))]));
        }
        prop_assert!(warnings.netns.values().all(Watched::is_at_rest));
    }
}
