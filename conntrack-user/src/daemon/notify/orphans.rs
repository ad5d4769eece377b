//! Processes that a command has started and left: those that have a session of their own, and those whose parents have
//! ended. Once this process adopts them (`PR_SET_CHILD_SUBREAPER`) they become its children, by which it finds them.
//!
//! Process 1 of a container adopts others, too, such as those of `kubectl exec`. These are not under its filter of system calls,
//! which all that a command starts inherits and nothing sheds.

use std::{
    fs, io,
    path::Path,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{
        Pid, Signal, WaitOptions, getpgid, getpgrp, getpid, kill_process, kill_process_group,
        set_child_subreaper, waitpid,
    },
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

/// Processes that commands have left and that still run; those that have ended are buried. `command`: the one whose end
/// is waited for by itself.
pub(super) fn left(command: Option<u32>) -> Vec<Pid> {
    let Some(others) = OTHERS.get() else { return vec![] };
    let is_command = |pid: Pid| command == Some(pid.as_raw_nonzero().get().cast_unsigned());
    let mut left = children();
    left.retain(|pid| !others.contains(pid) && !is_command(*pid));
    // A child that has ended keeps its number until it is waited for, which is done here alone.
    left.retain(|pid| matches!(waitpid(Some(*pid), WaitOptions::NOHANG), Ok(None)));
    let own = filters(Path::new("/proc/thread-self"));
    let has_fewer = |pid: &Pid| {
        let folder = format!("/proc/{}", pid.as_raw_nonzero());
        filters(Path::new(&folder)).zip(own).is_some_and(|(filters, own)| filters < own)
    };
    left.retain(|pid| !has_fewer(pid));
    left
}

/// Kills a process: by its group where the filter leaves signals to groups alone, but not by that of this process.
fn end(pid: Pid) {
    if kill_process(pid, Signal::KILL) == Err(Errno::NOSYS)
        && let Ok(group) = getpgid(Some(pid))
        && group != getpgrp()
    {
        // It may have ended by itself meanwhile.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Kills all that commands have left, and what those leave. Whether none is left.
pub(super) fn kill() -> bool {
    let until = Instant::now() + KILLING;
    loop {
        let left = left(None);
        if left.is_empty() {
            return true;
        }
        for pid in left {
            end(pid);
        }
        if Instant::now() >= until {
            return false;
        }
        thread::sleep(STEP);
    }
}
