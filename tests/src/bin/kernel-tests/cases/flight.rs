//! The last minutes that `ctmon serve` keeps, and the files that they are written into.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Family, Plan, Protocol};
use rustix::process::Signal;
use serde_json::Value;

use super::{TRACK, expect_error, expect_no_panic};
use crate::{
    checks::Checks,
    command,
    kernel::{self, Limit},
    netns::Netns,
    process,
    report::{Line, Tick},
    runner::{Env, Test},
    served::{Served, hand_over},
    stage::{self, Running},
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "flight-recording-has-the-flood",
            "SIGUSR1 to `serve` under a flood writes the last seconds into a file; it begins in the middle, and replays to what the kernel counted",
            flood,
        ),
        Test::new(
            "flight-files-are-whole-or-not-there",
            "kill -9, a full disk, a read-only and a missing folder leave no broken file; serve goes on",
            broken,
        ),
    ]
}

/// Starts `ctmon serve` with a folder for its files.
fn serve(env: &Env, folder: &str, more: &[&str]) -> Result<Served> {
    Served::start(env, &[&["--flight-dir", folder, "--sample-ratio", "1"], more].concat())
}

/// The files in a folder that begin like one of ours, finished or not.
fn files(folder: &str) -> Result<Vec<PathBuf>> {
    let mut files = vec![];
    for entry in fs::read_dir(folder).with_context(|| folder.to_owned())? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.trim_start_matches('.').starts_with("ctmon-") {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Asks for a file and waits for it.
fn ask(serve: &mut Served, folder: &str) -> Result<PathBuf> {
    let before = files(folder)?;
    serve.process().signal(Signal::USR1)?;
    let what = format!("a file in {folder}");
    let found = wait::until(&what, wait::SHORT, || {
        let now = files(folder)?;
        let is_new = |path: &&PathBuf| {
            path.extension().is_some_and(|extension| extension == "mcap") && !before.contains(path)
        };
        Ok(now.iter().find(is_new).cloned())
    });
    found.with_context(|| serve.process().said())
}

/// A namespace in a line.
fn netns(line: &Value, inode: u64) -> Option<&Value> {
    line["netns"].as_array()?.iter().find(|netns| netns["inode"].as_u64() == Some(inode))
}

/// What is said of a namespace, without what a replay from the middle learns anew.
fn comparable(netns: &Value) -> Value {
    let mut netns = netns.clone();
    for name in ["forecast", "seconds_to_full_p50"] {
        netns[name].take();
    }
    netns
}

/// The ticks of a recording that is complete, as they are written and as they are read.
fn replay(env: &Env, checks: &mut Checks, file: &Path) -> Result<(Vec<Value>, Vec<Tick>)> {
    let path = file.to_str().context("a path")?;
    let ended = process::run(env, &["replay", path, "--speed", "max", "--output", "json"])?;
    checks.equal("replay: exit code", ended.status.code(), Some(0));
    checks.equal("replay: the file is whole", ended.stderr.as_str(), "");
    let (mut lines, mut ticks) = (vec![], vec![]);
    for line in ended.stdout.lines() {
        if let Line::Tick(tick) = serde_json::from_str(line).with_context(|| line.to_owned())? {
            lines.push(serde_json::from_str(line)?);
            ticks.push(tick);
        }
    }
    let first = ended.stdout.lines().next().unwrap_or_default();
    checks.that("it begins by saying of what", first.contains("\"kind\":\"start\""), first);
    Ok((lines, ticks))
}

fn flood(env: &Env, checks: &mut Checks) -> Result<()> {
    const MAX: i64 = 3000;
    stage::prepare(TRACK)?;
    let _max = Limit::max(&env.init, MAX)?;
    let inode = Netns::own()?.inode();
    let folder = "/tmp/flight";
    fs::create_dir_all(folder)?;
    hand_over(folder.as_ref())?;
    let half = format!("{folder}/.ctmon-flight-aB3xYz.tmp");
    fs::write(&half, "half")?;
    hand_over(half.as_ref())?;
    fs::write(format!("{folder}/ctmon.toml"), "")?;
    let mut serve = serve(env, folder, &["--flight-time", "10s", "--flight-files", "2"])?;
    checks.equal("what a killed one has left is removed", files(folder)?.len(), 0);
    // Settled, and a few ticks.
    std::thread::sleep(Duration::from_secs(1));
    let quiet = ask(&mut serve, folder)?;
    let (before, _) = replay(env, checks, &quiet)?;
    checks.that("ticks before the flood", !before.is_empty(), before.len());

    // Twice as long as is kept.
    let plan = Plan { rate: Some(400), ..Plan::new(Protocol::Udp, Family::Ipv4, 8_000) };
    let mut sender = Running::start("flood", plan, None);
    let mut told = BTreeMap::new();
    while sender.progress().sent() + sender.progress().refused() < 8_000 {
        let status = serve.json("/api/v1/status")?;
        if let Some(netns) = netns(&status, inode) {
            told.insert(status["time_ns"].as_i64(), comparable(netns));
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    let sent = sender.join(checks)?;
    std::thread::sleep(Duration::from_secs(1));
    let count = kernel::count()?;
    let stat = kernel::stat()?;
    let file = ask(&mut serve, folder)?;
    let (lines, ticks) = replay(env, checks, &file)?;
    let of = |tick: &Tick| tick.netns(inode).cloned();
    let (first, last) = (ticks.iter().find_map(of), ticks.iter().rev().find_map(of));
    let (Some(first), Some(last)) = (first, last) else {
        checks.that("the namespace is in it", false, ticks.len());
        return Ok(());
    };
    let mut same = 0;
    for tick in &lines {
        let Some(expected) = told.get(&tick["time_ns"].as_i64()) else { continue };
        let replayed = netns(tick, inode).map(comparable);
        checks.equal(
            "the namespace as the service told it then",
            replayed.as_ref(),
            Some(expected),
        );
        same += 1;
    }
    checks.that("ticks that the service told, too", same >= 10, (same, told.len()));
    let begun = first.total("inserts").unwrap_or(0);
    checks.that("it begins in the middle of the flood", begun > 0 && begun < 8000, begun);
    let all: Vec<_> = ticks.iter().filter_map(of).collect();
    checks.that(
        "entries are exact and the limit is known in every tick",
        all.iter().all(|netns| netns.entries.is_some() && netns.entries_limit == Some(MAX)),
        all.len(),
    );
    checks.equal("entries == the kernel's count", last.entries, Some(count));
    checks.equal("inserts == sent", last.total("inserts"), i64::try_from(sent.sent).ok());
    checks.equal(
        "table_full_drops == the kernel's drops",
        last.total("table_full_drops"),
        stat.get("drop").copied(),
    );
    checks.that("the table was full", all.iter().any(|netns| netns.entries == Some(MAX)), count);
    checks.equal("count_drift", last.count_drift, Some(0));
    let seconds =
        ticks.last().map_or(0, |tick| tick.time_ns) - ticks.first().map_or(0, |tick| tick.time_ns);
    checks.that(
        "ten seconds and a segment more",
        (9..=14).contains(&(seconds / 1_000_000_000)),
        seconds,
    );

    std::thread::sleep(Duration::from_secs(1));
    ask(&mut serve, folder)?;
    let left = files(folder)?;
    checks.that("two files, the oldest is gone", left.len() == 2 && !left.contains(&quiet), &left);
    let metrics = serve.metrics()?;
    let dumps =
        |outcome| metrics.value(&format!("ctmon_flight_dumps_total{{outcome=\"{outcome}\"}}"));
    checks.equal(
        "files written and failed",
        (dumps("written"), dumps("failed")),
        (Some(3.0), Some(0.0)),
    );
    let ended = serve.terminate()?;
    checks.equal("exit code", ended.status.code(), Some(0));
    expect_no_panic(checks, "serve", &ended.stderr);
    Ok(())
}

fn broken(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let folder = "/tmp/flight-killed";
    fs::create_dir_all(folder)?;
    hand_over(folder.as_ref())?;
    for round in 0..3 {
        let mut serve = serve(env, folder, &[])?;
        ask(&mut serve, folder)?;
        std::thread::sleep(Duration::from_millis(1100));
        serve.process().signal(Signal::USR1)?;
        // In the middle of it, or before, or after.
        std::thread::sleep(Duration::from_millis(90 * round));
        serve.process().signal(Signal::KILL)?;
        wait::until("its end", wait::SHORT, || Ok((!serve.process().is_running()?).then_some(())))?;
        for file in files(folder)? {
            if file.extension().is_some_and(|extension| extension == "mcap") {
                replay(env, checks, &file)?;
            }
        }
    }

    let (full, read_only, missing) = ("/tmp/flight-full", "/tmp/flight-ro", "/tmp/flight-missing");
    for (path, options) in [(full, "size=4k"), (read_only, "ro")] {
        fs::create_dir_all(path)?;
        command::run("mount", &["-t", "tmpfs", "-o", options, "none", path])?;
    }
    fs::write(format!("{full}/ballast"), [7; 4096])?;
    let cases = [(full, "No space left"), (read_only, "Read-only"), (missing, "No such file")];
    for (path, why) in cases {
        let mut serve = serve(env, path, &[])?;
        wait::until("the failure is said", wait::SHORT, || {
            serve.process().signal(Signal::USR1)?;
            std::thread::sleep(Duration::from_millis(300));
            let said = serve.process().stderr();
            Ok((said.contains("manual: the last minutes cannot be written") && said.contains(why))
                .then_some(()))
        })
        .with_context(|| serve.process().said())?;
        let said = serve.process().stderr();
        checks.that(&format!("{path}: it goes on"), serve.process().is_running()?, said);
        if path != missing {
            checks.equal(&format!("{path}: nothing is left"), files(path)?.len(), 0);
        }
        let ended = serve.terminate()?;
        checks.equal(&format!("{path}: exit code"), ended.status.code(), Some(0));
        expect_no_panic(checks, path, &ended.stderr);
    }
    for path in [full, read_only] {
        command::run("umount", &[path])?;
    }
    let small = ["serve", "--flight-dir", folder, "--flight-bytes", "1M"];
    let words = ["--flight-bytes", "--flight-memory"];
    expect_error(checks, "files without room", &process::run(env, &small)?, &words);
    Ok(())
}
