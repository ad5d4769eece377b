//! How `ctmon watch` ends.

use anyhow::Result;
use rustix::process::Signal;

use super::{TRACK, expect_no_panic};
use crate::{
    checks::Checks,
    ctmon::{INTERVAL, complaints},
    process::Process,
    runner::{Env, Test},
    stage, wait,
};

pub(super) fn tests() -> Vec<Test> {
    let signal = |name, title, signal| {
        Test::new(name, title, move |env, checks| by_signal(env, checks, signal))
    };
    vec![
        signal("sigint-ends-with-0", "SIGINT ends ctmon with exit code 0", Signal::INT),
        signal("sigterm-ends-with-0", "SIGTERM ends ctmon with exit code 0", Signal::TERM),
        Test::new(
            "closed-pipe-ends-with-0",
            "A reader that goes away ends ctmon with exit code 0",
            closed_pipe,
        ),
        Test::new(
            "count-ends-with-0",
            "--count ends ctmon after so many ticks with exit code 0",
            count,
        ),
    ]
}

fn start(env: &Env, output: &str, more: &[&str]) -> Result<Process> {
    let process = Process::start(
        env,
        &[&["watch", "--interval", INTERVAL, "--output", output], more].concat(),
    )?;
    process.next_line(wait::SHORT)?;
    Ok(process)
}

fn by_signal(env: &Env, checks: &mut Checks, signal: Signal) -> Result<()> {
    stage::prepare(TRACK)?;
    for output in ["json", "text"] {
        let ended = start(env, output, &[])?.end_by(signal)?;
        checks.equal(&format!("{output}: exit code 0"), ended.status.code(), Some(0));
        let complaints = complaints(&ended.stderr, true);
        checks.equal(&format!("{output}: silence"), complaints.as_str(), "");
    }
    Ok(())
}

fn closed_pipe(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    for output in ["json", "text"] {
        let mut process = start(env, output, &[])?;
        process.close_stdout();
        let ended = process.end(wait::SHORT)?;
        checks.equal(&format!("{output}: exit code 0"), ended.status.code(), Some(0));
        let complaints = complaints(&ended.stderr, true);
        checks.equal(&format!("{output}: nothing on standard error"), complaints.as_str(), "");
        expect_no_panic(checks, output, &ended.stderr);
    }
    Ok(())
}

fn count(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let ended = start(env, "json", &["--count", "3"])?.end(wait::SHORT)?;
    let ticks = ended.stdout.lines().filter(|line| line.contains("\"kind\":\"tick\"")).count();
    checks.equal("ticks", ticks, 3);
    checks.equal("exit code 0", ended.status.code(), Some(0));
    Ok(())
}
