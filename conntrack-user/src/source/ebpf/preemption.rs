//! How many copies of a program can be running at once on a CPU.
//!
//! Where a task in the kernel is not pre-empted, two are enough for every call to be counted: one that the task
//! is in, and one for the soft interrupt that interrupts it. Else other tasks may come in between.

use conntrack_ebpf::COPIES;

use super::Options;
use crate::file;

/// Copies that never are all busy where tasks in the kernel are not pre-empted.
const WITHOUT_PREEMPTION: u32 = 2;

/// Copies to be attached of each program that runs where it can be interrupted.
pub(super) fn copies(options: &Options) -> u32 {
    // None where the mode cannot be chosen at boot time, or debugfs cannot be read.
    let mode =
        file::read_text(&options.sysfs.join("kernel/debug/sched/preempt"), file::KERNEL).ok();
    match is_preemptible(mode.as_deref(), &version(options)) {
        Some(false) => WITHOUT_PREEMPTION,
        Some(true) | None => COPIES as u32,
    }
}

/// The kernel's version, as uname(2) gives it; empty where it cannot be read.
pub(super) fn version(options: &Options) -> String {
    file::read_text(&options.procfs.join("sys/kernel/version"), file::KERNEL).unwrap_or_default()
}

/// Whether the kernel is a real-time one, by its version.
pub(super) fn is_real_time(version: &str) -> bool {
    version.split_whitespace().any(|word| word == "PREEMPT_RT")
}

/// Whether tasks in the kernel are pre-empted; none where that is not told. `mode`: debugfs'
/// `sched/preempt`, the mode in force in brackets (`sched_dynamic_show`, kernel/sched/debug.c); `version`: as
/// uname(2) has it, with the model that the kernel was built for (`UTS_VERSION`, init/Makefile).
pub(super) fn is_preemptible(mode: Option<&str>, version: &str) -> Option<bool> {
    if is_real_time(version) || version.split_whitespace().any(|word| word == "PREEMPT") {
        return Some(true);
    }
    if let Some(mode) = mode.and_then(|mode| Some(mode.split_once('(')?.1.split_once(')')?.0)) {
        return Some(!matches!(mode, "none" | "voluntary"));
    }
    // A kernel that names no model has none, and one that can change it does not say here.
    (version.contains("SMP") && !version.contains("PREEMPT")).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_is_told_by_debugfs_and_by_the_version() {
        let cases = [
            (None, "#1 SMP Debian 5.10.251-1 (2026-05-01)", Some(false)),
            (None, "#1 SMP PREEMPT_DYNAMIC Debian 6.12.73-1 (2026-05-01)", None),
            (Some("none (voluntary) full\n"), "#1 SMP PREEMPT_DYNAMIC Debian", Some(false)),
            (Some("(none) voluntary full\n"), "#1 SMP PREEMPT_DYNAMIC Debian", Some(false)),
            (Some("none voluntary (full)\n"), "#1 SMP PREEMPT_DYNAMIC Debian", Some(true)),
            (Some("full (lazy)\n"), "#1 SMP PREEMPT_DYNAMIC Debian", Some(true)),
            (Some("nonsense"), "#1 SMP PREEMPT_DYNAMIC Debian", None),
            (None, "#1 SMP PREEMPT Debian", Some(true)),
            (Some("none (voluntary)"), "#1 SMP PREEMPT_RT Debian", Some(true)),
            (None, "", None),
        ];
        for (mode, version, expected) in cases {
            assert_eq!(is_preemptible(mode, version), expected, "{mode:?}, {version:?}");
        }
    }
}
