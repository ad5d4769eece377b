//! Recordings of a real kernel, `tests/fixtures/forecast/NAME.mcap`: replayed as the live monitor takes them in. What it
//! says is compared with what it said before (`NAME.json`), and with what then came.

use std::{fs, fs::File, path::PathBuf};

use serde_json::{Value, json};

use super::{
    recorded::{self, Recorded},
    registry,
    said::Said,
    trial::listen,
};
use crate::{
    forecast::outlook::State,
    model::tick::{Limit, NetnsTick},
    source::{item::Item, listener::Listener, recording::reader::Reader},
    view::forecast,
};

const NAMES: [&str; 5] = ["flood", "plateau", "leak", "leak-late", "max-halved"];

/// How the stored answers are written anew.
const REWRITE: &str = "cargo test -p conntrack-user --lib write_answers -- --ignored";

/// Moments of a recording of which the answers are stored, spread evenly.
const MOMENTS: usize = 12;

/// Seconds at the end of a plateau in which it is at its level.
const PLATEAU: f64 = 20.0;
/// Seconds for which its entries live.
const TIMEOUT: f64 = 5.0;
/// By how much the level that is told may be off, at nine of ten ticks.
const OFF: f64 = 0.15;

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../tests/fixtures/forecast", name].iter().collect()
}

fn open(name: &str) -> Reader<File> {
    Reader::open(File::open(file(&format!("{name}.mcap"))).unwrap()).unwrap()
}

fn recorded(name: &str) -> Recorded {
    recorded::read(&mut open(name), None, 1 << 31).unwrap().remove(0)
}

/// What was shown of the recorded namespace.
struct Look {
    /// On the clock of the machine.
    time_ns: u64,
    /// Since the first one.
    seconds: f64,
    entries: u64,
    max: u64,
    tick: NetnsTick,
}

impl Look {
    /// What is evicted at the limit keeps a table a few entries below it.
    fn is_full(&self) -> bool {
        self.entries >= self.max - self.max / 500
    }

    fn time_to_full(&self) -> f64 {
        Said::of(&self.tick.outlook).median().unwrap_or(f64::INFINITY)
    }

    /// That it is full at `full` is said, give or take 30 % and half a second.
    fn assert_full_at(&self, full: f64) {
        let left = full - self.seconds;
        let said = self.time_to_full();
        assert!((said - left).abs() <= 0.3 * left + 0.5, "{:.1} s: {said} of {left}", self.seconds);
    }
}

/// All that a live monitor would have shown.
fn replay(name: &str) -> Vec<Look> {
    let (mut reader, mut listener) = (open(name), Listener::default());
    let mut looks: Vec<Look> = vec![];
    while let Some(item) = reader.next_item().unwrap() {
        let Some(mut tick) = listener.take(&item) else { continue };
        let time_ns = tick.time.monotonic_ns;
        assert!(matches!(item, Item::Reading(..)) && tick.netns.len() == 1, "{name}");
        let tick = tick.netns.remove(0);
        let Limit::Entries(max) = tick.limit else { panic!("{name}") };
        let begin_ns = looks.first().map_or(time_ns, |first| first.time_ns);
        let seconds = (time_ns - begin_ns) as f64 / 1e9;
        let entries = tick.entries.at_most().unwrap();
        looks.push(Look { time_ns, seconds, entries, max: max.into(), tick });
    }
    assert!(reader.take_notes().is_empty(), "{name}");
    looks
}

/// When it was full first at a limit of `max`.
fn full_at(looks: &[Look], max: u64) -> f64 {
    looks.iter().find(|look| look.max == max && look.is_full()).unwrap().seconds
}

/// The levels of the last seconds: their mean, and the highest.
fn level(looks: &[Look]) -> (f64, f64) {
    let end = looks.last().unwrap().seconds;
    let last = looks.iter().filter(|look| look.seconds > end - PLATEAU);
    let levels: Vec<f64> = last.map(|look| look.entries as f64).collect();
    let mean = levels.iter().sum::<f64>() / levels.len() as f64;
    (mean, levels.into_iter().fold(0.0, f64::max))
}

/// What is stored of a recording: what came, and what was said at some moments.
fn answers(looks: &[Look]) -> Value {
    let full = looks.iter().find(|look| look.is_full()).map(|look| look.seconds);
    let (mean, highest) = level(looks);
    let said = (1..MOMENTS).map(|moment| {
        let look = &looks[looks.len() * moment / MOMENTS];
        json!({
            "seconds": look.seconds,
            "entries": look.entries,
            "entries_limit": look.max,
            "forecast": forecast::json(&look.tick),
        })
    });
    json!({
        "came": {
            "full_after_seconds": full,
            "mean_of_the_last_20_s": mean.round(),
            "most_in_the_last_20_s": highest,
        },
        "said": said.collect::<Vec<_>>(),
    })
}

