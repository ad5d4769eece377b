//! Laws that no forecast may break, whatever it is made from: scenarios, recordings, and tables drawn at random of which
//! nothing is deleted.

use std::{fs, fs::File, path::PathBuf};

use proptest::{prelude::*, test_runner::RngSeed};

use super::{
    drawn, recorded,
    scenario::Scenario,
    simulator::{Run, Simulator},
};
use crate::{
    forecast::{
        Forecaster as _,
        outlook::{HORIZON, Outlook, State, WITHIN},
        snapshot::{Change, Live, Snapshot, Timeouts},
        table::{JUMP_FACTOR, Table},
    },
    model::{
        class::{EntryStatus, Protocol},
        tick::Limit,
    },
    source::recording::reader::Reader,
};

/// Longest time between two passes of the kernel's collector, in seconds.
const COLLECTOR: f64 = 60.0;
/// Spans in seconds over which the present growth is measured: the least counts.
const SPANS: [f64; 3] = [8.0, 30.0, 120.0];
/// Part of the present growth that is sure to go on.
const SURE: f64 = 0.85;
/// Half of the certainty that what grows so is full, but for how exactly a growth is measured.
const HALF: f64 = 0.45;
/// Medians that differ by less than so many seconds are about the same.
const ALIKE_SECS: f64 = 30.0;
/// Medians further apart in time than that, in seconds, are not compared.
const NEXT_SECS: f64 = 2.5;

/// Scenarios that take longer have nothing that the others have not, in seconds.
const LONGEST: f64 = 1000.0;

/// History of one table: what the forecaster told last, levels, and the last delete.
#[derive(Default)]
struct Laws {
    /// Second at which the first entry came.
    begin: Option<f64>,
    last_delete: f64,
    levels: Vec<(f64, f64)>,
    median: Option<(f64, f64)>,
    max: f64,
}

impl Laws {
    /// Checks what was told of one snapshot. `keeps`: live entries show that none of them expires soon.
    fn check(&mut self, snapshot: &Snapshot, outlook: &Outlook, keeps: bool) {
        let now = snapshot.time_ns as f64 / 1e9;
        let entries = snapshot.entries.unwrap_or(0) as f64;
        let has_come = snapshot.change.is_some_and(|change| change.inserts.iter().sum::<u64>() > 0);
        if self.begin.is_none() && has_come {
            self.begin = Some(now);
        }
        self.levels.push((now, entries));
        let deletes = snapshot.change.map(|change| change.deletes.iter().flatten().sum::<u64>());
        if deletes != Some(0) {
            self.last_delete = now;
        }
        let Limit::Entries(max) = snapshot.limit else { return };
        let (max, before) = (f64::from(max), self.max);
        self.max = max;
        times(outlook, now);
        if outlook.state != State::Full {
            let quiet = now - self.last_delete.max(self.begin.unwrap_or(now));
            if keeps || quiet > COLLECTOR + shortest(&snapshot.timeouts) + 3.0 {
                self.nothing_expires(outlook, now, entries, max);
            }
        }
        let median = outlook.seconds_to_full.map(|full| full.median.unwrap_or(HORIZON));
        let told = std::mem::replace(&mut self.median, median.map(|median| (now, median)));
        if let (Some((then, told)), Some(median)) = (told, median)
            && now - then < NEXT_SECS
            && before == max
        {
            let (less, more) = (told.min(median), told.max(median));
            let is_jump = more > JUMP_FACTOR * less && more - less > ALIKE_SECS;
            assert!(!is_jump || outlook.jump.is_some(), "{now}: {told} to {median}: {outlook:?}");
        }
    }

    /// A table of which nothing expires grows at least as it does.
    fn nothing_expires(&self, outlook: &Outlook, now: f64, entries: f64, max: f64) {
        assert_ne!(outlook.state, State::Draining, "{now}: {outlook:?}");
        let settles = outlook.steady_state.map_or(entries, |steady| steady.level);
        assert!(settles >= entries - 1.0, "{now}: {entries} and {outlook:?}");
        let Some(probability) = outlook.full_probability else { return };
        let growth = SPANS.map(|span| {
            let from = self.levels.partition_point(|(time, _)| *time < now - span - 0.5);
            let (time, level) = self.levels[from];
            // A burst is no growth: at least half of each span must be known.
            let is_known = now - time >= 0.5 * span + 2.0;
            if is_known { (entries - level) / (now - time) } else { 0.0 }
        });
        let growth = growth.into_iter().fold(f64::INFINITY, f64::min);
        for (within, probability) in WITHIN.into_iter().zip(probability) {
            let is_full = entries + SURE * growth * within >= max;
            assert!(!is_full || probability >= HALF, "{now}: {within} s, {growth}/s: {outlook:?}");
        }
    }
}

/// The shortest time-out of the entries of these tests: UDP, ICMP, or closed TCP connections.
fn shortest(timeouts: &Timeouts) -> f64 {
    timeouts.udp.max(timeouts.icmp).max(timeouts.tcp_time_wait).max(timeouts.udp_stream)
}

