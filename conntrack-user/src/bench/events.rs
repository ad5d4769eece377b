//! What an event costs user space: real records, drained and decoded as the monitor does it.

use std::time::Duration;

use anyhow::{Result, ensure};
use conntrack_ebpf::bench::ROUNDS;
use conntrack_user::{
    model::detail::Detail,
    source::ebpf::{bench::Bench, monotonic_ns},
};
use serde::Serialize;

use crate::{
    Record,
    usage::{cpu_time, resident_kib},
};

/// Flows that are live at the same time at the most.
const LIVE: u64 = 100_096;

/// Runs of the program that sends events, between two drains: a drain finds this many times [`ROUNDS`].
const BATCH: u64 = 92;

const _: () = assert!(LIVE.is_multiple_of(ROUNDS as u64));

/// How often all flows come and go.
const CYCLES: u32 = 20;

/// What was measured.
#[derive(Serialize)]
pub(crate) struct Share {
    events: u64,
    live: u64,
    /// CPU time of an event in each cycle, in nanoseconds.
    ns: Vec<f64>,
    /// Resident memory with all flows live, in KiB.
    resident_kib: u64,
    /// The same before the first event.
    resident_before_kib: u64,
}

/// Lets flows come and go.
pub(crate) fn measure() -> Result<Vec<Record>> {
    let mut bench = Bench::new(true)?;
    let mut detail = Detail::new(monotonic_ns());
    let resident_before_kib = resident_kib()?;
    let mut resident = resident_before_kib;
    let (mut ns, mut events) = (Vec::new(), 0);
    for _ in 0..CYCLES {
        let (mut time, mut received) = (Duration::ZERO, 0);
        for ends in [false, true] {
            let mut flow = 0;
            while flow < LIVE {
                for _ in 0..BATCH.min((LIVE - flow) / u64::from(ROUNDS)) {
                    let sent = bench.send(flow, ends)?;
                    ensure!(sent == ROUNDS, "the ring took {sent} of {ROUNDS} events");
                    flow += u64::from(ROUNDS);
                }
                let before = cpu_time()?;
                let drained = bench.drain(u64::MAX, |event| {
                    detail.observe_event(&event);
                });
                time += cpu_time()?.saturating_sub(before);
                ensure!(drained.malformed == 0, "{} records made no sense", drained.malformed);
                received += drained.received;
            }
            if !ends {
                resident = resident.max(resident_kib()?);
            }
        }
        ensure!(received == 2 * LIVE, "{received} of {} events came through", 2 * LIVE);
        events += received;
        ns.push(time.as_nanos() as f64 / received as f64);
    }
    let share = Share { events, live: LIVE, ns, resident_kib: resident, resident_before_kib };
    let paired = detail.flows().pairing().paired;
    ensure!(paired == events / 2, "{paired} of {} flows were found again", events / 2);
    Ok(vec![Record::Events(share)])
}
