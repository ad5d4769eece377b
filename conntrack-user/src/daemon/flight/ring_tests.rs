use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::{
    model::{
        counts::{Balance, ByProtocol, Totals},
        flow::EventKind,
        random::SplitMix64,
        reading::{CountRead, NetnsReading, Reading},
    },
    severity::THRESHOLDS,
    source::{
        item::{Flows, Start, Threshold, Use},
        listener::Listener,
        recording::{
            reader::{Note, Reader},
            samples::{self, ENTRY, INIT, POD, START_NS, STEP},
        },
    },
    view::json::Line,
};

const SECOND: u64 = 1_000_000_000;
const ROOMY: Limits = Limits { bytes: 16_000_000, ns: 30 * SECOND };

/// A ring, and the model that says how things stand.
struct Told {
    ring: Ring,
    listener: Listener,
    /// What was shown.
    ticks: Vec<Value>,
}

impl Told {
    fn new(limits: Limits) -> Self {
        Self { ring: Ring::new(limits), listener: Listener::default(), ticks: vec![] }
    }

    fn take(&mut self, item: &Item) {
        self.ring.take(item, || self.listener.standing()).unwrap();
        self.ticks.extend(shown(&mut self.listener, item));
    }

    /// All that is recorded.
    fn dump(&mut self) -> Vec<u8> {
        let snapshot = self.ring.snapshot(SECOND).unwrap();
        let bytes = snapshot.parts().collect::<Vec<_>>().concat();
        assert_eq!(snapshot.size(), bytes.len() as u64);
        bytes
    }
}

/// The tick that an item is, as JSON, without what a replay from the middle learns anew.
fn shown(listener: &mut Listener, item: &Item) -> Option<Value> {
    let tick = listener.take(item)?;
    let hooks = &listener.start().unwrap().origin.hooks;
    let mut line = serde_json::to_value(Line::tick(&tick, hooks, &THRESHOLDS)).unwrap();
    line["flows"].take();
    for netns in line["netns"].as_array_mut().unwrap() {
        let known = netns["forecast"]["timeouts_known"].take();
        netns["forecast"] = known;
        netns["seconds_to_full_p50"].take();
        netns["severity"].take();
    }
    Some(line)
}

fn read(bytes: &[u8]) -> (Vec<Item>, Vec<Note>) {
    let mut reader = Reader::open(bytes).unwrap();
    let mut items = vec![];
    while let Some(item) = reader.next_item().unwrap() {
        items.push(item);
    }
    (items, reader.take_notes())
}

fn replay(items: &[Item]) -> Vec<Value> {
    let mut listener = Listener::default();
    items.iter().filter_map(|item| shown(&mut listener, item)).collect()
}

/// A minute and a half of a node, a tick each 100 ms: one namespace that is so busy that its count is never read in a
/// quiet moment, one that settles and later misses a free, and is idle for a while; changes of limit and threshold.
fn node() -> Vec<Item> {
    let mut random = SplitMix64::new(3);
    let settle = samples::reading(10, vec![busy(0), quiet(0)]);
    let mut items = vec![samples::start()];
    items.extend((0..3).map(|_| samples::item(Use::Settle, settle.clone())));
    items.push(samples::item(Use::First, settle));
    for tick in 1..=900 {
        let insert = |nth: u64| {
            let port = random.below(60_000) as u16;
            let ns = (tick - 1) * STEP + nth;
            let entry = ENTRY + 0x100 * (10 * tick + nth);
            samples::event(ns, entry, EventKind::InsertPacket, samples::tuple("10.0.0.1", port))
        };
        let events = (1..=5).map(insert).collect();
        items.push(Item::Flows(Flows { utc_offset_ns: START_NS as i64, events }));
        if tick % 250 == 0 {
            let threshold = u32::MAX >> (tick / 250);
            items.push(Item::Threshold(Threshold { time: samples::time(tick * STEP), threshold }));
        }
        let mut netns = vec![busy(tick)];
        if !(480..560).contains(&tick) {
            netns.push(quiet(tick));
        }
        items.push(samples::item(Use::Tick, samples::reading(tick * STEP, netns)));
    }
    items
}

