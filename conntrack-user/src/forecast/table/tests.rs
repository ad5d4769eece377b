use super::*;
use crate::{
    forecast::{
        outlook::{Quantiles, State},
        snapshot::{Change, Ended, Live},
    },
    model::{class::EntryStatus, random::SplitMix64},
};

/// A table whose entries live for a fixed time: UDP without an answer for 33 s, and answered TCP for 150 s.
struct World {
    forecaster: Table,
    second: usize,
    /// Inserts by second, of both.
    inserts: Vec<[u64; 2]>,
    entries: [u64; 2],
    max: u32,
}

const LIVES: [usize; 2] = [33, 150];

impl World {
    /// In equilibrium at these rates.
    fn new(rates: [u64; 2], max: u32) -> Self {
        let entries = [0, 1].map(|of| rates[of] * LIVES[of] as u64);
        Self { forecaster: Table::default(), second: 200, inserts: vec![rates; 200], entries, max }
    }

    fn go_on(&mut self, rates: [u64; 2], seconds: usize) -> Outlook {
        for _ in 0..seconds {
            let mut change = Change::default();
            let deaths = [0, 1].map(|of| self.inserts[self.second - LIVES[of]][of]);
            self.inserts.push(rates);
            for of in [0, 1] {
                self.entries[of] = self.entries[of] + rates[of] - deaths[of];
            }
            change.inserts = [rates[1], rates[0], 0, 0];
            change.deletes[0][1] = deaths[0];
            change.deletes[2][0] = deaths[1];
            let mut live = [[0.0; PROTOCOLS]; 4];
            (live[0][1], live[2][0]) = (self.entries[0] as f64, self.entries[1] as f64);
            self.second += 1;
            self.forecaster.observe(&Snapshot {
                time_ns: self.second as u64 * 1_000_000_000,
                entries: Some(self.entries[0] + self.entries[1]),
                limit: Limit::Entries(self.max),
                change: Some(change),
                live: Some(Live { entries: live, reads: 1280, ..Live::default() }),
                ended: None,
                timeouts: Timeouts::default(),
            });
        }
        self.forecaster.outlook()
    }
}

/// So many entries of at most so many, and nothing else, at that second.
fn counts_alone(second: u64, entries: u64, max: u32) -> Snapshot {
    Snapshot {
        time_ns: second * 1_000_000_000,
        entries: Some(entries),
        limit: Limit::Entries(max),
        change: None,
        live: None,
        ended: None,
        timeouts: Timeouts::default(),
    }
}

#[test]
fn a_table_that_stays_is_steady() {
    let mut world = World::new([1000, 300], 262_144);
    for seconds in [10, 60, 600] {
        let outlook = world.go_on([1000, 300], seconds);
        assert_eq!(outlook.state, State::Steady, "{outlook:?}");
        assert_eq!(outlook.seconds_to_full.map(|full| full.median), Some(None), "{outlook:?}");
        let level = outlook.steady_state.map_or(0.0, |steady_state| steady_state.level);
        assert!((level / 78_000.0 - 1.0).abs() < 0.15, "{outlook:?}");
    }
}

#[test]
fn what_was_evicted_before_a_gap_says_nothing_of_now() {
    let mut world = World::new([1000, 300], 80_000);
    world.go_on([1000, 300], 60);
    let mut snapshot = counts_alone(world.second as u64 + 1, 79_900, 80_000);
    snapshot.change = Some(Change { early_drops: 5, ..Change::default() });
    world.forecaster.observe(&snapshot);
    assert_eq!(world.forecaster.outlook().state, State::Full);
    (snapshot.time_ns, snapshot.entries, snapshot.change) =
        (snapshot.time_ns + 60_000_000_000, Some(74_000), None);
    world.forecaster.observe(&snapshot);
    assert_ne!(world.forecaster.outlook().state, State::Full);
}

#[test]
fn counts_alone_that_stay_just_below_the_limit_are_a_full_table() {
    let mut table = Table::default();
    for second in 1..60 {
        // What is evicted for each that comes is not seen.
        table.observe(&counts_alone(second, 8_000 - second % 3, 8_000));
        assert_eq!(table.outlook().state, State::Full, "second {second}");
    }
}

#[test]
fn a_table_that_was_nearly_empty_is_known_at_once() {
    let mut table = Table::default();
    let timeouts = Timeouts { udp: 3600.0, ..Timeouts::default() };
    for second in 0..5 {
        let mut change = Change::default();
        change.inserts[Protocol::Udp as usize] = 500;
        let change = (second > 0).then_some(change);
        let counts = counts_alone(second + 1, 40 + 500 * second, 40_000);
        table.observe(&Snapshot { change, timeouts, ..counts });
    }
    let outlook = table.outlook();
    let median = outlook.seconds_to_full.and_then(|full| full.median).unwrap_or(0.0);
    assert!((median - 76.0).abs() < 4.0, "{outlook:?}");
}

