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

/// What a machine that is emulated, or has other work, makes of a load.
#[derive(Clone, Copy, Default)]
struct Noise {
    /// Each tenth of a second has a factor of its own: the standard deviation of its logarithm.
    swing: f64,
    /// How often in a second everything stands still, for 0.3 to 0.8 s.
    stalls: f64,
    /// Whether what would have come meanwhile comes afterwards, at three times the rate.
    catch_up: bool,
    /// Whether the controller stands still, too.
    freeze: bool,
}

const CALM: Noise = Noise { swing: 0.0, stalls: 0.0, catch_up: false, freeze: false };

/// Nearly normal: the sum of 12 evenly spread numbers.
fn normal(random: &mut SplitMix64) -> f64 {
    (0..12).map(|_| random.unit()).sum::<f64>() - 6.0
}

/// By chance, with a variance as large as the mean.
fn count(mean: f64, random: &mut SplitMix64) -> f64 {
    (mean + mean.sqrt() * normal(random)).max(0.0).round()
}

/// A load in steps of 5 ms, ticks at 80 to 120 ms.
fn run(rate: Rate, noise: Noise, seconds: usize, seed: u64) -> Run {
    const STEP: f64 = 0.005;
    let mut random = SplitMix64::new(seed);
    let mut controller = Controller::new(NonZeroU32::new(BUDGET as u32).unwrap());
    let mut out = Run { sent: vec![0.0; seconds], thresholds: vec![0; seconds], changes: 0 };
    let (mut events, mut sampled_out, mut waiting) = (0.0, 0.0, 0.0f64);
    let (mut factor, mut factor_end, mut stall_end, mut next_tick) = (1.0, 0.0, 0.0, 0.0);
    for step in 0..(seconds as f64 / STEP) as u32 {
        let at = f64::from(step) * STEP;
        if at >= factor_end {
            // With a mean of 1.
            factor = (noise.swing * (normal(&mut random) - noise.swing / 2.0)).exp();
            factor_end = at + 0.1;
        }
        if at > stall_end + 0.3 && random.unit() < noise.stalls * STEP {
            stall_end = at + 0.3 + 0.5 * random.unit();
        }
        let stands = at < stall_end;
        let mut mean = rate(at) * factor * STEP;
        if stands {
            waiting += if noise.catch_up { mean } else { 0.0 };
            mean = 0.0;
        } else {
            let more = waiting.min(2.0 * rate(at) * STEP);
            waiting -= more;
            mean += more;
        }
        let now = count(mean, &mut random);
        let share = ratio(controller.threshold());
        let sent = if share == 1.0 { now } else { count(now * share, &mut random).min(now) };
        events += now;
        sampled_out += now - sent;
        out.sent[at as usize] += sent;
        if at < next_tick || (stands && noise.freeze) {
            continue;
        }
        next_tick = at + 0.08 + 0.04 * random.unit();
        let before = controller.threshold();
        let threshold = controller.observe(&Load {
            time_ns: 1 + (at * 1e9) as u64,
            events: events as u64,
            sampled_out: sampled_out as u64,
            ..NOTHING
        });
        out.changes += u32::from(threshold != before);
        out.thresholds[at as usize] = threshold;
    }
    out
}

