//! A monitor in two halves that is no ctmon: its serving half tries what it may not, as one would that somebody has
//! taken over, and tells what came of it. A line of JSON each.

use std::{
    fs::{self, File},
    io::{self, IoSlice, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use conntrack_ebpf::Reread;
use conntrack_user::{
    model::reading::Reading,
    privilege::{
        self, Remote,
        helper::Options,
        sandbox::{self, Sandbox},
    },
    source::{
        access::{Access as _, Own},
        ebpf::{self, EbpfSource},
        live::{self, Choice, Live, Purpose, Selection},
        netlink,
    },
};
use rustix::{
    mount::{MountFlags, mount},
    net::{
        AddressFamily, SendAncillaryBuffer, SendFlags, SocketType, ipproto::ICMP, sendmsg, socket,
    },
    process::{Pid, Signal, getpid, kill_process},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};
use serde::{Deserialize, Serialize};

use crate::process::only_child;

/// A setting of a namespace, which root may change in any.
const SETTING: &str = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout";
/// A file that only root may read.
const SECRET: &str = "/root-only";

/// What landlock alone keeps root from.
pub(crate) const OPEN_NAMESPACE: &str = "open another process's namespace";
pub(crate) const READ_OF_ROOT: &str = "read a file of root";
pub(crate) const WRITE_OF_ROOT: &str = "write a file of root";
pub(crate) const MAKE_FILE: &str = "make a file";
pub(crate) const CHANGE_SETTING: &str = "change a timeout";

/// What the serving half is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Half {
    /// As root without capabilities: try what is forbidden, then read the tables until it is killed.
    Root,
    /// The same as another user.
    Nobody,
    /// Send the helper what is no request, and read the tables until it is killed.
    Garbage,
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// The process number of the helper, and what could not be given up.
    Begun(i32, Vec<String>),
    /// What was tried, and what it failed with; none: it did not fail.
    Tried(String, Option<String>),
    /// What was read.
    Read(Box<Reading>),
    /// The helper is gone.
    CutOff,
}

/// Runs until it is killed.
///
/// # Errors
/// It cannot begin, or nobody reads what it says.
pub(crate) fn run(half: Half) -> Result<()> {
    let ebpf = ebpf::Options::default();
    let remote =
        privilege::start(Options { ebpf: ebpf.clone(), probe_stats: false, listen: None })?;
    let helper = only_child(getpid())?;
    let user = (half == Half::Nobody).then_some((65_534, 65_534));
    let read = ["/proc", "/sys"].map(Into::into).to_vec();
    fs::write(SECRET, "")?;
    fs::set_permissions(SECRET, fs::Permissions::from_mode(0o600))?;
    let (own, channel, address) = (File::open("/proc/self/ns/net")?, sockets()?, text_of_kernel()?);
    let missing = sandbox::enter(&Sandbox { read, user, ..Sandbox::default() })?;
    say(&Said::Begun(helper.as_raw_nonzero().get(), missing))?;
    let options = live::Options {
        choice: Choice::Ebpf,
        selection: Selection::All,
        idle_too: true,
        probe_stats: false,
        procfs: "/proc".into(),
        pods: "/var/log/pods".into(),
        access: Arc::new(remote.clone()),
        ebpf,
        netlink: netlink::Options { receive_bytes: netlink::DEFAULT_RECEIVE_BYTES, events: false },
    };
    if half != Half::Garbage {
        let outcome = read_kernel(&remote, &options.ebpf, address)?;
        say(&Said::Tried("read the kernel's memory".to_owned(), outcome))?;
    }
    let mut live = Live::open(&options)?;
    if half == Half::Garbage {
        for socket in &channel {
            let _ = send(socket.as_fd(), b"\xffgarbage");
        }
    } else {
        for (what, outcome) in attempts(&remote, helper, &own) {
            say(&Said::Tried(what.to_owned(), outcome))?;
        }
    }
    while !live.is_cut_off() {
        say(&Said::Read(Box::new(live.read(Purpose::Tick))))?;
        thread::sleep(Duration::from_millis(100));
    }
    // What is held of the programs keeps them loaded.
    drop(live);
    say(&Said::CutOff)?;
    loop {
        thread::park();
    }
}

fn say(said: &Said) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, said)?;
    writeln!(out)?;
    out.flush().context("nobody reads what is said")
}

