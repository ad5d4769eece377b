//! What a process takes, with the helper that it has.

use std::fs;

use anyhow::{Context as _, Result};

/// What a process has taken.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// CPU time of its threads, user and system, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Resident memory, mapped maps of BPF programs with it, in KiB.
    pub(crate) resident_kib: u64,
}

impl Usage {
    /// Of the process `pid` and its children so far.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut all = Self::of_one(pid)?;
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        for child in children.split_whitespace() {
            let child = Self::of_one(child.parse()?)?;
            all.cpu_ns += child.cpu_ns;
            all.resident_kib += child.resident_kib;
        }
        Ok(all)
    }

    fn of_one(pid: u32) -> Result<Self> {
        let tasks = format!("/proc/{pid}/task");
        let mut cpu_ns = 0;
        for task in fs::read_dir(&tasks).with_context(|| format!("cannot list {tasks}"))? {
            // One that has just ended has no such file.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            cpu_ns += first_number(&text).with_context(|| format!("{tasks} has {text:?}"))?;
        }
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident_kib = resident.and_then(first_number);
        Ok(Self {
            cpu_ns,
            resident_kib: resident_kib.with_context(|| format!("no VmRSS in {path}"))?,
        })
    }
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}
