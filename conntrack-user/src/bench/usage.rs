//! What this process takes.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};

/// CPU time of this thread, user and system.
pub(crate) fn cpu_time() -> Result<Duration> {
    // SAFETY: integers, which all zeros is a value of.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` is what the call fills in.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    ensure!(result == 0, "cannot read the CPU time: {}", std::io::Error::last_os_error());
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}

/// Resident memory of this process, in KiB.
pub(crate) fn resident_kib() -> Result<u64> {
    let status =
        fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.context("/proc/self/status has no VmRSS")
}
