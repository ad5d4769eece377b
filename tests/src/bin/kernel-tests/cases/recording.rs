//! Recordings of the running kernel, and what they give back.

use std::{fs, os::unix::process::ExitStatusExt as _, path::Path};

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Family, Plan, Protocol};
use rustix::process::Signal;
use serde_json::Value;

use super::{TRACK, expect_error, expect_no_panic};
use crate::{
    checks::Checks,
    command,
    ctmon::INTERVAL,
    process::{self, Process},
    runner::{Env, Test},
    stage::{self, Running},
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "recording-replays-to-the-same-bytes",
            "A replay prints, byte for byte, the JSON and the text that the live run printed",
            same_bytes,
        ),
        Test::new(
            "recording-is-readable-after-kill-9",
            "A recording can be replayed while it is written and after kill -9, up to the last second",
            killed,
        ),
        Test::new(
            "recording-ends-as-asked",
            "--for, --max-size and SIGTERM end a recording completely; a full disk and an existing file are errors",
            endings,
        ),
    ]
}

fn flows() -> Running {
    let plan = Plan { rate: Some(1000), ..Plan::new(Protocol::Udp, Family::Ipv4, 3000) };
    Running::start("udp", plan, None)
}

fn same_bytes(env: &Env, checks: &mut Checks) -> Result<()> {
    for format in ["json", "text"] {
        stage::prepare(TRACK)?;
        let file = format!("/tmp/same-{format}.mcap");
        let arguments = ["--output", format, "--interval", INTERVAL, "--all"];
        let all =
            [&["watch", "--record", &file, "--force", "--count", "40"], &arguments[..]].concat();
        let watch = Process::start(env, &all)?;
        let mut traffic = flows();
        traffic.join(checks)?;
        command::flush()?;
        let live = watch.end(wait::LONG)?;
        checks.equal(&format!("{format}: live: exit code"), live.status.code(), Some(0));
        let replay = ["replay", &file, "--speed", "max", "--output", format];
        let replayed = process::run(env, &replay)?;
        checks.equal(&format!("{format}: replay: exit code"), replayed.status.code(), Some(0));
        checks.equal(
            &format!("{format}: replay: nothing to complain about"),
            &*replayed.stderr,
            "",
        );
        let lines = live.stdout.lines().count();
        checks.that(&format!("{format}: 40 ticks and more were printed"), lines >= 40, lines);
        let differs = live.stdout.lines().zip(replayed.stdout.lines()).find(|(a, b)| a != b);
        let differs = differs.map(|(live, replayed)| difference(live, replayed));
        checks.that(&format!("{format}: the same lines"), differs.is_none(), differs);
        let same = live.stdout == replayed.stdout;
        checks.that(&format!("{format}: the same bytes"), same, replayed.stdout.len());
    }
    Ok(())
}

/// What differs first in two lines: of JSON the member, with both values.
fn difference(live: &str, replayed: &str) -> String {
    fn of(path: &str, live: &Value, replayed: &Value) -> Option<String> {
        match (live, replayed) {
            _ if live == replayed => None,
            (Value::Object(one), Value::Object(other)) => one
                .keys()
                .chain(other.keys())
                .find_map(|key| of(&format!("{path}.{key}"), &live[key], &replayed[key])),
            (Value::Array(one), Value::Array(other)) if one.len() == other.len() => one
                .iter()
                .zip(other)
                .enumerate()
                .find_map(|(at, (one, other))| of(&format!("{path}[{at}]"), one, other)),
            _ => Some(format!("{path}: {live} != {replayed}")),
        }
    }
    let parsed = |line| serde_json::from_str::<Value>(line).ok();
    let member = parsed(live).zip(parsed(replayed)).and_then(|(a, b)| of("", &a, &b));
    member.unwrap_or_else(|| format!("{live} != {replayed}"))
}

fn replay(env: &Env, file: &str) -> Result<(process::Ended, u64, i64)> {
    let ended = process::run(env, &["replay", file, "--speed", "max", "--output", "json"])?;
    let (mut ticks, mut most) = (0, 0);
    for line in ended.stdout.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        ticks += u64::from(line["kind"] == "tick");
        for netns in line["netns"].as_array().into_iter().flatten() {
            most = most.max(netns["totals"]["inserts"].as_i64().unwrap_or(0));
        }
    }
    Ok((ended, ticks, most))
}

fn killed(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let file = "/tmp/killed.mcap";
    let record = Process::start(env, &["record", file, "--interval", INTERVAL])?;
    // What is in the file while it is written.
    wait::until("ten ticks in the file", wait::SHORT, || {
        if !Path::new(file).exists() {
            return Ok(None);
        }
        let (ended, ticks, _) = replay(env, file)?;
        if ticks >= 10 {
            checks.that("it has no end yet", ended.stderr.contains("no end"), &ended.stderr);
            return Ok(Some(()));
        }
        Ok(None)
    })?;
    flows().join(checks)?;
    // A second of the recording is in memory at the most.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let ended = record.end_by(Signal::KILL)?;
    checks.equal("killed", ended.status.signal(), Some(9));
    let (ended, ticks, inserts) = replay(env, file)?;
    checks.equal("exit code of the replay", ended.status.code(), Some(0));
    checks.that("it says that there is no end", ended.stderr.contains("no end"), &ended.stderr);
    checks.that("ticks", ticks > 20, ticks);
    checks.that("every insert is in it", inserts >= 3000, (inserts, ticks, &ended.stderr));
    expect_no_panic(checks, "replay", &ended.stderr);
    Ok(())
}

fn endings(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let file = "/tmp/endings.mcap";
    let fast = ["--interval", "10ms"];
    let run = |arguments: &[&str]| process::run(env, &[arguments, &fast].concat());
    let ended = run(&["record", file, "--for", "1s"])?;
    checks.equal("--for: exit code", ended.status.code(), Some(0));
    checks.that("--for: a summary", ended.stderr.contains("recorded 1s: "), &ended.stderr);
    let (ended, ticks, _) = replay(env, file)?;
    checks.equal("--for: the file is complete", ended.stderr.as_str(), "");
    checks.that("--for: ticks", (50..=100).contains(&ticks), ticks);

    expect_error(checks, "existing", &run(&["record", file])?, &["there already", "--force"]);

    let ended = run(&["record", file, "--force", "--max-size", "20K"])?;
    checks.equal("--max-size: exit code", ended.status.code(), Some(0));
    checks.that("--max-size: said", ended.stderr.contains("--max-size is reached"), &ended.stderr);
    let size = fs::metadata(file).context("the recording")?.len();
    checks.that("--max-size: kept", size <= 20_000, size);
    let (ended, ticks, _) = replay(env, file)?;
    checks.equal("--max-size: the file is complete", ended.stderr.as_str(), "");
    checks.that("--max-size: ticks", ticks > 10, ticks);

    let ended = run(&["record", "/dev/full", "--force"])?;
    expect_error(checks, "disk full", &ended, &["/dev/full", "no space left"]);

    fs::remove_file(file).context("the recording")?;
    let record = Process::start(env, &["record", file, "--interval", INTERVAL])?;
    wait::until("a chunk", wait::SHORT, || {
        Ok(fs::metadata(file).is_ok_and(|file| file.len() > 1000).then_some(()))
    })?;
    let ended = record.end_by(Signal::TERM)?;
    checks.equal("SIGTERM: exit code", ended.status.code(), Some(0));
    let (ended, ..) = replay(env, file)?;
    checks.equal("SIGTERM: the file is complete", ended.stderr.as_str(), "");
    Ok(())
}
