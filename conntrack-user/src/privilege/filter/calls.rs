//! System calls that the halves make: each with the reason for which it is allowed. What is not here is refused.

use anyhow::Result;

use super::{
    Half, Scope,
    arguments::{self as by, Rules},
};

/// Part of ctmon that needs a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Both halves.
    Both,
    /// The serving half.
    Serving,
    /// The serving half where it connects to other machines (`notify.webhook`).
    Webhooks,
    /// The serving half where it starts programs (`notify.command`), and these programs.
    Commands,
    /// The helper.
    Helper,
    /// The helper where it pins programs (`--pin`).
    Pins,
    /// The helper where it makes sockets for ctnetlink (`--source netlink`).
    Ctnetlink,
}

impl Part {
    /// Whether it is a part of this process.
    pub(super) fn is_in(self, scope: &Scope) -> bool {
        let serves = scope.half == Half::Serving;
        match self {
            Self::Both => true,
            Self::Serving => serves,
            Self::Webhooks => serves && (scope.connects || scope.commands),
            Self::Commands => serves && scope.commands,
            Self::Helper => !serves,
            Self::Pins => !serves && scope.pins,
            Self::Ctnetlink => !serves && scope.ctnetlink,
        }
    }
}

/// Arguments with which a call is allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Only {
    /// In words.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the document"))]
    pub(super) text: &'static str,
    rules: fn(&Scope) -> Result<Rules>,
}

/// A system call that is allowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) part: Part,
    pub(super) number: libc::c_long,
    /// Name of its number: `SYS_` and its name.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the document"))]
    pub(super) name: &'static str,
    pub(super) only: Option<Only>,
    /// Function or library that makes the call.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the document"))]
    pub(super) reason: &'static str,
    /// Case in which alone it is made, where a run of all features may be without it; else empty.
    #[cfg_attr(not(test), allow(dead_code, reason = "for the document"))]
    pub(super) rare: &'static str,
}

impl Call {
    /// Arguments with which `scope` may make it.
    pub(super) fn allowed(&self, scope: &Scope) -> Result<Rules> {
        self.only.map_or_else(|| Ok(Rules::new()), |only| (only.rules)(scope))
    }
}

