use std::collections::{BTreeMap, BTreeSet};

use conntrack_ebpf::{EVERY_FLOW, FlowHash};

use super::*;
use crate::model::flow::Cause;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// A flow of the truth.
#[derive(Debug, Clone, Copy)]
struct Truth {
    entry: u64,
    hash: u32,
    inserted_ns: u64,
    ended_ns: u64,
}

fn event(truth: &Truth, kind: EventKind, time_ns: u64, threshold: u32) -> FlowEvent {
    FlowEvent {
        time_ns,
        netns_cookie: 1 + truth.entry % 3,
        kind,
        sample: Sample { hash: truth.hash, threshold },
        ..FlowEvent::example(truth.entry, 17)
    }
}

fn insert(truth: &Truth) -> FlowEvent {
    event(truth, EventKind::InsertPacket, truth.inserted_ns, EVERY_FLOW)
}

fn destroy(truth: &Truth) -> FlowEvent {
    event(truth, EventKind::Destroy(Cause::Kernel), truth.ended_ns, EVERY_FLOW)
}

fn truth(entry: u64, hash: u32, inserted_ns: u64, ended_ns: u64) -> Truth {
    Truth { entry, hash, inserted_ns, ended_ns }
}

fn flows() -> Flows {
    Flows::new(DEFAULT_CAP, Window::default(), 0)
}

fn threshold(ratio: f64) -> u32 {
    (ratio * 4_294_967_296.0) as u32
}

/// Flows that begin over `seconds` at addresses used again and again, and live for an exponential time.
fn world(random: &mut SplitMix64, n: u64, seconds: f64, mean_seconds: f64) -> Vec<Truth> {
    let seed = random.next_u64();
    let mut free: Vec<u64> = Vec::new();
    let mut busy: BTreeSet<(u64, u64)> = BTreeSet::new();
    let mut begins: Vec<u64> =
        (0..n).map(|_| (random.unit() * seconds * SECOND as f64) as u64).collect();
    begins.sort_unstable();
    let mut all = Vec::new();
    for (number, inserted_ns) in (0u64..).zip(begins) {
        while let Some(&(ended_ns, entry)) = busy.first().filter(|(end, _)| *end < inserted_ns) {
            busy.remove(&(ended_ns, entry));
            free.push(entry);
        }
        // The latest freed first, as the kernel's allocator does.
        let entry = free.pop().unwrap_or(0xffff_8880_0000_0000 + 320 * number);
        let life = -mean_seconds * (1.0 - random.unit()).ln();
        let ended_ns = inserted_ns + 1 + (life * SECOND as f64) as u64;
        busy.insert((ended_ns, entry));
        all.push(truth(entry, FlowHash::new(seed).with(number).finish(), inserted_ns, ended_ns));
    }
    all
}

/// What the kernel sends of a world under thresholds from given times on, the first from 0.
fn sent(world: &[Truth], thresholds: &BTreeMap<u64, u32>) -> Vec<FlowEvent> {
    let mut events = Vec::new();
    for truth in world {
        for (kind, time_ns) in [
            (EventKind::InsertPacket, truth.inserted_ns),
            (EventKind::Destroy(Cause::Kernel), truth.ended_ns),
        ] {
            let (_, &threshold) = thresholds.range(..=time_ns).next_back().unwrap();
            if is_sampled(truth.hash, threshold) {
                events.push(event(truth, kind, time_ns, threshold));
            }
        }
    }
    events.sort_by_key(|event| event.time_ns);
    events
}

/// Takes in events and changes of the threshold in the order of time, up to `end_ns`.
fn replay(
    flows: &mut Flows,
    events: &[FlowEvent],
    thresholds: &BTreeMap<u64, u32>,
    end_ns: u64,
    is_told: bool,
) -> BTreeMap<(u64, u64), u32> {
    let mut ended = BTreeMap::new();
    let mut changes = thresholds.iter().peekable();
    for event in events.iter().filter(|event| event.time_ns <= end_ns) {
        // Told before the events of the 20 ms until then have been read, or never.
        while let Some((time_ns, threshold)) =
            changes.next_if(|(time_ns, _)| **time_ns <= event.time_ns + 20 * MS)
        {
            if is_told {
                flows.set_threshold(*threshold, *time_ns);
            }
        }
        if let Some(pair) = flows.observe(event) {
            ended.insert((pair.inserted_ns, pair.ended_ns), pair.sample.hash);
        }
    }
    for (time_ns, threshold) in changes.filter(|(time_ns, _)| is_told && **time_ns <= end_ns) {
        flows.set_threshold(*threshold, *time_ns);
    }
    flows.advance(end_ns);
    ended
}

