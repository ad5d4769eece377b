//! A monitor in two halves that is no ctmon: its serving half tries what it may not, as one would that somebody has
//! taken over, and tells what came of it. A line of JSON each.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::fd::{BorrowedFd, OwnedFd},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use conntrack_ebpf::{Reread, reread};
use conntrack_user::{
    model::reading::Reading,
    privilege::{
        self, Account, Remote,
        helper::Options,
        sandbox::{self, Sandbox, User},
    },
    source::{
        access::Access as _,
        ebpf::{self, EbpfSource},
        live::{self, Choice, Live, Purpose, Selection},
        netlink,
    },
};
use rustix::{
    net::{SendFlags, send},
    process::getpid,
};
use serde::{Deserialize, Serialize};

use crate::{attempts, process::only_child};

/// Task of the serving half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Half {
    /// Stay the same user without capabilities, try what is forbidden, then read the tables until killed.
    Same,
    /// Become another user without capabilities, try what is forbidden, then read the tables until killed.
    Nobody,
    /// Become another user that may run commands, and try what these may not.
    Commands,
    /// Stay the same user, which may run commands, and try what these may not.
    CommandsAsOneUser,
    /// Leave a copy of itself that holds all it has, as it could where it may run commands.
    Copied,
    /// Send the helper what is no request, and read the tables until it is killed.
    Garbage,
}

/// What it says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// The process number of the helper, and the version of landlock's interface; 0: there is none.
    Begun(i32, i32),
    /// The process number of its copy.
    Copied(i32),
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
    let remote = privilege::start(Options {
        ebpf: ebpf.clone(),
        probe_stats: false,
        listen: None,
        asks_ctnetlink: false,
    })?;
    let helper = only_child(getpid())?;
    let user = match half {
        Half::Nobody | Half::Commands => User::Required(Account { user: 65_534, group: 65_534 }),
        Half::Same | Half::CommandsAsOneUser | Half::Copied | Half::Garbage => User::Same,
    };
    let read = ["/proc", "/sys"].map(Into::into).to_vec();
    let (own, channel, address) = (File::open("/proc/self/ns/net")?, sockets()?, text_of_kernel()?);
    let commands = matches!(half, Half::Commands | Half::CommandsAsOneUser | Half::Copied);
    let sandbox = Sandbox { read, commands, user, helper: Some(helper), ..Sandbox::default() };
    let entered = sandbox::enter(&sandbox)?;
    say(&Said::Begun(helper.as_raw_nonzero().get(), entered.landlock_abi))?;
    if half == Half::Copied {
        // SAFETY: there is no other thread, so nothing that the copy uses is held by one.
        match unsafe { libc::fork() } {
            0 => loop {
                thread::park();
            },
            copy => say(&Said::Copied(copy))?,
        }
    }
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
    if matches!(half, Half::Same | Half::Nobody) {
        let outcome = read_kernel(&remote, &options.ebpf, address)?;
        say(&Said::Tried("read the kernel's memory".to_owned(), outcome))?;
    }
    let mut live = Live::open(&options)?;
    let tried = match half {
        Half::Garbage => {
            for socket in &channel {
                let _ = send(socket, b"\xffgarbage", SendFlags::NOSIGNAL);
            }
            vec![]
        }
        Half::Commands | Half::CommandsAsOneUser => attempts::at_others(helper),
        Half::Copied => vec![],
        Half::Same | Half::Nobody => attempts::all(&remote, helper, &own),
    };
    for (what, outcome) in tried {
        say(&Said::Tried(what.to_owned(), outcome))?;
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
    // No namespace has the cookie 0: not even that there is no entry is said.
    let is_told = |one: &Reread| {
        one.found != reread::REFUSED || one.status != 0 || one.tcp_state != 0 || one.expires != 0
    };
    let told = entries.iter().filter(|one| is_told(one)).count();
    Ok((told == 0).then(|| "nothing is told of what is no entry".to_owned()))
}