#[test]
fn a_replay_gives_the_stored_answers() {
    for name in NAMES {
        let stored = fs::read_to_string(file(&format!("{name}.json"))).unwrap();
        let stored: Value = serde_json::from_str(&stored).unwrap();
        let now = answers(&replay(name));
        assert_eq!(stored["came"], now["came"], "{name}");
        let (stored, now) = (stored["said"].as_array().unwrap(), now["said"].as_array().unwrap());
        for (stored, now) in stored.iter().zip(now) {
            assert_eq!(stored, now, "{name}; if the forecaster is to say this now: {REWRITE}");
        }
        assert_eq!(stored.len(), now.len(), "{name}");
    }
}

#[test]
#[ignore = "writes the stored answers anew"]
fn write_answers() {
    for name in NAMES {
        let text = serde_json::to_string_pretty(&answers(&replay(name))).unwrap();
        fs::write(file(&format!("{name}.json")), text + "\n").unwrap();
    }
}

#[test]
fn the_backtest_hears_what_the_live_monitor_says() {
    let ctmon = registry::named(&[registry::OURS.to_owned()]).unwrap()[0];
    for name in NAMES {
        let (looks, run) = (replay(name), recorded(name).run);
        let mut compared = 0;
        for (snapshot, said) in run.snapshots.iter().zip(listen(&run, &ctmon)) {
            let Some(snapshot) = snapshot else { continue };
            let look = looks.iter().find(|look| look.time_ns == snapshot.time_ns);
            let Some(look) = look else { continue };
            let shown = Said::of(&look.tick.outlook);
            // Of a full table facts are shown, and a first drop only where it is known what can be evicted.
            let told = if look.tick.full.is_some() { shown } else { said };
            assert_eq!(Said { drop: shown.drop, ..told }, shown, "{name} {:.1} s", look.seconds);
            compared += 1;
        }
        assert!(compared > looks.len() * 9 / 10, "{name}: {compared} of {}", looks.len());
    }
}

/// 3,000 TCP connections that are held, and 15 more each second, held too; ctmon began later, and ended before it was full.
#[test]
fn a_leak_among_held_connections_never_drains_and_is_told_in_time() {
    let looks = replay("leak-late");
    let last = looks.last().unwrap();
    let full = last.seconds + (last.max - last.entries) as f64 / 15.0;
    let mut judged = 0;
    for look in looks.iter().filter(|look| look.seconds >= 10.0) {
        let (left, said) = (full - look.seconds, look.time_to_full());
        assert_ne!(look.tick.outlook.state, State::Draining, "{:.1} s", look.seconds);
        assert!(said.is_finite(), "{:.1} s", look.seconds);
        if left <= 100.0 {
            let off = (said - left).abs();
            assert!(off <= f64::max(0.25 * left, 3.0), "{:.1} s: {said} of {left}", look.seconds);
            judged += 1;
        }
    }
    assert!(judged > 50, "{judged}");
}

#[test]
fn the_flood_fills_the_table_when_it_is_said_to() {
    let looks = replay("flood");
    let full = full_at(&looks, 8_000);
    let middle = looks.iter().filter(|look| (2_400..6_400).contains(&look.entries));
    assert!(middle.map(|look| look.assert_full_at(full)).count() > 20);
}

#[test]
fn the_leak_is_foreseen_after_a_minute() {
    let looks = replay("leak");
    let full = full_at(&looks, 1_500);
    let begin = looks.iter().find(|look| look.entries > 540).unwrap().seconds;
    let seen = begin + 60.0..full - 2.0;
    let seen = looks.iter().filter(|look| seen.contains(&look.seconds));
    assert!(seen.map(|look| look.assert_full_at(full)).count() > 20);
}

#[test]
fn the_next_tick_knows_the_lower_limit() {
    let looks = replay("max-halved");
    let full = full_at(&looks, 6_000);
    let on_the_way = looks.iter().filter(|look| look.max == 6_000 && look.seconds < full - 1.0);
    // The first of them is the tick after the change.
    assert!(on_the_way.map(|look| look.assert_full_at(full)).count() > 10);
    let above = looks.iter().filter(|look| look.max == 3_000);
    assert!(above.map(|look| assert_eq!(look.tick.outlook.state, State::Full)).count() > 3);
}

#[test]
fn the_plateau_is_not_told_to_be_full_and_settles_where_it_is_said_to() {
    let looks = replay("plateau");
    let (mean, highest) = level(&looks);
    let reached = looks.iter().find(|look| look.entries as f64 >= mean).unwrap().seconds;
    let there: Vec<&Look> = looks.iter().filter(|look| look.seconds >= reached + TIMEOUT).collect();
    let soon = there.iter().filter(|look| look.time_to_full() <= 600.0).count();
    assert_eq!(soon, 0);
    // Between two passes of the collector it climbs: any level of that saw is one that it has.
    let off = |level: f64| (level / highest - 1.0).max(1.0 - level / mean).max(0.0);
    let told = there.iter().filter_map(|look| look.tick.outlook.steady_state);
    let mut off: Vec<f64> = told.map(|told| off(told.level)).collect();
    off.sort_by(f64::total_cmp);
    assert!(off.len() * 2 > there.len(), "{} of {}", off.len(), there.len());
    let of_ten = off[off.len() * 9 / 10];
    assert!(of_ten <= OFF, "{of_ten:.3} off {mean:.0} to {highest}");
}
