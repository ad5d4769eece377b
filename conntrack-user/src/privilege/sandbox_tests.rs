use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    process::Command,
    thread,
};

use aya_obj::generated::bpf_cmd;

use rustix::process::dumpable_behavior;

use super::*;

/// Lines of the status of this thread.
fn status() -> HashMap<String, String> {
    let text = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// Runs `work` in a thread of its own, which alone is restricted.
fn apart(work: impl FnOnce() + Send + 'static) {
    thread::spawn(work).join().unwrap();
}

/// What a call that takes numbers only fails with.
fn error_of(call: libc::c_long, arguments: [u64; 4]) -> Option<i32> {
    let [a, b, c, d] = arguments;
    // SAFETY: the filter has to refuse it; else the kernel finds no memory at these addresses.
    let result = unsafe { libc::syscall(call, a, b, c, d) };
    (result < 0).then(|| io::Error::last_os_error().raw_os_error()).flatten()
}

#[test]
fn what_a_service_does_not_need_is_refused() {
    apart(|| {
        enter(&Sandbox { read: vec!["/proc".into()], ..Sandbox::default() }).unwrap();
        let status = status();
        for (name, value) in [
            ("CapInh", "0000000000000000"),
            ("CapPrm", "0000000000000000"),
            ("CapEff", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
            ("Seccomp", "2"),
        ] {
            assert_eq!(status[name], value, "{name}");
        }
        let namespace = libc::CLONE_NEWUSER as u64;
        let own = u64::from(std::process::id());
        let refused: [(&str, libc::c_long, [u64; 4]); 24] = [
            ("ptrace", libc::SYS_ptrace, [libc::PTRACE_TRACEME as u64, 0, 0, 0]),
            ("process_vm_readv", libc::SYS_process_vm_readv, [own, 0, 0, 0]),
            ("pidfd_getfd", libc::SYS_pidfd_getfd, [0, 0, 0, 0]),
            ("kill", libc::SYS_kill, [own, 0, 0, 0]),
            ("mount", libc::SYS_mount, [0, 0, 0, 0]),
            ("umount2", libc::SYS_umount2, [0, 0, 0, 0]),
            ("pivot_root", libc::SYS_pivot_root, [0, 0, 0, 0]),
            ("chroot", libc::SYS_chroot, [0, 0, 0, 0]),
            ("setns", libc::SYS_setns, [0, 0, 0, 0]),
            ("unshare", libc::SYS_unshare, [namespace, 0, 0, 0]),
            ("clone in a namespace", libc::SYS_clone, [namespace, 0, 0, 0]),
            ("clone3", libc::SYS_clone3, [0, 0, 0, 0]),
            ("init_module", libc::SYS_init_module, [0, 0, 0, 0]),
            ("finit_module", libc::SYS_finit_module, [0, 0, 0, 0]),
            ("kexec_load", libc::SYS_kexec_load, [0, 0, 0, 0]),
            ("keyctl", libc::SYS_keyctl, [0, 0, 0, 0]),
            ("perf_event_open", libc::SYS_perf_event_open, [0, 0, 0, 0]),
            ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0]),
            ("userfaultfd", libc::SYS_userfaultfd, [0, 0, 0, 0]),
            ("open_by_handle_at", libc::SYS_open_by_handle_at, [0, 0, 0, 0]),
            ("execveat", libc::SYS_execveat, [0, 0, 0, 0]),
            ("bpf: load a program", libc::SYS_bpf, [bpf_cmd::BPF_PROG_LOAD as u64, 0, 0, 0]),
            ("bpf: walk programs", libc::SYS_bpf, [bpf_cmd::BPF_PROG_GET_NEXT_ID as u64, 0, 0, 0]),
            ("a packet socket", libc::SYS_socket, [libc::AF_PACKET as u64, 3, 0, 0]),
        ];
        for (what, call, arguments) in refused {
            assert_eq!(error_of(call, arguments), Some(libc::ENOSYS), "{what}");
        }
        let error = Command::new("/bin/true").status().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "execve");
        // On what is not there: the kernel itself answers.
        let info = bpf_cmd::BPF_OBJ_GET_INFO_BY_FD as u64;
        assert_ne!(error_of(libc::SYS_bpf, [info, 0, 0, 0]), Some(libc::ENOSYS));
    });
}