#[test]
fn a_step_to_a_plateau_below_max_is_not_expected_to_fill() {
    let mut world = World::new([1000, 300], 262_144);
    world.go_on([1000, 300], 600);
    for _ in 0..60 {
        let outlook = world.go_on([4000, 300], 1);
        // 4,000 for 33 s and 300 for 150 s: 177,000.
        if let Some(full) = outlook.seconds_to_full.filter(|_| world.second > 803) {
            assert_eq!(full.median, None, "{}: {outlook:?}", world.second);
        }
    }
}

#[test]
fn a_step_over_max_is_told_to_the_second() {
    let mut world = World::new([1000, 300], 262_144);
    world.go_on([1000, 300], 600);
    // 78,000 and 9,000 a second more: after 20.5 s.
    for second in 1..20 {
        let outlook = world.go_on([10_000, 300], 1);
        if second >= 3 {
            let median = outlook.seconds_to_full.and_then(|full| full.median);
            let left = 20.46 - second as f64;
            assert!(
                median.is_some_and(|median| (median - left).abs() < 0.1 * left + 0.3),
                "{left}: {outlook:?}"
            );
        }
    }
}

#[test]
fn a_leak_is_found_when_it_is_longer_than_lifetimes() {
    let mut world = World::new([1000, 300], 100_000);
    world.go_on([1000, 300], 600);
    // 20 a second that stay: as if so many lived for ever.
    let mut seen = None;
    for second in 1..1000_usize {
        for _ in 0..1 {
            world.entries[1] += 20;
            world.go_on([1000, 300], 1);
        }
        let outlook = world.forecaster.outlook();
        let full = outlook.seconds_to_full.and_then(|full| full.median);
        if seen.is_none() && full.is_some() {
            seen = Some(second);
        }
        if second == 800 {
            // 78,000 and 20 for each second; full after 1,100.
            assert!(full.is_some_and(|full| (full / 300.0 - 1.0).abs() < 0.2), "{outlook:?}");
        }
    }
    assert!(seen.is_some_and(|seen| seen < 600), "{seen:?}");
}

/// Snapshots that no kernel would give, and some that it would.
fn any_snapshot(random: &mut SplitMix64, before_ns: u64) -> Snapshot {
    let mut number = |most: u64| match random.below(6) {
        0 => 0,
        1 => most,
        _ => random.below(most.max(1)),
    };
    let size = [10, 1000, 300_000, u64::MAX][number(4) as usize % 4];
    let mut change =
        Change { early_drops: number(size), refused: number(size), ..Change::default() };
    change.inserts = [(); PROTOCOLS].map(|()| number(size));
    change.deletes = [(); 4].map(|()| [(); PROTOCOLS].map(|()| number(size)));
    let live = Live {
        entries: [(); 4].map(|()| [(); PROTOCOLS].map(|()| number(size) as f64)),
        established: number(size) as f64,
        old_established: Some(number(size) as f64),
        lasting: number(size) as f64,
        expired: number(size) as f64,
        reads: number(1280) as u32,
    };
    let timeout = [f64::NAN, f64::INFINITY, 0.0, -1.0, 30.0, 1e9][number(6) as usize % 6];
    Snapshot {
        time_ns: [
            before_ns,
            before_ns.saturating_add(100_000_000),
            before_ns / 2,
            number(u64::MAX),
        ][[1, 1, 1, 1, 0, 2, 3][number(7) as usize % 7]],
        entries: (number(8) > 0).then(|| number(size)),
        limit: match number(6) {
            0 => Limit::Unlimited,
            1 => Limit::Unavailable,
            _ => Limit::Entries(number(size.min(u64::from(u32::MAX))) as u32),
        },
        change: (number(5) > 0).then_some(change),
        live: (number(3) > 0).then_some(live),
        ended: (number(2) > 0).then(|| {
            let ended = Ended {
                protocol: Protocol::Udp,
                status: EntryStatus::Unreplied,
                seconds: number(size) as f64,
                weight: number(size) as f64,
            };
            vec![ended; 3]
        }),
        timeouts: Timeouts { udp: timeout, tcp_time_wait: timeout, ..Timeouts::default() },
    }
}

fn is_ordered(quantiles: &Quantiles<Option<f64>>) -> bool {
    let [low, median, high] =
        [quantiles.low, quantiles.median, quantiles.high].map(|at| at.unwrap_or(f64::INFINITY));
    0.0 <= low && low <= median && median <= high
}

