//! Without root.

use anyhow::{Context as _, Result};

use super::{TRACK, expect_error, expect_no_panic};
use crate::{
    checks::Checks,
    process::Process,
    report::Line,
    runner::{Env, Test},
    stage, wait,
};

pub(super) const NOBODY: u32 = 65_534;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "no-root-ebpf-is-an-error",
            "Without root --source ebpf says what it lacks",
            ebpf,
        ),
        Test::new(
            "no-root-auto-polls-procfs",
            "Without root --source auto polls procfs and says which answers are lost",
            auto,
        ),
    ]
}

fn ebpf(env: &Env, checks: &mut Checks) -> Result<()> {
    for arguments in [&["watch", "--source", "ebpf"], &["status", "--source", "ebpf"]] {
        let ended = Process::start_as(env, arguments, Some(NOBODY))?.end(wait::SHORT)?;
        expect_error(checks, &arguments.join(" "), &ended, &["root"]);
    }
    Ok(())
}

fn auto(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let arguments =
        ["watch", "--netns", "self", "--output", "json", "--interval", "100ms", "--count", "3"];
    let ended = Process::start_as(env, &arguments, Some(NOBODY))?.end(wait::SHORT)?;
    checks.equal("exit code", ended.status.code(), Some(0));
    expect_no_panic(checks, "no root", &ended.stderr);
    let lines = ended.stdout.lines().map(Line::parse).collect::<Result<Vec<_>>>()?;
    let Some(Line::Start(start)) = lines.first() else {
        anyhow::bail!("the first line is no start record: {:?}", ended.stdout);
    };
    checks.equal("source", start.source.as_str(), "procfs");
    checks.that("lost answers are listed", !start.unavailable.is_empty(), &start.unavailable);
    let tick = lines
        .iter()
        .rev()
        .find_map(|line| if let Line::Tick(tick) = line { Some(tick) } else { None });
    let netns = tick.and_then(|tick| tick.netns.first()).context("no tick with a namespace")?;
    checks.equal("entries", netns.entries, Some(0));
    checks.that(
        "no insert count out of thin air",
        netns.total("inserts").is_none(),
        netns.total("inserts"),
    );
    Ok(())
}
