//! `cargo xtask fuzz`: the parsers of bytes from outside, given inputs by libFuzzer.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    process::{self, SKIP_EBPF, line, tail},
    progress, workspace,
};

/// Bytes of memory that a target may take, in megabytes: what any command may for any file (SECURITY.md).
const MEMORY_MB: u32 = 256;
/// Bytes of one allocation, in megabytes.
const ALLOCATION_MB: u32 = 128;
/// Time for one input, in seconds. An input takes some microseconds, the largest a second.
const INPUT_SECONDS: u32 = 5;
/// Lines of a failed target's output that are shown.
const SHOWN_LINES: usize = 40;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Targets, one after the other; all of `fuzz/fuzz_targets` if none is given.
    targets: Vec<String>,
    /// Minutes for each target.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let folder = workspace::root().join("fuzz");
    let targets = chosen(&all(&folder)?, &args.targets)?;
    ensure_tools()?;
    let target_folder = workspace::target()?.join("fuzz");
    progress::loud_step("build of the fuzz targets", || {
        let mut build = cargo_fuzz("build", &folder, &target_folder);
        let status = process::status(&mut build, "to build the fuzz targets")?;
        ensure!(status.success(), "{} failed ({status})", line(&build));
        Ok(())
    })?;
    let mut failed = 0;
    for target in &targets {
        let one = Target { name: target, folder: &folder, target_folder: &target_folder };
        let time = Duration::from_secs(60 * args.minutes);
        match progress::step(&format!("fuzz {target}"), || one.run(time)) {
            Ok(figures) => println!("{target}: {figures}"),
            Err(error) => {
                failed += 1;
                println!("{target}: {error:#}");
            }
        }
    }
    println!("fuzz: {} targets, {failed} with findings", targets.len());
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Names of the targets, sorted.
fn all(folder: &Path) -> Result<Vec<String>> {
    let programs = folder.join("fuzz_targets");
    let context = || format!("cannot list {}", programs.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&programs).with_context(context)? {
        let path = entry.with_context(context)?.path();
        names.extend(path.file_stem().and_then(|name| name.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The targets that are asked for.
fn chosen(all: &[String], asked: &[String]) -> Result<Vec<String>> {
    if let Some(unknown) = asked.iter().find(|name| !all.contains(name)) {
        bail!("there is no fuzz target {unknown}; there are {}", all.join(", "));
    }
    Ok(if asked.is_empty() { all.to_vec() } else { asked.to_vec() })
}

/// Names what is missing. No nightly toolchain is needed: RUSTC_BOOTSTRAP=1 has the pinned one take flags of nightly.
fn ensure_tools() -> Result<()> {
    let cargo_fuzz = process::output(process::cargo().args(["fuzz", "--version"]), "to fuzz");
    if cargo_fuzz.is_err() {
        bail!("cargo-fuzz is missing: `cargo install cargo-fuzz` installs it, in some minutes");
    }
    if process::find("c++").is_none() {
        bail!("a C++ compiler (c++) is missing, which libFuzzer takes: `apt-get install g++`");
    }
    Ok(())
}

/// A command of cargo-fuzz. There is no sanitizer: addresses are those of safe code, and with one memory limits mean little.
fn cargo_fuzz(subcommand: &str, folder: &Path, target_folder: &Path) -> Command {
    let mut cargo = process::cargo();
    cargo.current_dir(folder).args(["fuzz", subcommand, "--sanitizer", "none", "--target-dir"]);
    cargo.arg(target_folder).env("RUSTC_BOOTSTRAP", "1").env(SKIP_EBPF, "1");
    cargo
}

/// A target, and where its files are.
struct Target<'a> {
    name: &'a str,
    /// `fuzz` in the repository.
    folder: &'a Path,
    target_folder: &'a Path,
}

impl Target<'_> {
    /// Gives it inputs for that long.
    fn run(&self, time: Duration) -> Result<Figures> {
        let found = self.target_folder.join("corpus").join(self.name);
        workspace::create(&found)?;
        let mut cargo = self.command(&found, time);
        let child = cargo.stderr(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut child = child.with_context(|| format!("cannot start {}", line(&cargo)))?;
        let (mut figures, mut text) = (Figures::default(), String::new());
        let lines = child.stderr.take().into_iter().map(BufReader::new);
        for line in lines.flat_map(|output| output.split(b'\n')) {
            let line = line.context("cannot read what libFuzzer says")?;
            let line = String::from_utf8_lossy(&line);
            figures.take(&line);
            text.push_str(&line);
            text.push('\n');
        }
        let status = child.wait().context("cannot learn how libFuzzer ended")?;
        ensure!(
            status.success(),
            "finding ({status}); to repeat it: {}\n{}",
            line(&cargo),
            tail(&text, SHOWN_LINES)
        );
        Ok(figures)
    }

    /// New inputs are kept in `found`; the next run begins with them, too.
    fn command(&self, found: &Path, time: Duration) -> Command {
        let mut cargo = cargo_fuzz("run", self.folder, self.target_folder);
        cargo.arg(self.name).arg(found).arg(self.folder.join("corpus").join(self.name)).arg("--");
        cargo.arg(format!("-max_total_time={}", time.as_secs()));
        cargo.arg(format!("-rss_limit_mb={MEMORY_MB}"));
        cargo.arg(format!("-malloc_limit_mb={ALLOCATION_MB}"));
        cargo.arg(format!("-timeout={INPUT_SECONDS}"));
        cargo.arg("-print_final_stats=1").args(self.dictionary());
        cargo
    }

    /// Words that a fuzzer would not come upon, where there are any.
    fn dictionary(&self) -> Option<OsString> {
        let words: PathBuf = self.folder.join(format!("{}.dict", self.name));
        let mut argument = OsString::from("-dict=");
        argument.push(&words);
        words.is_file().then_some(argument)
    }
}

/// Figures that libFuzzer prints at the end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    inputs: u64,
    peak_mb: u64,
}

impl Figures {
    fn take(&mut self, line: &str) {
        let number = |name: &str| line.strip_prefix(name)?.trim().parse().ok();
        if let Some(inputs) = number("stat::number_of_executed_units:") {
            self.inputs = inputs;
        }
        if let Some(peak) = number("stat::peak_rss_mb:") {
            self.peak_mb = peak;
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} inputs, {} MB at most, no finding", self.inputs, self.peak_mb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_of_the_folder() {
        let all = all(&workspace::root().join("fuzz")).unwrap();
        assert!(all.is_sorted() && all.contains(&"recording".to_owned()), "{all:?}");
        let recording = ["recording".to_owned()];
        assert_eq!(chosen(&all, &[]).unwrap(), all);
        assert_eq!(chosen(&all, &recording).unwrap(), recording);
        let error = chosen(&all, &["record".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("there is no fuzz target record; there are accounts, "));
    }

    #[test]
    fn each_target_has_limits_of_time_and_memory() {
        let folder = workspace::root().join("fuzz");
        let one = Target { name: "scenario", folder: &folder, target_folder: Path::new("t") };
        let line = line(&one.command(Path::new("t/corpus"), Duration::from_secs(60)));
        for argument in [
            "RUSTC_BOOTSTRAP=1",
            "--sanitizer none",
            "scenario t/corpus ",
            "-max_total_time=60 -rss_limit_mb=256 -malloc_limit_mb=128 -timeout=5",
            "/fuzz/scenario.dict",
        ] {
            assert!(line.contains(argument), "{argument}: {line}");
        }
    }

    #[test]
    fn figures_are_those_of_the_last_lines() {
        let mut figures = Figures::default();
        for line in [
            "#2\tINITED cov: 3",
            "stat::number_of_executed_units: 1234",
            "stat::average_exec_per_sec:     9",
            "stat::peak_rss_mb:              41",
        ] {
            figures.take(line);
        }
        assert_eq!(figures, Figures { inputs: 1234, peak_mb: 41 });
    }
}