const NOTHING: Load = Load {
    time_ns: 1,
    events: 0,
    sampled_out: 0,
    lost: 0,
    entries: None,
    flows: 0,
    flows_cap: 1000,
};

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
        ("flood", |t| if t < 3.0 { 1e3 } else { 1e5 }, &[(5, 20, 0.8, 1.2)], 8),
        ("flood from nothing", |t| if t < 3.0 { 0.0 } else { 1e6 }, &[(5, 20, 0.8, 1.2)], 8),
        (
            "flood that ends",
            |t| if (3.0..10.0).contains(&t) { 1e5 } else { 5e3 },
            &[(0, 3, 0.4, 0.6), (5, 10, 0.8, 1.2), (10, 15, 0.0, 0.6), (16, 20, 0.45, 0.55)],
            45,
        ),
        ("rising", |t| 5e3 + 1e4 * t, &[(4, 20, 0.8, 1.2)], 160),
        ("rising fast", |t| 1e4 * 1.3f64.powf(t), &[(2, 20, 0.8, 1.2)], 160),
        ("falling", |t| 2e5 - 9e3 * t, &[(2, 13, 0.8, 1.2), (13, 17, 0.7, 1.2)], 30),
        ("bursts", |t| bursts(t, 1e5), &[(4, 30, 0.8, 1.2)], 40),
        ("bursts below", |t| bursts(t, 1.5e4), &[(4, 30, 0.6, 1.2)], 12),
        ("waves", |t| 5e4 + 3e4 * (t * 0.5).sin(), &[(4, 30, 0.75, 1.25)], 90),
    ];
    for (name, rate, expected, changes) in cases {
        for seed in 0..5 {
            let seconds = expected.iter().map(|(_, to, ..)| *to).max().unwrap();
            let run = run(rate, CALM, seconds, seed);
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
fn the_budget_is_held_by_a_load_that_swings() {
    let swings = Noise { swing: std::f64::consts::LN_2, ..CALM };
    let stalls = Noise { stalls: 0.4, ..CALM };
    let catches_up = Noise { catch_up: true, ..stalls };
    let all = Noise { swing: 0.4, freeze: true, ..catches_up };
    let noises = [("swings", swings), ("stalls", stalls), ("catches up", catches_up), ("all", all)];
    // A flood above the budget from the first second on: from 3 s on, the mean of six seconds.
    let loads: [(&str, Rate, f64); 3] = [
        ("flood", |t| if t < 1.0 { 1e3 } else { 3e5 }, 0.8),
        ("rising", |t| 3e4 + 2e4 * t, 0.8),
        // The half that goes on is believed after a second.
        ("half as much", |t| if t < 6.0 { 2e5 } else { 1e5 }, 0.7),
    ];
    for (name, rate, low) in loads {
        for (noise_name, noise) in noises {
            let mean =
                |seed| run(rate, noise, 9, seed).sent[3..].iter().sum::<f64>() / 6.0 / BUDGET;
            let means: Vec<f64> = (0..40).map(mean).collect();
            let least = means.iter().copied().fold(f64::INFINITY, f64::min);
            let most = means.iter().copied().fold(0.0, f64::max);
            let all = means.iter().sum::<f64>() / means.len() as f64;
            println!("{name}, {noise_name}: of the budget {least:.2} to {most:.2}, mean {all:.3}");
            assert!(least >= low && most <= 1.2, "{name}, {noise_name}: {least:.2} to {most:.2}");
            assert!((0.9..1.1).contains(&all), "{name}, {noise_name}: {all:.3}");
        }
    }
}

#[test]
fn a_jump_sends_no_more_than_comes_until_the_next_tick() {
    // Fifty times the budget, and back.
    let rate: Rate = |t| if (4.0..10.0).contains(&t) { 50.0 * BUDGET } else { BUDGET / 2.0 };
    for swing in [0.0, 0.4] {
        for seed in 0..20 {
            let run = run(rate, Noise { swing, ..CALM }, 20, seed);
            // Two seconds of the budget, and what came in up to 120 ms, which the swing makes more or less.
            let jump = (run.sent[4] + run.sent[5]) / BUDGET;
            let most = 2.0 + 50.0 * 0.12 * (2.0 * swing).exp();
            assert!(jump < most, "{swing} {seed}: {jump:.1}");
            let after = run.sent[6..10].iter().sum::<f64>() / 4.0 / BUDGET;
            assert!((0.8..=1.2).contains(&after), "{swing} {seed}: {after:.2}");
            let down = run.sent[10..].iter().copied().fold(0.0, f64::max) / BUDGET;
            assert!(down <= 1.2, "{swing} {seed}: {down:.2}");
            assert_eq!(run.thresholds.last(), Some(&EVERY_FLOW), "{swing} {seed}");
        }
    }
}

#[test]
fn at_ordinary_load_everything_is_in_the_sample() {
    for rate in [|_| 500.0, |_| 9_500.0, |t| bursts(t, 9_000.0)] as [Rate; 3] {
        assert!(run(rate, CALM, 10, 1).thresholds.iter().all(|threshold| *threshold == EVERY_FLOW));
    }
    let over = run(|t| if t < 3.0 { 1e6 } else { 100.0 }, CALM, 20, 1);
    assert_eq!(over.thresholds.last(), Some(&EVERY_FLOW));
}

#[test]
fn a_jump_is_answered_at_the_next_tick() {
    let mut controller = Controller::new(NonZeroU32::new(10_000).unwrap());
    let mut load = NOTHING;
    for _ in 0..30 {
        controller.observe(&load);
        load.time_ns += 100_000_000;
        load.events += 100;
    }
    assert_eq!(controller.threshold(), EVERY_FLOW);
    load.events += 100_000;
    controller.observe(&load);
    // A hundredth would keep to the budget; what was sent until now is made up for.
    let ratio = ratio(controller.threshold());
    assert!((0.0055..0.0065).contains(&ratio), "{ratio}");
}

#[test]
fn the_table_of_live_flows_bounds_the_sample() {
    let ratio_at = |entries| {
        let mut controller = Controller::new(NonZeroU32::MAX);
        for tick in 1..30 {
            let time_ns = tick * 100_000_000;
            let load = Load { time_ns, events: tick, entries, ..NOTHING };
            controller.observe(&load);
        }
        ratio(controller.threshold())
    };
    // Where entries are not told, the flows themselves are what there is.
    let mut controller = Controller::new(NonZeroU32::MAX);
    for tick in 1..3 {
        let time_ns = tick * 100_000_000;
        controller.observe(&Load { time_ns, flows: 1000, ..NOTHING });
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
    let mut load = NOTHING;
    let mut lost_at = Vec::new();
    for tick in 0..300 {
        load.time_ns += 100_000_000;
        load.events += 10_000;
        let sent = 10_000.0 * ratio(controller.threshold());
        load.sampled_out += 10_000 - sent as u64;
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
