//! Attempts of a taken-over serving half. The filter refuses each of these system calls.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsFd as _,
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixListener, UnixStream},
        },
    },
    process::Command,
};

use anyhow::{Context as _, Result};
use conntrack_user::{
    privilege::Remote,
    source::{
        access::{Access as _, Own},
        ebpf,
    },
};
use rustix::{
    io::Errno,
    mount::{MountFlags, mount},
    net::{AddressFamily, SocketType, ipproto::ICMP, socket},
    process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

/// A setting of a namespace, which root may change in any.
const SETTING: &str = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout";
/// A file that only root may read.
const SECRET: &str = "/root-only";
/// A unix socket of another process, at which anybody may connect.
const SOCKET: &str = "/tmp/ctmon-attempt-socket";
/// Abstract socket, which has no file.
const ABSTRACT: &str = "ctmon-attempt-socket";

// What landlock alone keeps root from.
pub(crate) const OPEN_NAMESPACE: &str = "open another process's namespace";
pub(crate) const READ_OF_ROOT: &str = "read a file of root";
pub(crate) const MAKE_FILE: &str = "make a file";

// What a command may that is configured, and what landlock's scopes keep it from.
pub(crate) const CONNECT: &str = "connect to a unix socket";
pub(crate) const CONNECT_ABSTRACT: &str = "connect to an abstract socket";

/// An attempt, and what it failed with; none: it did not fail.
pub(crate) type Outcome = (&'static str, Option<String>);

fn of<T, E: std::fmt::Display>(what: &'static str, outcome: Result<T, E>) -> Outcome {
    (what, outcome.err().map(|error| format!("{error:#}")))
}

/// Makes what is tried to be reached: a file of root, and sockets of this process for as long as they are held.
///
/// # Errors
/// Errors of files and of bind(2).
pub(crate) fn outside() -> Result<[UnixListener; 2]> {
    fs::write(SECRET, "")?;
    fs::set_permissions(SECRET, mode(0o600))?;
    let _ = fs::remove_file(SOCKET);
    let by_path = UnixListener::bind(SOCKET)?;
    fs::set_permissions(SOCKET, mode(0o666))?;
    let address = SocketAddr::from_abstract_name(ABSTRACT)?;
    Ok([by_path, UnixListener::bind_addr(&address)?])
}

/// Attempts at [`outside`], with signals to the helper.
pub(crate) fn at_others(helper: Pid) -> Vec<Outcome> {
    let address = SocketAddr::from_abstract_name(ABSTRACT);
    let mut tried = vec![
        // The helper ignores it.
        of("send a signal to the helper", kill_process(helper, Signal::USR1)),
        // The kernel allows it within a session, whoever sends it.
        of("have the helper continue", kill_process(helper, Signal::CONT)),
        // By the number of any thread kill(2) finds the process.
        of(
            "send a signal to a thread of the helper",
            thread(helper).and_then(|thread| Ok(kill_process(thread, Signal::USR1)?)),
        ),
        of("send a signal to the helper's group", kill_process_group(helper, Signal::USR1)),
        // Of process 1 the group is -1: all processes.
        of("send a signal to all", test_kill_process_group(Pid::INIT)),
        of("write the helper's memory", fs::OpenOptions::new().write(true).open(mem(helper))),
        of(CONNECT, UnixStream::connect(SOCKET)),
        of(CONNECT_ABSTRACT, address.and_then(|address| UnixStream::connect_addr(&address))),
    ];
    tried.extend(SET_ID.iter().map(|call| refused(call, helper)));
    tried
}

/// Attempts of a half without commands.
pub(crate) fn all(remote: &Remote, helper: Pid, own: &File) -> Vec<Outcome> {
    let network = LinkNameSpaceType::Network;
    // SAFETY: what is asked for is to be refused; else only this process changes, which ends soon.
    let unshare = |flags| unsafe { unshare_unsafe(flags) };
    let ebpf = ebpf::Options::default();
    let setting = fs::read_to_string(SETTING).unwrap_or_default();
    let mut tried = vec![
        of("load programs", Own::new("/proc".into()).attach(&ebpf)),
        of("time programs", ebpf::bpf::enable_statistics()),
        of("list programs", aya::programs::loaded_programs().next().transpose()),
        of("have the helper time programs", remote.time_programs()),
        of("have the helper attach twice", remote.attach(&ebpf)),
        of(OPEN_NAMESPACE, File::open("/proc/1/ns/net")),
        of("enter a namespace", move_into_link_name_space(own.as_fd(), Some(network))),
        of("make a network namespace", unshare(UnshareFlags::NEWNET)),
        of("make a user namespace", unshare(UnshareFlags::NEWUSER)),
        of("mount", mount("none", "/proc", "tmpfs", MountFlags::empty(), None)),
        of("open a raw socket", socket(AddressFamily::INET, SocketType::RAW, Some(ICMP))),
        of("open a packet socket", socket(AddressFamily::PACKET, SocketType::RAW, None)),
        of("run a program", Command::new("/bin/true").status()),
        of(READ_OF_ROOT, fs::read(SECRET)),
        of("write a file of root", fs::write(SECRET, "gained")),
        of(MAKE_FILE, File::create_new("/gained")),
        of("change a timeout", fs::write(SETTING, setting)),
        // Its user is this one's.
        of(
            "write the memory of a process",
            fs::OpenOptions::new().write(true).open("/proc/self/mem"),
        ),
        of("open a file of root to all", fs::set_permissions(SECRET, mode(0o666))),
        of("make a program of root's setuid", fs::set_permissions("/bin/true", mode(0o4755))),
        of("give a file away", std::os::unix::fs::chown(SECRET, Some(65_534), None)),
    ];
    tried.extend(at_others(helper));
    tried.extend(CALLS.iter().map(|call| refused(call, helper)));
    tried
}

/// A thread of a process that is not its first.
fn thread(process: Pid) -> Result<Pid> {
    let first = process.as_raw_nonzero().get();
    let threads = fs::read_dir(format!("/proc/{first}/task"))?.flatten();
    let mut numbers = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
    // Where there is none, its own number.
    Pid::from_raw(numbers.find(|number| *number != first).unwrap_or(first)).context("no process")
}

fn mode(mode: u32) -> fs::Permissions {
    fs::Permissions::from_mode(mode)
}

fn mem(process: Pid) -> String {
    format!("/proc/{}/mem", process.as_raw_nonzero())
}

/// Stands for the number of the helper among arguments.
const HELPER: i64 = i64::MIN;
/// An address at which there is no memory.
const NOWHERE: i64 = 0x1000;
/// include/uapi/asm-generic/fcntl.h, include/uapi/linux/mptcp.h.
const F_SETSIG: i64 = 10;
const F_SETOWN_EX: i64 = 15;
const MPTCP: i64 = 262;

/// A system call that the filter refuses: its name and its arguments.
type Call = (&'static str, libc::c_long, [i64; 4]);

/// Arguments that set an option of no socket.
const fn option(level: libc::c_int, option: libc::c_int) -> [i64; 4] {
    [-1, level as i64, option as i64, 0]
}

/// Calls with arguments that are harmless if the kernel takes them.
pub(crate) const CALLS: [Call; 44] = [
    ("tgkill", libc::SYS_tgkill, [HELPER, HELPER, 0, 0]),
    ("tkill", libc::SYS_tkill, [HELPER, 0, 0, 0]),
    ("kill", libc::SYS_kill, [HELPER, 0, 0, 0]),
    ("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, [HELPER, 0, 0, 0]),
    ("rt_tgsigqueueinfo", libc::SYS_rt_tgsigqueueinfo, [HELPER, HELPER, 0, 0]),
    ("pidfd_open", libc::SYS_pidfd_open, [HELPER, 0, 0, 0]),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal, [-1, 0, 0, 0]),
    ("pidfd_getfd", libc::SYS_pidfd_getfd, [-1, 0, 0, 0]),
    ("F_SETOWN", libc::SYS_fcntl, [0, libc::F_SETOWN as i64, HELPER, 0]),
    ("F_SETOWN_EX", libc::SYS_fcntl, [0, F_SETOWN_EX, NOWHERE, 0]),
    ("F_SETSIG", libc::SYS_fcntl, [0, F_SETSIG, 0, 0]),
    ("ptrace", libc::SYS_ptrace, [libc::PTRACE_SEIZE as i64, HELPER, 0, 0]),
    ("process_vm_readv", libc::SYS_process_vm_readv, [HELPER, 0, 0, 0]),
    ("process_vm_writev", libc::SYS_process_vm_writev, [HELPER, 0, 0, 0]),
    ("prlimit64 of the helper", libc::SYS_prlimit64, [HELPER, 7, 0, 0]),
    ("PR_SET_DUMPABLE", libc::SYS_prctl, [libc::PR_SET_DUMPABLE as i64, 0, 0, 0]),
    ("PR_SET_PTRACER", libc::SYS_prctl, [libc::PR_SET_PTRACER as i64, HELPER, 0, 0]),
    ("fchmod", libc::SYS_fchmod, [0, 0o666, 0, 0]),
    ("fchmodat", libc::SYS_fchmodat, [-1, NOWHERE, 0o666, 0]),
    ("fchown", libc::SYS_fchown, [0, 0, 0, 0]),
    ("fchownat", libc::SYS_fchownat, [-1, NOWHERE, 0, 0]),
    ("utimensat", libc::SYS_utimensat, [-1, NOWHERE, 0, 0]),
    ("setxattr", libc::SYS_setxattr, [NOWHERE, NOWHERE, NOWHERE, 0]),
    ("executable memory", libc::SYS_mmap, [0, 0, libc::PROT_EXEC as i64, 0]),
    ("memory made executable", libc::SYS_mprotect, [0, 0, libc::PROT_EXEC as i64, 0]),
    ("memfd_create", libc::SYS_memfd_create, [NOWHERE, 0, 0, 0]),
    ("personality", libc::SYS_personality, [0xffff_ffff, 0, 0, 0]),
    ("connect", libc::SYS_connect, [-1, 0, 0, 0]),
    ("sendmsg", libc::SYS_sendmsg, [-1, 0, 0, 0]),
    ("TCP", libc::SYS_socket, [libc::AF_INET as i64, libc::SOCK_STREAM as i64, 0, 0]),
    ("MPTCP", libc::SYS_socket, [libc::AF_INET as i64, libc::SOCK_STREAM as i64, MPTCP, 0]),
    ("a unix socket", libc::SYS_socket, [libc::AF_UNIX as i64, libc::SOCK_STREAM as i64, 0, 0]),
    ("netlink routes", libc::SYS_socket, [libc::AF_NETLINK as i64, libc::SOCK_RAW as i64, 0, 0]),
    ("netlink audit", libc::SYS_socket, [libc::AF_NETLINK as i64, libc::SOCK_RAW as i64, 9, 0]),
    ("netlink generic", libc::SYS_socket, [libc::AF_NETLINK as i64, libc::SOCK_RAW as i64, 16, 0]),
    ("SO_ATTACH_FILTER", libc::SYS_setsockopt, option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER)),
    ("SO_ATTACH_BPF", libc::SYS_setsockopt, option(libc::SOL_SOCKET, libc::SO_ATTACH_BPF)),
    ("SO_RCVBUF", libc::SYS_setsockopt, option(libc::SOL_SOCKET, libc::SO_RCVBUF)),
    ("IP_ADD_MEMBERSHIP", libc::SYS_setsockopt, option(libc::SOL_IP, libc::IP_ADD_MEMBERSHIP)),
    ("TCP_NODELAY", libc::SYS_setsockopt, option(libc::SOL_TCP, libc::TCP_NODELAY)),
    ("an option of packets", libc::SYS_setsockopt, option(libc::SOL_PACKET, libc::SO_SNDBUF)),
    ("io_uring_setup", libc::SYS_io_uring_setup, [1, NOWHERE, 0, 0]),
    ("setuid", libc::SYS_setuid, [-1, 0, 0, 0]),
    ("setpriority", libc::SYS_setpriority, [0, HELPER, 0, 0]),
];

/// Calls that would make a file or a folder that gives whoever uses it another user or group; refused with commands, too.
const SET_ID: [Call; 5] = [
    ("fchmod to set-user-ID", libc::SYS_fchmod, [-1, 0o4755, 0, 0]),
    ("fchmod to set-group-ID", libc::SYS_fchmod, [-1, 0o2755, 0, 0]),
    ("a set-user-ID file", libc::SYS_openat, [-1, NOWHERE, CREATES, 0o4755]),
    ("a nameless set-user-ID file", libc::SYS_openat, [-1, NOWHERE, NAMELESS, 0o4755]),
    ("a set-group-ID folder", libc::SYS_mkdirat, [-1, NOWHERE, 0o2755, 0]),
];
const CREATES: i64 = (libc::O_CREAT | libc::O_WRONLY) as i64;
const NAMELESS: i64 = (libc::O_TMPFILE | libc::O_WRONLY) as i64;

/// Number of [`all`] attempts.
pub(crate) const ATTEMPTS: usize = 29 + SET_ID.len() + CALLS.len();

/// Makes a call; it has failed only where it is the filter that refuses it.
fn refused((name, number, arguments): &Call, helper: Pid) -> Outcome {
    let helper = i64::from(helper.as_raw_nonzero().get());
    let [a, b, c, d] = arguments.map(|one| if one == HELPER { helper } else { one });
    // SAFETY: no address is one of this process's memory, and a signal is 0.
    let result = unsafe { libc::syscall(*number, a, b, c, d) };
    let error = io::Error::last_os_error();
    let is_refused = result < 0 && Errno::from_io_error(&error) == Some(Errno::NOSYS);
    (name, is_refused.then(|| "refused by the filter".to_owned()))
}
