//! `ctmon serve` started as root and as a user: what each half has.

use std::{fs, os::unix::fs::MetadataExt as _, process::Command, thread};

use anyhow::{Context as _, Result, anyhow};
use rustix::{
    process::Pid,
    thread::{CapabilitySet, capabilities, set_capabilities},
};

use super::{
    TRACK,
    capabilities::without,
    expect_no_panic,
    kill::none_loaded,
    privilege::{HELPER, serving, status},
};
use crate::{
    checks::Checks,
    process::Process,
    runner::{Env, Test},
    served::{Served, as_user},
    stage,
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "serve-in-both-shapes",
            "User, capabilities and filters of both halves are those of docs/security.md, started as root and as a user",
            both_shapes,
        ),
        Test::new(
            "serve-cannot-leave-root",
            "Without CAP_SETUID serve counts as root, and the log and the status say that it stays root",
            stays_root,
        ),
        Test::new(
            "serve-is-not-dumpable",
            "Root without CAP_SYS_PTRACE looks into the memory of neither half",
            not_dumpable,
        ),
    ]
}

/// Document with a table of both halves in both shapes.
const DOCUMENT: &str = include_str!("../../../../../docs/security.md");
/// Columns of that table besides the shape and the half.
const COLUMNS: [&str; 9] =
    ["Uid", "Gid", "CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd", "NoNewPrivs", "Seccomp"];

/// A row of the table: as `/proc/PID/status` has it.
fn row(shape: &str, half: &str, process: Pid) -> Result<String> {
    let status = status(process)?;
    let mut row = format!("| {shape} | {half} |");
    for column in COLUMNS {
        let value = status.get(column).with_context(|| format!("no {column}"))?;
        // All four of a user and a group are the same, or they are shown.
        let mut words: Vec<&str> = value.split_whitespace().collect();
        words.dedup();
        let text = words.join(" ");
        let text = if column.starts_with("Cap") { text.trim_start_matches('0') } else { &*text };
        row += &format!(" {} |", if text.is_empty() { "0" } else { text });
    }
    // Files of a process that is not dumpable belong to root; of root's this tells nothing.
    let owner = fs::metadata(format!("/proc/{}/status", process.as_raw_nonzero()))?.uid();
    let is_dumpable = owner != 0;
    Ok(row + if is_dumpable { " yes |" } else { " no |" })
}

fn both_shapes(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let mut rows = Vec::new();
    for shape in ["root", "user"] {
        none_loaded()?;
        let mut served = Served::start_by(env, &[], |command| {
            if shape == "user" {
                as_user(command, HELPER);
            }
        })?;
        served.until_ready()?;
        let helper = served.helper()?;
        rows.push(row(shape, "serving", served.process().id()?)?);
        rows.push(row(shape, "helper", helper)?);
        let source = served.json("/api/v1/status")?["source"].as_str().map(str::to_owned);
        checks.equal(&format!("source as {shape}"), source.as_deref(), Some("ebpf"));
        let ended = served.terminate()?;
        checks.equal(&format!("exit code as {shape}"), ended.status.code(), Some(0));
        expect_no_panic(checks, shape, &ended.stderr);
    }
    for row in rows {
        // Before 5.19 bpf(2) takes it, where it is not for everybody.
        let kept = format!("| {:x} | {:x} |", serving(), serving());
        let row =
            if row.contains("| serving |") { row.replacen(&kept, "| 0 | 0 |", 1) } else { row };
        checks.that("docs/security.md has it", DOCUMENT.contains(&row), &row);
        checks.note(row);
    }
    none_loaded()
}

fn stays_root(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let mut served = without(CapabilitySet::SETUID, || Served::start(env, &[]))?;
    let uid = status(served.process().id()?)?.remove("Uid");
    checks.equal("user", uid.as_deref(), Some("0\t0\t0\t0"));
    let said = served.said();
    let lines =
        said.lines().filter(|line| line.contains(" warning the half that serves stays root"));
    checks.equal("lines about it", lines.count(), 1);
    let unavailable = served.json("/api/v1/status")?["unavailable"].to_string();
    for words in ["a user other than root", "CAP_SETUID is missing"] {
        checks.that(
            &format!("the status has {words:?}"),
            unavailable.contains(words),
            &unavailable,
        );
    }
    let ended = served.terminate()?;
    checks.equal("exit code", ended.status.code(), Some(0));
    expect_no_panic(checks, "serve", &ended.stderr);
    none_loaded()
}

fn not_dumpable(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    // Whoever traces needs all the capabilities of the other: none of both has CAP_SYS_PTRACE.
    let mut served = without(CapabilitySet::SYS_PTRACE, || Served::start(env, &[]))?;
    let sleep = without(CapabilitySet::SYS_PTRACE, || {
        let mut command = Command::new("sleep");
        command.arg("100");
        Process::spawn(command, "sleep".to_owned())
    })?;
    let (serving, helper) = (served.process().id()?, served.helper()?);
    let look = |process: Pid| fs::read_link(format!("/proc/{}/exe", process.as_raw_nonzero()));
    let sleep_id = sleep.id()?;
    let outcomes = thread::scope(|scope| {
        let looks = scope.spawn(|| -> Result<_> {
            let mut sets = capabilities(None)?;
            sets.effective.remove(CapabilitySet::SYS_PTRACE);
            set_capabilities(None, sets)?;
            Ok([sleep_id, serving, helper].map(|process| look(process).is_ok()))
        });
        looks.join().map_err(|_| anyhow!("the thread panicked"))?
    })?;
    checks.equal(
        "looks into another one of root, the serving half, the helper",
        outcomes,
        [true, false, false],
    );
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    Ok(())
}
