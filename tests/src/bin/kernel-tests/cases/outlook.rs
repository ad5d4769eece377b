//! What is said of the future of a table, and what then happens.

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Family, Plan, Protocol};

use super::{TRACK, expect_no_panic};
use crate::{
    checks::Checks,
    command,
    ctmon::Watch,
    kernel::Limit,
    netns::Netns,
    process,
    report::Forecast,
    runner::{Env, Test},
    stage::{self, Running},
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "forecast-comes-true",
            "The time to full that is told of a flood is that after which the table is full, and it is said why",
            comes_true,
        ),
        Test::new(
            "status-full-within",
            "status --full-within ends with 0 for a quiet table, and with 2 for one that fills",
            full_within,
        ),
    ]
}

/// Entries that the table may have, and new ones a second.
const MAX: i64 = 8_000;
const RATE: u32 = 500;

/// A flood that goes on for so many seconds.
fn flood(seconds: u64) -> Running {
    let flows = seconds * u64::from(RATE);
    let plan = Plan { rate: Some(RATE), ..Plan::new(Protocol::Udp, Family::Ipv4, flows) };
    Running::start("udp", plan, None)
}

fn comes_true(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let _max = Limit::max(&env.init, MAX)?;
    let inode = Netns::own()?.inode();
    let mut watch = Watch::start(env, &[])?;
    watch.baseline(inode)?;
    let mut traffic = flood(20);
    // (seconds, entries, what was said)
    let mut ticks: Vec<(f64, i64, Forecast)> = Vec::new();
    let full_at = loop {
        let tick = watch.next_tick()?;
        let netns = tick.netns(inode).context("the namespace is gone")?;
        let (seconds, entries) = (tick.time_ns as f64 / 1e9, netns.entries.unwrap_or(0));
        if entries >= MAX * 99 / 100 {
            break seconds;
        }
        ticks.push((seconds, entries, netns.forecast.clone()));
    };
    traffic.progress().stop();
    traffic.join(checks)?;
    let part = |part: i64| MAX * part / 100;
    let halfway = ticks.iter().filter(|(_, entries, _)| (part(30)..part(80)).contains(entries));
    let mut said = 0;
    for (at, entries, forecast) in halfway {
        said += 1;
        let left = full_at - at;
        let median = forecast.time_to_full("p50").unwrap_or(f64::INFINITY);
        checks.that(
            &format!("at {entries} entries, {left:.1} s before it was full: the time to full"),
            (median - left).abs() <= 0.3 * left + 0.5,
            forecast,
        );
        checks.equal("state", forecast.state.as_str(), "filling");
        checks.that("a reason", !forecast.reason.is_empty(), forecast);
        checks.that(
            "full within 1 m is likely",
            forecast.full_within.as_ref().is_some_and(|within| within["1m"] > 0.5),
            forecast,
        );
    }
    checks.that("ticks on the way", said > 10, said);
    let timeouts = ticks.iter().filter(|(.., forecast)| !forecast.timeouts_known).count();
    checks.equal("ticks without timeouts", timeouts, 0);
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}

fn full_within(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    // Counts alone tell nothing for 15 s: the table is not to be full before, also where ctmon starts slowly.
    let _max = Limit::max(&env.init, 5 * MAX)?;
    let expect = |checks: &mut Checks, source: &str, code: i32, word: &str| -> Result<()> {
        let arguments = [
            "status",
            "--netns",
            "self",
            "--source",
            source,
            "--full-within",
            "10m",
            "--crit",
            "100",
        ];
        let what = arguments.join(" ");
        let ended = process::run(env, &arguments)?;
        checks.equal(&format!("{what}: exit code"), ended.status.code(), Some(code));
        checks.that(&format!("{what}: {word}"), ended.stdout.contains(word), &ended.stdout);
        expect_no_panic(checks, &what, &ended.stderr);
        Ok(())
    };
    expect(checks, "auto", 0, "steady")?;
    let traffic = flood(60);
    expect(checks, "auto", 2, "likely to be full within 10 min")?;
    drop(traffic);
    command::flush()?;
    let _traffic = flood(60);
    expect(checks, "procfs", 2, "likely to be full within 10 min")?;
    Ok(())
}
