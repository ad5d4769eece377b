//! `cargo xtask check`: format, lints, documentation and unit tests, without a VM.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    arch::{self, Arch},
    process::{self, line},
    progress, setup,
    tally::Tally,
    test, workspace,
};

/// Arguments of clippy that make an error of each warning.
const DENY: [&str; 3] = ["--", "-D", "warnings"];

/// Argument of cargo that selects each feature.
const ALL_FEATURES: &[&str] = &["--all-features"];

/// Arguments of `cargo doc`: this workspace's packages, with what is private.
const DOCUMENT: [&str; 2] = ["--no-deps", "--document-private-items"];

/// One command that prints nothing of use unless it fails.
struct Step {
    what: String,
    command: Command,
}

/// Results of the steps.
#[derive(Default)]
pub(crate) struct Report {
    /// Steps and unit tests.
    pub(crate) sum: Tally,
    /// One line for each step that failed.
    failures: Vec<String>,
}

pub(crate) fn run() -> Result<ExitCode> {
    setup::ensure(arch::DEFAULT)?;
    let report = all()?;
    report.repeat_failures();
    Ok(test::close(report.sum, true))
}

/// Runs each step, also after one that failed.
pub(crate) fn all() -> Result<Report> {
    let mut report = Report::default();
    for step in steps()? {
        report.step(step);
    }
    report.unit_tests();
    Ok(report)
}

impl Report {
    /// Prints the failures again: what other steps printed since may be long.
    pub(crate) fn repeat_failures(&self) {
        for failure in &self.failures {
            println!("{failure}");
        }
    }

    fn step(&mut self, Step { what, mut command }: Step) {
        let repeat = line(&command);
        match progress::step(&what, || quiet(&mut command)) {
            Ok(()) => self.sum.passed += 1,
            Err(error) => {
                eprintln!("{error:#}");
                self.fail(&what, &repeat);
                self.sum.failed += 1;
            }
        }
    }

    fn unit_tests(&mut self) {
        const WHAT: &str = "unit tests";
        let mut cargo = cargo("test", &["--workspace", "--no-fail-fast"]);
        let mut sum = Tally::default();
        if let Err(error) = progress::loud_step(WHAT, || unit_tests(&mut cargo, &mut sum)) {
            eprintln!("{error:#}");
            self.fail(WHAT, &line(&cargo));
            // They may not even compile, or one may have taken the whole program down.
            if sum.failed == 0 {
                sum += Tally::NO_RESULT;
            }
        }
        self.sum += sum;
    }

    fn fail(&mut self, what: &str, repeat: &str) {
        let failure = failure(what, repeat);
        eprintln!("{failure}");
        self.failures.push(failure);
    }
}

/// Line about a step that failed. `repeat`: the command that repeats it.
fn failure(what: &str, repeat: &str) -> String {
    format!("failed: {what}; to repeat it: {repeat}")
}

/// Runs a command. What it printed is the error where it fails.
fn quiet(command: &mut Command) -> Result<()> {
    command.env("CARGO_TERM_QUIET", "true");
    command.env("CARGO_TERM_COLOR", if progress::colours() { "always" } else { "never" });
    let output = command
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        let [stdout, stderr] = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        bail!("{}", (stdout + &stderr).trim_end());
    }
    Ok(())
}

/// Runs the unit tests, prints what they print and adds their results to `sum`.
fn unit_tests(cargo: &mut Command, sum: &mut Tally) -> Result<()> {
    let child = cargo.stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("cannot start {}", line(cargo)))?;
    for line in child.stdout.take().into_iter().flat_map(|output| BufReader::new(output).lines()) {
        let line = line.context("cannot read what the unit tests say")?;
        println!("{line}");
        *sum += Tally::from_cargo(&line).unwrap_or_default();
    }
    let status = child.wait().context("cannot learn how the unit tests ended")?;
    if !status.success() {
        bail!("the unit tests failed ({status}); their own messages are above");
    }
    Ok(())
}

/// Steps before the unit tests.
fn steps() -> Result<Vec<Step>> {
    let mut steps = vec![
        step("rustfmt, workspace", cargo("fmt", &["--all", "--check"])),
        // Clippy leaves these out: they have a lock file of their own, and libfuzzer's C++ takes minutes to build.
        step("rustfmt, fuzz", cargo("fmt", &["--check", "--manifest-path", "fuzz/Cargo.toml"])),
        step("clippy, workspace, all features", without_ebpf(clippy(ALL_FEATURES))),
        // The unit tests use the kernel programs that this builds.
        step("clippy, workspace, default features", clippy(&[])),
    ];
    let target = workspace::target()?.join("bpf");
    for (arch, name, features) in [
        (&arch::X86_64, "all", ALL_FEATURES),
        (&arch::X86_64, "default", &[]),
        (&arch::ARM64, "all", ALL_FEATURES),
    ] {
        let what = format!("clippy, kernel programs for {}, {name} features", arch.name);
        let mut clippy = ebpf("clippy", arch, &target);
        clippy.args(features).args(DENY);
        steps.push(step(&what, clippy));
    }
    steps.push(step("rustdoc, workspace", without_ebpf(rustdoc())));
    steps.push(step("rustdoc, kernel programs", ebpf_rustdoc(&target)));
    Ok(steps)
}