#[test]
fn what_a_service_needs_works() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    apart(move || {
        let sandbox = Sandbox {
            read: vec!["/proc".into()],
            write: vec![path.clone()],
            connects: true,
            ..Sandbox::default()
        };
        // As the service: it listens before.
        let [first, listener] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        first.set_nonblocking(true).unwrap();
        enter(&sandbox).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            let listener = tokio::net::TcpListener::from_std(first).unwrap();
            let address = listener.local_addr().unwrap();
            let client = tokio::net::TcpStream::connect(address);
            let (client, server) = tokio::join!(client, listener.accept());
            assert_eq!(client.unwrap().local_addr().unwrap(), server.unwrap().1);
            let read = tokio::task::spawn_blocking(|| fs::read_to_string("/proc/loadavg"));
            assert!(read.await.unwrap().is_ok());
        });
        let address = listener.local_addr().unwrap();
        let sender = thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"hello").unwrap();
        });
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        sender.join().unwrap();
        assert_eq!(text, "hello");

        // As the flight recorder.
        let mut written = tempfile::Builder::new().tempfile_in(&path).unwrap();
        written.write_all(b"kept").unwrap();
        written.as_file().sync_all().unwrap();
        written.persist_noclobber(path.join("done")).unwrap();
        assert_eq!(fs::read_to_string(path.join("done")).unwrap(), "kept");
        fs::remove_file(path.join("done")).unwrap();
    });
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn files_that_were_not_named_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["read", "list", "other"] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("file"), "text").unwrap();
    }
    let path = folder.path().to_owned();
    apart(move || {
        let (read, list) = (vec![path.join("read")], vec![path.join("list")]);
        let sandbox = Sandbox { read, list, ..Sandbox::default() };
        if enter(&sandbox).unwrap().landlock_abi == 0 {
            println!("skipped: this kernel has no landlock");
            return;
        }
        assert_eq!(fs::read_to_string(path.join("read/file")).unwrap(), "text");
        assert_eq!(fs::read_dir(path.join("list")).unwrap().count(), 1);
        let refused = [
            fs::File::create_new(path.join("read/new")).map(drop),
            fs::remove_file(path.join("read/file")),
            fs::read_to_string(path.join("list/file")).map(drop),
            fs::read_to_string(path.join("other/file")).map(drop),
            fs::read_dir(path.join("other")).map(drop),
        ];
        for (number, outcome) in refused.into_iter().enumerate() {
            let kind = outcome.err().map(|error| error.kind());
            assert_eq!(kind, Some(io::ErrorKind::PermissionDenied), "number {number}");
        }
    });
}

#[test]
fn no_file_that_is_there_is_opened_for_writing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "text").unwrap();
    apart(move || {
        // Not where landlock would allow it.
        let write = vec![path.parent().unwrap().to_owned(), "/proc/self".into()];
        enter(&Sandbox { read: vec!["/".into()], write, ..Sandbox::default() }).unwrap();
        // Files of its user.
        for path in [path.as_path(), "/proc/self/mem".as_ref(), "/proc/self/comm".as_ref()] {
            for (read, create) in [(false, false), (true, false), (false, true)] {
                let mut options = fs::OpenOptions::new();
                let error = options.write(true).read(read).create(create).open(path).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ENOSYS), "{}", path.display());
            }
        }
        fs::File::create_new(path.with_extension("new")).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "text");
    });
}

