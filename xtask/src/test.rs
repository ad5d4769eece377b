//! `cargo xtask test` and `cargo xtask vm test`: every test there is, and one line that sums them up.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{ExitCode, Stdio},
};

use anyhow::{Context as _, Result};

use crate::{
    arch::{Arch, ArchArgs},
    build,
    process::{self, quoted},
    progress, setup,
    tally::Tally,
    vm::{self, Guest, MachineArgs, kernel},
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    kernels: KernelArgs,
}

#[derive(clap::Args)]
pub(crate) struct KernelArgs {
    #[command(flatten)]
    arch: ArchArgs,
    /// Series such as 6.1,6.12, all, or directories with kernels; the usual set if not given.
    #[arg(long, value_delimiter = ',', value_name = "KERNEL")]
    kernel: Vec<String>,
    #[command(flatten)]
    machine: MachineArgs,
    /// For the kernel tests: names, or parts of names, of those to run.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// Unit tests, then kernel tests.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(args.kernels.arch.arch)?;
    let mut sum = unit_tests()?;
    let (kernels, complete) = kernel_tests(&args.kernels);
    sum += kernels;
    Ok(close(sum, complete))
}

/// Kernel tests alone.
pub(crate) fn run_kernels(args: &KernelArgs) -> Result<ExitCode> {
    setup::ensure(args.arch.arch)?;
    let (sum, complete) = kernel_tests(args);
    Ok(close(sum, complete))
}

/// Says how it all ended; the sum is the last line.
fn close(sum: Tally, complete: bool) -> ExitCode {
    println!("{sum}");
    if sum.failed == 0 && complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn unit_tests() -> Result<Tally> {
    let mut cargo = process::cargo();
    cargo.args(["test", "--workspace", "--no-fail-fast"]).stdout(Stdio::piped());
    let mut child =
        cargo.spawn().with_context(|| format!("cannot start {}", process::line(&cargo)))?;
    let mut sum = Tally::default();
    for line in child.stdout.take().into_iter().flat_map(|output| BufReader::new(output).lines()) {
        let line = line.context("cannot read what the unit tests say")?;
        println!("{line}");
        sum += Tally::from_cargo(&line).unwrap_or_default();
    }
    let status = child.wait().context("cannot learn how the unit tests ended")?;
    // They may not even compile, or one may have taken the whole program down.
    if !status.success() && sum.failed == 0 {
        sum += Tally::NO_RESULT;
    }
    Ok(sum)
}

/// The sum over all kernels, and whether each kernel of the usual set ran every test.
fn kernel_tests(args: &KernelArgs) -> (Tally, bool) {
    let arch = args.arch.arch;
    let usual: Vec<String> = arch.usual.iter().map(|&name| name.to_owned()).collect();
    let names = if args.kernel.is_empty() { usual.clone() } else { kernel::expand(&args.kernel) };
    let mut sum = Tally::default();
    let mut complete = true;
    let binaries = match build::static_binaries(arch) {
        Ok(binaries) => binaries,
        Err(error) => {
            progress::error(&error.context("no kernel test can run"));
            return (Tally::NO_RESULT, false);
        }
    };
    for name in names {
        let result = one_kernel(arch, &name, args, &binaries).unwrap_or_else(|error| {
            progress::error(&error.context(format!("the tests on kernel {name} gave no result")));
            Tally::NO_RESULT
        });
        if result.skipped > 0 && usual.contains(&name) {
            progress::note(&format!(
                "kernel {name} is always tested: a skipped test is a failure there"
            ));
            complete = false;
        }
        sum += result;
    }
    (sum, complete)
}

fn one_kernel(
    arch: &'static Arch,
    name: &str,
    args: &KernelArgs,
    binaries: &[PathBuf],
) -> Result<Tally> {
    let kernel = kernel::get(arch, name)?;
    let words = [&["/bin/kernel-tests".to_owned()], args.arguments.as_slice()].concat();
    let script = quoted(&words);
    let guest = Guest { repeatable: true, ..Guest::command(&script, binaries) };
    let mut output = Vec::new();
    let status = vm::boot(&kernel, &args.machine, &guest, &mut |bytes| {
        output.extend_from_slice(bytes);
        vm::print(bytes)
    })?;
    Ok(verdict(&String::from_utf8_lossy(&output), status))
}

/// What the tests of one kernel amount to.
fn verdict(output: &str, status: u8) -> Tally {
    match output.lines().rev().find_map(Tally::from_kernel_tests) {
        None => Tally::NO_RESULT,
        Some(mut tally) => {
            if status != 0 && tally.failed == 0 {
                tally += Tally::NO_RESULT;
            }
            tally
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_is_the_verdict() {
        let output = "kernel: 6.12\ncounts ... ok\n2 passed, 1 failed, 0 skipped\n";
        assert_eq!(verdict(output, 1), Tally { passed: 2, failed: 1, skipped: 0 });
        assert_eq!(
            verdict("3 passed, 0 failed, 1 skipped\n", 0),
            Tally { passed: 3, failed: 0, skipped: 1 }
        );
    }

    #[test]
    fn no_closing_line_is_a_failure() {
        assert_eq!(verdict("kernel: 6.12\n", 0), Tally::NO_RESULT);
    }

    #[test]
    fn an_exit_status_is_not_overruled_by_the_counts() {
        assert_eq!(
            verdict("3 passed, 0 failed, 0 skipped\n", 101),
            Tally { passed: 3, failed: 1, skipped: 0 }
        );
    }
}
