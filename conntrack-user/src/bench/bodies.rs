//! The bodies of the kernel programs.

use anyhow::Result;
use conntrack_user::source::ebpf::bench::Bench;

use crate::Record;

/// Runs of each program. One is short, so that few are interrupted; the median is not one of those.
pub(crate) const RUNS: usize = 301;

/// Each with its program, and whether events are sent by it.
const BODIES: [(&str, &str, bool); 23] = [
    ("insert, namespace cached", "time_insert", false),
    ("insert, another namespace each time", "time_insert_miss", false),
    ("delete, namespace cached", "time_delete", false),
    ("alloc, three copies", "time_alloc", false),
    ("alloc, the first copy", "time_alloc_1", false),
    ("free, three copies", "time_free", false),
    ("free, the first copy", "time_free_1", false),
    ("insert with its event", "time_insert", true),
    ("insert with its event, another namespace each time", "time_insert_miss", true),
    ("delete with its event", "time_delete", true),
    ("part: bpf_get_smp_processor_id", "time_number", false),
    ("part: and look-up in CPUS", "time_cpus", false),
    ("part: block of the namespace, cached", "time_block", false),
    ("part: block of the namespace, another each time", "time_block_miss", false),
    ("part: and look-up in BLOCKS", "time_counters", false),
    ("part: bpf_jiffies64", "time_jiffies", false),
    ("part: bpf_ktime_get_ns", "time_clock", false),
    ("part: event", "time_event", true),
    ("part: record reserved and submitted", "time_record", false),
    ("part: fill level of the ring", "time_fill_level", false),
    ("part: tuple copied", "time_tuple", false),
    ("the empty loop, beyond itself", "time_empty", false),
    ("the empty loop, beyond itself, again", "time_empty", true),
];

/// Times all of them, one after the other and then again, so that none has the host to itself at a better
/// moment than the others.
pub(crate) fn measure() -> Result<Vec<Record>> {
    let mut benches = [Bench::new(false)?, Bench::new(true)?];
    let mut times = BODIES.map(|_| Vec::with_capacity(RUNS));
    for _ in 0..RUNS {
        for ((_, program, events), times) in BODIES.iter().zip(&mut times) {
            let [silent, telling] = &mut benches;
            let bench = if *events { telling } else { silent };
            let empty = bench.time("time_empty")?;
            let time = bench.time(program)?;
            while bench.drain(u64::MAX, |_| {}).received > 0 {}
            times.push(time - empty);
        }
    }
    let bodies = BODIES.iter().zip(times);
    Ok(bodies.map(|((body, ..), ns)| Record::Body { body, ns }).collect())
}
