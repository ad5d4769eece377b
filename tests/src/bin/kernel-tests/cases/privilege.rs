//! The two halves: what each may, and what becomes of one without the other.

use std::{collections::BTreeMap, fs, os::unix::net::UnixListener, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use conntrack_tests::traffic::{Family, Plan, Protocol};
use conntrack_user::model::reading::NetnsReading;
use rustix::process::{Pid, Signal, kill_process};

use super::{TRACK, expect_no_panic, kill::none_loaded, namespaces::Inhabited};
use crate::{
    attempts::{
        self, ATTEMPTS, CONNECT, CONNECT_ABSTRACT, MAKE_FILE, OPEN_NAMESPACE, READ_OF_ROOT,
    },
    checks::Checks,
    half::Said,
    kernel,
    netns::Netns,
    process::Process,
    runner::{Env, Test},
    served::{Served, as_user},
    stage::{self, Running},
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "halves-as-root",
            "A serving half without capabilities counts exactly, and what is forbidden fails",
            |_, checks| as_root(checks),
        ),
        Test::new(
            "halves-as-nobody",
            "A serving half of another user counts exactly, and may not even what root's files allow",
            |_, checks| as_nobody(checks),
        ),
        Test::new(
            "halves-as-one-user",
            "Both halves as one user with five capabilities count exactly, and the serving half reaches nothing of the helper",
            |_, checks| as_one_user(checks),
        ),
        Test::new(
            "halves-with-commands",
            "What a command inherits keeps signals from the helper and, by landlock's scopes, abstract sockets of others",
            |_, checks| with_commands(|| Half::start("commands"), checks),
        ),
        Test::new(
            "halves-with-commands-as-one-user",
            "The same where both halves are one user: no number of a process, thread or group sends the helper a signal",
            |_, checks| {
                let start =
                    || Half::start_by("commands-as-one-user", |command| as_user(command, HELPER));
                with_commands(start, checks)
            },
        ),
        Test::new(
            "halves-copied",
            "After kill -9 of the serving half the helper ends, also where a copy of that half holds the socket",
            |_, checks| copied(checks),
        ),
        Test::new(
            "halves-garbage-ends-the-helper",
            "What is no request ends the helper, and the programs with it",
            |_, checks| garbage(checks),
        ),
        Test::new(
            "serve-has-two-halves",
            "Both halves of ctmon serve have the capabilities that are documented, and no more",
            serve,
        ),
        Test::new(
            "serve-kill-9-ends-the-helper",
            "After kill -9 of the serving half the helper ends, and no program stays loaded",
            kill_serving,
        ),
        Test::new(
            "serve-without-its-helper",
            "After kill -9 of the helper no program stays loaded; serve says so and goes on with procfs",
            kill_helper,
        ),
    ]
}

const FLOWS: u64 = 500;
/// `CAP_SYS_PTRACE`, `CAP_SYS_ADMIN`, `CAP_SYSLOG`, `CAP_PERFMON`, `CAP_BPF`
pub(super) const HELPER: u64 = 1 << 19 | 1 << 21 | 1 << 34 | 1 << 38 | 1 << 39;
const BPF: u64 = 1 << 39;

/// The monitor of `half.rs`.
struct Half {
    process: Process,
    /// Sockets that the half tries to reach.
    _outside: [UnixListener; 2],
    helper: Pid,
    /// Version of landlock's interface; 0: there is none.
    landlock: i32,
}

impl Half {
    fn start(half: &str) -> Result<Self> {
        Self::start_by(half, |_| ())
    }

    fn start_by(half: &str, prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let outside = attempts::outside()?;
        let mut command = Command::new("/proc/self/exe");
        command.args(["--half", half]);
        prepare(&mut command);
        let process = Process::spawn(command, format!("a monitor in two halves, {half}"))?;
        let Said::Begun(helper, landlock) = said(&process)? else {
            bail!("it does not say that it has begun");
        };
        let helper = Pid::from_raw(helper).context("the helper has no number")?;
        Ok(Self { process, _outside: outside, helper, landlock })
    }

    /// Reads until `wanted` finds what it wants in what is told of a namespace.
    fn netns<T>(&self, what: &str, wanted: impl Fn(&NetnsReading) -> Option<T>) -> Result<T> {
        wait::until(what, wait::SHORT, || {
            let reading = match said(&self.process)? {
                Said::Read(reading) => reading,
                other => bail!("it says {other:?}"),
            };
            Ok(reading.netns.iter().find_map(&wanted))
        })
    }
}

fn said(process: &Process) -> Result<Said> {
    let line = process.next_line(wait::SHORT)?.with_context(|| process.said())?;
    serde_json::from_str(&line).with_context(|| format!("not understood: {line}"))
}

/// Lines of `/proc/PID/status`.
pub(super) fn status(process: Pid) -> Result<BTreeMap<String, String>> {
    let path = format!("/proc/{}/status", process.as_raw_nonzero());
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    Ok(text.lines().filter_map(line).collect())
}

