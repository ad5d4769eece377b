//! CPUs and a reader that stand still at any point for as long as a hypervisor likes: no flow is taken for lost.

use std::collections::BTreeMap;

use conntrack_ebpf::EVERY_FLOW;

use super::*;
use crate::model::flow::Cause;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const CPUS: usize = 2;
const ENTRY: u64 = 0xffff_8880_0000_0000;

/// What a CPU does with an entry from `at_ns` on, or later if it is busy.
#[derive(Debug, Clone, Copy)]
struct Work {
    at_ns: u64,
    flow: usize,
    is_insert: bool,
}

/// A record in the ring, in the order in which room was made for it.
#[derive(Debug)]
struct Record {
    reserved_ns: u64,
    committed_ns: u64,
    event: FlowEvent,
}

/// How long somebody stands still: hardly ever, and then for up to a tenth of a second.
fn stall(random: &mut SplitMix64, rare: u64) -> u64 {
    let short = 200 + random.below(US);
    if random.below(rare) == 0 { short + random.below(100 * MS) } else { short }
}

/// The reader's doings: when it tells of a threshold, when the kernel has it, which it is.
fn thresholds(random: &mut SplitMix64, until_ns: u64) -> Vec<(u64, u64, u32)> {
    let mut told = Vec::new();
    let mut at_ns = 50 * MS;
    while at_ns < until_ns {
        let written_ns = at_ns + stall(random, 4);
        let threshold = if random.below(12) == 0 {
            EVERY_FLOW
        } else {
            (u64::from(EVERY_FLOW) >> (1 + random.below(4))) as u32
        };
        if told.last().is_none_or(|(_, _, last)| *last != threshold) {
            told.push((at_ns, written_ns, threshold));
        }
        at_ns = written_ns + 100 * MS + random.below(20 * MS);
    }
    told
}

/// What comes into the ring, and when each flow's insert and destroy are over.
fn ring(random: &mut SplitMix64, flows: usize, told: &[(u64, u64, u32)]) -> Vec<Record> {
    let in_force = |at_ns: u64| {
        let before = told.iter().take_while(|(_, written_ns, _)| *written_ns <= at_ns);
        before.last().map_or(EVERY_FLOW, |(_, _, threshold)| *threshold)
    };
    let hashes: Vec<u32> = (0..flows).map(|_| random.next_u64() as u32).collect();
    let mut queue: BTreeMap<(u64, usize), Work> = BTreeMap::new();
    for flow in 0..flows {
        let at_ns = random.below(5 * SECOND);
        queue.insert((at_ns, flow), Work { at_ns, flow, is_insert: true });
    }
    let mut free = Vec::new();
    let mut entries = vec![0; flows];
    let mut is_free_at = [0; CPUS];
    let mut records = Vec::new();
    while let Some((_, work)) = queue.pop_first() {
        let cpu = random.below(CPUS as u64) as usize;
        let began_ns = work.at_ns.max(is_free_at[cpu]);
        let threshold = in_force(began_ns);
        let reserved_ns = began_ns + stall(random, 500);
        let time_ns = reserved_ns + stall(random, 500);
        let committed_ns = time_ns + stall(random, 500);
        is_free_at[cpu] = committed_ns;
        if work.is_insert {
            let again = free.iter().rposition(|(freed_ns, _)| *freed_ns <= began_ns);
            let entry = again.map(|at| free.remove(at).1);
            entries[work.flow] = entry.unwrap_or(ENTRY + 320 * work.flow as u64);
            let life_ns = random.below(if work.flow % 2 == 0 { 20 * MS } else { 4 * SECOND });
            let at_ns = committed_ns + life_ns;
            let delete = Work { at_ns, is_insert: false, ..work };
            queue.insert((at_ns, work.flow), delete);
        } else {
            free.push((committed_ns, entries[work.flow]));
        }
        let kind = if work.is_insert {
            EventKind::InsertPacket
        } else {
            EventKind::Destroy(Cause::Kernel)
        };
        let sample = Sample { hash: hashes[work.flow], threshold };
        if is_sampled(sample.hash, threshold) {
            let event =
                FlowEvent { time_ns, kind, sample, ..FlowEvent::example(entries[work.flow], 17) };
            records.push(Record { reserved_ns, committed_ns, event });
        }
    }
    records.sort_by_key(|record| record.reserved_ns);
    records
}

#[test]
fn whoever_stands_still_loses_no_pair() {
    for seed in 0..200 {
        let mut random = SplitMix64::new(seed);
        let told = thresholds(&mut random, 12 * SECOND);
        let records = ring(&mut random, 3000, &told);
        let mut flows = Flows::new(DEFAULT_CAP, Window::default(), 0);
        let mut at = 0;
        // The reader reads between its doings: all up to the first that is not handed over yet.
        let drain = |flows: &mut Flows, at: &mut usize, now_ns: u64| {
            while let Some(record) = records.get(*at).filter(|it| it.committed_ns <= now_ns) {
                let _ = flows.observe(&record.event);
                *at += 1;
            }
            flows.advance(now_ns);
        };
        for &(told_ns, _, threshold) in &told {
            drain(&mut flows, &mut at, told_ns);
            flows.set_threshold(threshold, told_ns);
        }
        drain(&mut flows, &mut at, 20 * SECOND);
        assert_eq!(at, records.len());
        let pairing = flows.pairing();
        assert!(pairing.paired > 300, "seed {seed}: {pairing:?}");
        assert_eq!((pairing.unpaired, flows.len()), (0, 0), "seed {seed}: {pairing:?}");
    }
}
