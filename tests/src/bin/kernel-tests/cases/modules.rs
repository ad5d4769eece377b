//! Without nf_conntrack.

use std::{collections::BTreeSet, thread, time::Duration};

use anyhow::{Context as _, Result};

use super::expect_error;
use crate::{
    checks::{Checks, Skip},
    command, kernel,
    process::{self, Process},
    report::Line,
    runner::{Env, Place, Test},
    wait,
};

const MODULE: &str = "nf_conntrack";

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
    ]
}

/// nf_conntrack and all that needs it unloaded; loaded again when this is dropped.
pub(super) struct Unloaded {
    removed: BTreeSet<String>,
}

impl Unloaded {
    pub(super) fn new() -> Result<Self> {
        let modules = kernel::modules()?;
        if !modules.contains_key(MODULE) && kernel::count().is_ok() {
            return Err(Skip(
                "nf_conntrack is built into this kernel and cannot be absent".to_owned(),
            )
            .into());
        }
        let mut unloaded = Self { removed: BTreeSet::new() };
        // Programs of a ctmon before, and rules of namespaces before, hold the modules a moment longer.
        wait::until("nf_conntrack unloaded", wait::SHORT, || unloaded.try_remove(MODULE))?;
        Ok(unloaded)
    }

    /// Removes what uses the module, then the module.
    fn try_remove(&mut self, module: &str) -> Result<Option<()>> {
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
        for module in &self.removed {
            if let Err(error) = command::run("modprobe", &[module]) {
                eprintln!("kernel-tests: later tests run without {module}: {error:#}");
            }
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
