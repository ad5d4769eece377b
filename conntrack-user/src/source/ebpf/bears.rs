//! Reasons against trampolines, and against events from kprobes, on this kernel and in this process.

use std::fs;

use super::{Options, btf::Btf, preemption, symbols::Symbols};
use crate::file;

/// What a task that exits holds until its parent has heard of it, and the end of a trampoline waits for
/// (`exit_tasks_rcu_start`, kernel/rcu/tasks.h; gone in 6.9). Process 1 of a PID namespace that is killed holds it while it
/// waits for all others, one of which may be closing its links: neither ever ends.
const TRAP: &str = "tasks_rcu_exit_srcu";

/// The link of the initial PID namespace (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
const INITIAL: &str = "pid:[4026531836]";

/// The first release without [`TRAP`], where the kernel does not list its data.
const WITHOUT_TRAP: (u32, u32) = (6, 9);

/// Names of data that are looked for in kallsyms.
pub(super) const DATA: [&str; 1] = [TRAP];

/// Why trampolines must not be used although the kernel has them; none where they may.
pub(super) fn no_trampolines(
    options: &Options,
    symbols: &Symbols,
    vmlinux: &Btf,
) -> Option<String> {
    is_real_time_with_raw_rings(options, vmlinux)
        .then(|| REAL_TIME.to_owned())
        .or_else(|| no_end(options, symbols))
}

/// On a real-time kernel a task is pre-empted wherever it runs, from 6.18 on also with soft interrupts off, and then the
/// kernel skips a program at fentry for others on its CPU; copies help, and not always. At a kprobe pre-emption is off.
const REAL_TIME: &str = "on a real-time kernel programs at fentry are pre-empted, and then skipped; kprobes take their place, \
                         and are exact";

/// Whether it is a real-time kernel on which a program at a kprobe can send events.
fn is_real_time_with_raw_rings(options: &Options, vmlinux: &Btf) -> bool {
    preemption::is_real_time(&preemption::version(options))
        && no_events_by_kprobe(options, vmlinux).is_none()
}

/// Why a process that is killed might not end; none where it does.
fn no_end(options: &Options, symbols: &Symbols) -> Option<String> {
    let namespace = fs::read_link(options.procfs.join("self/ns/pid")).ok()?;
    if namespace.as_os_str() == INITIAL {
        return None;
    }
    let has_trap = symbols.data(TRAP).unwrap_or_else(|| {
        let release = file::read_text(&options.procfs.join("sys/kernel/osrelease"), file::KERNEL);
        is_before(&release.unwrap_or_default(), WITHOUT_TRAP)
    });
    has_trap.then(|| {
        format!(
            "in a PID namespace of its own, on a kernel with {TRAP}, a container with programs at fentry could not be killed; \
             kprobes take their place; hostPID (--pid=host) avoids it"
        )
    })
}

/// Why programs at kprobes cannot send events; none where they can. They run with pre-emption off, and the lock of a ring
/// buffer sleeps on real-time kernels before 6.4 or so (`spinlock_t`, kernel/bpf/ringbuf.c).
pub(super) fn no_events_by_kprobe(options: &Options, vmlinux: &Btf) -> Option<String> {
    let sleeps = vmlinux.member("bpf_ringbuf", "spinlock.lock").is_ok();
    (preemption::is_real_time(&preemption::version(options)) && sleeps).then(|| {
        "on this real-time kernel the ring buffer's lock may sleep, which a kprobe must not".into()
    })
}

/// Whether a release, such as `6.1.0-57-amd64`, is before that one; one that cannot be told is.
pub(super) fn is_before(release: &str, other: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < other,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        for (release, before) in [
            ("6.1.0-57-amd64", true),
            ("5.14.0-427.el9.x86_64", true),
            ("6.9.0", false),
            ("6.12.118+deb13", false),
            ("10.0", false),
            ("nonsense", true),
        ] {
            assert_eq!(is_before(release, WITHOUT_TRAP), before, "{release}");
        }
    }

    #[test]
    fn trampolines_are_avoided_in_a_pid_namespace_on_kernels_with_the_symbol() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { procfs: folder.path().into(), ..Options::default() };
        fs::create_dir_all(folder.path().join("self/ns")).unwrap();
        fs::create_dir_all(folder.path().join("sys/kernel")).unwrap();
        let link = folder.path().join("self/ns/pid");
        let symbols = |text: &str| Symbols::read(text.as_bytes(), "m", |_| true, &DATA).unwrap();
        let with = symbols("0 d tasks_rcu_exit_srcu\n");
        let without = symbols("0 d something_else\n");
        for (namespace, release, symbols, avoided) in [
            (INITIAL, "6.1.0", &with, false),
            ("pid:[4026532177]", "6.1.0", &with, true),
            ("pid:[4026532177]", "6.1.0", &without, false),
            ("pid:[4026532177]", "6.1.0", &Symbols::default(), true),
            ("pid:[4026532177]", "6.12.1", &Symbols::default(), false),
            ("pid:[4026532177]", "6.12.1", &with, true),
        ] {
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(namespace, &link).unwrap();
            fs::write(folder.path().join("sys/kernel/osrelease"), release).unwrap();
            let why = no_end(&options, symbols);
            assert_eq!(why.is_some(), avoided, "{namespace} {release}: {why:?}");
        }
    }
}