fn step(what: &str, command: Command) -> Step {
    Step { what: what.to_owned(), command }
}

fn cargo(subcommand: &str, arguments: &[&str]) -> Command {
    let mut cargo = process::cargo();
    cargo.arg(subcommand).args(arguments);
    cargo
}

fn clippy(features: &[&str]) -> Command {
    let mut clippy = cargo("clippy", &["--workspace", "--all-targets"]);
    clippy.args(features).args(DENY);
    clippy
}

/// Documentation of the workspace; a link that leads nowhere fails it.
fn rustdoc() -> Command {
    let mut rustdoc = cargo("doc", &["--workspace"]);
    rustdoc.args(ALL_FEATURES).args(DOCUMENT).env("RUSTDOCFLAGS", "-D warnings");
    rustdoc
}

/// Leaves out the kernel programs, which this command does not run. They would be built once more: no other step has the same
/// features and dependencies.
fn without_ebpf(mut cargo: Command) -> Command {
    cargo.env(process::SKIP_EBPF, "1");
    cargo
}

/// A command of cargo for the kernel programs as aya-build compiles them, without linking. `target`: a target directory of
/// its own, because RUSTC_BOOTSTRAP has build scripts run again.
fn ebpf(subcommand: &str, arch: &Arch, target: &Path) -> Command {
    let mut cargo = cargo(subcommand, &["--package", "conntrack-ebpf", "--lib", "--bins"]);
    cargo.args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"]);
    cargo.arg("--target-dir").arg(target);
    // The encoded ones would take the place of the others.
    cargo.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTDOCFLAGS");
    cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", arch.bpf_cfg());
    cargo
}

/// Documentation of the code that only the bpf target compiles; a link that leads nowhere fails it.
fn ebpf_rustdoc(target: &Path) -> Command {
    let mut rustdoc = ebpf("doc", arch::DEFAULT, target);
    rustdoc.args(ALL_FEATURES).args(DOCUMENT);
    rustdoc.env("RUSTDOCFLAGS", format!("-D warnings {}", arch::DEFAULT.bpf_cfg()));
    rustdoc
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_failure_says_what_failed_and_how_to_repeat_it() {
        let clippy = ebpf("clippy", &arch::ARM64, Path::new("target/bpf"));
        assert_eq!(
            failure("clippy, kernel programs", &line(&clippy)),
            "failed: clippy, kernel programs; to repeat it: \
             `RUSTC_BOOTSTRAP=1 RUSTFLAGS='--cfg=bpf_target_arch=\"aarch64\"' cargo clippy \
             --package conntrack-ebpf --lib --bins --target bpfel-unknown-none -Z build-std=core \
             --target-dir target/bpf`"
        );
    }

    #[test]
    fn a_command_that_fails_shows_all_that_it_printed() {
        let run = |script| quiet(Command::new("sh").args(["-c", script]));
        assert!(run("echo fine").is_ok());
        let error = run("seq 30; echo why >&2; exit 1").unwrap_err().to_string();
        assert!(error.starts_with("1\n2\n"), "{error}");
        assert!(error.ends_with("\n30\nwhy"), "{error}");
    }

    #[test]
    fn each_step_runs_though_one_before_it_failed() {
        let mut report = Report::default();
        for program in ["false", "true"] {
            report.step(step(program, Command::new(program)));
        }
        assert_eq!(report.sum, Tally { passed: 1, failed: 1, skipped: 0 });
        assert_eq!(report.failures, ["failed: false; to repeat it: `false`"]);
    }

    #[test]
    fn unit_tests_that_give_no_result_are_a_failure() {
        let run = |script| {
            let mut sum = Tally::default();
            let result = unit_tests(Command::new("sh").args(["-c", script]), &mut sum);
            (result.is_ok(), sum)
        };
        let line = "echo 'test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured'";
        let counted = Tally { passed: 2, failed: 0, skipped: 1 };
        assert_eq!(run(line), (true, counted));
        assert_eq!(run(&format!("{line}; exit 101")), (false, counted));
    }

    #[test]
    fn steps_have_names_of_their_own() {
        let steps = steps().unwrap();
        let names: BTreeSet<&str> = steps.iter().map(|step| step.what.as_str()).collect();
        assert_eq!(names.len(), steps.len());
    }
}
