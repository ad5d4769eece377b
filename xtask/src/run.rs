//! `cargo xtask run`: the monitor at work, wherever a kernel takes it.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{
    build,
    process::{self, quoted},
    setup,
    vm::{self, Guest, KernelArg, MachineArgs},
};

/// Fills a table while the monitor, whose command line follows, watches.
const DEMO: &str = include_str!("vm/demo.sh");

/// What the monitor does in a VM if nothing else is asked for.
const DEMO_ARGUMENTS: [&str; 4] = ["--interval", "1s", "--count", "30"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// On this host, whatever its kernel.
    #[arg(long, conflicts_with_all = ["vm", "arch"])]
    host: bool,
    /// In a VM, whatever this host's kernel.
    #[arg(long)]
    vm: bool,
    #[command(flatten)]
    kernel: KernelArg,
    #[command(flatten)]
    machine: MachineArgs,
    /// For `ctmon watch`.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Where the monitor runs, and why there.
enum Place {
    Host(PathBuf, &'static str),
    Vm(String),
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(args.kernel.arch())?;
    match place(args)? {
        Place::Host(monitor, why) => {
            eprintln!("running on this host: {why}");
            on_host(&monitor, &args.arguments)
        }
        Place::Vm(why) => {
            eprintln!("running in a VM: {why}");
            in_vm(args)
        }
    }
}

/// Asks the monitor itself whether this host will do: only what really loads counts.
fn place(args: &Args) -> Result<Place> {
    if args.vm {
        return Ok(Place::Vm("--vm was given".to_owned()));
    }
    let arch = args.kernel.arch();
    if !arch.is_host() {
        return Ok(Place::Vm(format!("this host is not {}", arch.name)));
    }
    if !args.host && !rustix::process::geteuid().is_root() {
        return Ok(Place::Vm("BPF on this host needs root".to_owned()));
    }
    let programs = build::host(true)?;
    let monitor = programs.into_iter().next().context("the build made no program")?;
    if args.host {
        return Ok(Place::Host(monitor, "--host was given"));
    }
    let mut command = Command::new(&monitor);
    command.args(["status", "--source", "ebpf"]);
    let Ok(probe) = command.output() else {
        return Ok(Place::Vm(format!("{} does not start here", process::line(&command))));
    };
    if probe.status.success() {
        return Ok(Place::Host(monitor, "its kernel takes the BPF programs"));
    }
    let said = String::from_utf8_lossy(&probe.stderr);
    let first = said.lines().map(str::trim).find(|line| !line.is_empty());
    let why = first.unwrap_or("it did not say why");
    Ok(Place::Vm(format!("this host's kernel does not take the BPF programs: {why}")))
}

fn on_host(monitor: &Path, arguments: &[String]) -> Result<ExitCode> {
    let mut command = Command::new(monitor);
    command.arg("watch").args(arguments);
    let status = process::status(&mut command, "to monitor this host")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn in_vm(args: &Args) -> Result<ExitCode> {
    let kernel = args.kernel.get()?;
    let binaries = build::static_binaries(kernel.arch)?;
    let defaults = DEMO_ARGUMENTS.map(str::to_owned);
    let arguments = if args.arguments.is_empty() { &defaults } else { args.arguments.as_slice() };
    let script = format!("{DEMO}ctmon watch {}\n", quoted(arguments));
    let guest = Guest::command(&script, &binaries);
    vm::boot(&kernel, &args.machine, &guest, &mut vm::print).map(ExitCode::from)
}