fn busy(tick: u64) -> NetnsReading {
    let before = Balance { allocs: 700 * tick, frees: 500 * tick };
    let after = Balance { allocs: before.allocs + 3, frees: before.frees + 2 };
    let totals = Totals { allocs: after.allocs, frees: after.frees, ..Totals::default() };
    let udp = ByProtocol { udp: after.allocs, ..ByProtocol::default() };
    NetnsReading {
        totals: Some(Totals { inserts_packet: udp, table_full_drops: 2 * tick, ..totals }),
        counts: vec![CountRead { before, count: (100 + 200 * tick) as u32, after }; 6],
        max: Some(if tick < 300 { 262_144 } else { 200_000 }),
        timeouts: (tick == 0).then(|| [20, 60, 5, 5, 600, 30, 3, 10, 90].into()),
        ..samples::netns(INIT, 0, 0, None)
    }
}

fn quiet(tick: u64) -> NetnsReading {
    let mut netns = samples::netns(POD, 10 * tick, 10 * tick, Some(1000));
    netns.timeouts = (tick == 0).then(|| [9; 9].into());
    if tick > 100 {
        netns.counts.iter_mut().for_each(|read| read.count += 1);
    }
    netns
}

#[test]
fn a_recording_from_the_middle_replays_to_what_was_shown() {
    let mut told = Told::new(ROOMY);
    let items = node();
    for (at, item) in items.iter().enumerate() {
        told.take(item);
        // At some places, and at the end.
        if at % 301 != 0 && at + 1 < items.len() {
            continue;
        }
        let (replayed, notes) = read(&told.dump());
        assert_eq!(notes, []);
        let ticks = replay(&replayed);
        // The chunk that is being filled is left out while it is young.
        let behind = told.ticks.iter().rposition(|tick| Some(tick) == ticks.last());
        let Some(behind) = behind else {
            assert!(ticks.is_empty() && at < 40, "{at}: {} ticks", ticks.len());
            continue;
        };
        assert!(told.ticks.len() - 1 - behind <= 10, "{at}");
        let expected = &told.ticks[behind + 1 - ticks.len()..=behind];
        assert!(ticks == expected, "{at}");
    }
    let (replayed, _) = read(&told.dump());
    let ticks = replay(&replayed);
    // 30 s, and a segment at the most.
    assert!((300..=340).contains(&ticks.len()), "{}", ticks.len());
    let last = ticks.last().unwrap();
    let [busy, quiet] = &last["netns"].as_array().unwrap()[..] else { panic!("{last}") };
    // Not settled before, not settled after; and what was missed is missed.
    assert_eq!(busy["entries"], Value::Null);
    assert!(busy["entries_low"].is_u64() && busy["tick"]["table_full_drops"] == 2, "{busy}");
    assert_eq!((&quiet["entries"], &quiet["count_drift"]), (&100.into(), &1.into()));
    assert_eq!(quiet["forecast"], true, "the timeouts are known");
}

#[test]
fn without_the_standing_it_would_not() {
    let mut told = Told::new(ROOMY);
    node().iter().for_each(|item| told.take(item));
    let (replayed, _) = read(&told.dump());
    let without: Vec<Item> =
        replayed.into_iter().filter(|item| !matches!(item, Item::Standing(_))).collect();
    let ticks = replay(&without);
    let shown = &told.ticks[told.ticks.len() - ticks.len()..];
    assert!(
        ticks
            .iter()
            .zip(shown)
            .all(|(a, b)| a["netns"][1]["count_drift"] != b["netns"][1]["count_drift"])
    );
}

