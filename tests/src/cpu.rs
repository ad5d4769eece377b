//! Which CPU a thread runs on.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps the calling thread, and what it starts from now on, on one CPU.
///
/// # Errors
/// When the machine has no such CPU, or this process may not use it.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::other(format!(
            "CPU {cpu} is beyond the {} that can be named",
            CpuSet::MAX_CPU
        )));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set)
        .map_err(|error| io::Error::other(format!("cannot run on CPU {cpu}: {error}")))
}
