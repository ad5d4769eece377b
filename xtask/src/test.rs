//! `cargo xtask test` and `cargo xtask vm test`: every test there is, and one line that sums them up.

use std::{
    fs,
    num::NonZero,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, ExitCode, Stdio},
    thread::available_parallelism,
};

use anyhow::{Context as _, Result, anyhow};

use crate::{
    arch::{Arch, ArchArgs},
    build, check,
    files::Files,
    ordered,
    process::{self, Sink, quoted},
    progress, prometheus, setup,
    tally::Tally,
    vm::{
        self, Guest, MachineArgs,
        kernel::{self, Kernel},
    },
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
    /// VMs at a time; as many as this host has processors if not given.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Where files go that tests hand out; those of the last kernel stay.
    #[arg(long, value_name = "FOLDER")]
    files: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArgs,
    /// For the kernel tests: names, or parts of names, of those to run.
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl KernelArgs {
    /// Kernel tests wait as much as they compute: an emulated VM of two processors keeps half of one busy.
    fn jobs(&self) -> usize {
        self.jobs.or_else(|| available_parallelism().ok()).map_or(1, NonZero::get)
    }
}

/// `cargo xtask check`, what is shipped for Prometheus, then kernel tests, on this host those that may.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(args.kernels.arch.arch)?;
    let checked = check::all()?;
    let mut sum = checked.sum;
    sum += prometheus::check();
    sum += host_tests(args.kernels.arch.arch)?;
    let (kernels, complete) = kernel_tests(&args.kernels);
    sum += kernels;
    checked.repeat_failures();
    Ok(close(sum, complete))
}

/// Kernel tests alone.
pub(crate) fn run_kernels(args: &KernelArgs) -> Result<ExitCode> {
    setup::ensure(args.arch.arch)?;
    let (sum, complete) = kernel_tests(args);
    Ok(close(sum, complete))
}

/// Says how it all ended; the sum is the last line.
pub(crate) fn close(sum: Tally, complete: bool) -> ExitCode {
    println!("{sum}");
    if sum.failed == 0 && complete { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Seconds that the tests on the host may take. They take some 16 on a machine that is not busy.
const HOST_LIMIT: &str = "180";
/// How timeout(1) says that they took longer.
const TIMED_OUT: i32 = 124;

/// Kernel tests that leave the machine as it is, on this host's own kernel. Where they cannot run, that is said, and counts
/// as one that was skipped.
fn host_tests(arch: &Arch) -> Result<Tally> {
    if let Some(why) = no_host_tests(arch) {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        println!("skipped kernel tests on this host: {}: {why}", release.trim());
        return Ok(Tally { skipped: 1, ..Tally::default() });
    }
    let programs = match build::static_binaries(arch) {
        Ok(programs) => programs,
        Err(error) => {
            progress::error(&error.context("no kernel test can run on this host"));
            return Ok(Tally::NO_RESULT);
        }
    };
    let (Some(ctmon), Some(tests)) = (programs.first(), programs.get(1)) else {
        return Ok(Tally::NO_RESULT);
    };
    // It ends the processes that they have started, too.
    let mut command = process::command("timeout");
    command.args(["-k", "10", HOST_LIMIT]).arg(tests).arg("--anywhere");
    command.env("CTMON", ctmon).stdout(Stdio::piped());
    let output = command.spawn().and_then(Child::wait_with_output);
    let output = output.with_context(|| format!("cannot run {}", process::line(&command)))?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    if output.status.code() == Some(TIMED_OUT) {
        println!("the kernel tests on this host took longer than {HOST_LIMIT} s, and were ended");
    }
    Ok(verdict(&text, output.status.code().map_or(1, |code| code as u8)))
}

/// Why no kernel test can run on this host.
fn no_host_tests(arch: &Arch) -> Option<&'static str> {
    const CONNTRACK: &str = "/proc/sys/net/netfilter/nf_conntrack_count";
    // What procfs says is whose it is.
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !arch.is_host() {
        Some("programs of another architecture")
    } else if !is_root {
        Some("making network namespaces takes root")
    } else if !Path::new(CONNTRACK).exists() {
        Some("nf_conntrack is not loaded")
    } else {
        None
    }
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
    // One after another: they would only wait for each other's lock on the cache.
    let kernels: Vec<_> = names.iter().map(|name| (name, kernel::get(arch, name))).collect();
    if let Some(kernel) = kernels.iter().find_map(|(_, kernel)| kernel.as_ref().ok()) {
        // Its trial of KVM is for all.
        let _ = vm::accelerator(&args.machine, kernel);
    }
    // What ctmon makes of its counts is the same on all of the usual kernels: one has those tests.
    let is_usual = args.kernel.is_empty() && args.arguments.is_empty();
    let work = |(name, kernel): &(&String, Result<Kernel>), sink: Sink<'_>| match kernel {
        Ok(kernel) => {
            let of_the_kernel = is_usual && *name != arch.kernel;
            one_kernel(kernel, args, of_the_kernel, &binaries, sink)
        }
        Err(error) => Err(anyhow!("{error:#}")),
    };
    let results = match ordered::run(&kernels, args.jobs(), work, vm::print) {
        Ok(results) => results,
        Err(error) => {
            progress::error(&error);
            return (Tally::NO_RESULT, false);
        }
    };
    for (name, result) in names.iter().zip(results) {
        let result = result.unwrap_or_else(|error| {
            progress::error(&error.context(format!("the tests on kernel {name} gave no result")));
            Tally::NO_RESULT
        });
        if result.skipped > 0 && usual.contains(name) {
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
    kernel: &Kernel,
    args: &KernelArgs,
    of_the_kernel: bool,
    binaries: &[PathBuf],
    sink: Sink<'_>,
) -> Result<Tally> {
    let mut words = [&["/bin/kernel-tests".to_owned()], args.arguments.as_slice()].concat();
    if of_the_kernel {
        words.push("--of-the-kernel".to_owned());
    }
    let script = quoted(&words);
    let guest = Guest { repeatable: true, ..Guest::command(&script, binaries) };
    let (mut output, mut files) = (Vec::new(), Files::default());
    let status = vm::boot(kernel, &args.machine, &guest, &mut |bytes| {
        let shown = files.push(bytes);
        output.extend_from_slice(&shown);
        sink(&shown)
    })?;
    sink(&files.rest())?;
    if let Some(folder) = &args.files {
        for file in files.keep(folder)? {
            sink(format!("{file}\n").as_bytes())?;
        }
    }
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
