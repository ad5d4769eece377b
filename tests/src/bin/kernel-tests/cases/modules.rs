//! Without nf_conntrack.

use std::{collections::BTreeSet, thread, time::Duration};

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Family, Plan, Protocol};
use rustix::process::Signal;

use super::{TRACK, expect_error};
use crate::{
    checks::{Checks, Skip},
    command,
    ctmon::Watch,
    kernel,
    process::{self, Process},
    report::Line,
    runner::{Env, Place, Test},
    stage::{self, Running},
    wait,
};

pub(super) const MODULE: &str = "nf_conntrack";

pub(super) fn tests() -> Vec<Test> {
    let without = |test| Test { place: Place::WithoutConntrack, ..test };
    vec![
        without(Test::new(
            "no-nf_conntrack-is-an-error",
            "Without nf_conntrack ctmon says so, says what to do, and loads nothing by itself",
            error,
        )),
        without(Test::new(
            "wait-starts-when-nf_conntrack-appears",
            "watch --wait starts as soon as nf_conntrack is loaded",
            waits,
        )),
        without(Test::new(
            "fentry-holds-the-module-until-told",
            "By fentry ctmon keeps nf_conntrack loaded; SIGUSR2 lets it go, and a reload is counted again",
            holds_until_told,
        )),
        without(Test::new(
            "sigusr2-twice-attaches-again",
            "A first SIGUSR2 detaches and goes on with procfs, a second one attaches and counts anew",
            told_twice,
        )),
        without(Test::new(
            "kprobe-lets-the-module-go",
            "By kprobe nf_conntrack can be unloaded under ctmon, which counts again after it is loaded",
            kprobe_lets_go,
        )),
    ]
}

const FLOWS: i64 = 200;

/// Tracks and sends in the initial namespace; the table and the rules are gone afterwards, so that
/// modules can be unloaded.
struct Traffic<'a> {
    env: &'a Env,
}

impl Traffic<'_> {
    /// Flows that are still in the table.
    fn send(&self, watch: &mut Watch, checks: &mut Checks, when: &str) -> Result<()> {
        let inode = self.env.init.inode();
        self.env.init.run(|| stage::prepare(TRACK))?;
        watch.baseline(inode)?;
        let sent = self.env.init.run(|| {
            let plan = Plan::new(Protocol::Udp, Family::Ipv4, FLOWS.unsigned_abs());
            Ok(Running::start("flows", plan, None).join(checks)?.sent)
        })?;
        checks.equal(&format!("flows {when}"), sent, FLOWS.unsigned_abs());
        let netns = watch.quiet_netns(inode)?;
        for name in ["inserts", "allocs"] {
            checks.equal(&format!("{name} {when}"), netns.total(name), Some(FLOWS));
        }
        checks.equal(&format!("entries {when}"), netns.entries, Some(FLOWS));
        checks.equal(&format!("drift {when}"), netns.count_drift, Some(0));
        self.clear()
    }

    fn clear(&self) -> Result<()> {
        self.env.init.run(|| {
            command::flush()?;
            command::run("nft", &["flush", "ruleset"]).map(drop)
        })
    }
}

impl Drop for Traffic<'_> {
    fn drop(&mut self) {
        // Fails where a test has taken the modules away.
        let _ = self.clear();
    }
}

/// A ctmon in the initial namespace.
fn start(env: &Env, arguments: &[&str]) -> Result<Watch> {
    env.init.run(|| Watch::start(env, arguments))
}

fn holds_until_told(env: &Env, checks: &mut Checks) -> Result<()> {
    let mut unloaded = Unloaded::nothing()?;
    let traffic = Traffic { env };
    let mut watch = start(env, &[])?;
    if watch.started().is_by_kprobe() {
        return Err(Skip("ctmon attaches by kprobe, which holds no module".to_owned()).into());
    }
    traffic.send(&mut watch, checks, "before")?;
    for _ in 0..5 {
        checks.equal("rmmod while ctmon is attached", unloaded.try_remove(MODULE)?, None);
    }
    watch.fresh_tick()?;
    watch.process().signal(Signal::USR2)?;
    watch.until_source("procfs")?;
    watch.until_notice("detach")?;
    checks.equal("programs after SIGUSR2", kernel::ctmon_programs()?, BTreeSet::new());
    wait::until("nf_conntrack unloaded", wait::SHORT, || unloaded.try_remove(MODULE))?;
    watch.until_notice(MODULE)?;
    checks.that("ctmon lives without it", watch.process().is_running()?, ());
    checks.that("ctmon loads no module", !kernel::modules()?.contains_key(MODULE), MODULE);
    unloaded.put_back()?;
    watch.until_source("ebpf")?;
    traffic.send(&mut watch, checks, "after the reload")?;
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}

fn told_twice(env: &Env, checks: &mut Checks) -> Result<()> {
    let traffic = Traffic { env };
    let mut watch = start(env, &[])?;
    traffic.send(&mut watch, checks, "before")?;
    watch.process().signal(Signal::USR2)?;
    watch.until_source("procfs")?;
    checks.equal("programs after SIGUSR2", kernel::ctmon_programs()?, BTreeSet::new());
    watch.process().signal(Signal::USR2)?;
    watch.until_source("ebpf")?;
    checks.that("programs again", !kernel::ctmon_programs()?.is_empty(), ());
    traffic.send(&mut watch, checks, "after the second SIGUSR2")?;
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}

