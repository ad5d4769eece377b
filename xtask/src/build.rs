//! `cargo xtask build`, and the static programs that go into a VM.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, bail};

use crate::{
    arch::{self, Arch},
    process, setup, workspace,
};

/// The package and name of each program that is built.
const PROGRAMS: [(&str, &str); 3] = [
    ("conntrack-user", "ctmon"),
    ("conntrack-tests", "kernel-tests"),
    ("conntrack-tests", "ctmon-traffic"),
];

/// The monitor in a VM can be made to count wrongly.
const FAULTS: [&str; 2] = ["--features", "conntrack-user/fault-injection"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Optimised; this is the default.
    #[arg(long, conflicts_with = "debug")]
    release: bool,
    /// Quick to build, slow to run.
    #[arg(long)]
    debug: bool,
    /// For machines of this architecture, whatever their libraries: static programs.
    #[arg(long, value_parser = arch::parser(), conflicts_with = "debug")]
    arch: Option<&'static Arch>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(args.arch.unwrap_or(arch::DEFAULT))?;
    let programs = match args.arch {
        Some(arch) => static_programs(arch, &workspace::target()?, &[])?,
        None => host(args.release || !args.debug)?,
    };
    for program in programs {
        println!("{}", program.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the programs for this host and returns where they are, the monitor first.
pub(crate) fn host(release: bool) -> Result<Vec<PathBuf>> {
    let profile = if release { "release" } else { "dev" };
    let mut cargo = process::cargo();
    cargo.args(["build", "--profile", profile]);
    build(cargo, workspace::target()?.join(if release { "release" } else { "debug" }))
}

/// Builds the programs so that they run in a VM, which has none of this host's libraries.
pub(crate) fn static_binaries(arch: &Arch) -> Result<Vec<PathBuf>> {
    // A directory of its own: other flags would rebuild everything else each time.
    let target = workspace::target()?.join("vm");
    static_programs(arch, &target, &FAULTS)
}

/// As [`static_binaries`], and the program that measures monitors.
pub(crate) fn static_bench(arch: &Arch) -> Result<Vec<PathBuf>> {
    const PROGRAM: &str = "ctmon-bench";
    let target = workspace::target()?.join("vm");
    let more = ["--package", "conntrack-tests", "--bin", PROGRAM];
    let mut programs = static_programs(arch, &target, &[&FAULTS[..], &more].concat())?;
    let bench = programs.first().map(|program| program.with_file_name(PROGRAM));
    programs.extend(bench);
    Ok(programs)
}

/// Builds the program that times the kernel programs on this host.
pub(crate) fn native_bench() -> Result<PathBuf> {
    const PROGRAM: &str = "ctmon-bench-native";
    let mut cargo = process::cargo();
    cargo.args(["build", "--release", "--package", "conntrack-user", "--features", "bench"]);
    cargo.args(["--bin", PROGRAM]);
    let status = process::status(&mut cargo, "to time the kernel programs")?;
    if !status.success() {
        bail!("{} failed ({status}); its own messages are above", process::line(&cargo));
    }
    Ok(workspace::target()?.join("release").join(PROGRAM))
}

fn static_programs(arch: &Arch, directory: &Path, more: &[&str]) -> Result<Vec<PathBuf>> {
    // Naming the target keeps its flags away from build scripts and procedural macros, which cannot
    // be static.
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", arch.target.to_uppercase().replace('-', "_"));
    let mut cargo = process::cargo();
    cargo.args(["build", "--release", "--target", arch.target, "--target-dir"]).arg(directory);
    cargo.args(more);
    cargo.env(flags, "-C target-feature=+crt-static");
    // These would go before the flags of one target.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    build(cargo, directory.join(arch.target).join("release"))
}

fn build(mut cargo: std::process::Command, directory: PathBuf) -> Result<Vec<PathBuf>> {
    for (package, program) in PROGRAMS {
        cargo.args(["--package", package, "--bin", program]);
    }
    let status = process::status(&mut cargo, "to build the monitor and its tests")?;
    if !status.success() {
        bail!("{} failed ({status}); its own messages are above", process::line(&cargo));
    }
    Ok(PROGRAMS.iter().map(|(_, program)| directory.join(program)).collect())
}
