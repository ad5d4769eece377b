//! What is said of the future of a table by its exit code.

use anyhow::Result;
use conntrack_tests::traffic::{Family, Plan, Protocol};

use super::{TRACK, expect_no_panic};
use crate::{
    checks::Checks,
    command,
    kernel::Limit,
    process,
    runner::{Env, Test},
    stage::{self, Running},
};

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "status-full-within",
        "status --full-within ends with 0 for a quiet table, and with 2 for one that fills",
        full_within,
    )]
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