/// What the serving half keeps: before 5.19 bpf(2) asks for a capability where it is not for everybody.
pub(super) fn serving() -> u64 {
    let sysctl = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled");
    let is_restricted = sysctl.is_ok_and(|text| text.trim() != "0");
    if kernel::is_before((5, 19)) && is_restricted { BPF } else { 0 }
}

/// `bounding`: the bounding set, which stays where `CAP_SETPCAP` is missing.
fn expect_status(
    checks: &mut Checks,
    whose: &str,
    process: Pid,
    capabilities: u64,
    bounding: u64,
) -> Result<()> {
    let status = status(process)?;
    for (name, value) in [
        ("CapInh", 0),
        ("CapPrm", capabilities),
        ("CapEff", capabilities),
        ("CapBnd", bounding),
        ("CapAmb", 0),
    ] {
        let seen = status.get(name).map(String::as_str);
        checks.equal(&format!("{name} of {whose}"), seen, Some(&*format!("{value:016x}")));
    }
    for (name, value) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
        let seen = status.get(name).map(String::as_str);
        checks.equal(&format!("{name} of {whose}"), seen, Some(value));
    }
    Ok(())
}

fn expect_both(checks: &mut Checks, serving_half: Pid, helper: Pid, bounding: u64) -> Result<()> {
    expect_status(checks, "the serving half", serving_half, serving(), bounding)?;
    expect_status(checks, "the helper", helper, HELPER, bounding)
}

fn as_root(checks: &mut Checks) -> Result<()> {
    let by_landlock = [OPEN_NAMESPACE, READ_OF_ROOT, MAKE_FILE];
    halves(|| Half::start("same"), checks, &by_landlock, 0)
}

fn as_nobody(checks: &mut Checks) -> Result<()> {
    halves(|| Half::start("nobody"), checks, &[], 0)
}

fn as_one_user(checks: &mut Checks) -> Result<()> {
    let start = || Half::start_by("same", |command| as_user(command, HELPER));
    halves(start, checks, &[], HELPER)
}

/// `by_landlock`: what works where there is no landlock; `bounding`: the bounding set of both.
fn halves(
    start: impl FnOnce() -> Result<Half>,
    checks: &mut Checks,
    by_landlock: &[&str],
    bounding: u64,
) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let other = Inhabited::new()?;
    let half = start()?;
    checks.note(format!("landlock: version {}", half.landlock));
    expect_both(checks, half.process.id()?, half.helper, bounding)?;

    let of = |inode| move |netns: &NetnsReading| (netns.id.inode == inode).then(|| netns.clone());
    let mut tried = 0;
    let first = loop {
        match said(&half.process)? {
            Said::Tried(what, None) => {
                let expected = half.landlock == 0 && by_landlock.contains(&&*what);
                checks.that(&format!("to {what} fails"), expected, "it worked");
                checks.note(format!("{what}: worked"));
            }
            Said::Tried(what, Some(why)) => checks.note(format!("{what}: {why}")),
            Said::Read(reading) => break reading,
            other => bail!("it says {other:?}"),
        }
        tried += 1;
    };
    // And that to read the kernel's memory.
    checks.equal("attempts", tried, ATTEMPTS + 1);
    let first = first.netns.iter().find_map(of(own)).context("the own namespace is not read")?;
    checks.that("timeouts", first.timeouts.is_some(), first.timeouts);

    let plan = || Plan::new(Protocol::Udp, Family::Ipv4, FLOWS);
    let sent = Running::start("own", plan(), None).join(checks)?.sent;
    checks.equal("flows", sent, FLOWS);
    other.send(FLOWS, checks)?;
    for (whose, inode) in [("the own namespace", own), ("the other one", other.netns.inode())] {
        let netns = half.netns(&format!("all inserts of {whose}"), |netns| {
            let totals = netns.totals?;
            (netns.id.inode == inode && totals.inserts() == FLOWS).then(|| netns.clone())
        })?;
        let counts: Vec<_> = netns.counts.iter().filter(|read| read.agrees()).collect();
        checks.that(
            &format!("{whose}: the kernel's count is ours"),
            counts.iter().any(|read| {
                u64::from(read.count) == FLOWS && read.after.allocs - read.after.frees == FLOWS
            }),
            &netns.counts,
        );
        let has_stat = fs::exists("/proc/net/stat/nf_conntrack")?;
        let stat = half.netns("the kernel's statistics", |netns| {
            (netns.id.inode == inode)
                .then_some(netns.kernel.is_some() || !has_stat)
                .filter(|is| *is)
        });
        checks.that(&format!("{whose}: the kernel's statistics"), stat.is_ok(), stat);
    }

    let inode = other.netns.inode();
    drop(other);
    let ended = half.netns("the other namespace's end", |netns| {
        (netns.id.inode == inode && netns.ended).then(|| netns.clone())
    })?;
    checks.equal("its frees", ended.totals.map(|totals| totals.frees), Some(FLOWS));
    let ended = half.process.end_by(Signal::KILL)?;
    expect_no_panic(checks, "the halves", &ended.stderr);
    none_loaded()
}

