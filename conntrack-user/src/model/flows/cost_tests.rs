//! What an event costs: `cargo test --release -p conntrack-user --lib cost -- --ignored --nocapture`.

use std::time::Instant;

use conntrack_ebpf::{EVENT_DESTROY, EVENT_INSERT_PACKET, EVERY_FLOW, FlowHash};

use super::*;
use crate::source::ebpf::flow::decode;

/// The record of an event as the kernel programs write it.
fn record(time_ns: u64, entry: u64, hash: u32, kind: u8) -> [u8; 120] {
    let mut bytes = [0; 120];
    for (at, number) in [(0, time_ns), (8, 1), (16, entry)] {
        bytes[at..at + 8].copy_from_slice(&number.to_ne_bytes());
    }
    for at in [24, 64] {
        bytes[at + 18..at + 20].copy_from_slice(&2u16.to_ne_bytes());
        bytes[at + 38] = 17;
    }
    bytes[108..112].copy_from_slice(&hash.to_ne_bytes());
    bytes[112..116].copy_from_slice(&EVERY_FLOW.to_ne_bytes());
    bytes[118] = kind;
    bytes
}

#[test]
#[ignore = "a measurement, of use with optimization only"]
fn what_an_event_costs() {
    const LIVE: usize = 100_000;
    const EVENTS: usize = 1_000_000;
    let mut random = SplitMix64::new(1);
    let mut flows = Flows::new(DEFAULT_CAP, Window::default(), 0);
    // At addresses of two slabs' worth of entries, in any order.
    let mut free: Vec<u64> =
        (0..2 * LIVE as u64).map(|at| 0xffff_8880_0000_0000 + 320 * at).collect();
    let mut live: Vec<(u64, u32)> = Vec::new();
    let mut time_ns = 0;
    let mut records = Vec::with_capacity(LIVE + EVENTS);
    for step in 0..LIVE + EVENTS {
        time_ns += 10_000;
        if step < LIVE || step % 2 == 0 {
            let entry = free.swap_remove(random.below(free.len() as u64) as usize);
            let hash = FlowHash::new(7).with(step as u64).finish();
            live.push((entry, hash));
            records.push(record(time_ns, entry, hash, EVENT_INSERT_PACKET));
        } else {
            let (entry, hash) = live.swap_remove(random.below(live.len() as u64) as usize);
            free.push(entry);
            records.push(record(time_ns, entry, hash, EVENT_DESTROY));
        }
    }
    for record in &records[..LIVE] {
        flows.observe(&decode(record).unwrap());
    }
    let begin = Instant::now();
    for record in &records[LIVE..] {
        flows.observe(&decode(record).unwrap());
    }
    let both = begin.elapsed().as_nanos() as f64 / EVENTS as f64;
    let begin = Instant::now();
    let times: u64 = records[LIVE..].iter().map(|record| decode(record).unwrap().time_ns % 2).sum();
    let decoding = begin.elapsed().as_nanos() as f64 / EVENTS as f64;
    let timed = |what: &mut dyn FnMut()| {
        let begin = Instant::now();
        what();
        begin.elapsed().as_secs_f64() * 1e3
    };
    assert_eq!((flows.len(), flows.pairing().unpaired, times < u64::MAX), (LIVE, 0, true));
    let summary = timed(&mut || assert!(flows.lifetimes()[1].ended > 0));
    let choose = timed(&mut || assert_eq!(flows.choose(256, 1).len(), 256));
    let per_flow = flows.bytes() as f64 / LIVE as f64;
    let fall = timed(&mut || flows.thin(1 << 31));
    println!("decode and observe {both:.0} ns/event, decode alone {decoding:.0} ns/event");
    println!("table {per_flow:.1} bytes a live flow, {:.2} MB", flows.bytes() as f64 / 1e6);
    println!("lifetimes {summary:.2} ms, choose 256 {choose:.3} ms, a fall by half {fall:.2} ms");
    assert!(both < 1_000.0 && per_flow <= 80.0, "{both} ns, {per_flow} bytes");
}