/// All sockets of this process: one is that to the helper.
fn sockets() -> Result<Vec<OwnedFd>> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let is_socket = fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_string_lossy().parse::<i32>();
        if let (true, Ok(number)) = (is_socket, number) {
            // SAFETY: it was open a moment ago, and no other thread closes it.
            sockets.push(unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()?);
        }
    }
    ensure!(!sockets.is_empty(), "there is no socket to the helper");
    Ok(sockets)
}

/// The address of a text in the kernel's memory.
fn text_of_kernel() -> Result<u64> {
    let symbols = fs::read_to_string("/proc/kallsyms")?;
    let line = symbols.lines().find(|line| line.ends_with(" linux_banner"));
    let address = line.and_then(|line| u64::from_str_radix(line.split(' ').next()?, 16).ok());
    address.filter(|address| *address > 0).context("/proc/kallsyms does not tell of linux_banner")
}

/// Has what lies around an address read as if it were entries.
fn read_kernel(remote: &Remote, options: &ebpf::Options, address: u64) -> Result<Option<String>> {
    let (parts, _attachment) = remote.attach(options)?;
    let source = EbpfSource::new(parts)?;
    // Wherever in an entry its status is, it is once in the text.
    let mut entries: Vec<Reread> =
        (0..64).map(|step| Reread { entry: address - 8 * step, ..Reread::default() }).collect();
    source.reread(&mut entries)?;
    let is_told =
        |one: &Reread| one.found != 0 || one.status != 0 || one.tcp_state != 0 || one.expires != 0;
    let told = entries.iter().filter(|one| is_told(one)).count();
    Ok((told == 0).then(|| "nothing is told of what is no entry".to_owned()))
}

fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let mut beside = SendAncillaryBuffer::default();
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL)?)
}

/// What is tried, and what it fails with.
fn attempts(remote: &Remote, helper: Pid, own: &File) -> Vec<(&'static str, Option<String>)> {
    fn of<T, E: std::fmt::Display>(
        what: &'static str,
        outcome: Result<T, E>,
    ) -> (&'static str, Option<String>) {
        (what, outcome.err().map(|error| format!("{error:#}")))
    }
    let foreign = File::open("/proc/1/ns/net");
    let network = LinkNameSpaceType::Network;
    // SAFETY: what is asked for is to be refused; else only this process changes, which ends soon.
    let unshare = |flags| unsafe { unshare_unsafe(flags) };
    let ebpf = ebpf::Options::default();
    let setting = fs::read_to_string(SETTING).unwrap_or_default();
    vec![
        of("load programs", Own::new("/proc".into()).attach(&ebpf)),
        of("time programs", ebpf::bpf::enable_statistics()),
        of("list programs", aya::programs::loaded_programs().next().transpose()),
        of("have the helper time programs", remote.time_programs()),
        of("have the helper attach twice", remote.attach(&ebpf)),
        of(OPEN_NAMESPACE, foreign),
        of("enter a namespace", move_into_link_name_space(own.as_fd(), Some(network))),
        of("make a network namespace", unshare(UnshareFlags::NEWNET)),
        of("make a user namespace", unshare(UnshareFlags::NEWUSER)),
        of("mount", mount("none", "/proc", "tmpfs", MountFlags::empty(), None)),
        of("send a signal to the helper", kill_process(helper, Signal::TERM)),
        of("open a raw socket", socket(AddressFamily::INET, SocketType::RAW, Some(ICMP))),
        of("open a packet socket", socket(AddressFamily::PACKET, SocketType::RAW, None)),
        of("run a program", Command::new("/bin/true").status()),
        of("write the helper's memory", fs::OpenOptions::new().write(true).open(mem(helper))),
        of(READ_OF_ROOT, fs::read(SECRET)),
        of(WRITE_OF_ROOT, fs::write(SECRET, "gained")),
        of(MAKE_FILE, fs::write("/gained", "")),
        of(CHANGE_SETTING, fs::write(SETTING, setting)),
    ]
}

fn mem(process: Pid) -> String {
    format!("/proc/{}/mem", process.as_raw_nonzero())
}
