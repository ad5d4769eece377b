//! What `ctmon serve` warns of, and whom it tells.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Family, Plan, Protocol};
use rustix::process::Signal;
use serde_json::Value;

use super::{TRACK, causes};
use crate::{
    checks::Checks,
    kernel::{self, Limit},
    netns::Netns,
    runner::{Env, Test},
    served::{self, Served},
    stage::{self, Running},
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "serve-warns-before-it-is-full",
            "A table that fills is critical before it is full, in metrics, the log and for a command, in the same words",
            warns,
        ),
        Test::new(
            "serve-takes-thresholds-while-it-runs",
            "After SIGHUP tables are judged by the file as it is now, and as before where that is wrong",
            reloads,
        ),
    ]
}

/// Entries that the table may have, and new ones a second: it is full after 24 s.
const MAX: i64 = 12_000;
const RATE: u32 = 500;

fn warns(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let _max = Limit::max(&env.init, MAX)?;
    let folder = served::folder()?;
    let told = folder.path().join("told");
    let words = ["/bin/sh", "-c", "cat >>\"$0\"", told.to_str().context("a strange folder")?];
    let command = words.map(|word| format!("--notify.command={word}"));
    let writes = folder.path().to_str().context("a strange folder")?;
    let mut arguments = vec!["--log-format", "json", "--notify.command-writes", writes];
    arguments.extend(command.iter().map(String::as_str));
    let served = Served::start(env, &arguments)?;
    let level = || anyhow::Ok(served.metrics()?.of("ctmon_severity", own));
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
    checks.equal("severity in the log", logged["severity"].as_str(), Some("critical"));
    checks.equal("the same for the command", heard["message"].as_str(), logged["message"].as_str());
    let conditions: BTreeSet<&str> =
        logged["conditions"].as_str().unwrap_or_default().split(',').collect();
    checks.that("it is the forecast that warns", conditions.contains("full_soon"), &conditions);
    let reason = logged["message"].as_str().unwrap_or_default();
    for word in [&format!("netns {own}"), "of 12,000", "full in "] {
        checks.that(&format!("the reason has {word:?}"), reason.contains(word), reason);
    }
    let left = logged["seconds_to_full_p50"].as_f64();
    checks.that("the time left is told", left.is_some_and(|left| left > 0.0), left);
    Ok(())
}

/// Only the fill warns.
const FILL: &str = "warn.hold = \"1h\"\nwarn.quiet = \"1s\"\n";

fn reloads(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let _max = Limit::max(&env.init, 1_000)?;
    let folder = served::folder()?;
    let file = folder.path().join("ctmon.toml");
    fs::write(&file, FILL)?;
    let mut served = Served::start(env, &["--config", file.to_str().context("a strange folder")?])?;
    causes::send(checks, causes::udp(600))?;
    let level = |served: &Served| anyhow::Ok(served.metrics()?.of("ctmon_severity", own));
    let until = |served: &Served, expected: f64| {
        wait::until(&format!("level {expected}"), wait::SHORT, || {
            Ok((level(served)? == Some(expected)).then_some(()))
        })
    };
    wait::until("entries", wait::SHORT, || {
        Ok((served.metrics()?.of("ctmon_entries", own) == Some(600.0)).then_some(()))
    })?;
    checks.equal("level at 60 %", level(&served)?, Some(0.0));

    let lower = "warn.warning-fill = 0.5\nwarn.warning-fill-clear = 0.4\n";
    let said = reload(&mut served, &file, &format!("{lower}metrics-netns = 7\n"))?;
    let expected = "the settings were read again; in force now: warn.warning-fill, warn.warning-fill-clear; it takes a \
                    restart to change metrics-netns";
    checks.equal("what changed", said.as_str(), expected);
    until(&served, 1.0)?;

    let wrong = "node = \"other\"\nwarn.warning-fill = 0.7\nwarn.warning-fill-clear = 0.8\n";
    let said = reload(&mut served, &file, wrong)?;
    let expected = format!(
        "{}:5: warn.warning-fill-clear = 0.8: more than 0 and at most warn.warning-fill, which is 0.7; all stays as it \
         was",
        file.display()
    );
    checks.equal("what is wrong", said.as_str(), expected.as_str());
    // Which no longer says so where it has taken the file in.
    let said = reload(&mut served, &file, lower)?;
    let expected = "the settings were read again, and are as they were";
    checks.equal("settings after that", said.as_str(), expected);
    checks.equal("level after that", level(&served)?, Some(1.0));

    // It would not be raised any more, and stays until it is cleared.
    let higher = "warn.warning-fill = 0.9\nwarn.warning-fill-clear = 0.4\n";
    let said = reload(&mut served, &file, &format!("{higher}log-format = \"json\"\n"))?;
    let expected = "the settings were read again; in force now: log-format, warn.warning-fill";
    checks.that("the log is in JSON", said.starts_with(&format!("{expected}\"")), &said);
    let ticks = || anyhow::Ok(served.metrics()?.value("ctmon_ticks_total"));
    let before = ticks()?;
    wait::until("a second of ticks", wait::SHORT, || {
        Ok((ticks()? > before.map(|before| before + 20.0)).then_some(()))
    })?;
    checks.equal("level below what raises it", level(&served)?, Some(1.0));
    reload(&mut served, &file, "")?;
    until(&served, 0.0)?;
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    Ok(())
}

/// What is said after SIGHUP of a settings file that has `text`.
fn reload(served: &mut Served, file: &Path, text: &str) -> Result<String> {
    fs::write(file, format!("{FILL}{text}"))?;
    let before = served.said().len();
    served.process().signal(Signal::HUP)?;
    wait::until("what came of SIGHUP", wait::SHORT, || {
        let said = served.said();
        let new = said.get(before..).and_then(|new| Some(new.split_once("SIGHUP: ")?.1));
        Ok(new.and_then(|new| new.split_once('\n')).map(|(line, _)| line.to_owned()))
    })
}

/// The changes of a namespace among lines of JSON.
fn changes(lines: &str, netns: u64) -> Vec<Value> {
    let objects = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    objects.filter(|line| line["kind"] == "warning" && line["netns_inode"] == netns).collect()
}
