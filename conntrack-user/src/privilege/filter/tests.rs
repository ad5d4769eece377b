use std::{collections::BTreeMap, fmt::Write as _, io, thread};

use rustix::thread::set_no_new_privs;

use super::{
    calls::{Call, Part},
    *,
};

const fn scope(half: Half) -> Scope {
    let (commands, connects, pins, ctnetlink) = (false, false, false, false);
    Scope {
        half,
        commands,
        connects,
        pins,
        ctnetlink,
        process: 1,
        signals: Signals { helper: None, groups_alone: false },
    }
}

/// An attempt: its name, the call, and its arguments.
type Attempt = (&'static str, libc::c_long, [u64; 4]);

/// Names of `attempts` that are refused under `filter`, in a thread of its own.
fn refused(filter: BpfProgram, attempts: Vec<Attempt>) -> Vec<&'static str> {
    let attempt = move || {
        set_no_new_privs(true).unwrap();
        install(&filter).unwrap();
        let is_refused = |(_, call, [a, b, c, d]): &Attempt| {
            // SAFETY: none of the attempts gets through with arguments that reach memory of this process.
            let result = unsafe { libc::syscall(*call, *a, *b, *c, *d, NOWHERE) };
            result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS)
        };
        attempts.into_iter().filter(is_refused).map(|(name, _, _)| name).collect()
    };
    thread::spawn(attempt).join().unwrap()
}

const NOWHERE: u64 = 0x1000;

/// `MCAST_JOIN_GROUP`, `TCP_ULP`, `TCP_REPAIR` (include/uapi/linux/in.h, tcp.h)
const MCAST_JOIN_GROUP: i32 = 42;
const TCP_ULP: i32 = 31;
const TCP_REPAIR: i32 = 19;

fn option(name: &'static str, level: i32, option: i32) -> Attempt {
    (name, libc::SYS_setsockopt, [u64::MAX, level as u64, option as u64, 0])
}

fn socket(name: &'static str, family: i32, kind: i32, protocol: i32) -> Attempt {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    (name, libc::SYS_socket, [family as u64, (kind | flags) as u64, protocol as u64, 0])
}

