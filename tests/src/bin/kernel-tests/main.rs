//! The kernel tests: whether ctmon counts exactly what this kernel does.
//!
//! They run as root in a virtual machine that is theirs alone: they change the limits of connection
//! tracking, and unload its modules at the end. Some of them leave the machine as it is (`--anywhere`).

mod attempts;
mod cases;
mod checks;
mod command;
mod ctmon;
mod expression;
mod half;
mod holders;
mod kernel;
mod mounted;
mod netlink;
mod netns;
mod process;
mod report;
mod runner;
mod scenario;
mod served;
mod stage;
mod traced;
mod values;
mod wait;

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;

use crate::{
    netns::Netns,
    runner::{Env, How, Place, Test, say},
};

/// Tests ctmon on the running kernel, as root, in a virtual machine of its own.
///
/// Prints `kernel: RELEASE`, how each hook attached, a line a test (`ok NAME (1.2 s)`,
/// `FAILED NAME: what was expected and what was seen`, `skipped NAME: RELEASE: why`), and in the end
/// `N passed, N failed, N skipped`. Exit code 0: none failed. The environment variable CTMON names the
/// ctmon to test; by default it is the one on the PATH.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Only tests whose name contains one of these.
    #[arg(value_name = "FILTER")]
    filters: Vec<String>,
    /// List the tests instead of running them.
    #[arg(long)]
    list: bool,
    /// Let every ctmon leave this hook out (docs/exactness.md has their names). At least one test must then fail. Needs a ctmon built with the feature `fault-injection`.
    #[arg(long, value_name = "HOOK")]
    fault_without: Option<String>,
    /// Let every ctmon take the function that this hook is best attached to as inlined. Needs the feature `fault-injection`.
    #[arg(long, value_name = "HOOK")]
    fault_inlined: Vec<String>,
    /// How every ctmon is to attach: auto, fentry or kprobe. What cannot be told that way is not
    /// compared, and named in the result line.
    #[arg(long, value_name = "WAY")]
    attach: Option<String>,
    /// Only tests that leave the machine as it is: with this, they may run outside of a virtual machine, too.
    #[arg(long)]
    anywhere: bool,
    /// Leave out the tests of outputs, forecast, recordings, endings and `ctmon serve`, which tell little about the kernel.
    #[arg(long)]
    of_the_kernel: bool,
    /// Stop at the first failure.
    #[arg(long)]
    fail_fast: bool,
    /// Be a monitor in two halves instead, which says what it may: see the tests of `privilege`.
    #[arg(long, hide = true, value_enum)]
    half: Option<half::Half>,
    /// How long `serve-soak` goes on.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Runs of each test, one after the other.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    times: u64,
    /// Print the numbers that each scenario compared, too.
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.half {
        Some(half) => half::run(half).map(|()| true),
        None => run(&cli),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kernel-tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<bool> {
    let all = cases::all()?;
    let wanted = |test: &&Test| {
        let named = |filter: &String| {
            if test.on_demand { test.name == filter } else { test.name.contains(filter.as_str()) }
        };
        let chosen = cli.filters.iter().any(named)
            || (cli.filters.is_empty() && (!test.on_demand || cli.list));
        chosen && (test.anywhere || !cli.anywhere)
    };
    let left_out = |test: &&Test| cli.of_the_kernel && test.of_ctmon;
    let mut tests: Vec<&Test> = all.iter().filter(wanted).filter(|test| !left_out(test)).collect();
    ensure!(!tests.is_empty(), "no test has a name with {}: see --list", cli.filters.join(" or "));
    if cli.list {
        for test in tests {
            let when = if test.on_demand { " (on demand: by its whole name)" } else { "" };
            say(&format!("{}: {}{when}", test.name, test.title))?;
            for line in test.shows.lines() {
                say(&format!("    {line}"))?;
            }
        }
        return Ok(true);
    }

    let env = Env {
        init: Netns::own().context("no network namespace to start from")?.into(),
        ctmon: runner::find_ctmon()?,
        fault_without: cli.fault_without.clone(),
        fault_inlined: cli.fault_inlined.clone(),
        attach: cli.attach.clone(),
        soak: Duration::from_secs(60 * cli.minutes),
        skipped: Arc::default(),
    };
    say(&format!("kernel: {}", kernel::release()))?;
    if kernel::count().is_ok() {
        runner::introduce(&env)?;
    } else {
        say(
            "hooks: none attached: nf_conntrack is not loaded; only tests that need it absent are run",
        )?;
        tests.retain(|test| test.place == Place::WithoutConntrack);
    }
    let tests: Vec<&Test> = (0..cli.times).flat_map(|_| tests.iter().copied()).collect();
    let how = How { fail_fast: cli.fail_fast, verbose: cli.verbose };
    Ok(runner::run(&env, &tests, how)?.failed == 0)
}