macro_rules! calls {
    ($($(#[$gate:meta])* $part:ident $call:ident $([$rules:ident $text:literal])? $reason:literal $(/ $rare:literal)?)*) => {
        &[$($(#[$gate])* Call {
            part: Part::$part,
            number: libc::$call,
            name: stringify!($call),
            only: calls!(@only $($rules $text)?),
            reason: $reason,
            rare: concat!($($rare)?),
        }),*]
    };
    (@only) => { None };
    (@only $rules:ident $text:literal) => { Some(Only { text: $text, rules: by::$rules }) };
}

/// System calls that are allowed. If two parts need the same call, its arguments are the same. Behind a slash: the case in which
/// alone it is made; kernel test `serve-makes-its-system-calls` expects all others.
#[rustfmt::skip]
pub(super) const CALLS: &[Call] = calls! {
    // Memory.
    Both SYS_brk "malloc of the C library"
    Both SYS_mmap [not_executable "not executable; any with `notify.command`"] "malloc; stacks of threads; maps and rings of the kernel programs (`ebpf::open::map`)"
    Both SYS_mprotect [not_executable "not executable; any with `notify.command`"] "malloc; the page below the stack of a thread"
    Both SYS_mremap "realloc of large blocks" / "when a large block grows"
    Both SYS_munmap "free; the end of a thread; maps that are closed"
    Both SYS_madvise "free; the stack of a thread that ends"
    // Threads and time.
    Both SYS_clone [threads "threads; processes in the same namespaces with `notify.command`"] "threads (`std::thread::spawn`, tokio); `posix_spawn`"
    Both SYS_futex "locks, channels, the end of a thread"
    Both SYS_set_robust_list "start of a thread (glibc)" / "glibc"
    Both SYS_rseq "start of a thread (glibc)" / "glibc"
    Both SYS_exit "end of a thread"
    Both SYS_exit_group "end of the process"
    Both SYS_sched_yield "locks of the standard library that spin" / "while two threads want the same lock"
    Both SYS_sched_getaffinity "`available_parallelism`; bounds of the stack (glibc)"
    Both SYS_gettid "`abort`; names of threads"
    Both SYS_getpid "`abort`; numbers of this process (`std::process::id`)" / "at `abort`; musl"
    Both SYS_tgkill [own_threads "this process; any but the helper with `notify.command`"] "`abort` (a panic within a panic, no memory)" / "at `abort`"
    Both SYS_prctl [names "`PR_SET_NAME`, `PR_GET_NAME`, `PR_SET_VMA`"] "names of threads; names of memory (malloc of glibc)"
    Both SYS_prlimit64 [own_limits "this process"] "size of a stack (`pthread_getattr_np`); the limit of descriptors, for metrics"
    Both SYS_clock_gettime "clocks where the kernel has none in user space" / "clocks without the vDSO"
    Both SYS_clock_nanosleep "`thread::sleep`" / "glibc"
    Both SYS_nanosleep "`thread::sleep` (musl)" / "musl"
    Both SYS_restart_syscall "a sleep or a wait that a stop has interrupted" / "after a stop, or a sleep that is traced"
    Both SYS_getrandom "keys of hash maps, names of temporary files, TLS"
    Both SYS_uname "release of the kernel; the name of this machine (`Serve::node`)"
    // Signals.
    Both SYS_rt_sigaction "handlers of tokio; `abort`"
    Both SYS_rt_sigprocmask "start of a thread; `abort`"
    Both SYS_rt_sigreturn "end of a handler"
    Both SYS_sigaltstack "start and end of a thread (`std`, overflow of its stack)"
    // Files and folders.
    Both SYS_openat [files "for reading, or a new file (`O_CREAT` with `O_EXCL`), and in the helper and with `notify.command` any; none of them set-user-ID or set-group-ID"] "files of procfs and sysfs; settings; files of the flight recorder"
    Both SYS_close "descriptors"
    Both SYS_read "files"
    Both SYS_readv "files and sockets of tokio that read into several buffers" / "where bytes are read into several buffers"
    Both SYS_pread64 "numbers of procfs that stay open (`procfs::read`)"
    Both SYS_write "log lines; files; wakers of tokio"
    Both SYS_writev "answers of several parts (hyper); log lines"
    Both SYS_lseek "files that are read again; the length of a file"
    Both SYS_fstat "files that are read whole (`std::fs::read`)" / "musl"
    Both SYS_newfstatat "inodes of namespaces and files (rustix)"
    Both SYS_statx "inodes of namespaces and files (`std::fs::metadata`)"
    Both SYS_statfs "whether a file is a namespace (`procfs::discover`)"
    Both SYS_faccessat "whether a file can be read (`account::unreadable`)" / "where a file cannot be read"
    Both SYS_readlinkat "links to namespaces (`/proc/PID/ns/net`)" / "arm64"
    Both SYS_getdents64 "lists of processes, threads, pods, flight files"
    Both SYS_fcntl [no_signals "flags and copies of descriptors; all but `F_SETOWN`, `F_SETOWN_EX`, `F_SETSIG` with `notify.command`"] "`try_clone`; `O_NONBLOCK`; whether a descriptor is open"
    Both SYS_ppoll "whether the other half is there (`Channel::is_open`)"
    // The other half; sockets.
    Both SYS_recvmsg "requests and answers of the halves (`Channel::receive`)"
    Both SYS_socket [sockets "IPv4 UDP. With a webhook or a command IPv4 and IPv6, TCP (not MPTCP) and UDP, and netlink's routes; with a command unix; for ctnetlink netlink's NETFILTER"] "cookie of a namespace (`procfs::enter`); webhooks; `netlink::socket`"
    Both SYS_bind "cookie of a namespace (`procfs::enter`)"
    Both SYS_getsockopt "cookie of a namespace; outcome of a connection"
    Both SYS_getsockname "address at which it listens"
    // Files that are written.
    Serving SYS_fsync "files of the flight recorder and their folder (`flight::files`)"
    Serving SYS_unlinkat "old files of the flight recorder (rustix)" / "arm64; rustix"
    Serving SYS_renameat2 "a finished file gets its name (`persist_noclobber`)"
    Serving SYS_linkat "the same, where the file system has no `RENAME_NOREPLACE`" / "file systems without `RENAME_NOREPLACE`"
    Serving SYS_geteuid "advice about files that cannot be read (`Account::own`)"
    Serving SYS_getegid "advice about files that cannot be read (`Account::own`)"
    // HTTP.
    Serving SYS_epoll_create1 "tokio"
    Serving SYS_epoll_ctl "tokio"
    Serving SYS_epoll_pwait "tokio" / "arm64"
    Serving SYS_eventfd2 "wakers of tokio"
    Serving SYS_socketpair [pair "unix, stream; unix with `notify.command`"] "signals (tokio)"
    Serving SYS_accept4 "connections (tokio)"
    Serving SYS_getpeername "address of a client (tokio)"
    Serving SYS_setsockopt [socket_options "`SO_SNDBUF`. With a webhook also `TCP_NODELAY`, `SO_RCVTIMEO`, `SO_SNDTIMEO`, `IP_RECVERR`, `IPV6_RECVERR`, `IPV6_V6ONLY`; with a command all but filters of packets (`SO_ATTACH_FILTER` and its like)"] "buffers of answers (`http::listener`); time-outs of webhooks (ureq); the C library asks for names"
    Serving SYS_sendto [connected "no address; any with a webhook or a command"] "requests to the helper (`Channel::send`), answers, journal, service manager (`send`)"
    Serving SYS_recvfrom "requests (`recv`)"
    Serving SYS_shutdown "end of a connection (hyper), and of that with the helper (`Remote::cut`)"
    Serving SYS_fchmod [private "0600; with `notify.command` any but set-user-ID and set-group-ID"] "flight files, whatever the umask (`flight::files`); programs"
    Serving SYS_wait4 "the helper's end (`Remote::bury`)"
    Serving SYS_bpf [bpf "elements of maps, `BPF_PROG_TEST_RUN`, `BPF_OBJ_GET_INFO_BY_FD`"] "counters, rings and programs that the helper hands over (`ebpf`)"
    Serving SYS_ioctl [ioctl "`TCGETS`, `TCGETS2`, `TIOCGWINSZ`, `FIONBIO`, `FIONREAD`, `FIOCLEX`, `FIONCLEX`"] "whether standard error is a terminal; sockets that do not block"
    // Webhooks.
    Webhooks SYS_connect "webhooks; the C library asks for names"
    Webhooks SYS_sendmmsg "the C library asks for names (glibc)" / "where a name is not in /etc/hosts"
    Webhooks SYS_sendmsg "the C library asks for names by TCP (musl)" / "musl, where an answer of DNS does not fit"
    // Loading and attaching. Unloading is closing descriptors.
    Helper SYS_bpf [bpf "any"] "maps, programs and links (aya)"
    Helper SYS_sendmsg "descriptors for the serving half (`Channel::send`)"
    Helper SYS_sendto [connected "no address; any with `--source netlink`"] "answers without descriptors (`Channel::send`); with `--source netlink` `netlink::socket`"
    Helper SYS_perf_event_open "kprobes (aya)" / "where kprobes are used"
    Helper SYS_ioctl [ioctl "as the serving half; `PERF_EVENT_IOC_ENABLE`, `PERF_EVENT_IOC_DISABLE`, `PERF_EVENT_IOC_SET_BPF`, `NS_GET_NSTYPE`"] "kprobes (aya); type of a namespace (`procfs::nsfs`); whether standard error is a terminal"
    Helper SYS_setns "numbers of another namespace (`procfs::enter`)"
    Pins SYS_flock "one ctmon a folder of pins (`ebpf::pins`)"
    Pins SYS_fstatfs "whether a folder is in a BPF file system (`ebpf::pins`)"
    Pins SYS_mkdirat [mode_of_folder_at "no set-user-ID, no set-group-ID"] "folder of pins"
    Pins SYS_unlinkat "pins that are removed"
    Pins SYS_renameat "pins that are complete get their name"
    Pins SYS_renameat2 "pins that are complete get their name"
    Ctnetlink SYS_setsockopt [socket_options "`SO_RCVBUFFORCE`, `SO_RCVBUF`"] "buffer of a socket (`netlink::socket`)"
    Ctnetlink SYS_recvfrom "answers to them"
    // What programs that a command starts make of it, besides all of the above.
    Commands SYS_execve "`notify.command`"
    Commands SYS_pipe2 "standard input of a command; programs"
    Commands SYS_kill [signals "neither all processes nor the helper and its group; groups alone where both halves are one user and landlock has no scopes"] "end of a command that takes too long; programs"
    Commands SYS_setpgid "process group of a command; programs"
    Commands SYS_dup3 "standard input of a command (arm64); programs"
    Commands SYS_chdir "programs"
    Commands SYS_setsid "programs"
    Commands SYS_getpgid "programs"
    Commands SYS_getppid "programs"
    Commands SYS_getgroups "programs"
    Commands SYS_getuid "programs"
    Commands SYS_getgid "programs"
    Commands SYS_getresuid "programs"
    Commands SYS_getresgid "programs"
    Commands SYS_capget "programs"
    Commands SYS_getrlimit "programs"
    Commands SYS_getrusage "programs"
    Commands SYS_times "programs"
    Commands SYS_sysinfo "programs"
    Commands SYS_gettimeofday "programs"
    Commands SYS_clock_getres "programs"
    Commands SYS_getcpu "programs"
    Commands SYS_set_tid_address "start of a program"
    Commands SYS_get_robust_list "programs"
    Commands SYS_membarrier "programs"
    Commands SYS_mlock "programs"
    Commands SYS_munlock "programs"
    Commands SYS_msync "programs"
    Commands SYS_rt_sigtimedwait "programs"
    Commands SYS_pidfd_open "programs"
    Commands SYS_waitid "programs"
    Commands SYS_close_range "programs"
    Commands SYS_preadv "programs"
    Commands SYS_pwrite64 "programs"
    Commands SYS_pwritev "programs"
    Commands SYS_fdatasync "programs"
    Commands SYS_sync_file_range "programs"
    Commands SYS_ftruncate "programs"
    Commands SYS_fallocate "programs"
    Commands SYS_fadvise64 "programs"
    Commands SYS_fstatfs "programs"
    Commands SYS_faccessat2 "programs"
    Commands SYS_flock "programs"
    Commands SYS_utimensat [by_descriptor "a descriptor, no path"] "programs (touch)"
    Commands SYS_umask "programs"
    Commands SYS_mkdirat [mode_of_folder_at "no set-user-ID, no set-group-ID"] "programs"
    Commands SYS_renameat "programs"
    Commands SYS_getcwd "programs"
    Commands SYS_dup "programs"
    Commands SYS_signalfd4 "programs"
    Commands SYS_timerfd_create "programs"
    Commands SYS_timerfd_settime "programs"
    Commands SYS_timerfd_gettime "programs"
    Commands SYS_inotify_init1 "programs"
    Commands SYS_inotify_add_watch "programs"
    Commands SYS_inotify_rm_watch "programs"
    Commands SYS_epoll_pwait2 "programs"
    Commands SYS_pselect6 "programs"
    Commands SYS_listen "programs"
    Commands SYS_accept "programs"
    Commands SYS_recvmmsg "programs"
    Commands SYS_sendfile "programs"
    // What x86-64 has besides.
    #[cfg(target_arch = "x86_64")] Both SYS_open [files_of_open "as openat"] "as openat (musl)" / "musl"
    #[cfg(target_arch = "x86_64")] Both SYS_stat "as statx (musl)" / "musl"
    #[cfg(target_arch = "x86_64")] Both SYS_lstat "as statx (musl)" / "musl"
    #[cfg(target_arch = "x86_64")] Both SYS_access "as faccessat (rustix)" / "x86-64"
    #[cfg(target_arch = "x86_64")] Both SYS_readlink "as readlinkat" / "x86-64"
    #[cfg(target_arch = "x86_64")] Both SYS_poll "as ppoll" / "x86-64"
    #[cfg(target_arch = "x86_64")] Serving SYS_unlink "as unlinkat (`std::fs::remove_file`)" / "x86-64"
    #[cfg(target_arch = "x86_64")] Serving SYS_link "as linkat" / "file systems without `RENAME_NOREPLACE`"
    #[cfg(target_arch = "x86_64")] Serving SYS_epoll_wait "as epoll_pwait" / "x86-64"
    #[cfg(target_arch = "x86_64")] Pins SYS_mkdir [mode_of_folder "no set-user-ID, no set-group-ID"] "as mkdirat"
    #[cfg(target_arch = "x86_64")] Pins SYS_rmdir "as unlinkat"
    #[cfg(target_arch = "x86_64")] Pins SYS_unlink "as unlinkat"
    #[cfg(target_arch = "x86_64")] Pins SYS_rename "as renameat"
    #[cfg(target_arch = "x86_64")] Commands SYS_arch_prctl "start of a program"
    #[cfg(target_arch = "x86_64")] Commands SYS_fork "programs"
    #[cfg(target_arch = "x86_64")] Commands SYS_vfork "programs"
    #[cfg(target_arch = "x86_64")] Commands SYS_getpgrp "programs"
    #[cfg(target_arch = "x86_64")] Commands SYS_time "programs"
    #[cfg(target_arch = "x86_64")] Commands SYS_getdents "programs"
    #[cfg(target_arch = "x86_64")] Commands SYS_dup2 "standard input of a command; programs"
    #[cfg(target_arch = "x86_64")] Commands SYS_pipe "programs"
    #[cfg(target_arch = "x86_64")] Commands SYS_mkdir [mode_of_folder "no set-user-ID, no set-group-ID"] "programs"
    #[cfg(target_arch = "x86_64")] Commands SYS_rmdir "programs"
    #[cfg(target_arch = "x86_64")] Commands SYS_rename "programs"
    #[cfg(target_arch = "x86_64")] Commands SYS_select "programs"
    #[cfg(target_arch = "x86_64")] Commands SYS_epoll_create "programs"
    #[cfg(target_arch = "x86_64")] Commands SYS_eventfd "programs"
};
