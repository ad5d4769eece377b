//! Measures what monitors cost while a table fills, side by side: `cargo xtask bench` starts it in a VM.

mod case;
mod tool;
mod usage;

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use conntrack_tests::{
    bench::{HookTime, Outcome, Record, Run},
    traffic::{self, Family, Plan, Progress, Protocol, Sockets},
};

use crate::{
    case::Case,
    tool::{Seen, Tool},
};

/// Opens new flows beside each of several monitors in turn, and prints a JSON object a measurement.
///
/// Runs as root in a machine of its own, in which a rule makes connection tracking necessary and the
/// table has room for the flows: it empties the table again and again.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// New flows in each measurement: UDP, from one sender.
    #[arg(long, value_name = "N", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..))]
    flows: u64,
    /// Measurements of each monitor: all one after the other, then in the opposite order, and so on.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Also with one hook of ctmon left out at a time; takes a build with the feature `fault-injection`.
    #[arg(long)]
    hooks: bool,
    /// Only the monitors with these names; that without any is always measured.
    #[arg(value_name = "NAME")]
    only: Vec<String>,
}

/// For what is still under way before and after the flows.
const SETTLE: Duration = Duration::from_millis(300);

/// The CPU that the sender runs on.
const SENDER: usize = 0;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ctmon-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    let named = |case: &Case| {
        let name = case.name.as_str();
        name == case::NOTHING || cli.only.is_empty() || cli.only.iter().any(|only| only == name)
    };
    let all: Vec<Case> = case::all(cli.hooks).into_iter().filter(named).collect();
    // The first flows after the start pay for memory that later ones find.
    for case in all.iter().filter(|case| case.name == case::NOTHING) {
        measure(case, cli.flows)?;
    }
    for round in 0..cli.rounds {
        let mut order: Vec<&Case> = all.iter().filter(|case| round == 0 || !case.once).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for case in order {
            let outcome = match measure(case, cli.flows) {
                Ok(run) => Outcome::Measured(run),
                Err(error) => Outcome::Unavailable(format!("{error:#}")),
            };
            let record = Record { case: case.name.clone(), round, flows: cli.flows, outcome };
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", serde_json::to_string(&record)?)?;
            out.flush()?;
        }
    }
    Ok(())
}

/// One measurement: the monitor is started, flows are opened and flushed, the monitor is ended.
fn measure(case: &Case, flows: u64) -> Result<Run> {
    flush()?;
    let mut tool = Tool::start(case)?;
    thread::sleep(SETTLE);
    let before = tool.usage()?;
    let (seconds, sockets) = send(flows)?;
    thread::sleep(SETTLE);
    let after = tool.usage()?;
    let began = Instant::now();
    flush()?;
    let flush_seconds = began.elapsed().as_secs_f64();
    drop(sockets);
    thread::sleep(SETTLE);
    let Seen { seen, hooks } = tool.end()?;
    Ok(Run {
        seconds,
        flush_seconds,
        cpu_ns: after.cpu_ns.saturating_sub(before.cpu_ns),
        resident_kib: after.resident_kib,
        seen,
        hooks: hooks
            .into_iter()
            .map(|(hook, count, time_ns)| HookTime { hook, count, time_ns })
            .collect(),
    })
}

/// Opens `flows` flows, and returns how long that took in seconds.
fn send(flows: u64) -> Result<(f64, Sockets)> {
    let mut plan = Plan::new(Protocol::Udp, Family::Ipv4, flows);
    plan.cpu = Some(SENDER);
    let progress = Progress::default();
    // A thread of its own: the monitors are not to inherit its CPU.
    let sender = thread::spawn(move || {
        traffic::run(&plan, &progress, &|address| TcpListener::bind(address))
    });
    let outcome = sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    ensure!(
        outcome.sent == flows,
        "only {} of {flows} flows were sent: {} refused, {} failed ({:?})",
        outcome.sent,
        outcome.refused,
        outcome.failed,
        outcome.error
    );
    let count = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")
        .context("there is no connection tracking")?;
    let count: u64 = count.trim().parse().context("nf_conntrack_count is no number")?;
    ensure!(count >= flows, "{flows} flows made {count} entries: does a rule need tracking?");
    Ok((outcome.seconds, outcome.sockets))
}

/// Empties the table.
fn flush() -> Result<()> {
    let mut conntrack = Command::new("conntrack");
    conntrack.arg("-F").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = conntrack.status().context("cannot start conntrack")?;
    ensure!(status.success(), "`conntrack -F` failed: {status}");
    Ok(())
}
