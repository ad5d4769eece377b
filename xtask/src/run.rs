//! `cargo xtask run`: the monitor at work, wherever a kernel takes it.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{
    build,
    process::{self, quote},
    setup,
    vm::{self, MachineArgs, kernel},
};

/// Fills a table while the monitor, whose command line follows, watches.
const DEMO: &str = include_str!("vm/demo.sh");

/// What the monitor does in a VM if nothing else is asked for.
const DEMO_ARGUMENTS: [&str; 4] = ["--interval", "1s", "--count", "30"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// On this host, whatever its kernel.
    #[arg(long, conflicts_with = "vm")]
    host: bool,
    /// In a VM, whatever this host's kernel.
    #[arg(long)]
    vm: bool,
    /// For a VM: a series such as 6.12, newest, or a directory with a kernel.
    #[arg(long, default_value = kernel::DEFAULT)]
    kernel: String,
    #[command(flatten)]
    machine: MachineArgs,
    /// For `ctmon watch`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure()?;
    let obstacle = match (args.host, args.vm) {
        (true, _) => None,
        (_, true) => Some("--vm was given".to_owned()),
        _ => obstacle(&host_monitor()?)?,
    };
    match obstacle {
        None => {
            let why = if args.host {
                "--host was given"
            } else {
                "its kernel takes the BPF programs"
            };
            eprintln!("running on this host: {why}");
            on_host(&args.arguments)
        }
        Some(why) => {
            eprintln!("running in a VM: {why}");
            in_vm(args)
        }
    }
}

fn host_monitor() -> Result<std::path::PathBuf> {
    build::host(true)?
        .into_iter()
        .next()
        .context("the build made no program")
}

/// Why the monitor cannot use BPF on this host, or None if it can. Asks the monitor itself: only what really loads counts.
fn obstacle(monitor: &Path) -> Result<Option<String>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Some("BPF on this host needs root".to_owned()));
    }
    let mut command = Command::new(monitor);
    command.args(["status", "--source", "ebpf"]);
    let Ok(probe) = command.output() else {
        return Ok(Some(format!(
            "{} does not start here",
            process::line(&command)
        )));
    };
    let said = String::from_utf8_lossy(&probe.stderr);
    let first = said
        .lines()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it did not say why");
    Ok((!probe.status.success()).then(|| {
        format!(
            "this host's kernel does not take the BPF programs: {}",
            first.trim()
        )
    }))
}

fn on_host(arguments: &[String]) -> Result<ExitCode> {
    let mut command = Command::new(host_monitor()?);
    command.arg("watch").args(arguments);
    let status = process::status(&mut command, "to monitor this host")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn in_vm(args: &Args) -> Result<ExitCode> {
    let kernel = kernel::get(&args.kernel)?;
    let binaries = build::static_binaries()?;
    let defaults = DEMO_ARGUMENTS.map(str::to_owned);
    let arguments = if args.arguments.is_empty() {
        &defaults[..]
    } else {
        &args.arguments
    };
    let words: String = arguments
        .iter()
        .map(|word| format!(" {}", quote(word)))
        .collect();
    let script = format!("{DEMO}ctmon watch{words}\n");
    vm::boot(&kernel, &args.machine, &script, &binaries, &mut vm::print).map(ExitCode::from)
}
