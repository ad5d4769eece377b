use super::*;
use crate::model::random::SplitMix64;

const BUDGET: f64 = 10_000.0;

/// Events a second at a time in seconds.
type Rate = fn(f64) -> f64;

/// From and to which second the events sent are between which parts of the budget.
type Expected = &'static [(usize, usize, f64, f64)];

struct Run {
    /// Events sent in each second.
    sent: Vec<f64>,
    /// The threshold at the end of each second.
    thresholds: Vec<u32>,
    changes: u32,
}

/// Ticks at 80 to 120 ms; events by chance (variance as large as the mean) within each.
fn run(rate: Rate, seconds: usize, seed: u64) -> Run {
    let mut random = SplitMix64::new(seed);
    let mut controller = Controller::new(NonZeroU32::new(BUDGET as u32).unwrap());
    let mut out = Run { sent: vec![0.0; seconds], thresholds: vec![0; seconds], changes: 0 };
    let (mut time, mut events) = (1.0f64, 0u64);
    while time < 1.0 + seconds as f64 {
        let step = 0.08 + 0.04 * random.unit();
        for part in 0..20 {
            let at = time + step * (f64::from(part) + 0.5) / 20.0 - 1.0;
            let mean = rate(at) * step / 20.0;
            // The sum of 12 evenly spread numbers is nearly normal.
            let normal = (0..12).map(|_| random.unit()).sum::<f64>() - 6.0;
            let now = (mean + mean.sqrt() * normal).max(0.0).round();
            events += now as u64;
            if let Some(sent) = out.sent.get_mut(at as usize) {
                *sent += now * ratio(controller.threshold());
            }
        }
        time += step;
        let before = controller.threshold();
        let load = Load {
            time_ns: (time * 1e9) as u64,
            events,
            lost: 0,
            entries: None,
            flows: 0,
            flows_cap: 1,
        };
        let threshold = controller.observe(&load);
        out.changes += u32::from(threshold != before);
        if let Some(last) = out.thresholds.get_mut((time - 1.0) as usize) {
            *last = threshold;
        }
    }
    out
}

/// On for half a second, off for half a second.
fn bursts(t: f64, on: f64) -> f64 {
    if t.fract() < 0.5 { on } else { 0.0 }
}

#[test]
fn the_budget_is_held() {
    // What happens; the changes of the threshold at most.
    let cases: [(&str, Rate, Expected, u32); 12] = [
        ("quiet", |_| 500.0, &[(0, 20, 0.04, 0.06)], 0),
        ("just below", |_| 9_500.0, &[(0, 20, 0.9, 1.0)], 0),
        ("just above", |_| 13_000.0, &[(2, 20, 0.85, 1.2)], 4),
        ("flood", |t| if t < 3.0 { 1e3 } else { 1e5 }, &[(5, 20, 0.8, 1.2)], 5),
        ("flood from nothing", |t| if t < 3.0 { 0.0 } else { 1e6 }, &[(5, 20, 0.8, 1.2)], 5),
        (
            "flood that ends",
            |t| if (3.0..10.0).contains(&t) { 1e5 } else { 5e3 },
            &[(0, 3, 0.4, 0.6), (5, 10, 0.8, 1.2), (10, 15, 0.0, 0.6), (16, 20, 0.45, 0.55)],
            45,
        ),
        ("rising", |t| 5e3 + 1e4 * t, &[(4, 20, 0.8, 1.2)], 160),
        ("rising fast", |t| 1e4 * 1.3f64.powf(t), &[(2, 20, 0.8, 1.2)], 160),
        ("falling", |t| 2e5 - 9e3 * t, &[(2, 13, 0.8, 1.2), (13, 17, 0.7, 1.2)], 30),
        ("bursts", |t| bursts(t, 1e5), &[(4, 30, 0.8, 1.2)], 25),
        ("bursts below", |t| bursts(t, 1.5e4), &[(4, 30, 0.6, 1.2)], 12),
        ("waves", |t| 5e4 + 3e4 * (t * 0.5).sin(), &[(4, 30, 0.6, 1.2)], 80),
    ];
    for (name, rate, expected, changes) in cases {
        for seed in 0..5 {
            let seconds = expected.iter().map(|(_, to, ..)| *to).max().unwrap();
            let run = run(rate, seconds, seed);
            let parts: Vec<String> =
                run.sent.iter().map(|sent| format!("{:.2}", sent / BUDGET)).collect();
            if seed == 0 {
                println!("{name}: {} changes; of the budget {}", run.changes, parts.join(" "));
            }
            for &(from, to, low, high) in expected {
                for (second, sent) in run.sent.iter().enumerate().take(to).skip(from) {
                    let part = sent / BUDGET;
                    assert!((low..=high).contains(&part), "{name} {seed}: {second} s: {part}");
                }
            }
            assert!(run.changes <= changes, "{name} {seed}: {} changes", run.changes);
        }
    }
}