#[test]
fn a_changed_threshold_loses_no_pairing() {
    for seed in 0..60 {
        let mut random = SplitMix64::new(seed);
        let mean_seconds = [0.01, 0.5, 20.0][seed as usize % 3];
        let world = world(&mut random, 3_000, 10.0, mean_seconds);
        let mut thresholds = BTreeMap::from([(0, EVERY_FLOW)]);
        let mut at = 0;
        for _ in 0..random.below(40) {
            at += 50 * MS + random.below(600 * MS);
            let threshold = match random.below(4) {
                0 => EVERY_FLOW,
                1 => 1 << 16,
                _ => random.next_u64() as u32,
            };
            thresholds.insert(at, threshold.max(1));
        }
        let mut events = sent(&world, &thresholds);
        // CPUs send out of order by a little.
        let late: Vec<u64> =
            events.iter().map(|event| event.time_ns + random.below(200_000)).collect();
        let mut order: Vec<usize> = (0..events.len()).collect();
        order.sort_by_key(|at| late[*at]);
        events = order.into_iter().map(|at| events[at].clone()).collect();

        let end_ns = u64::MAX;
        let mut flows = flows();
        let ended = replay(&mut flows, &events, &thresholds, end_ns, true);
        let throughout = |truth: &Truth| {
            let (begin, _) = thresholds.range(..=truth.inserted_ns).next_back().unwrap();
            thresholds
                .range(begin..=&truth.ended_ns)
                .all(|(_, threshold)| is_sampled(truth.hash, *threshold))
        };
        let expected: BTreeMap<(u64, u64), u32> = world
            .iter()
            .filter(|truth| throughout(truth))
            .map(|truth| ((truth.inserted_ns, truth.ended_ns), truth.hash))
            .collect();
        let differ = |(pair, _): &(&(u64, u64), &u32)| ended.get(pair) != expected.get(pair);
        let wrong: Vec<_> = ended.iter().chain(&expected).filter(differ).collect();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:?} {:?}", flows.pairing());
        let pairing = flows.pairing();
        assert_eq!((pairing.unpaired, pairing.paired), (0, expected.len() as u64), "seed {seed}");
        assert_eq!(
            pairing.destroys,
            pairing.paired + pairing.destroys_before_sample + pairing.destroys_before_attach
        );
        assert_eq!(
            (pairing.destroys_before_attach, flows.len()),
            (0, 0),
            "seed {seed}: {pairing:?}"
        );
        assert_eq!(pairing.inserts, pairing.paired + pairing.left_sample);
    }
}

#[test]
fn survival_and_counts_stay_unbiased_while_the_threshold_changes() {
    let thresholds = BTreeMap::from(
        [(0, 1.0), (30, 0.5), (60, 0.05), (100, 0.3), (140, 0.1), (150, 0.9)]
            .map(|(second, ratio)| (second * SECOND, threshold(ratio).max(1))),
    );
    let end_ns = 170 * SECOND;
    let window = Window { epoch_ns: 40 * SECOND, epochs: 3 };
    let ages = [2.0, 10.0, 20.0, 40.0];
    let mut covered = [0; 4];
    let (mut counted, mut total, mut alive_in_all) = (0, 0.0, 0);
    for seed in 0..100 {
        let world = world(&mut SplitMix64::new(seed), 8_000, 170.0, 20.0);
        let mut flows = Flows::new(DEFAULT_CAP, window, 0);
        replay(&mut flows, &sent(&world, &thresholds), &thresholds, end_ns, true);
        let [_, udp, ..] = flows.lifetimes();
        for (covered, age) in covered.iter_mut().zip(ages) {
            let bin = udp.bins.iter().find(|bin| bin.end_seconds > age).unwrap();
            let survival = bin.survival.unwrap();
            let truth = (-bin.end_seconds / 20.0).exp();
            *covered += u32::from((survival.low..=survival.high).contains(&truth));
        }
        let alive = world.iter().filter(|truth| truth.ended_ns > end_ns).count();
        let (_, estimate) = flows.alive();
        counted += u32::from((estimate.low..=estimate.high).contains(&(alive as f64)));
        total += estimate.value;
        alive_in_all += alive;
    }
    println!("S at {ages:?} s: {covered:?} of 100; live flows: {counted} of 100");
    assert!(covered.iter().chain([&counted]).all(|covered| (90..=99).contains(covered)));
    let bias = total / alive_in_all as f64;
    assert!((0.98..1.02).contains(&bias), "{bias}");
}