/// Quantiles are in order, no packet is dropped before the table is full, and times agree with probabilities.
fn times(outlook: &Outlook, now: f64) {
    let Some(full) = outlook.seconds_to_full else { return };
    let all = |of: [Option<f64>; 3]| of.map(|time| time.unwrap_or(f64::INFINITY));
    let full = all([full.low, full.median, full.high]);
    assert!(full[0] <= full[1] && full[1] <= full[2], "{now}: {outlook:?}");
    if let Some(drop) = outlook.seconds_to_first_drop {
        let drop = all([drop.low, drop.median, drop.high]);
        assert!(drop[0] <= drop[1] && drop[1] <= drop[2], "{now}: {outlook:?}");
        assert!(full.iter().zip(drop).all(|(full, drop)| *full <= drop), "{now}: {outlook:?}");
    }
    for (within, probability) in
        WITHIN.into_iter().zip(outlook.full_probability.unwrap_or_default())
    {
        let [low, _, high] = full;
        assert!((0.0..=1.0).contains(&probability), "{now}: {outlook:?}");
        assert!(low > 0.9 * within - 2.0 || probability >= 0.09, "{now}: {outlook:?}");
        assert!(high <= 1.1 * within + 2.0 || probability <= 0.91, "{now}: {outlook:?}");
    }
}

fn check(run: &Run) {
    let (mut table, mut laws) = (Table::default(), Laws::default());
    let mut earlier = run.earlier.iter().peekable();
    for (at, snapshot) in run.snapshots.iter().enumerate() {
        if run.restarts.contains(&at) {
            (table, laws) = Default::default();
        }
        while let Some((_, snapshot)) = earlier.next_if(|(tick, _)| *tick <= at) {
            table.observe(snapshot);
        }
        if let Some(snapshot) = snapshot {
            table.observe(snapshot);
            laws.check(snapshot, &table.outlook(), false);
        }
    }
}

fn folder(path: &str) -> impl Iterator<Item = PathBuf> {
    let folder: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", path].iter().collect();
    fs::read_dir(folder).unwrap().map(|file| file.unwrap().path())
}

fn simulate(scenario: Scenario) {
    check(&Simulator::new(scenario).unwrap().run(7));
}

#[test]
fn they_hold_of_every_written_scenario() {
    let mut number = 0;
    for path in
        folder("tests/scenarios/forecast").filter(|path| path.extension() == Some("toml".as_ref()))
    {
        let scenario = Scenario::parse(&fs::read_to_string(path).unwrap()).unwrap();
        if scenario.seconds <= LONGEST {
            simulate(scenario);
            number += 1;
        }
    }
    assert!(number >= 6, "{number}");
}

#[test]
fn they_hold_of_scenarios_that_are_drawn() {
    (0..3).for_each(|place| simulate(drawn::scenario(20_261_130, place).1));
}

#[test]
fn they_hold_of_every_recording() {
    let mut number = 0;
    for path in
        folder("tests/fixtures/forecast").filter(|path| path.extension() == Some("mcap".as_ref()))
    {
        let mut reader = Reader::open(File::open(path).unwrap()).unwrap();
        for recorded in recorded::read(&mut reader, None, 1 << 31).unwrap() {
            check(&recorded.run);
            number += 1;
        }
    }
    assert!(number >= 5, "{number}");
}

/// Connections that are opened and held: bursts, and a rate.
#[derive(Debug, Clone)]
struct Leak {
    /// Entries that are there when ctmon begins.
    before: u64,
    /// Second, and entries that come in it.
    bursts: Vec<(u64, u64)>,
    /// Entries a second, from this second on.
    rate: u64,
    from: u64,
    max: u32,
    /// Flag: live entries are read again.
    is_read: bool,
}

fn any_leak() -> impl Strategy<Value = Leak> {
    let bursts = prop::collection::vec((1_u64..100, 1_u64..3000), 0..4);
    (0_u64..4000, bursts, 1_u64..120, 0_u64..120, 3000_u32..40_000, any::<bool>()).prop_map(
        |(before, bursts, rate, from, max, is_read)| Leak {
            before,
            bursts,
            rate,
            from,
            max,
            is_read,
        },
    )
}

/// Shows a leak to a forecaster until the table is full, for at most eight minutes.
fn leak(leak: &Leak) {
    let (mut table, mut laws) = (Table::default(), Laws::default());
    let (mut entries, mut seen) = (leak.before, 0);
    let mut read = 0;
    for second in 0..480 {
        let of_bursts = leak.bursts.iter().filter(|(at, _)| *at == second);
        let bursts: u64 = of_bursts.map(|(_, burst)| burst).sum();
        let came = bursts + if second > 0 && second >= leak.from { leak.rate } else { 0 };
        if entries + came >= u64::from(leak.max) {
            break;
        }
        (entries, seen) = (entries + came, seen + came);
        let mut change = Change { removed: Some(0), ..Change::default() };
        change.inserts[Protocol::Tcp as usize] = came;
        let live = (leak.is_read && seen >= 60).then(|| {
            let mut live = Live { reads: seen.min(1280) as u32, ..Live::default() };
            live.entries[EntryStatus::Assured as usize][Protocol::Tcp as usize] = seen as f64;
            (live.established, live.lasting) = (seen as f64, seen as f64);
            live
        });
        read = if live.is_some() { read + 1 } else { 0 };
        let snapshot = Snapshot {
            time_ns: second * 1_000_000_000,
            entries: Some(entries),
            limit: Limit::Entries(leak.max),
            change: (second > 0).then_some(change),
            live,
            ended: Some(vec![]),
            timeouts: Timeouts::default(),
        };
        table.observe(&snapshot);
        // Reads speak for the entries whose insert was seen.
        let keeps = read > 5 && seen > 99 * leak.before && second > leak.from + 10;
        laws.check(&snapshot, &table.outlook(), keeps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn they_hold_of_any_leak(any in any_leak()) {
        leak(&any);
    }
}