fn kprobe_lets_go(env: &Env, checks: &mut Checks) -> Result<()> {
    let mut unloaded = Unloaded::nothing()?;
    let traffic = Traffic { env };
    let mut watch = start(env, &["--attach", "kprobe"])?;
    for when in ["before", "after a reload"] {
        traffic.send(&mut watch, checks, when)?;
        let notices = watch.notices().len();
        wait::until("nf_conntrack unloaded", wait::SHORT, || unloaded.try_remove(MODULE))?;
        wait::until("a notice that conntrack is gone", wait::SHORT, || {
            watch.next(wait::SHORT)?;
            Ok(watch.notices().get(notices..).is_some_and(|new| !new.is_empty()).then_some(()))
        })?;
        checks.that("ctmon lives without it", watch.process().is_running()?, ());
        unloaded.put_back()?;
        watch.until_source("ebpf")?;
    }
    traffic.send(&mut watch, checks, "at last")?;
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}

/// nf_conntrack and all that needs it unloaded; loaded again when this is dropped.
pub(super) struct Unloaded {
    removed: BTreeSet<String>,
}

impl Unloaded {
    /// As long as [`Self::try_remove`] has not been called.
    fn nothing() -> Result<Self> {
        let modules = kernel::modules()?;
        if !modules.contains_key(MODULE) && kernel::count().is_ok() {
            return Err(Skip(
                "nf_conntrack is built into this kernel and cannot be absent".to_owned(),
            )
            .into());
        }
        Ok(Self { removed: BTreeSet::new() })
    }

    pub(super) fn new() -> Result<Self> {
        let mut unloaded = Self::nothing()?;
        // Programs of a ctmon before, and rules of namespaces before, hold the modules a moment longer.
        wait::until("nf_conntrack unloaded", wait::SHORT, || unloaded.try_remove(MODULE))?;
        Ok(unloaded)
    }

    /// Loads again what was removed.
    pub(super) fn put_back(&mut self) -> Result<()> {
        while let Some(module) = self.removed.pop_last() {
            command::run("modprobe", &[&module])?;
        }
        Ok(())
    }

    /// Removes what uses the module, then the module.
    pub(super) fn try_remove(&mut self, module: &str) -> Result<Option<()>> {
        let modules = kernel::modules()?;
        let Some(users) = modules.get(module) else {
            return Ok(Some(()));
        };
        for user in users {
            if self.try_remove(user)?.is_none() {
                return Ok(None);
            }
        }
        if command::run("rmmod", &[module]).is_err() {
            return Ok(None);
        }
        self.removed.insert(module.to_owned());
        Ok(Some(()))
    }
}

impl Drop for Unloaded {
    fn drop(&mut self) {
        if let Err(error) = self.put_back() {
            eprintln!("kernel-tests: later tests run without a module: {error:#}");
        }
    }
}

fn error(env: &Env, checks: &mut Checks) -> Result<()> {
    let _unloaded = Unloaded::new()?;
    for arguments in [
        &["watch"][..],
        &["watch", "--source", "ebpf"],
        &["watch", "--source", "procfs"],
        &["status"],
    ] {
        let ended = process::run(env, arguments)?;
        let mut words = vec!["nf_conntrack", "modprobe"];
        words.extend(arguments.first().filter(|command| **command == "watch").map(|_| "--wait"));
        expect_error(checks, &arguments.join(" "), &ended, &words);
    }
    checks.that("ctmon loads no module", !kernel::modules()?.contains_key(MODULE), MODULE);
    Ok(())
}

fn waits(env: &Env, checks: &mut Checks) -> Result<()> {
    let mut unloaded = Unloaded::new()?;
    let mut process = Process::start(
        env,
        &["watch", "--wait", "--output", "json", "--interval", "100ms", "--count", "3"],
    )?;
    thread::sleep(Duration::from_secs(1));
    checks.that("ctmon waits", process.is_running()?, process.said());
    checks.that("ctmon loads no module", !kernel::modules()?.contains_key(MODULE), MODULE);
    checks.equal("no line before", process.line_here(), None);

    // Takes it away again where it was absent from the start.
    let absent = unloaded.removed.is_empty();
    command::run("modprobe", &[MODULE])?;
    let first = process.next_line(wait::SHORT)?.context("ctmon ended instead of starting")?;
    if let Line::Start(start) = Line::parse(&first)? {
        checks.equal("source", start.source.as_str(), "ebpf");
        checks.that(
            "hooks attached",
            start.hooks.iter().any(|hook| hook.attached_via.is_some()),
            &start.hooks,
        );
    } else {
        checks.that("the first line is the start record", false, &first);
    }
    let ended = process.end(wait::SHORT)?;
    checks.equal("exit code", ended.status.code(), Some(0));
    if absent {
        wait::until("nf_conntrack unloaded again", wait::SHORT, || unloaded.try_remove(MODULE))?;
        unloaded.removed.clear();
    }
    Ok(())
}