/// Events of flows that live for 15 s, ten a second, for a minute.
fn flows() -> Vec<Item> {
    let mut items = vec![samples::start(), samples::item(Use::First, samples::reading(0, vec![]))];
    for tick in 1..=600u64 {
        let event = |tick: u64, kind| {
            let tuple = samples::tuple("10.0.0.1", tick as u16);
            // Entries are used again.
            samples::event(tick * STEP, ENTRY + 0x100 * (tick % 160), kind, tuple)
        };
        let mut events = vec![];
        if let Some(old) = tick.checked_sub(150).filter(|old| *old > 0) {
            let mut destroy = event(old, samples::DESTROY);
            destroy.flow.time_ns = tick * STEP;
            events.push(destroy);
        }
        events.push(event(tick, EventKind::InsertPacket));
        items.push(Item::Flows(Flows { utc_offset_ns: START_NS as i64, events }));
        items.push(samples::item(Use::Tick, samples::reading(tick * STEP, vec![])));
    }
    items
}

#[test]
fn every_event_is_told_in_full_and_a_destroy_finds_its_insert() {
    let mut told = Told::new(ROOMY);
    flows().iter().for_each(|item| told.take(item));
    let (replayed, notes) = read(&told.dump());
    assert_eq!(notes, [], "no event is left out");
    let (mut open, mut paired, mut before) = (BTreeSet::new(), 0, 0);
    for item in &replayed {
        let Item::Flows(flows) = item else { continue };
        for event in &flows.events {
            let flow = &event.flow;
            let tuple = (flow.original.source_port, flow.original.destination_port);
            if flow.kind == EventKind::InsertPacket {
                assert!(open.insert((flow.entry, tuple)));
            } else if open.remove(&(flow.entry, tuple)) {
                paired += 1;
            } else {
                before += 1;
            }
        }
    }
    let ticks = replay(&replayed).len();
    // Those that were inserted in the 15 s before the recording begins, and all others.
    assert!((145..=150).contains(&before), "{before}");
    assert!((ticks - 155..=ticks - 145).contains(&paired), "{paired} of {ticks}");
    assert!(open.len() <= 150, "{}", open.len());
}

/// Items of any size at any pace.
fn flood(random: &mut SplitMix64, ns: &mut u64) -> Item {
    *ns += random.below(2 * SECOND);
    match random.below(4) {
        0 => {
            let netns = (0..random.below(150)).map(|nth| {
                let mut netns = samples::netns(INIT, nth, 0, Some(nth as u32));
                netns.id.inode += nth;
                netns
            });
            samples::item(Use::Tick, samples::reading(*ns, netns.collect()))
        }
        1 => {
            let Item::Start(start) = samples::start() else { panic!() };
            Item::Start(Start { time: samples::time(*ns), ..start })
        }
        _ => {
            let most = random.below(8192);
            let event = |_| {
                let entry = ENTRY + 0x40 * random.below(1 << 20);
                let tuple = samples::tuple("10.0.0.1", random.next_u64() as u16);
                let mut event = samples::event(*ns, entry, EventKind::InsertPacket, tuple);
                event.flow.sample.hash = random.next_u64() as u32;
                event
            };
            let events = (0..most).map(event).collect();
            Item::Flows(Flows { utc_offset_ns: START_NS as i64, events })
        }
    }
}

#[test]
fn whatever_comes_the_bound_is_kept_and_the_oldest_goes_first() {
    for seed in 0..3 {
        let mut random = SplitMix64::new(seed);
        let limits = Limits { bytes: 4_000_000 + (500_000 << seed), ns: (1 + seed) * 20 * SECOND };
        let (mut told, mut ns, mut since) = (Told::new(limits), 0, None);
        for _ in 0..100 {
            let item = flood(&mut random, &mut ns);
            told.take(&item);
            assert!(told.ring.bytes() <= limits.bytes, "{seed}: {}", told.ring.bytes());
            let Some((from, _)) = told.ring.span() else { continue };
            assert!(since <= Some(from.monotonic_ns), "{seed}");
            since = Some(from.monotonic_ns);
            let size = told.ring.snapshot(SECOND).map_or(0, |snapshot| snapshot.size());
            assert!(size <= limits.bytes as u64, "{seed}: {size}");
            assert!(told.ring.bytes() <= limits.bytes, "{seed}: a snapshot took memory");
        }
        assert!(since > Some(10 * SECOND), "{seed}: nothing was given up");
        assert_eq!(read(&told.dump()).1, [], "{seed}");
    }
}

