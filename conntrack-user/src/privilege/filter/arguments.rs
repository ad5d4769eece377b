//! Arguments with which a system call is allowed.

use anyhow::Result;
use aya_obj::generated::{
    PERF_EVENT_IOC_DISABLE, PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_SET_BPF, bpf_cmd,
};
use seccompiler::{SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition, SeccompRule};

use super::{Half, Scope};

/// Alternatives, of which one has to hold; none: any arguments are allowed.
pub(super) type Rules = Vec<SeccompRule>;

/// Clones of this process in namespaces of their own.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWUTS) as u64;

/// Commands of bpf(2) on maps and programs that the serving half has descriptors of.
const BPF: [bpf_cmd; 5] = [
    bpf_cmd::BPF_MAP_LOOKUP_ELEM,
    bpf_cmd::BPF_MAP_UPDATE_ELEM,
    bpf_cmd::BPF_MAP_DELETE_ELEM,
    bpf_cmd::BPF_PROG_TEST_RUN,
    bpf_cmd::BPF_OBJ_GET_INFO_BY_FD,
];

/// Requests of ioctl(2) for terminals and sockets. None types for a terminal's user (`TIOCSTI`), or has the kernel send signals
/// (`FIOSETOWN`).
const IOCTLS: [libc::Ioctl; 7] = [
    libc::TCGETS,
    libc::TCGETS2,
    libc::TIOCGWINSZ,
    libc::FIONBIO,
    libc::FIONREAD,
    libc::FIOCLEX,
    libc::FIONCLEX,
];

/// A kprobe gets its program, begins and ends.
const PERF_IOCTLS: [u32; 3] =
    [PERF_EVENT_IOC_SET_BPF, PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_DISABLE];

/// Mode of files that the serving half writes: for its user alone.
const PRIVATE: u64 = 0o600;

/// Bits of a mode by which whoever executes a file becomes its user or group: it would be out of the sandbox.
const SET_ID: u64 = (libc::S_ISUID | libc::S_ISGID) as u64;

/// Flags of open(2) with which it has a mode; without them the argument can be anything.
const MAKES_FILE: u64 = (libc::O_CREAT | libc::O_TMPFILE & !libc::O_DIRECTORY) as u64;

/// Names of threads and of memory.
const PRCTLS: [libc::c_int; 3] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];

/// Flags and copies of descriptors.
const FCNTLS: [libc::c_int; 6] = [
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
];

/// Has the kernel send a signal of choice to a process of choice.
const SIGNALS_BY_FCNTL: [libc::c_int; 3] = [libc::F_SETOWN, F_SETOWN_EX, F_SETSIG];
/// include/uapi/asm-generic/fcntl.h; not in the libc crate.
const F_SETSIG: libc::c_int = 10;
const F_SETOWN_EX: libc::c_int = 15;

/// Type of a socket without its flags (`SOCK_TYPE_MASK`, include/linux/net.h).
const SOCKET_TYPE: u64 = 0xf;

/// Buffers of the answers of a connection (`http::listener`).
const ANSWERS: [SocketOption; 1] = [(libc::SOL_SOCKET, libc::SO_SNDBUF)];

