//! The bodies of the kernel programs.

use anyhow::Result;
use conntrack_user::source::ebpf::bench::Bench;

use crate::Record;

/// Runs of each program. One is short, so that few are interrupted; the median is not one of those.
pub(crate) const RUNS: usize = 301;

/// Which maps a program is loaded with: those of a monitor that only counts,
const COUNTERS: usize = 0;
/// of one that also sends events,
const EVENTS: usize = 1;
/// and of one that counts and has seen a delete by a user, which makes the next ones dearer for a while.
const NOTED: usize = 2;

/// Each with its program and maps.
const BODIES: [(&str, &str, usize); 26] = [
    ("insert, namespace cached", "time_insert", COUNTERS),
    ("insert, another namespace each time", "time_insert_miss", COUNTERS),
    ("delete, namespace cached", "time_delete", COUNTERS),
    ("delete for a user, and its announcement", "time_delete_user", NOTED),
    ("alloc, three copies", "time_alloc", COUNTERS),
    ("alloc, the first copy", "time_alloc_1", COUNTERS),
    ("free, three copies", "time_free", COUNTERS),
    ("free, the first copy", "time_free_1", COUNTERS),
    ("insert with its event", "time_insert", EVENTS),
    ("insert with its event, another namespace each time", "time_insert_miss", EVENTS),
    ("delete with its event", "time_delete", EVENTS),
    ("part: bpf_get_smp_processor_id", "time_number", COUNTERS),
    ("part: and look-up in CPUS", "time_cpus", COUNTERS),
    ("part: block of the namespace, cached", "time_block", COUNTERS),
    ("part: block of the namespace, another each time", "time_block_miss", COUNTERS),
    ("part: and look-up in BLOCKS", "time_counters", COUNTERS),
    ("part: bpf_jiffies64", "time_jiffies", COUNTERS),
    ("part: bpf_ktime_get_ns", "time_clock", COUNTERS),
    ("part: event", "time_event", EVENTS),
    ("part: record reserved and submitted", "time_record", COUNTERS),
    ("part: fill level of the ring", "time_fill_level", COUNTERS),
    ("part: tuple copied", "time_tuple", COUNTERS),
    ("part: hash of the tuple", "time_hash", EVENTS),
    ("part: count in a window", "time_window", COUNTERS),
    ("the empty loop, beyond itself", "time_empty", COUNTERS),
    ("the empty loop, beyond itself, again", "time_empty", EVENTS),
];

/// Times all of them, one after the other and then again, so that none has the host to itself at a better
/// moment than the others.
pub(crate) fn measure() -> Result<Vec<Record>> {
    let mut benches = [Bench::new(false)?, Bench::new(true)?, Bench::new(false)?];
    let mut times = BODIES.map(|_| Vec::with_capacity(RUNS));
    for _ in 0..RUNS {
        for ((_, program, maps), times) in BODIES.iter().zip(&mut times) {
            let bench = &mut benches[*maps];
            let empty = bench.time("time_empty")?;
            let time = bench.time(program)?;
            while bench.drain(u64::MAX, |_| {}).received > 0 {}
            times.push(time - empty);
        }
    }
    let bodies = BODIES.iter().zip(times);
    Ok(bodies.map(|((body, ..), ns)| Record::Body { body, ns }).collect())
}