#[test]
fn a_destroy_that_comes_late_or_early_finds_its_insert() {
    let first = truth(64, 7, 10, 20);
    let second = truth(64, 8, 21, 50 * MS);
    let life = |pair: Option<Ended>| pair.map(|pair| (pair.inserted_ns, pair.ended_ns));
    // The first one's destroy comes after the second one's insert.
    let mut flows = flows();
    assert_eq!(flows.observe(&insert(&first)), None);
    assert_eq!(flows.observe(&insert(&second)), None);
    assert_eq!(life(flows.observe(&destroy(&first))), Some((10, 20)));
    assert_eq!(life(flows.observe(&destroy(&second))), Some((21, 50 * MS)));
    assert_eq!((flows.pairing().paired, flows.pairing().unpaired), (2, 0));
    // A destroy before its insert.
    assert_eq!(flows.observe(&destroy(&first)), None);
    assert_eq!(flows.pairing().destroys_before_attach, 1);
    assert_eq!(life(flows.observe(&insert(&first))), Some((10, 20)));
    assert_eq!((flows.pairing().destroys_before_attach, flows.len()), (0, 0));
}

#[test]
fn a_cpu_that_was_kept_waiting_does_not_change_the_threshold_back() {
    let half = threshold(0.5);
    let low = |entry, at| event(&truth(entry, 7, at, at), EventKind::InsertPacket, at, half);
    let stale =
        |entry, at| event(&truth(entry, half + 1, at, at), EventKind::InsertPacket, at, EVERY_FLOW);
    let mut flows = flows();
    flows.observe(&stale(64, SECOND));
    flows.observe(&low(128, 2 * SECOND));
    // Judged by the threshold before, and timed after the wait: its destroy will not be sent.
    flows.observe(&stale(192, 2 * SECOND + 50 * MS));
    flows.observe(&low(256, 2 * SECOND + 60 * MS));
    assert_eq!((flows.threshold(), flows.len()), (half, 2));
    assert_eq!((flows.pairing().left_sample, flows.pairing().unpaired), (2, 0));
    // What says so long after is a change.
    flows.observe(&stale(320, 4 * SECOND));
    assert_eq!((flows.threshold(), flows.len()), (EVERY_FLOW, 3));
}

#[test]
fn an_event_that_comes_after_later_changes_has_lived_through_them() {
    let half = threshold(0.5);
    let mut flows = flows();
    flows.advance(SECOND);
    // A CPU stands still with its record: two changes are told, and time goes on, before it can be read.
    flows.set_threshold(half, 2 * SECOND);
    flows.set_threshold(EVERY_FLOW, 2 * SECOND + 100 * MS);
    flows.advance(2 * SECOND + 200 * MS);
    let late =
        event(&truth(64, half + 1, 0, 0), EventKind::InsertPacket, 2 * SECOND - MS, EVERY_FLOW);
    flows.observe(&late);
    // Its destroy may not have been sent.
    assert_eq!((flows.len(), flows.pairing().left_sample), (0, 1));
}

#[test]
fn a_lost_destroy_is_unpaired() {
    let first = truth(64, 7, 10, 20);
    let second = truth(64, 8, 30, 40);
    let mut flows = flows();
    flows.observe(&insert(&first));
    flows.observe(&insert(&second));
    assert_eq!((flows.pairing().unpaired, flows.len()), (0, 1));
    flows.advance(3 * SECOND);
    assert_eq!((flows.pairing().unpaired, flows.len()), (1, 1));
    // Found gone: only the flow that is meant.
    flows.forget(64, 10);
    assert_eq!(flows.len(), 1);
    flows.forget(64, 30);
    assert_eq!((flows.pairing().unpaired, flows.len()), (2, 0));
    // Of flows whose end is not known, nothing is said.
    let [_, udp, ..] = flows.lifetimes();
    assert!(udp.ended == 0 && udp.bins.iter().all(|bin| bin.died == 0.0));
    // Both the one's destroy and the other's insert were lost.
    flows.observe(&insert(&first));
    let other = flows.observe(&destroy(&truth(64, 9, 0, 100)));
    assert_eq!((other, flows.pairing().unpaired, flows.len()), (None, 3, 0));
    assert_eq!(flows.pairing().destroys_before_attach, 1);
}