/// A connection to another machine (ureq), and what the C library sets to ask for its name: errors that ICMP tells of (glibc),
/// no IPv4 by IPv6 (musl).
const CONNECTIONS: [SocketOption; 6] = [
    (libc::SOL_TCP, libc::TCP_NODELAY),
    (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    (libc::SOL_IP, libc::IP_RECVERR),
    (libc::SOL_IPV6, libc::IPV6_RECVERR),
    (libc::SOL_IPV6, libc::IPV6_V6ONLY),
];

/// Room for events of ctnetlink (`netlink::socket`).
const EVENTS: [SocketOption; 2] =
    [(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE), (libc::SOL_SOCKET, libc::SO_RCVBUF)];

/// Options by which a program gets into the kernel, of [`libc::SOL_SOCKET`].
const SOCKET_FILTERS: [libc::c_int; 5] = [
    libc::SO_ATTACH_FILTER,
    libc::SO_LOCK_FILTER,
    libc::SO_ATTACH_BPF,
    libc::SO_ATTACH_REUSEPORT_CBPF,
    libc::SO_ATTACH_REUSEPORT_EBPF,
];

/// Level and name.
type SocketOption = (libc::c_int, libc::c_int);

/// Memory that is not executable. Programs that a command starts have executable memory.
pub(super) fn not_executable(scope: &Scope) -> Result<Rules> {
    if scope.commands {
        return Ok(Rules::new());
    }
    Ok(vec![rule(vec![condition(2, Length::Dword, Is::MaskedEq(libc::PROT_EXEC as u64), 0)?])?])
}

/// Signals to threads of this process. Programs that a command starts raise them on themselves, and never on the helper.
pub(super) fn own_threads(scope: &Scope) -> Result<Rules> {
    if !scope.commands {
        return one_of(0, &[scope.process.into()]);
    }
    let helper = scope.signals.helper.map(|helper| is_not(0, helper.as_raw_nonzero().get()));
    helper.map_or_else(|| Ok(Rules::new()), |helper| Ok(vec![rule(vec![helper?])?]))
}

/// Signals of programs that a command starts: neither to all processes (-1), nor to the helper and its group. See
/// [`Signals::groups_alone`](super::Signals).
pub(super) fn signals(scope: &Scope) -> Result<Rules> {
    /// Sign of an int.
    const NEGATIVE: u64 = 1 << 31;
    let helper = scope.signals.helper.map(|helper| helper.as_raw_nonzero().get());
    let never = helper.into_iter().flat_map(|helper| [helper, -helper]).chain([-1]);
    let mut others = never.map(|process| is_not(0, process)).collect::<Result<Vec<_>>>()?;
    if !scope.signals.groups_alone {
        return Ok(vec![rule(others)?]);
    }
    others.push(condition(0, Length::Dword, Is::MaskedEq(NEGATIVE), NEGATIVE)?);
    Ok(vec![rule(others)?, rule(vec![condition(0, Length::Dword, Is::Eq, 0)?])?])
}

/// Threads of this process. What starts programs makes processes, too, in the namespaces of this one.
pub(super) fn threads(scope: &Scope) -> Result<Rules> {
    const THREAD: u64 = libc::CLONE_THREAD as u64;
    let (mask, value) = match scope.commands {
        true => (NEW_NAMESPACES, 0),
        false => (NEW_NAMESPACES | THREAD, THREAD),
    };
    Ok(vec![rule(vec![condition(0, Length::Qword, Is::MaskedEq(mask), value)?])?])
}

/// Limits of this process.
pub(super) fn own_limits(_: &Scope) -> Result<Rules> {
    one_of(0, &[0])
}

/// See [`PRCTLS`].
pub(super) fn names(_: &Scope) -> Result<Rules> {
    one_of(0, &PRCTLS.map(|option| option as u64))
}

/// See [`FCNTLS`]. Programs that a command starts may all but [`SIGNALS_BY_FCNTL`].
pub(super) fn no_signals(scope: &Scope) -> Result<Rules> {
    if !scope.commands {
        return one_of(1, &FCNTLS.map(|command| command as u64));
    }
    Ok(vec![rule(
        SIGNALS_BY_FCNTL.map(|command| is_not(1, command)).into_iter().collect::<Result<_>>()?,
    )?])
}

/// See [`BPF`] for the serving half; the helper loads and attaches.
pub(super) fn bpf(scope: &Scope) -> Result<Rules> {
    match scope.half {
        Half::Serving => one_of(0, &BPF.map(|command| command as u64)),
        Half::Helper => Ok(Rules::new()),
    }
}

/// See [`IOCTLS`], and for the helper [`PERF_IOCTLS`] and the type of a namespace.
#[allow(clippy::unnecessary_cast, reason = "C libraries disagree on the type")]
pub(super) fn ioctl(scope: &Scope) -> Result<Rules> {
    let mut rules = one_of(1, &IOCTLS.map(|request| request as u64))?;
    if scope.half == Half::Helper {
        rules.extend(one_of(1, &PERF_IOCTLS.map(u64::from))?);
        rules.extend(one_of(1, &[libc::NS_GET_NSTYPE as u64])?);
    }
    Ok(rules)
}

/// A message over a connected socket. A C library that asks for names has an address, and so have programs.
pub(super) fn connected(scope: &Scope) -> Result<Rules> {
    if scope.half == Half::Helper && scope.ctnetlink || scope.connects || scope.commands {
        return Ok(Rules::new());
    }
    Ok(vec![rule(vec![condition(4, Length::Qword, Is::Eq, 0)?])?])
}

/// A time by a descriptor, and not by a path.
pub(super) fn by_descriptor(_: &Scope) -> Result<Rules> {
    Ok(vec![rule(vec![condition(1, Length::Qword, Is::Eq, 0)?])?])
}

/// See [`PRIVATE`]. Programs that a command starts choose, but for [`SET_ID`].
pub(super) fn private(scope: &Scope) -> Result<Rules> {
    if scope.commands { mode_at(1) } else { one_of(1, &[PRIVATE]) }
}

/// A mode without [`SET_ID`] in mkdir(2).
#[cfg(target_arch = "x86_64")]
pub(super) fn mode_of_folder(_: &Scope) -> Result<Rules> {
    mode_at(1)
}

/// A mode without [`SET_ID`] in mkdirat(2).
pub(super) fn mode_of_folder_at(_: &Scope) -> Result<Rules> {
    mode_at(2)
}

/// Rules for flags at an argument, followed by a mode.
fn makes_file(flags: u8) -> Result<Rules> {
    let mut rules = mode_at(flags + 1)?;
    rules.push(rule(vec![condition(flags, Length::Dword, Is::MaskedEq(MAKES_FILE), 0)?])?);
    Ok(rules)
}

/// Rules for the argument with this number, a mode.
fn mode_at(argument: u8) -> Result<Rules> {
    Ok(vec![rule(vec![condition(argument, Length::Dword, Is::MaskedEq(SET_ID), 0)?])?])
}

/// See [`files_by`]. Of openat(2).
pub(super) fn files(scope: &Scope) -> Result<Rules> {
    files_by(2, scope)
}

/// See [`files_by`]. Of open(2).
#[cfg(target_arch = "x86_64")]
pub(super) fn files_of_open(scope: &Scope) -> Result<Rules> {
    files_by(1, scope)
}

/// Files for reading, and for writing only new ones, by the flags in the argument with this number: nothing that is there is
/// written, such as the memory of a process of the same user (/proc/PID/mem) or a sysctl. The helper and programs that a command
/// starts may open all that their user may, and make any but with [`SET_ID`].
fn files_by(argument: u8, scope: &Scope) -> Result<Rules> {
    if scope.half == Half::Helper || scope.commands {
        return makes_file(argument);
    }
    let flags =
        |mask: u64, value: u64| condition(argument, Length::Dword, Is::MaskedEq(mask), value);
    let writes = (libc::O_ACCMODE | libc::O_TRUNC).cast_unsigned();
    let new = u64::from((libc::O_CREAT | libc::O_EXCL).cast_unsigned());
    let mode = condition(argument + 1, Length::Dword, Is::MaskedEq(SET_ID), 0)?;
    Ok(vec![
        rule(vec![flags(u64::from(writes) | MAKES_FILE, 0)?])?,
        rule(vec![flags(new, new)?, mode])?,
    ])
}

/// A pair of stream sockets: these cannot be connected to anybody else.
pub(super) fn pair(scope: &Scope) -> Result<Rules> {
    if scope.commands {
        return one_of(0, &[libc::AF_UNIX as u64]);
    }
    Ok(vec![socket_of(libc::AF_UNIX, libc::SOCK_STREAM, 0)?])
}

/// Sockets by family, type and protocol: nothing of MPTCP, of other protocols of netlink and of raw packets.
pub(super) fn sockets(scope: &Scope) -> Result<Rules> {
    // For the cookie of a namespace (`SO_NETNS_COOKIE`).
    let mut rules = vec![socket_of(libc::AF_INET, libc::SOCK_DGRAM, 0)?];
    if scope.connects || scope.commands {
        rules.push(socket_of(libc::AF_INET6, libc::SOCK_DGRAM, 0)?);
        for family in [libc::AF_INET, libc::AF_INET6] {
            // Names of machines: musl names the protocol.
            rules.push(socket_of(family, libc::SOCK_DGRAM, libc::IPPROTO_UDP)?);
            for protocol in [0, libc::IPPROTO_TCP] {
                rules.push(socket_of(family, libc::SOCK_STREAM, protocol)?);
            }
        }
        // The C library looks for the addresses of this machine before it asks for names of others.
        rules.push(netlink(libc::NETLINK_ROUTE)?);
    }
    if scope.commands {
        rules.extend(one_of(0, &[libc::AF_UNIX as u64])?);
    }
    if scope.ctnetlink {
        rules.push(netlink(libc::NETLINK_NETFILTER)?);
    }
    Ok(rules)
}

/// See [`ANSWERS`], [`CONNECTIONS`] and [`EVENTS`]. Programs that a command starts may all but [`SOCKET_FILTERS`].
pub(super) fn socket_options(scope: &Scope) -> Result<Rules> {
    if scope.commands {
        let filters = SOCKET_FILTERS.map(|option| is_not(2, option));
        return Ok(vec![
            rule(vec![is_not(1, libc::SOL_SOCKET)?])?,
            rule(filters.into_iter().collect::<Result<_>>()?)?,
        ]);
    }
    let allowed: Vec<SocketOption> = match scope.half {
        Half::Serving if scope.connects => ANSWERS.into_iter().chain(CONNECTIONS).collect(),
        Half::Serving => ANSWERS.into(),
        Half::Helper => EVENTS.into(),
    };
    let option = |(level, option): SocketOption| {
        rule(vec![
            condition(1, Length::Dword, Is::Eq, level as u64)?,
            condition(2, Length::Dword, Is::Eq, option as u64)?,
        ])
    };
    allowed.into_iter().map(option).collect()
}

fn netlink(protocol: libc::c_int) -> Result<SeccompRule> {
    socket_of(libc::AF_NETLINK, libc::SOCK_RAW, protocol)
}

fn socket_of(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> Result<SeccompRule> {
    rule(vec![
        condition(0, Length::Dword, Is::Eq, family as u64)?,
        condition(1, Length::Dword, Is::MaskedEq(SOCKET_TYPE), kind as u64)?,
        condition(2, Length::Dword, Is::Eq, protocol as u64)?,
    ])
}

/// Condition that the argument with this number, an int, is not `value`.
fn is_not(argument: u8, value: libc::c_int) -> Result<SeccompCondition> {
    condition(argument, Length::Dword, Is::Ne, value.cast_unsigned().into())
}

/// Rules that require the argument with this number to be one of `values`.
fn one_of(argument: u8, values: &[u64]) -> Result<Rules> {
    let rule = |value: &u64| {
        // Of an int the kernel looks at the lower half.
        let value = *value & u64::from(u32::MAX);
        rule(vec![condition(argument, Length::Dword, Is::Eq, value)?])
    };
    values.iter().map(rule).collect()
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule> {
    Ok(SeccompRule::new(conditions)?)
}

fn condition(argument: u8, length: Length, is: Is, value: u64) -> Result<SeccompCondition> {
    Ok(SeccompCondition::new(argument, length, is, value)?)
}
