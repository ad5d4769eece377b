//! What `ctmon serve` warns of, and whom it tells.

use std::{collections::BTreeSet, fs};

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Family, Plan, Protocol};
use serde_json::Value;

use super::TRACK;
use crate::{
    checks::Checks,
    kernel::{self, Limit},
    netns::Netns,
    runner::{Env, Test},
    served::Served,
    stage::{self, Running},
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "serve-warns-before-it-is-full",
        "A table that fills is critical before it is full, in metrics, the log and for a command, in the same words",
        warns,
    )]
}

/// Entries that the table may have, and new ones a second: it is full after 24 s.
const MAX: i64 = 12_000;
const RATE: u32 = 500;

fn warns(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let _max = Limit::max(&env.init, MAX)?;
    let folder = tempfile::tempdir()?;
    let told = folder.path().join("told");
    let words = ["/bin/sh", "-c", "cat >>\"$0\"", told.to_str().context("a strange folder")?];
    let command = words.map(|word| format!("--notify.command={word}"));
    let writes = folder.path().to_str().context("a strange folder")?;
    let mut arguments = vec!["--log-format", "json", "--notify.command-writes", writes];
    arguments.extend(command.iter().map(String::as_str));
    let served = Served::start(env, &arguments)?;
    let level = || anyhow::Ok(served.metrics()?.of("ctmon_warning_state", own));
    wait::until("a level", wait::SHORT, || Ok((level()? == Some(0.0)).then_some(())))?;

    let plan = Plan { rate: Some(RATE), ..Plan::new(Protocol::Udp, Family::Ipv4, 30_000) };
    let traffic = Running::start("udp", plan, None);
    wait::until("critical", wait::SHORT, || Ok((level()? == Some(2.0)).then_some(())))?;
    let entries = kernel::count()?;
    checks.that("it is critical before it is full", entries < MAX, entries);
    wait::until("what the command was told", wait::SHORT, || {
        Ok(fs::read_to_string(&told).is_ok_and(|text| text.ends_with('\n')).then_some(()))
    })?;
    drop(traffic);
    let ended = served.terminate()?;
    checks.equal("exit code", ended.status.code(), Some(0));

    let logged = changes(&ended.stderr, own);
    let heard = changes(&fs::read_to_string(&told)?, own);
    let (Some(logged), Some(heard)) = (logged.last(), heard.last()) else {
        checks.that("a change in the log, and for the command", false, (logged, heard));
        return Ok(());
    };
    checks.equal("level in the log", logged["state"].as_str(), Some("critical"));
    checks.equal("the same for the command", heard["reason"].as_str(), logged["message"].as_str());
    let signs: BTreeSet<&str> = logged["signs"].as_str().unwrap_or_default().split(',').collect();
    checks.that("it is the forecast that warns", signs.contains("full_soon"), &signs);
    let reason = logged["message"].as_str().unwrap_or_default();
    for word in [&format!("netns {own}"), "of 12,000", "full in "] {
        checks.that(&format!("the reason has {word:?}"), reason.contains(word), reason);
    }
    let left = logged["seconds_to_full_p50"].as_f64();
    checks.that("the time left is told", left.is_some_and(|left| left > 0.0), left);
    Ok(())
}

/// The changes of a namespace among lines of JSON.
fn changes(lines: &str, netns: u64) -> Vec<Value> {
    let objects = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    objects.filter(|line| line["kind"] == "warning" && line["netns"] == netns).collect()
}
