//! What the simulated table does, checked against what is known of it.

use super::{scenario::Scenario, simulator::*};
use crate::{
    forecast::snapshot::{ByClass, Snapshot},
    model::{
        class::{EntryStatus, Protocol},
        tick::Limit,
    },
};

fn simulator(head: &str, arrivals: &str, events: &str) -> Simulator {
    let text =
        format!("title = ''\nimitates = ''\n{head}\narrivals = [{arrivals}]\nevents = [{events}]");
    Simulator::new(Scenario::parse(&text).unwrap()).unwrap()
}

fn entries(snapshot: &Option<Snapshot>) -> u64 {
    snapshot.as_ref().unwrap().entries.unwrap()
}

fn sum(classes: &ByClass<u64>) -> u64 {
    classes.iter().flatten().sum()
}

#[test]
fn a_steady_table_holds_rate_times_lifetime() {
    let arrivals = "{ class = 'tcp_assured', rate = [[0, 100]], active = { lognormal = { median = 10, sigma = 1 } } },
        { class = 'udp_unreplied', rate = [[0, 200]], dispersion = 4 }";
    // TCP started empty too, so that it is the arrivals that fill it.
    let cold = arrivals.replace(" } } }", " } }, at_start = 0 }");
    for (tick, arrivals, from) in [(0.5, arrivals, 0), (1.0, &cold, 400)] {
        let head = format!("seconds = 900\nmax = 1000000\ntick = {tick}");
        let run = simulator(&head, arrivals, "").run(7);
        let after = run.snapshots.iter().skip((f64::from(from) / tick) as usize);
        let levels: Vec<f64> = after.map(|snapshot| entries(snapshot) as f64).collect();
        let mean = levels.iter().sum::<f64>() / levels.len() as f64;
        // Active, timeout, and half of the minute between two passes of the collector.
        let tcp = 100.0 * (10.0 * 0.5_f64.exp() + 120.0 + 30.7);
        let udp = 200.0 * (30.0 + 30.7);
        assert!((mean / (tcp + udp) - 1.0).abs() < 0.02, "{tick} s: {mean} of {}", tcp + udp);
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let simulator =
        simulator("seconds = 60\nmax = 500", "{ class = 'icmp', rate = [[0, 20]] }", "");
    assert_eq!(simulator.run(3).snapshots, simulator.run(3).snapshots);
    assert_ne!(simulator.run(3).snapshots, simulator.run(4).snapshots);
}

#[test]
fn nothing_is_lost_and_the_limit_holds() {
    let arrivals =
        "{ class = 'tcp_long', rate = [[0, 1]], at_start = 600, active = { exponential = 500 } },
        { class = 'udp_unreplied', rate = [[60, 0], [60, 100]], dispersion = 2 },
        { class = 'udp_stream', rate = [[0, 1]], active = { fixed = 20 } }";
    let events = "{ at = 40, do = { reconnect = { class = 'tcp_long', share = 0.2, over = 5 } } },
        { at = 200, do = { max = 1500 } }, { at = 250, do = 'flush' }, { at = 280, do = { max = 1000 } }";
    let run = simulator("seconds = 300\nmax = 1000", arrivals, events).run(1);
    let (mut early_drops, mut refused) = (0, 0);
    for pair in run.snapshots.windows(2) {
        let [before, after] = [0, 1].map(|at| pair[at].as_ref().unwrap());
        let change = after.change.unwrap();
        let inserts: u64 = change.inserts.iter().sum();
        let expected = before.entries.unwrap() + inserts - sum(&change.deletes);
        assert_eq!(after.entries, Some(expected));
        let Limit::Entries(max) = after.limit else { panic!() };
        assert!(expected <= u64::from(max).max(before.entries.unwrap()), "{expected} of {max}");
        early_drops += change.early_drops;
        refused += change.refused;
    }
    // All unanswered: one is nearly always found.
    assert!(early_drops > 1000 && refused < early_drops / 10, "{early_drops} {refused}");
    let flushed = run.snapshots[250].as_ref().unwrap();
    assert!(flushed.entries.unwrap() < 250);
    assert!(
        flushed.change.unwrap().deletes[EntryStatus::Assured as usize][Protocol::Tcp as usize]
            > 300
    );
}

#[test]
fn assured_entries_are_never_evicted() {
    let arrivals = "{ class = 'tcp_assured', rate = [[0, 20]], at_start = 900 }";
    let run = simulator("seconds = 60\nmax = 1000", arrivals, "").run(1);
    let changes = run.snapshots.iter().filter_map(|snapshot| snapshot.as_ref()?.change);
    let (early_drops, refused) =
        changes.fold((0, 0), |sum, change| (sum.0 + change.early_drops, sum.1 + change.refused));
    assert!(early_drops == 0 && refused > 100, "{early_drops} {refused}");
    assert!(run.truth.first_drop(&run.truth.fills()[0]).is_some());
}

#[test]
fn few_evictable_entries_are_found_now_and_then() {
    let arrivals = "{ class = 'tcp_long', rate = [[0, 300]], at_start = 95000, active = { exponential = 1e6 } },
        { class = 'udp_unreplied', rate = [[0, 0]], timeout = 100000, at_start = 5000 }";
    let run = simulator("seconds = 2\nmax = 100000", arrivals, "").run(1);
    let change = run.snapshots[1].as_ref().unwrap().change.unwrap();
    // In 8 of 100,000 buckets with 5,000 entries: with a probability of 1 - exp(-0.4) = 0.33.
    let share = change.early_drops as f64 / (change.early_drops + change.refused) as f64;
    assert!((share - 0.33).abs() < 0.1, "{change:?}");
}

#[test]
fn the_monitor_sees_about_what_is_there() {
    let arrivals =
        "{ class = 'tcp_long', rate = [[0, 0]], at_start = 30000, active = { exponential = 1e6 } },
        { class = 'udp_stream', rate = [[0, 1000]], at_start = 10000, timeout = 1000 }";
    let events = "{ at = 20, do = { pause = 10 } }";
    let run = simulator("seconds = 60\nmax = 100000", arrivals, events).run(1);
    let seen = run.snapshots[10].as_ref().unwrap();
    let live = seen.live.unwrap();
    assert_eq!(live.reads, 1280);
    let of = |status: EntryStatus, protocol: Protocol| {
        live.entries[status as usize][protocol as usize] / seen.entries.unwrap() as f64
    };
    // 30,000 of 50,000; six standard deviations of the sample.
    assert!((of(EntryStatus::Assured, Protocol::Tcp) - 0.6).abs() < 6.0 * 0.0137);
    // The last two seconds' are no streams yet: 2,000.
    assert!((of(EntryStatus::Replied, Protocol::Udp) - 0.04).abs() < 6.0 * 0.0055);
    let all: f64 = live.entries.iter().flatten().sum();
    assert!((all - seen.entries.unwrap() as f64).abs() < 1.0);
    // Nothing at the start, in a gap, and nothing to compare with after it.
    let known = |at: usize| run.snapshots[at].as_ref().map(|snapshot| snapshot.change.is_some());
    assert_eq!(
        [0, 1, 19, 20, 29, 30, 31].map(known),
        [Some(false), Some(true), Some(true), None, None, Some(false), Some(true)]
    );
}