#[test]
fn whatever_comes_in_no_nonsense_comes_out() {
    for seed in 0..60 {
        let mut random = SplitMix64::new(seed);
        let mut table = Table::default();
        let mut now_ns = 0;
        for _ in 0..80 {
            let snapshot = any_snapshot(&mut random, now_ns);
            table.observe(&snapshot);
            now_ns = now_ns.max(snapshot.time_ns.min(1 << 60));
            let outlook = table.outlook();
            if let Some(full) = &outlook.seconds_to_full {
                assert!(is_ordered(full), "{seed}: {outlook:?}");
            }
            if let Some(drop) = &outlook.seconds_to_first_drop {
                assert!(is_ordered(drop), "{seed}: {outlook:?}");
            }
            if let Some(within) = outlook.full_probability {
                assert!(within.iter().all(|p| (0.0..=1.0).contains(p)), "{seed}: {outlook:?}");
                assert!(within.is_sorted(), "{seed}: {outlook:?}");
            }
            if let Some(ahead) = outlook.entries_in_60s {
                assert!(
                    ahead.low <= ahead.median && ahead.median <= ahead.high,
                    "{seed}: {outlook:?}"
                );
            }
            if let Some(steady_state) = outlook.steady_state {
                assert!(
                    steady_state.level.is_finite() && steady_state.seconds.is_finite(),
                    "{seed}: {outlook:?}"
                );
            }
        }
    }
}

#[test]
fn more_entries_more_arrivals_or_less_room_are_never_later() {
    let later = |one: Option<f64>, other: Option<f64>| {
        one.unwrap_or(f64::INFINITY) > other.unwrap_or(f64::INFINITY) + 1e-6
    };
    let mut world = World::new([1000, 300], 262_144);
    world.go_on([1000, 300], 300);
    world.go_on([6000, 300], 8);
    let full = |table: &Table| table.outlook().seconds_to_full.unwrap();
    let base = full(&world.forecaster);
    for by in [1.1, 1.5, 3.0] {
        let mut more = world.forecaster.clone();
        more.entries = more.entries.map(|entries| entries * by);
        let mut narrower = world.forecaster.clone();
        narrower.limit = Some(Limit::Entries((262_144.0 / by) as u32));
        for other in [full(&more), full(&narrower)] {
            assert!(
                !later(other.low, base.low) && !later(other.median, base.median),
                "{by}: {other:?}"
            );
            assert!(!later(other.high, base.high), "{by}: {other:?}");
        }
        let mut coming = world.forecaster.coming();
        let path = world.forecaster.queue(&coming);
        coming.rates.iter_mut().flatten().for_each(|rate| rate.level *= by);
        let fast = world.forecaster.queue(&coming);
        assert!(path.level.iter().zip(&fast.level).all(|(one, more)| one <= more), "{by}");
    }
}

#[test]
fn with_counts_alone_a_steady_climb_is_told() {
    let mut table = Table::default();
    for second in 0..120_u64 {
        table.observe(&counts_alone(second, 10_000 + 100 * second, 40_000));
    }
    let full = table.outlook().seconds_to_full.and_then(|full| full.median);
    assert!(full.is_some_and(|full| (full - 181.0).abs() < 10.0), "{full:?}");
}

#[test]
#[ignore = "measures"]
fn cost() {
    let mut world = World::new([1000, 300], 262_144);
    world.go_on([1000, 300], 900);
    let begin = std::time::Instant::now();
    let rounds = 2000;
    for _ in 0..rounds {
        std::hint::black_box(world.forecaster.outlook());
    }
    let look = begin.elapsed() / rounds;
    let begin = std::time::Instant::now();
    world.go_on([1000, 300], 2000);
    let observe = begin.elapsed() / 2000;
    println!("outlook {look:?}, observe {observe:?}");
}

/// Of 1,960 entries from before nothing is known; none is deleted, and 3 a second come that are held.
#[test]
fn entries_from_before_of_which_none_is_deleted_stay() {
    const MAX: u32 = 2250;
    let mut forecaster = Table::default();
    for second in 0..60 {
        let came = 3 * second;
        let mut entries = ByClass::default();
        entries[EntryStatus::Assured as usize][Protocol::Tcp as usize] = came as f64;
        let held = came as f64;
        let live = Live {
            entries,
            established: held,
            lasting: held,
            reads: came as u32,
            ..Live::default()
        };
        let change = Change { inserts: [3, 0, 0, 0], removed: Some(0), ..Change::default() };
        forecaster.observe(&Snapshot {
            time_ns: second * 1_000_000_000,
            entries: Some(1960 + came),
            limit: Limit::Entries(MAX),
            change: (second > 0).then_some(change),
            live: (came >= 16).then_some(live),
            ended: Some(vec![]),
            timeouts: Timeouts::default(),
        });
        if second >= 10 {
            let left = (f64::from(MAX) - 1960.0 - came as f64) / 3.0;
            let median = forecaster.outlook().seconds_to_full.and_then(|full| full.median);
            let off = (median.unwrap_or(f64::INFINITY) - left).abs();
            assert!(off <= 0.25 * left, "{second} s: {median:?} of {left}");
        }
    }
}