/// Attempts of a half that was taken over, which no configuration allows; but for those of the second list, which programs
/// that a command starts may make.
fn attacks() -> (Vec<Attempt>, Vec<Attempt>) {
    let own = u64::from(std::process::id());
    let (parent, none) = (u64::from(std::os::unix::process::parent_id()), u64::MAX);
    let fcntl = |command: i32| [none, command as u64, parent, 0];
    let [creates, nameless] =
        [libc::O_CREAT, libc::O_TMPFILE].map(|flag| (flag | libc::O_WRONLY) as u64);
    let always = vec![
        ("tgsigqueueinfo", libc::SYS_rt_tgsigqueueinfo, [parent, parent, 0, 0]),
        ("sigqueueinfo", libc::SYS_rt_sigqueueinfo, [parent, 0, 0, 0]),
        ("tkill", libc::SYS_tkill, [parent, 0, 0, 0]),
        ("F_SETOWN", libc::SYS_fcntl, fcntl(libc::F_SETOWN)),
        ("F_SETOWN_EX", libc::SYS_fcntl, fcntl(15)),
        ("F_SETSIG", libc::SYS_fcntl, fcntl(10)),
        ("FIOSETOWN", libc::SYS_ioctl, [none, 0x8901, NOWHERE, 0]),
        ("TIOCSTI", libc::SYS_ioctl, [none, 0x5412, NOWHERE, 0]),
        ("fchmodat", libc::SYS_fchmodat, [none, NOWHERE, 0o777, 0]),
        ("fchmodat2", 452, [none, NOWHERE, 0o777, 0]),
        ("fchmod to set-user-ID", libc::SYS_fchmod, [none, 0o4755, 0, 0]),
        ("fchmod to set-group-ID", libc::SYS_fchmod, [none, 0o2755, 0, 0]),
        ("a set-user-ID file", libc::SYS_openat, [none, NOWHERE, creates, 0o4755]),
        ("a nameless set-user-ID file", libc::SYS_openat, [none, NOWHERE, nameless, 0o4755]),
        #[cfg(target_arch = "x86_64")]
        ("a set-group-ID file", libc::SYS_open, [NOWHERE, creates, 0o2755, 0]),
        ("a set-group-ID folder", libc::SYS_mkdirat, [none, NOWHERE, 0o2755, 0]),
        ("fchown", libc::SYS_fchown, [none, 0, 0, 0]),
        ("fchownat", libc::SYS_fchownat, [none, NOWHERE, 0, 0]),
        ("utimensat by path", libc::SYS_utimensat, [none, NOWHERE, 0, 0]),
        ("setxattr", libc::SYS_setxattr, [NOWHERE, NOWHERE, NOWHERE, 0]),
        ("mknodat", libc::SYS_mknodat, [none, NOWHERE, 0, 0]),
        ("symlinkat", libc::SYS_symlinkat, [NOWHERE, none, NOWHERE, 0]),
        ("truncate", libc::SYS_truncate, [NOWHERE, 0, 0, 0]),
        ("personality", libc::SYS_personality, [0xffff_ffff, 0, 0, 0]),
        ("pkey_mprotect", libc::SYS_pkey_mprotect, [0, 0, 4, 0]),
        ("memfd_create", libc::SYS_memfd_create, [NOWHERE, 0, 0, 0]),
        ("shmat", libc::SYS_shmat, [none, 0, 0, 0]),
        ("setpriority", libc::SYS_setpriority, [0, parent, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [16, parent, 0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [own, 0, 0, 0]),
        ("process_vm_writev", libc::SYS_process_vm_writev, [own, 0, 0, 0]),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, [none, 0, 0, 0]),
        ("setuid", libc::SYS_setuid, [none, 0, 0, 0]),
        ("capset", libc::SYS_capset, [NOWHERE, NOWHERE, 0, 0]),
        ("limits of another", libc::SYS_prlimit64, [parent, 0, 0, 0]),
        ("PR_SET_DUMPABLE", libc::SYS_prctl, [libc::PR_SET_DUMPABLE as u64, 0, 0, 0]),
        ("PR_SET_PTRACER", libc::SYS_prctl, [libc::PR_SET_PTRACER as u64, 0, 0, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, NOWHERE, 0, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, [0, 0, 0, 0]),
        ("clone in a namespace", libc::SYS_clone, [libc::CLONE_NEWUSER as u64, 0, 0, 0]),
        ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUSER as u64, 0, 0, 0]),
        ("mount", libc::SYS_mount, [NOWHERE, NOWHERE, 0, 0]),
        option("a filter of packets", libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
        option("a program as a filter", libc::SOL_SOCKET, libc::SO_ATTACH_BPF),
        option("a filter of listeners", libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF),
        option("a program for listeners", libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_EBPF),
        option("a lock of a filter", libc::SOL_SOCKET, libc::SO_LOCK_FILTER),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal, [none, 0, 0, 0]),
        socket("MPTCP", libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        socket("a raw socket", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        socket("SCTP", libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        socket("a packet socket", libc::AF_PACKET, libc::SOCK_RAW, 0),
        socket("a vsock socket", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        socket("an alg socket", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        socket("netlink audit", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT),
        socket("netlink uevents", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_KOBJECT_UEVENT),
        socket("netlink generic", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_GENERIC),
    ];
    let pair = |kind: i32| [libc::AF_UNIX as u64, kind as u64, 0, NOWHERE];
    let by_commands = vec![
        ("tgkill of another", libc::SYS_tgkill, [parent, parent, 0, 0]),
        ("kill", libc::SYS_kill, [parent, 0, 0, 0]),
        option("a group of multicast", libc::SOL_IP, libc::IP_ADD_MEMBERSHIP),
        option("a group of multicast, as well", libc::SOL_IP, MCAST_JOIN_GROUP),
        option("SO_RCVBUFFORCE", libc::SOL_SOCKET, libc::SO_RCVBUFFORCE),
        option("a mark", libc::SOL_SOCKET, libc::SO_MARK),
        option("an upper protocol", libc::SOL_TCP, TCP_ULP),
        option("TCP_REPAIR", libc::SOL_TCP, TCP_REPAIR),
        option("an option of packets", libc::SOL_PACKET, libc::SO_SNDBUF),
        ("execve", libc::SYS_execve, [NOWHERE, 0, 0, 0]),
        // Shared handlers take shared memory: the kernel makes no process of it.
        ("a process", libc::SYS_clone, [libc::CLONE_SIGHAND as u64, 0, 0, 0]),
        ("fchmod", libc::SYS_fchmod, [none, 0o777, 0, 0]),
        ("utimensat by descriptor", libc::SYS_utimensat, [none, 0, 0, 0]),
        ("F_NOTIFY", libc::SYS_fcntl, fcntl(libc::F_NOTIFY)),
        ("executable memory", libc::SYS_mmap, [0, 0, libc::PROT_EXEC as u64, 0]),
        ("memory made executable", libc::SYS_mprotect, [0, 0, libc::PROT_EXEC as u64, 0]),
        socket("a unix socket", libc::AF_UNIX, libc::SOCK_STREAM, 0),
        socket("a unix datagram socket", libc::AF_UNIX, libc::SOCK_DGRAM, 0),
        ("a datagram pair", libc::SYS_socketpair, pair(libc::SOCK_DGRAM)),
        ("a seqpacket pair", libc::SYS_socketpair, pair(libc::SOCK_SEQPACKET)),
    ];
    (always, by_commands)
}

/// Attempts that webhooks and commands make.
fn connections() -> Vec<Attempt> {
    vec![
        ("connect", libc::SYS_connect, [u64::MAX, 0, 0, 0]),
        ("sendto somebody", libc::SYS_sendto, [u64::MAX, 0, 0, 0]),
        ("sendmmsg", libc::SYS_sendmmsg, [u64::MAX, 0, 0, 0]),
        ("sendmsg", libc::SYS_sendmsg, [u64::MAX, 0, 0, 0]),
        socket("TCP", libc::AF_INET, libc::SOCK_STREAM, 0),
        socket("TCP by number", libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_TCP),
        socket("UDP by number", libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        socket("netlink routes", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
    ]
}

fn names(attempts: &[Attempt]) -> Vec<&'static str> {
    attempts.iter().map(|(name, _, _)| *name).collect()
}

#[test]
fn the_serving_half_gets_what_it_was_configured_for_and_no_more() {
    let (always, by_commands) = attacks();
    let all = || [always.clone(), by_commands.clone(), connections()].concat();
    let expected = [names(&always), names(&by_commands), names(&connections())];
    let [none, webhooks, commands] =
        [(false, false), (false, true), (true, false)].map(|(commands, connects)| {
            refused(serving(commands, connects, Signals::default()).unwrap(), all())
        });
    assert_eq!(none, expected.concat());
    assert_eq!(webhooks, expected[..2].concat());
    assert_eq!(commands, expected[0]);
}

/// Attempts to open a file at no path with each of `flags`; by their place.
fn opened(filter: BpfProgram, flags: &'static [libc::c_int]) -> Vec<usize> {
    const PLACES: [&str; 8] = ["0", "1", "2", "3", "4", "5", "6", "7"];
    let by = |call: libc::c_long, before: &'static [u64]| {
        let attempts = flags.iter().zip(PLACES).map(|(flags, place)| {
            let mut arguments = [0; 4];
            let after = [NOWHERE, *flags as u64];
            for (to, from) in arguments.iter_mut().zip(before.iter().chain(&after)) {
                *to = *from;
            }
            (place, call, arguments)
        });
        let refused = refused(filter.clone(), attempts.collect());
        (0..flags.len()).filter(|at| !refused.contains(&PLACES[*at])).collect::<Vec<_>>()
    };
    let opened = by(libc::SYS_openat, &[u64::MAX]);
    #[cfg(target_arch = "x86_64")]
    assert_eq!(by(libc::SYS_open, &[]), opened);
    opened
}

#[test]
fn the_serving_half_writes_into_no_file_that_is_there() {
    use libc::{
        O_CLOEXEC, O_CREAT, O_EXCL, O_PATH, O_RDONLY, O_RDWR, O_TMPFILE, O_TRUNC, O_WRONLY,
    };
    const NEEDED: &[i32] = &[
        O_RDONLY | O_CLOEXEC,
        O_PATH | O_CLOEXEC,
        // A new flight file.
        O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
    ];
    const NEVER: &[i32] = &[
        O_WRONLY,
        O_RDWR | O_CLOEXEC,
        O_RDONLY | O_TRUNC,
        O_WRONLY | O_CREAT | O_TRUNC,
        O_RDWR | O_EXCL,
        O_RDWR | O_TMPFILE,
        // For ioctl(2) alone.
        3,
    ];
    for connects in [false, true] {
        let filter = || serving(false, connects, Signals::default()).unwrap();
        assert_eq!(opened(filter(), NEEDED), [0, 1, 2]);
        assert_eq!(opened(filter(), NEVER), Vec::<usize>::new());
    }
    for filter in [serving(true, false, Signals::default()), helper(false, false)] {
        assert_eq!(opened(filter.unwrap(), NEVER).len(), NEVER.len());
    }
}

const NEW: libc::c_int = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY;

#[test]
fn what_a_half_needs_is_not_refused() {
    let own = u64::from(std::process::id());
    let none = u64::MAX;
    let attempts = || {
        vec![
            ("tgkill of the own process", libc::SYS_tgkill, [own, 0, 0, 0]),
            ("memory", libc::SYS_mmap, [0, 0, libc::PROT_READ as u64, 0]),
            ("F_GETFD", libc::SYS_fcntl, [none, libc::F_GETFD as u64, 0, 0]),
            ("a new file", libc::SYS_openat, [none, NOWHERE, NEW as u64, 0o1777]),
            // Without a file to make there is no mode, and anything in its place.
            ("an open file", libc::SYS_openat, [none, NOWHERE, libc::O_DIRECTORY as u64, none]),
            socket("UDP", libc::AF_INET, libc::SOCK_DGRAM, 0),
        ]
    };
    assert_eq!(
        refused(serving(false, false, Signals::default()).unwrap(), attempts()),
        Vec::<&str>::new()
    );
    assert_eq!(refused(helper(false, false).unwrap(), attempts()), Vec::<&str>::new());
    let pair = [libc::AF_UNIX as u64, libc::SOCK_STREAM as u64, 0, NOWHERE];
    let pair = vec![("a pair", libc::SYS_socketpair, pair)];
    assert_eq!(
        refused(serving(false, false, Signals::default()).unwrap(), pair),
        Vec::<&str>::new()
    );
}

#[test]
fn no_signal_of_a_command_reaches_the_helper() {
    // It is there, and gets nothing but 0, which is no signal.
    let helper = rustix::process::getppid().unwrap();
    let number = i64::from(helper.as_raw_nonzero().get());
    let own = i64::from(std::process::id());
    let kill = |name, process: i64| (name, libc::SYS_kill, [process.cast_unsigned(), 0, 0, 0]);
    let attempts = || {
        vec![
            kill("the helper", number),
            // The kernel looks at the lower half.
            kill("the helper by a long number", number | 1 << 32),
            kill("its group", -number),
            kill("its group by a short number", i64::from((-number as i32).cast_unsigned())),
            kill("all", -1),
            (
                "its threads",
                libc::SYS_tgkill,
                [number.cast_unsigned(), number.cast_unsigned(), 0, 0],
            ),
            kill("another process", own),
            kill("another group", -own),
            kill("the own group", 0),
            ("the own threads", libc::SYS_tgkill, [own.cast_unsigned(), own.cast_unsigned(), 0, 0]),
        ]
    };
    let of = |groups_alone| {
        let signals = Signals { helper: Some(helper), groups_alone };
        refused(serving(true, false, signals).unwrap(), attempts())
    };
    let never = &names(&attempts())[..6];
    assert_eq!(of(false), never);
    // Each thread has a number, by which kill(2) finds its process.
    assert_eq!(of(true), [never, &["another process"]].concat());
    let unknown = refused(serving(true, false, Signals::default()).unwrap(), attempts());
    assert_eq!(unknown, ["all"]);
}

#[test]
fn options_of_sockets_that_are_set_are_not_refused() {
    let all = |options: &[(i32, i32)]| {
        options.iter().map(|(level, name)| option("one", *level, *name)).collect::<Vec<_>>()
    };
    let answers = all(&[(libc::SOL_SOCKET, libc::SO_SNDBUF)]);
    let connections = all(&[
        (libc::SOL_TCP, libc::TCP_NODELAY),
        (libc::SOL_SOCKET, libc::SO_RCVTIMEO),
        (libc::SOL_SOCKET, libc::SO_SNDTIMEO),
        (libc::SOL_IP, libc::IP_RECVERR),
        (libc::SOL_IPV6, libc::IPV6_RECVERR),
        (libc::SOL_IPV6, libc::IPV6_V6ONLY),
    ]);
    let events =
        all(&[(libc::SOL_SOCKET, libc::SO_RCVBUF), (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE)]);
    let serving = |commands, connects| serving(commands, connects, Signals::default()).unwrap();
    assert_eq!(refused(serving(false, false), answers.clone()), Vec::<&str>::new());
    assert_eq!(refused(serving(false, false), connections.clone()).len(), connections.len());
    let webhooks = [answers, connections].concat();
    assert_eq!(refused(serving(false, true), webhooks.clone()), Vec::<&str>::new());
    assert_eq!(refused(serving(true, false), webhooks), Vec::<&str>::new());
    assert_eq!(refused(helper(false, true).unwrap(), events), Vec::<&str>::new());
}

#[test]
fn the_helper_makes_sockets_for_ctnetlink_only_where_it_listens() {
    let sockets = || {
        let raw = libc::SOCK_RAW;
        vec![
            socket("ctnetlink", libc::AF_NETLINK, raw, libc::NETLINK_NETFILTER),
            socket("routes", libc::AF_NETLINK, raw, libc::NETLINK_ROUTE),
            socket("audit", libc::AF_NETLINK, raw, libc::NETLINK_AUDIT),
            socket("packets", libc::AF_PACKET, raw, 0),
            socket("TCP", libc::AF_INET, libc::SOCK_STREAM, 0),
            socket("unix", libc::AF_UNIX, libc::SOCK_STREAM, 0),
        ]
    };
    let listening = refused(helper(false, true).unwrap(), sockets());
    assert_eq!(listening, ["routes", "audit", "packets", "TCP", "unix"]);
    assert_eq!(refused(helper(false, false).unwrap(), sockets()), names(&sockets()));
}

#[test]
fn the_helper_has_nothing_of_what_the_serving_half_alone_does() {
    let (always, by_commands) = attacks();
    // The helper's own.
    let is_other = |attempt: &Attempt| attempt.1 != libc::SYS_sendmsg;
    let all: Vec<Attempt> =
        [always, by_commands, connections()].concat().into_iter().filter(is_other).collect();
    assert_eq!(refused(helper(true, false).unwrap(), all.clone()), names(&all));
}

#[test]
fn each_call_is_there_once_a_half_and_has_its_reason() {
    for half in [Half::Serving, Half::Helper] {
        let scope = Scope { commands: true, pins: true, ctnetlink: true, ..scope(half) };
        let mut seen = BTreeMap::new();
        for call in CALLS.iter().filter(|call| call.part.is_in(&scope)) {
            assert!(!call.reason.is_empty(), "{}", call.name);
            assert_eq!(seen.insert(call.number, call.name), None, "{}", call.name);
        }
    }
}

/// Tables of the document docs/reference/system-calls.md.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "the document is that of x86-64")
)]
fn table() -> String {
    let parts = [
        (Part::Both, "Both halves"),
        (Part::Serving, "The serving half"),
        (Part::Webhooks, "The serving half with `notify.webhook` or `notify.command`"),
        (Part::Helper, "The helper"),
        (Part::Pins, "The helper with `--pin`"),
        (Part::Ctnetlink, "The helper with `--source netlink`"),
        (Part::Commands, "The serving half with `notify.command`"),
    ];
    let mut text = String::new();
    for (part, title) in parts {
        let of_part: Vec<&Call> = CALLS.iter().filter(|call| call.part == part).collect();
        let _ = write!(
            text,
            "\n## {title}\n\n| call | arguments | needed for | only |\n|---|---|---|---|\n"
        );
        for call in of_part {
            let only = call.only.map_or("any", |only| only.text);
            let name = call.name.trim_start_matches("SYS_");
            let _ = writeln!(text, "| `{name}` | {only} | {} | {} |", call.reason, call.rare);
        }
    }
    text
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_document_has_the_list() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/system-calls.md");
    let document = std::fs::read_to_string(path).unwrap();
    let table = table();
    if std::env::var_os("CTMON_WRITE_DOCS").is_some() {
        let head = document.split("\n## ").next().unwrap();
        std::fs::write(path, format!("{}\n{table}", head.trim_end())).unwrap();
        return;
    }
    assert!(
        document.ends_with(&table),
        "docs/reference/system-calls.md is not as the list; CTMON_WRITE_DOCS=1 cargo test writes it"
    );
}