#[test]
fn it_holds_what_it_is_to_hold_and_a_segment_more() {
    let mut told = Told::new(ROOMY);
    for item in node() {
        told.take(&item);
        let (from, to) = told.ring.span().unwrap();
        let seconds = (to.monotonic_ns - from.monotonic_ns) as f64 / 1e9;
        assert!(seconds <= 33.1, "{seconds}");
        assert!(seconds >= 29.9 || from.monotonic_ns < SECOND, "{seconds}");
    }
}

#[test]
fn cut_anywhere_it_is_read_as_far_as_its_chunks_are_whole() {
    let mut told = Told::new(ROOMY);
    node().iter().for_each(|item| told.take(item));
    let bytes = told.dump();
    let whole = read(&bytes).0;
    let mut random = SplitMix64::new(5);
    let mut lens: Vec<u64> = (0..50).map(|_| random.below(bytes.len() as u64)).collect();
    lens.sort_unstable();
    let mut before = 0;
    for len in lens {
        let Ok(mut reader) = Reader::open(&bytes[..len as usize]) else {
            assert!(len < 400, "{len}");
            continue;
        };
        let mut items = 0;
        while let Some(item) = reader.next_item().unwrap() {
            assert!(item == whole[items], "{len}: {items}");
            items += 1;
        }
        assert!(items >= before, "{len}");
        before = items;
    }
    assert!(before > 400, "{before}");
}

#[test]
fn what_cannot_be_packed_makes_it_begin_anew() {
    let mut told = Told::new(ROOMY);
    flows().iter().take(100).for_each(|item| told.take(item));
    let large = samples::item(
        Use::Tick,
        Reading { idle: 0, ..samples::reading(20 * SECOND, vec![quiet(7); 60_000]) },
    );
    assert!(told.ring.take(&large, Vec::new).is_err());
    assert!(told.ring.is_empty() && told.ring.bytes() == 0);
    for item in flows().iter().skip(300) {
        told.take(item);
    }
    assert_eq!(read(&told.dump()).1, []);
}

#[test]
#[ignore = "a measurement: cargo test --release -p conntrack-user flight -- --ignored --nocapture"]
fn what_it_costs() {
    let items = samples::ten_minutes(u32::MAX);
    let events: usize = items
        .iter()
        .map(|item| if let Item::Flows(flows) = item { flows.events.len() } else { 0 })
        .sum();
    let limits = Limits { bytes: 1 << 30, ns: 3600 * SECOND };
    for level in [1, 3, 6, 9] {
        let packing = Packing { level, ..Ring::new(limits).packing };
        let mut ring = Ring::with(limits, Packing { chunk_bytes: 1 << 20, ..packing });
        let mut listener = Listener::default();
        let begun = std::time::Instant::now();
        for item in &items {
            ring.take(item, || listener.standing()).unwrap();
            // The model is what costs most; it is there anyway.
            if !matches!(item, Item::Flows(_)) {
                listener.take(item);
            }
        }
        let took = begun.elapsed();
        let size = ring.snapshot(0).unwrap().size();
        println!(
            "level {level}: {events} events in {took:?}, {:.2} us an event, {size} bytes, {:.1} an event; \
             {} bytes of memory",
            took.as_secs_f64() * 1e6 / events as f64,
            size as f64 / events as f64,
            ring.bytes()
        );
    }
}
