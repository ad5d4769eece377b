//! Which system calls each half may make (seccomp): those in these lists, with these arguments. Everything else fails
//! with `ENOSYS`, as in a kernel that does not have it, for which C libraries have another way (clone3(2)).

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use aya_obj::generated::bpf_cmd;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// Both halves: memory, threads, time, files, the socket between them.
const BOTH: &[libc::c_long] = &[
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_membarrier,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getcpu,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_tgkill,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrusage,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_capget,
    libc::SYS_getrlimit,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_ppoll,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_bind,
];

/// The serving half besides: writing files, serving, asking others, learning that the helper has ended.
const SERVING: &[libc::c_long] = &[
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_flock,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_umask,
    libc::SYS_utimensat,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_signalfd4,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_pselect6,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_sendfile,
    libc::SYS_wait4,
    libc::SYS_waitid,
];

/// What the C libraries of x86-64 call in place of newer ones.
#[cfg(target_arch = "x86_64")]
const OLD: &[libc::c_long] = &[
    libc::SYS_arch_prctl,
    libc::SYS_time,
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_dup2,
    libc::SYS_poll,
    libc::SYS_pipe,
];
#[cfg(target_arch = "x86_64")]
const OLD_SERVING: &[libc::c_long] = &[
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_chmod,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[libc::c_long] = &[];
#[cfg(not(target_arch = "x86_64"))]
const OLD_SERVING: &[libc::c_long] = &[];

/// Starting a program that was configured, and stopping it.
const COMMANDS: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_kill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_chdir,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    libc::SYS_getpgid,
    libc::SYS_getgroups,
];
#[cfg(target_arch = "x86_64")]
const OLD_COMMANDS: &[libc::c_long] = &[libc::SYS_vfork, libc::SYS_fork, libc::SYS_getpgrp];
#[cfg(not(target_arch = "x86_64"))]
const OLD_COMMANDS: &[libc::c_long] = &[];

/// The helper besides: loading, attaching and timing programs, entering namespaces. Unloading is closing descriptors.
const HELPER: &[libc::c_long] =
    &[libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_ioctl, libc::SYS_setns];

/// The helper where programs are pinned: making the pins, naming and removing them.
const PINS: &[libc::c_long] = &[
    libc::SYS_flock,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
];
#[cfg(target_arch = "x86_64")]
const OLD_PINS: &[libc::c_long] =
    &[libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_rename];
#[cfg(not(target_arch = "x86_64"))]
const OLD_PINS: &[libc::c_long] = &[];

/// The helper where it opens sockets for the events of ctnetlink: asking whether somebody is there to send them.
const LISTENING: &[libc::c_long] = &[libc::SYS_setsockopt, libc::SYS_sendto, libc::SYS_recvfrom];

/// Clones of this process in namespaces of their own.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS) as u64;

/// What the serving half does with maps and programs that it has descriptors of.
const BPF: [bpf_cmd; 5] = [
    bpf_cmd::BPF_MAP_LOOKUP_ELEM,
    bpf_cmd::BPF_MAP_UPDATE_ELEM,
    bpf_cmd::BPF_MAP_DELETE_ELEM,
    bpf_cmd::BPF_PROG_TEST_RUN,
    bpf_cmd::BPF_OBJ_GET_INFO_BY_FD,
];

/// Of terminals and sockets. Nothing that types for a terminal's user (`TIOCSTI`).
const IOCTLS: [libc::Ioctl; 7] = [
    libc::TCGETS,
    libc::TCGETS2,
    libc::TIOCGWINSZ,
    libc::FIONBIO,
    libc::FIONREAD,
    libc::FIOCLEX,
    libc::FIONCLEX,
];

/// Names of threads and of memory.
const PRCTLS: [libc::c_int; 3] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];

/// Netlink: the C library looks for the addresses of this machine before it asks for names of others.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The serving half's. `commands`: whether it may run some.
pub(super) fn serving(commands: bool) -> Result<BpfProgram> {
    let mut lists = vec![BOTH, OLD, SERVING, OLD_SERVING];
    if commands {
        lists.extend([COMMANDS, OLD_COMMANDS]);
    }
    let mut rules = common(&lists)?;
    rules.insert(libc::SYS_bpf, one_of(0, &BPF.map(|command| command as u64))?);
    #[allow(clippy::unnecessary_cast, reason = "C libraries disagree on the type")]
    let ioctls = IOCTLS.map(|request| request as u64);
    rules.insert(libc::SYS_ioctl, one_of(1, &ioctls)?);
    rules.insert(libc::SYS_socket, one_of(0, &FAMILIES.map(|family| family as u64))?);
    compile(rules)
}

/// The helper's. `pins`: whether it pins programs; `listens`: whether it opens sockets for the events of ctnetlink.
pub(super) fn helper(pins: bool, listens: bool) -> Result<BpfProgram> {
    let mut lists = vec![BOTH, OLD, HELPER];
    if pins {
        lists.extend([PINS, OLD_PINS]);
    }
    if listens {
        lists.push(LISTENING);
    }
    let mut rules = common(&lists)?;
    // For the cookie of a namespace.
    let mut sockets = one_of(0, &[libc::AF_INET as u64])?;
    if listens {
        sockets.push(SeccompRule::new(vec![
            condition(0, Length::Dword, Is::Eq, libc::AF_NETLINK as u64)?,
            condition(2, Length::Dword, Is::Eq, libc::NETLINK_NETFILTER as u64)?,
        ])?);
    }
    rules.insert(libc::SYS_socket, sockets);
    compile(rules)
}

fn common(lists: &[&[libc::c_long]]) -> Result<Rules> {
    let calls = lists.iter().flat_map(|list| list.iter());
    let mut rules: Rules = calls.map(|call| (*call, Vec::new())).collect();
    rules.insert(libc::SYS_prctl, one_of(0, &PRCTLS.map(|option| option as u64))?);
    // Threads, not namespaces.
    let flags = condition(0, Length::Qword, Is::MaskedEq(NEW_NAMESPACES), 0)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![flags])?]);
    // The own limits only.
    rules.insert(libc::SYS_prlimit64, one_of(0, &[0])?);
    Ok(rules)
}

/// That the argument with this number is one of `values`.
fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>> {
    let rule = |value: &u64| {
        // Of an int the kernel looks at the lower half.
        let value = *value & u64::from(u32::MAX);
        Ok(SeccompRule::new(vec![condition(argument, Length::Dword, Is::Eq, value)?])?)
    };
    values.iter().map(rule).collect()
}

fn condition(argument: u8, length: Length, is: Is, value: u64) -> Result<SeccompCondition> {
    Ok(SeccompCondition::new(argument, length, is, value)?)
}

fn compile(rules: Rules) -> Result<BpfProgram> {
    let refused = SeccompAction::Errno(libc::ENOSYS as u32);
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, refused, SeccompAction::Allow, arch)?.try_into()?)
}

/// Puts this thread, and those that it starts, under `filter`. No_new_privs must be set.
pub(super) fn install(filter: &BpfProgram) -> Result<()> {
    seccompiler::apply_filter(filter).context("cannot restrict system calls by seccomp")
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