/// Versions of landlock's interface from which on it has scopes, and the rule for unix sockets by their path.
const SCOPES: i32 = 6;

fn with_commands(start: impl FnOnce() -> Result<Half>, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let half = start()?;
    checks.note(format!("landlock: version {}", half.landlock));
    let mut worked = Vec::new();
    loop {
        match said(&half.process)? {
            Said::Tried(what, None) => worked.push(what),
            Said::Tried(what, Some(why)) => checks.note(format!("{what}: {why}")),
            Said::Read(_) => break,
            other => bail!("it says {other:?}"),
        }
    }
    let mut expected = vec![CONNECT.to_owned()];
    if half.landlock < SCOPES {
        expected.push(CONNECT_ABSTRACT.to_owned());
    }
    checks.equal("what a command may", worked, expected);
    let ended = half.process.end_by(Signal::KILL)?;
    expect_no_panic(checks, "the halves", &ended.stderr);
    none_loaded()
}

fn copied(checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let half = Half::start("copied")?;
    let Said::Copied(copy) = said(&half.process)? else { bail!("it has left no copy") };
    let copy = Pid::from_raw(copy).context("the copy has no number")?;
    half.process.signal(Signal::KILL)?;
    let ended = helper_ends(half.helper);
    checks.that("the copy is there", status(copy).is_ok(), copy);
    kill_process(copy, Signal::KILL)?;
    ended?;
    expect_no_panic(checks, "the halves", &half.process.stderr());
    none_loaded()
}

fn helper_ends(helper: Pid) -> Result<()> {
    wait::until("the helper's end", wait::SHORT, || {
        let state = status(helper).ok().and_then(|mut status| status.remove("State"));
        // Whoever adopted it may leave a zombie.
        Ok(state.is_none_or(|state| state.starts_with('Z')).then_some(()))
    })
}

fn garbage(checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let half = Half::start("garbage")?;
    wait::until("word that the helper is gone", wait::SHORT, || {
        Ok(matches!(said(&half.process)?, Said::CutOff).then_some(()))
    })?;
    let stderr = half.process.stderr();
    checks.that("the helper says why", stderr.contains("no request"), &stderr);
    expect_no_panic(checks, "the helper", &stderr);
    none_loaded()
}

/// A ctmon serve with its programs attached, and its helper.
fn start(env: &Env) -> Result<(Served, Pid)> {
    stage::prepare(TRACK)?;
    none_loaded()?;
    let mut served = Served::start(env, &[])?;
    let helper = served.helper()?;
    ensure!(!kernel::ctmon_programs()?.is_empty(), "no program is loaded");
    Ok((served, helper))
}

fn serve(env: &Env, checks: &mut Checks) -> Result<()> {
    let (mut served, helper) = start(env)?;
    expect_both(checks, served.process().id()?, helper, 0)?;
    let name = status(helper)?.remove("Name");
    checks.equal("the helper's name", name.as_deref(), Some("ctmon-helper"));
    let sockets = format!("/proc/{}/fd", helper.as_raw_nonzero());
    let is_socket = |entry: std::io::Result<fs::DirEntry>| {
        let target = fs::read_link(entry?.path())?;
        Ok(target.to_string_lossy().starts_with("socket:"))
    };
    let sockets = fs::read_dir(sockets)?.map(is_socket).collect::<Result<Vec<bool>>>()?;
    let sockets = sockets.into_iter().filter(|is_socket| *is_socket).count();
    checks.equal("sockets of the helper", sockets, 1);
    let ended = served.terminate()?;
    checks.equal("exit code", ended.status.code(), Some(0));
    expect_no_panic(checks, "serve", &ended.stderr);
    none_loaded()
}

fn kill_serving(env: &Env, checks: &mut Checks) -> Result<()> {
    let (mut served, helper) = start(env)?;
    served.process().signal(Signal::KILL)?;
    helper_ends(helper)?;
    expect_no_panic(checks, "serve", &served.process().stderr());
    none_loaded()
}

fn kill_helper(env: &Env, checks: &mut Checks) -> Result<()> {
    let (mut served, helper) = start(env)?;
    kill_process(helper, Signal::KILL)?;
    none_loaded()?;
    wait::until("word of it", wait::SHORT, || {
        let stderr = served.process().stderr();
        let words = ["the privileged helper has ended", "source procfs"];
        Ok(words.iter().all(|word| stderr.contains(word)).then_some(()))
    })
    .with_context(|| served.process().said())?;
    checks.that("no zombie is left", status(helper).is_err(), status(helper));
    served.until_ready()?;
    let inode = Netns::own()?.inode();
    let metrics = served.metrics()?;
    checks.equal("entries", metrics.of("ctmon_entries", inode), Some(0.0));
    checks.equal("allocs are not told", metrics.of("ctmon_allocs_total", inode), None);
    let ended = served.terminate()?;
    checks.equal("exit code", ended.status.code(), Some(0));
    expect_no_panic(checks, "serve", &ended.stderr);
    Ok(())
}
