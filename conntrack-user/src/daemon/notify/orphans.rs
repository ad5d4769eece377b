//! Processes that a command has started and left: those that have a session of their own, and those whose parents have
//! ended. Once this process adopts them (`PR_SET_CHILD_SUBREAPER`) they become its children, by which it finds them.
//!
//! Process 1 of a container adopts others, too, such as those of `kubectl exec`. These are not under its filter of system calls,
//! which all that a command starts inherits and nothing sheds.

use std::{
    collections::HashSet,
    fs, io,
    path::Path,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{
    Pid, Signal, WaitOptions, getpgid, getpgrp, getpid, kill_process, kill_process_group,
    set_child_subreaper, waitpid,
};

use crate::file;

/// Children that no command has started; none: nothing is adopted.
static OTHERS: OnceLock<Vec<Pid>> = OnceLock::new();

/// Longest time for the end of processes that were killed, each of which may leave others.
const KILLING: Duration = Duration::from_secs(2);
/// Between two looks meanwhile.
const STEP: Duration = Duration::from_millis(2);

/// Adopts processes that commands leave behind. Present children are not counted among them. Call it before the sandbox,
/// which refuses it.
///
/// # Errors
/// Refusal by the kernel.
pub fn adopt() -> io::Result<()> {
    set_child_subreaper(Some(getpid()))?;
    OTHERS.get_or_init(children);
    Ok(())
}

/// Number of filters of system calls that a process with this folder is under; none where that is not known.
fn filters(process: &Path) -> Option<u32> {
    let status = file::read_text(&process.join("status"), file::KERNEL).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"))?.trim().parse().ok()
}

/// Children of this process, of all its threads; none where the kernel has no such list (`CONFIG_PROC_CHILDREN`), or
/// procfs is not there.
fn children() -> Vec<Pid> {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists =
        tasks.filter_map(|task| file::read_text(&task.path().join("children"), file::KERNEL).ok());
    let number = |word: &str| word.parse().ok().and_then(Pid::from_raw);
    lists.flat_map(|list| list.split_whitespace().filter_map(number).collect::<Vec<_>>()).collect()
}

/// Children that commands have left, as a look found them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// Processes that still run.
    living: Vec<Pid>,
    /// Process groups of all of them but that of this process.
    groups: HashSet<Pid>,
    /// Number of those that had ended, which are buried.
    ended: usize,
}

impl Left {
    /// Reports whether there was none. One that had ended can have left others after the list was read: that is not none.
    pub(super) fn is_none(&self) -> bool {
        self.living.is_empty() && self.ended == 0
    }
}

/// Looks for what commands have left, and buries those that have ended.
pub(super) fn look() -> Left {
    let mut left = Left::default();
    let Some(others) = OTHERS.get() else { return left };
    let own = filters(Path::new("/proc/thread-self"));
    let has_fewer = |pid: Pid| {
        let folder = format!("/proc/{}", pid.as_raw_nonzero());
        filters(Path::new(&folder)).zip(own).is_some_and(|(filters, own)| filters < own)
    };
    for pid in children().into_iter().filter(|pid| !others.contains(pid)) {
        // Until it is waited for, which is done here alone, a child that has ended keeps its number and its group.
        let is_other = has_fewer(pid);
        let group = getpgid(Some(pid)).ok().filter(|group| !is_other && *group != getpgrp());
        left.groups.extend(group);
        if !matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)) {
            left.ended += 1;
        } else if !is_other {
            left.living.push(pid);
        }
    }
    left
}

/// Kills all that commands have left, and what those leave. Whether none is left: one whose children change their group
/// and have children faster than they are found is not killed.
pub(super) fn kill() -> bool {
    let until = Instant::now() + KILLING;
    loop {
        let left = look();
        if left.is_none() {
            return true;
        }
        // A group is killed at once, also one that does nothing but have children and end: a process that is to be
        // killed has none any more (copy_process in kernel/fork.c). The filter may leave signals to groups alone.
        for group in &left.groups {
            // It may have ended by itself meanwhile.
            let _ = kill_process_group(*group, Signal::KILL);
        }
        for pid in &left.living {
            let _ = kill_process(*pid, Signal::KILL);
        }
        if Instant::now() >= until {
            return false;
        }
        // Those that had ended may have children by now, which are to have no time for others.
        if left.ended == 0 {
            thread::sleep(STEP);
        }
    }
}