#[test]
fn a_user_of_others_is_a_warning_where_there_is_no_landlock() {
    let of = |landlock_abi, shares_user| {
        let entered = Entered { landlock_abi, shares_user, ..Entered::default() };
        entered.warnings().len()
    };
    assert_eq!([of(0, true), of(0, false), of(4, true)], [2, 1, 0]);
}

#[test]
fn commands_run_only_where_they_are_configured() {
    apart(|| {
        let sandbox = Sandbox { commands: true, ..Sandbox::default() };
        enter(&sandbox).unwrap();
        assert!(Command::new("/bin/true").status().unwrap().success());
        let output = Command::new("/bin/grep").args(["NoNewPrivs", "/proc/self/status"]).output();
        let output = output.unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "NoNewPrivs:\t1\n");
        assert_eq!(error_of(libc::SYS_ptrace, [0; 4]), Some(libc::ENOSYS));
    });
}

/// A signal of nothing (0) to this process's parent, and a connection to an abstract socket of this process.
fn reach_outside(name: &str) -> (io::Result<()>, io::Result<()>) {
    let parent = std::os::unix::process::parent_id().cast_signed();
    // SAFETY: takes no memory of ours, and signal 0 does nothing.
    let sent = match unsafe { libc::kill(parent, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    };
    let address = SocketAddr::from_abstract_name(name).unwrap();
    (sent, UnixStream::connect_addr(&address).map(drop))
}

#[test]
fn signals_and_abstract_sockets_stay_within_the_sandbox() {
    // What commands inherit: the filter leaves both to them.
    let name = format!("ctmon-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _outside = UnixListener::bind_addr(&address).unwrap();
    apart(move || {
        let sandbox = Sandbox { commands: true, ..Sandbox::default() };
        let abi = enter(&sandbox).unwrap().landlock_abi;
        let (sent, connected) = reach_outside(&name);
        if abi < 6 {
            println!("skipped: landlock's ABI {abi} has no scopes: {sent:?}, {connected:?}");
            return;
        }
        for outcome in [sent, connected] {
            let kind = outcome.err().map(|error| error.kind());
            assert_eq!(kind, Some(io::ErrorKind::PermissionDenied));
        }
    });
}

/// A process that cannot become another user.
#[test]
fn who_must_stay_root_says_why() {
    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: it takes root");
        return;
    }
    apart(|| {
        caps::drop(None, CapSet::Effective, Capability::CAP_SETGID).unwrap();
        let account = Account { user: 65_534, group: 65_534 };
        let error = enter(&Sandbox { user: User::Required(account), ..Sandbox::default() });
        let error = format!("{:#}", error.unwrap_err());
        assert_eq!(error, "cannot become user 65534:65534: CAP_SETGID is missing");
        let sandbox = Sandbox { user: User::UnlessOther(account), ..Sandbox::default() };
        let entered = enter(&sandbox).unwrap();
        assert_eq!(entered.stays_root.as_deref(), Some("CAP_SETGID is missing"));
        let warnings = entered.warnings();
        assert!(warnings[0].contains("stays root") && warnings[0].contains("add CAP_SETUID"));
    });
}

#[test]
fn another_user_is_taken_for_good() {
    // SAFETY: takes nothing and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: becoming another user takes root");
        return;
    }
    apart(|| {
        let sandbox = Sandbox {
            read: vec!["/proc".into(), "/etc".into()],
            user: User::Required(Account { user: 65_534, group: 65_533 }),
            ..Sandbox::default()
        };
        enter(&sandbox).unwrap();
        let status = status();
        let all = |id: &str| [id; 4].join("\t");
        assert_eq!(status["Uid"], all("65534"));
        assert_eq!(status["Gid"], all("65533"));
        assert_eq!(status["Groups"], "");
        assert_eq!(status["CapPrm"], "0000000000000000");
        let shadow = fs::read("/etc/shadow").map_err(|error| error.kind());
        assert_eq!(shadow.unwrap_err(), io::ErrorKind::PermissionDenied);
    });
    // Of the process, which the filter of that thread keeps from asking.
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
}
