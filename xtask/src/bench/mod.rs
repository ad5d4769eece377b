//! `cargo xtask bench`: what ctmon costs.

mod document;
mod native;
pub(crate) mod numbers;
mod serving;
mod table;
mod vm;

// One definition for the program in the VM, which prints it, and for this one, without its dependencies.
#[path = "../../../tests/src/bench.rs"]
#[allow(unreachable_pub, reason = "it is public in the package that it belongs to")]
mod record;

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    setup,
    vm::{KernelArg, MachineArgs},
};

/// What to measure.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The bodies of the kernel programs, user space with replayed events, and the serving half under loads, on this host.
    Native,
    /// Monitors side by side in a VM.
    Vm,
    /// Monitors side by side on the newest real-time kernel.
    Rt,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this part; docs/performance.md is then left as it is, unless --write is given.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Put the part of --only in its place in docs/performance.md.
    #[arg(long, requires = "only")]
    write: bool,
    /// Measurements of each monitor in the VM.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// New flows in each measurement in the VM.
    #[arg(long, value_name = "N", default_value_t = 30_000)]
    flows: u32,
    /// In the VM also with one hook left out at a time; twice as long.
    #[arg(long)]
    hooks: bool,
    /// In the VM only the monitors with these names.
    #[arg(long, value_name = "NAME")]
    monitor: Vec<String>,
    #[command(flatten)]
    kernel: KernelArg,
    #[command(flatten)]
    machine: MachineArgs,
}

/// Measures, prints, writes the document. What cannot be measured is a line that says so.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(args.kernel.arch())?;
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let mut parts = Vec::new();
    if wanted(Part::Native) {
        parts.push(native::measure()?);
    }
    if wanted(Part::Vm) {
        parts.push(vm::measure(args)?);
    }
    if wanted(Part::Rt) {
        parts.push(vm::measure_real_time(args)?);
    }
    let text = document::text(&parts);
    println!("{text}");
    if args.only.is_none() {
        document::write(&text)?;
    } else if args.write {
        for part in &parts {
            document::replace(part)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