#[test]
fn what_is_no_insert_or_destroy_changes_nothing() {
    let mut flows = flows();
    for kind in [EventKind::TableFullDrop, EventKind::EarlyDrop] {
        flows.observe(&event(&truth(0, 0, 5, 5), kind, 5, EVERY_FLOW));
    }
    assert_eq!((flows.pairing(), flows.len()), (&Pairing::default(), 0));
    let ctnetlink = event(&truth(64, 1, 5, 9), EventKind::InsertCtnetlink, 5, EVERY_FLOW);
    flows.observe(&ctnetlink);
    assert_eq!(flows.len(), 1);
}

#[test]
fn entries_from_before_are_known_as_such() {
    let mut flows = flows();
    flows.observe(&destroy(&truth(64, 5, 0, SECOND)));
    flows.set_threshold(100, 2 * SECOND);
    flows.set_threshold(EVERY_FLOW, 3 * SECOND);
    flows.advance(3 * SECOND);
    assert_eq!(flows.threshold(), EVERY_FLOW);
    flows.observe(&destroy(&truth(128, 99, 0, 4 * SECOND)));
    flows.observe(&destroy(&truth(192, 100, 0, 4 * SECOND)));
    let pairing = flows.pairing();
    assert_eq!((pairing.destroys_before_attach, pairing.destroys_before_sample), (2, 1));
}

#[test]
fn a_namespace_that_ends_takes_its_flows_along() {
    let mut flows = flows();
    for entry in 0..30 {
        flows.observe(&insert(&truth(entry, entry as u32, 10, 20)));
    }
    flows.end_netns(1);
    flows.end_netns(77);
    assert_eq!((flows.len(), flows.pairing().unpaired), (20, 10));
    assert!(flows.choose(100, 1).iter().all(|choice| choice.netns_cookie != Some(1)));
}

#[test]
fn a_full_table_thins_itself_and_says_so_by_its_weights() {
    let mut flows = Flows::new(1_000, Window::default(), 0);
    let world = world(&mut SplitMix64::new(1), 20_000, 10.0, 1e6);
    for truth in &world {
        flows.observe(&insert(truth));
        assert!(flows.len() <= 1_000);
    }
    assert!(flows.len() > 800);
    let (_, all) = flows.alive();
    assert!((all.low..=all.high).contains(&20_000.0), "{all:?}");
    // Those that are left end; the destroys of the others are expected.
    for truth in &world {
        flows.observe(&destroy(truth));
    }
    assert_eq!((flows.len(), flows.pairing().destroys_before_attach), (0, 0));
    for second in 0..10 {
        flows.advance(world[0].ended_ns * 100 + second * SECOND);
    }
    assert_eq!(flows.threshold(), EVERY_FLOW);
}

#[test]
fn any_set_of_flows_is_as_likely_and_the_seed_decides() {
    let mut flows = flows();
    for entry in 0..10 {
        flows.observe(&insert(&truth(entry, entry as u32, 10, 20)));
    }
    let mut counts = [0; 10];
    for seed in 0..10_000 {
        let chosen = flows.choose(3, SplitMix64::new(seed).next_u64());
        let different: BTreeSet<u64> = chosen.iter().map(|choice| choice.entry).collect();
        assert_eq!(different.len(), 3);
        for entry in different {
            counts[entry as usize] += 1;
        }
    }
    assert!(counts.iter().all(|count| (2_850..3_150).contains(count)), "{counts:?}");
    assert_eq!(flows.choose(5, 3), flows.choose(5, 3));
    assert_eq!(flows.choose(99, 3).len(), 10);
}

#[test]
fn addresses_change_nothing() {
    let world = world(&mut SplitMix64::new(5), 2_000, 10.0, 1.0);
    let thresholds = BTreeMap::from([(0, EVERY_FLOW), (4 * SECOND, threshold(0.3))]);
    let run = |address: fn(u64) -> u64| {
        let mut events = sent(&world, &thresholds);
        for event in &mut events {
            event.entry = address(event.entry);
        }
        let mut flows = flows();
        replay(&mut flows, &events, &thresholds, 9 * SECOND, false);
        let chosen: Vec<(u64, u32)> =
            flows.choose(50, 7).iter().map(|choice| (choice.inserted_ns, choice.hash)).collect();
        (chosen, format!("{:?} {:?} {:?}", flows.lifetimes(), flows.alive(), flows.pairing()))
    };
    assert_eq!(run(|entry| entry), run(|entry| entry.wrapping_mul(0x1234_5678_9abc_def1)));
}
