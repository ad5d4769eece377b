//! Scenarios: `tests/scenarios/warnings/*.toml`, a reading a second and the changes that come of them.

use serde::Deserialize;

use super::*;
use crate::{
    forecast::outlook::{IS_FULL, Outlook, Quantiles, State},
    model::{
        counts::{Counted, Totals},
        evictable::Evictable,
        full::{FullTracker, Observation},
        name::NameKind,
        tick::Rates,
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    /// Entries that the table may have; 0: as many as memory holds.
    max: u32,
    /// Where no program counts, the kernel's own numbers tell what was lost.
    #[serde(default)]
    by_kernel: bool,
    #[serde(default)]
    thresholds: Thresholds,
    reading: Vec<Series>,
    #[serde(default)]
    change: Vec<Expected>,
}

/// The same reading a few times.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Series {
    times: u64,
    /// None: not available.
    entries: Option<u64>,
    /// None: nothing is forecast.
    full_probability: Option<[f64; 4]>,
    /// In each of them; none: not available.
    table_full_drops: Option<u64>,
    early_drops: Option<u64>,
    cookie: Option<u64>,
    #[serde(default)]
    is_idle: bool,
    #[serde(default)]
    is_gone: bool,
    #[serde(default)]
    has_ended: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// The number of the reading, from 0.
    at: u64,
    to: Severity,
    conditions: Vec<String>,
    message: String,
}

/// What was lost in all readings up to this one, and whether the table is full by it.
#[derive(Default)]
struct Counters {
    table_full_drops: u64,
    early_drops: u64,
    full: FullTracker,
}

fn tick(scenario: &Scenario, series: &Series, at: u64, counters: &mut Counters) -> Tick {
    let id = NetnsId { cookie: series.cookie, inode: 4_026_531_840 };
    let outlook = match series.full_probability {
        None => Outlook::unknown(State::Unknown, "2 s of 3 s seen so far"),
        Some(within) => Outlook {
            seconds_to_full: Some(Quantiles { low: Some(7200.0), median: None, high: None }),
            full_probability: Some(within),
            ..Outlook::unknown(State::Filling, "arrivals stay as they are")
        },
    };
    counters.table_full_drops += series.table_full_drops.unwrap_or(0);
    counters.early_drops += series.early_drops.unwrap_or(0);
    let kernel = KernelStat {
        drop: series.table_full_drops.map(|_| counters.table_full_drops),
        early_drop: series.early_drops.map(|_| counters.early_drops),
        ..KernelStat::default()
    };
    let change = Totals {
        table_full_drops: series.table_full_drops.unwrap_or(0),
        early_drops: series.early_drops.unwrap_or(0),
        ..Totals::default()
    };
    let is_counted = series.table_full_drops.is_some() && !scenario.by_kernel;
    let time = Time { monotonic_ns: at * 1_000_000_000, unix_ns: at };
    let entries = series.entries.map_or(Entries::Unavailable, Entries::Exact);
    let limit = if scenario.max == 0 { Limit::Unlimited } else { Limit::Entries(scenario.max) };
    let is_nearly_full = limit.fill(entries).is_some_and(|fill| fill >= 0.9);
    let full = counters.full.observe(&Observation {
        time,
        seconds: (at > 0).then_some(1.0),
        entries,
        limit,
        table_full_drops: series.table_full_drops.filter(|_| is_counted || is_nearly_full),
        early_drops: series.early_drops,
        is_counted,
        is_full_at_once: false,
    });
    let outlook = match full {
        None => outlook,
        Some(_) => {
            Outlook { full_probability: Some([1.0; 4]), ..Outlook::unknown(State::Full, IS_FULL) }
        }
    };
    let netns = NetnsTick {
        id,
        name: Some(Name { text: "host".into(), kind: NameKind::IpNetns }),
        ended: series.has_ended,
        entries,
        limit,
        change: is_counted.then_some(change),
        rates: Rates::default(),
        windows: None,
        totals: None,
        baseline: None,
        count_drift: None,
        in_flight: crate::model::in_flight::InFlightTick::default(),
        outlook,
        full,
        growth: None,
        evictable: Evictable::default(),
        timeouts_known: false,
        count: None,
        kernel: scenario.by_kernel.then_some(kernel),
        kernel_counters: None,
    };
    let is_there = !series.is_idle && !series.is_gone;
    Tick {
        time,
        idle: u64::from(series.is_idle),
        gone: if series.is_gone { vec![id] } else { vec![] },
        counted: Counted { deletes: series.early_drops.is_some(), ..Counted::ALL },
        ..Tick::example(if is_there { vec![netns] } else { vec![] })
    }
}

fn play(scenario: &Scenario) -> Vec<Expected> {
    let mut warnings = Warnings::new(scenario.thresholds);
    let (mut counters, mut at, mut changes) = (Counters::default(), 0, Vec::new());
    for series in &scenario.reading {
        for _ in 0..series.times {
            for change in warnings.observe(&tick(scenario, series, at, &mut counters)) {
                changes.push(Expected {
                    at,
                    to: change.to,
                    conditions: change
                        .conditions
                        .iter()
                        .map(|condition| condition.name().to_owned())
                        .collect(),
                    message: change.message,
                });
            }
            at += 1;
        }
    }
    changes
}

#[test]
fn scenarios_come_out_as_they_say() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/scenarios/warnings");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    assert!(files.len() >= 10, "{files:?}");
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let scenario: Scenario =
            toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        scenario.thresholds.check().unwrap();
        assert_eq!(play(&scenario), scenario.change, "{}", path.display());
    }
}

#[test]
fn namespaces_are_bounded_and_those_at_rest_make_room() {
    let one = |inode: u64, entries: u64| {
        let scenario: Scenario = toml::from_str("max = 100\nreading = []").unwrap();
        let series = Series {
            times: 1,
            entries: Some(entries),
            full_probability: None,
            table_full_drops: None,
            early_drops: None,
            cookie: None,
            is_idle: false,
            is_gone: false,
            has_ended: false,
        };
        let mut tick = tick(&scenario, &series, 0, &mut Counters::default());
        tick.netns[0].id.inode = inode;
        tick.netns.remove(0)
    };
    let mut warnings = Warnings::new(Thresholds::default());
    let full = (0..MAX_NETNS as u64 - 1).map(|inode| one(inode, 100));
    assert_eq!(warnings.observe(&Tick::example(full.collect())).len(), MAX_NETNS - 1);
    warnings.observe(&Tick::example(vec![one(1_000_000, 1)]));
    assert_eq!((warnings.severities().count(), warnings.untracked()), (MAX_NETNS, 0));
    // Room for one, where one was at rest, and not for two.
    let more = vec![one(1_000_001, 100), one(1_000_002, 100)];
    assert_eq!(warnings.observe(&Tick::example(more)).len(), 1);
    assert_eq!((warnings.severities().count(), warnings.untracked()), (MAX_NETNS, 1));
}
