use super::{curve::Quantile, *};
use crate::model::{estimate::Estimate, flow::Status, random::SplitMix64};

const SECOND: f64 = 1e9;

/// UDP flows that begin evenly spread over `seconds`, with lifetimes in seconds by `lifetime`, as they are
/// known at the end of that time.
fn observe(
    seed: u64,
    flows: u32,
    seconds: f64,
    window: Window,
    lifetime: impl Fn(&mut SplitMix64) -> f64,
) -> Curve {
    let mut random = SplitMix64::new(seed);
    let end_ns = (seconds * SECOND) as u64;
    let mut events = Vec::new();
    for flow in 0..flows {
        let born_ns = (random.unit() * seconds * SECOND) as u64;
        let died_ns = born_ns + (lifetime(&mut random) * SECOND) as u64;
        events.push((born_ns, flow, None));
        events.push((died_ns, flow, Some(born_ns)));
    }
    events.retain(|(time_ns, ..)| *time_ns < end_ns);
    events.sort_unstable();
    let mut lifetimes = Lifetimes::new(window, 0);
    let mut alive: Vec<(u32, u64)> = Vec::new();
    let weight = Weight::of(u32::MAX);
    let flow = |born_ns: u64, now_ns: u64| Alive {
        protocol: Protocol::Udp,
        age_ns: now_ns - born_ns,
        weight,
    };
    for (time_ns, id, born_ns) in events {
        if lifetimes.is_epoch_over(time_ns) {
            lifetimes.begin_epoch(time_ns, alive.iter().map(|(_, born)| flow(*born, time_ns)));
        }
        match born_ns {
            None => {
                lifetimes.born(Protocol::Udp, weight);
                alive.push((id, time_ns));
            }
            Some(born_ns) => {
                alive.retain(|(other, _)| *other != id);
                lifetimes.died(flow(born_ns, time_ns), EntryStatus::of(Status(0)));
            }
        }
    }
    let [_, udp, ..] = lifetimes.curves(alive.iter().map(|(_, born)| flow(*born, end_ns)));
    udp
}

fn exponential(mean: f64) -> impl Fn(&mut SplitMix64) -> f64 {
    move |random| -mean * (1.0 - random.unit()).ln()
}

const WINDOW: Window = Window { epoch_ns: 60_000_000_000, epochs: 3 };

#[test]
fn without_data_nothing_is_said() {
    let udp = observe(1, 0, 100.0, WINDOW, |_| 1.0);
    assert!(udp.bins.is_empty() && udp.ended == 0);
    assert_eq!((udp.median, udp.p90), (Quantile::default(), Quantile::default()));
    assert_eq!(udp.survival(1.0), None);
}

#[test]
fn fixed_timeouts_end_at_once() {
    let udp = observe(1, 20_000, 200.0, WINDOW, |_| 30.0);
    let at = |age: f64| udp.survival(age).unwrap().value;
    assert_eq!((at(20.0), at(27.0)), (1.0, 1.0));
    assert!(at(29.0) < 0.01 && at(40.0) < 0.01);
    for quantile in [udp.median, udp.p90] {
        let age = quantile.value.unwrap();
        assert!((27.9..30.1).contains(&age), "{age}");
    }
    let [unreplied, replied, ..] = udp.by_status;
    assert_eq!((unreplied.ended, replied.ended), (udp.ended, 0));
    assert_eq!(replied.median, Quantile::default());
}

#[test]
fn those_still_alive_are_not_forgotten() {
    // 30 % live for 5 days; of those that have ended, none has.
    let bimodal = |random: &mut SplitMix64| if random.unit() < 0.3 { 432_000.0 } else { 1.0 };
    let udp = observe(3, 20_000, 300.0, WINDOW, bimodal);
    let at = |age: f64| udp.survival(age).unwrap();
    for age in [2.0, 10.0, 200.0] {
        let Estimate { low, high, .. } = at(age);
        assert!(low > 0.28 && high < 0.32, "{age}: {low} {high}");
    }
    assert!(udp.median.value.unwrap() < 1.1);
    assert_eq!(udp.p90, Quantile::default());
    let ended = udp.by_status[0];
    assert!(ended.p90.value.unwrap() < 1.1 && ended.p90.high.unwrap() < 1.1);
}

#[test]
fn recent_behaviour_wins() {
    let mut lifetimes = Lifetimes::new(WINDOW, 0);
    let weight = Weight::of(u32::MAX);
    let minute = 60 * 1_000_000_000;
    // Ten minutes at 1 s, then five at 10 s.
    for at in 0..15u64 {
        let age_ns = if at < 10 { 1 } else { 10 } * 1_000_000_000;
        for _ in 0..1000 {
            lifetimes.born(Protocol::Tcp, weight);
            lifetimes.died(Alive { protocol: Protocol::Tcp, age_ns, weight }, EntryStatus::Assured);
        }
        lifetimes.begin_epoch((at + 1) * minute, std::iter::empty());
    }
    let [tcp, ..] = lifetimes.curves(std::iter::empty());
    assert_eq!(lifetimes.since_ns(), 13 * minute);
    assert_eq!((tcp.ended, tcp.survival(5.0).unwrap().value), (2000, 1.0));
}

#[test]
fn weights_of_those_gone_leave_no_trace() {
    let mut lifetimes = Lifetimes::new(WINDOW, 0);
    for threshold in [3, 1_000_003, 77_777_777, 4_000_000_007] {
        let weight = Weight::of(threshold);
        lifetimes.born(Protocol::Tcp, weight);
        let flow = Alive { protocol: Protocol::Tcp, age_ns: 1 << 30, weight };
        lifetimes.died(flow, EntryStatus::Assured);
    }
    let [tcp, ..] = lifetimes.curves(std::iter::empty());
    assert_eq!(tcp.survival(0.5).map(|survival| survival.value), Some(1.0));
    assert_eq!(tcp.bins.last().map(|bin| bin.hazard), Some(Some(1.0)));
}

/// How often S(t) and the median lie in their intervals, over runs with known truth.
#[test]
fn intervals_hold_the_truth() {
    // Mean lifetime, flows in 300 s; with a window of 2 to 3 minutes.
    for (mean, flows) in [(20.0, 300), (20.0, 3_000), (200.0, 600)] {
        for age in [0.1 * mean, 0.5 * mean, mean, 1.25 * mean] {
            let (mut covered, mut told, mut median) = (0, 0, 0);
            for run in 0..100 {
                let udp = observe(run, flows, 300.0, WINDOW, exponential(mean));
                let bin = udp.bins.iter().find(|bin| bin.end_seconds > age);
                let Some((bin, Estimate { low, high, .. })) =
                    bin.and_then(|bin| Some((bin, bin.survival?)))
                else {
                    continue;
                };
                told += 1;
                let truth = (-bin.end_seconds / mean).exp();
                covered += u32::from((low..=high).contains(&truth));
                let median_holds = udp.median.low.is_none_or(|low| low <= mean * 2f64.ln())
                    && udp.median.high.is_none_or(|high| high >= mean * 2f64.ln());
                median += u32::from(median_holds);
            }
            println!(
                "mean {mean} s, {flows} flows, S({age} s): {covered} of {told}; median {median}"
            );
            let coverage = f64::from(covered) / f64::from(told);
            assert!((0.90..=0.99).contains(&coverage), "{mean} {flows} {age}: {coverage}");
            assert!(f64::from(median) / f64::from(told) >= 0.90);
        }
    }
}