#[test]
fn at_ordinary_load_everything_is_in_the_sample() {
    for rate in [|_| 500.0, |_| 9_500.0, |t| bursts(t, 9_000.0)] as [Rate; 3] {
        assert!(run(rate, 10, 1).thresholds.iter().all(|threshold| *threshold == EVERY_FLOW));
    }
    let over = run(|t| if t < 3.0 { 1e6 } else { 100.0 }, 20, 1);
    assert_eq!(over.thresholds.last(), Some(&EVERY_FLOW));
}

#[test]
fn a_jump_is_answered_at_the_next_tick() {
    let mut controller = Controller::new(NonZeroU32::new(10_000).unwrap());
    let mut load =
        Load { time_ns: 1, events: 0, lost: 0, entries: None, flows: 0, flows_cap: 1000 };
    for _ in 0..30 {
        controller.observe(&load);
        load.time_ns += 100_000_000;
        load.events += 100;
    }
    assert_eq!(controller.threshold(), EVERY_FLOW);
    load.events += 100_000;
    controller.observe(&load);
    let ratio = ratio(controller.threshold());
    assert!((0.009..0.011).contains(&ratio), "{ratio}");
}

#[test]
fn the_table_of_live_flows_bounds_the_sample() {
    let ratio_at = |entries| {
        let mut controller = Controller::new(NonZeroU32::MAX);
        for tick in 1..30 {
            let time_ns = tick * 100_000_000;
            let load = Load { time_ns, events: tick, lost: 0, entries, flows: 0, flows_cap: 1000 };
            controller.observe(&load);
        }
        ratio(controller.threshold())
    };
    // Where entries are not told, the flows themselves are what there is.
    let mut controller = Controller::new(NonZeroU32::MAX);
    for tick in 1..3 {
        let time_ns = tick * 100_000_000;
        controller.observe(&Load {
            time_ns,
            events: 0,
            lost: 0,
            entries: None,
            flows: 1000,
            flows_cap: 1000,
        });
    }
    assert!((0.8..0.9).contains(&ratio(controller.threshold())));
    for (entries, low, high) in
        [(None, 1.0, 1.0), (Some(0), 1.0, 1.0), (Some(900), 1.0, 1.0), (Some(9_000), 0.09, 0.1001)]
    {
        let ratio = ratio_at(entries);
        assert!((low..=high).contains(&ratio), "{entries:?}: {ratio}");
    }
    // However many there are, the ratio is not 0.
    assert!(ratio_at(Some(u64::MAX)) > 0.0);
}

#[test]
fn lost_events_lower_the_ratio_until_none_are_lost() {
    let mut controller = Controller::new(NonZeroU32::new(1_000_000).unwrap());
    // The reader takes 20,000 a second of 100,000.
    let mut load =
        Load { time_ns: 1, events: 0, lost: 0, entries: None, flows: 0, flows_cap: 1000 };
    let mut lost_at = Vec::new();
    for tick in 0..300 {
        load.time_ns += 100_000_000;
        load.events += 10_000;
        let sent = 10_000.0 * ratio(controller.threshold());
        if sent > 2_000.0 {
            load.lost += (sent - 2_000.0) as u64;
            lost_at.push(tick);
        }
        controller.observe(&load);
    }
    // Five seconds of calm, then some seconds up to where it was too much.
    assert!(lost_at.iter().filter(|tick| **tick > 50).count() < 12, "{lost_at:?}");
    assert!(ratio(controller.threshold()) > 0.1);
}
