//! `cargo xtask`: everything a contributor does with this repository beyond plain cargo.

mod arch;
mod bench;
mod build;
mod check;
mod corpus;
mod emulator;
mod files;
mod fuzz;
mod incident;
mod ordered;
mod page;
mod process;
mod progress;
mod prometheus;
mod run;
mod setup;
mod tally;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Build, run and test ctmon, on this host or in virtual machines with real kernels.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building and testing need; quick when nothing is missing.
    Setup(arch::ArchArgs),
    /// Build the monitor and the test binaries for this host.
    Build(build::Args),
    /// Run the monitor: on this host if its kernel takes it, else in a VM whose table fills.
    Run(run::Args),
    /// Check format, lints, documentation and unit tests; no VM.
    Check,
    /// Check, then run the kernel tests in VMs, then print one line with the sum.
    Test(test::Args),
    /// Give the parsers of bytes from outside inputs by libFuzzer, with limits of memory and time; ten minutes each.
    Fuzz(fuzz::Args),
    /// Look at the page of `ctmon serve` in a browser without a screen.
    Page(page::Args),
    /// Try the rules and dashboards with Debian's Prometheus, on what a running ctmon answers.
    Prometheus,
    /// Let a table fill in a VM that Prometheus scrapes: which warnings come in time, and what a straight line says.
    Incident(incident::Args),
    /// Record real tables that fill or nearly fill in VMs, as tests/corpus has them.
    Corpus(corpus::Args),
    /// Measure what ctmon costs, and write docs/performance.md; takes 15 minutes on two cores.
    Bench(bench::Args),
    /// Kernels and virtual machines.
    #[command(subcommand)]
    Vm(vm::Task),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup(args) => setup::run(&args),
        Task::Build(args) => build::run(&args),
        Task::Run(args) => run::run(&args),
        Task::Check => check::run(),
        Task::Test(args) => test::run(&args),
        Task::Prometheus => prometheus::run(),
        Task::Incident(args) => incident::run(&args),
        Task::Corpus(args) => corpus::run(&args),
        Task::Bench(args) => bench::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Page(args) => page::run(&args),
        Task::Vm(task) => vm::run(task),
    };
    result.unwrap_or_else(|error| {
        progress::error(&error);
        ExitCode::FAILURE
    })
}
