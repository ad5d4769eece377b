//! Runs tests one after another and prints a line for each.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use crate::{
    checks::{Checks, Skip},
    command,
    ctmon::Watch,
    kernel,
    netns::{self, Netns},
    wait,
};

/// How often a test is played that fails, and in which the kernel may have skipped all copies of a program at once, as
/// ctmon says: emulated machines with a kernel that pre-empts its tasks were seen to do so, in 1 and in 4 calls of a run.
const ATTEMPTS: usize = 3;

/// What all tests share.
#[derive(Clone, Debug)]
pub(crate) struct Env {
    /// The network namespace that the machine started with.
    pub(crate) init: Arc<Netns>,
    pub(crate) ctmon: PathBuf,
    /// A hook that every ctmon leaves out.
    pub(crate) fault_without: Option<String>,
    /// Hooks whose best function every ctmon takes as inlined.
    pub(crate) fault_inlined: Vec<String>,
    /// How every ctmon is to attach.
    pub(crate) attach: Option<String>,
    /// How long the test goes on that looks whether anything grows.
    pub(crate) soak: Duration,
    /// The kernel may have skipped programs of the test that runs, as a ctmon of it has said.
    pub(crate) skipped: Arc<AtomicBool>,
}

impl Env {
    /// Environment with another ctmon.
    pub(crate) fn with_ctmon(&self, ctmon: PathBuf) -> Self {
        Self { ctmon, ..self.clone() }
    }

    /// What every `ctmon watch` gets besides `own`, the test's.
    pub(crate) fn arguments(&self, own: &[&str]) -> Vec<&str> {
        let fault = self.fault_without.iter().flat_map(|hook| ["--fault-without", hook]);
        let inlined = self.fault_inlined.iter().flat_map(|hook| ["--fault-inlined", hook]);
        let attach = self.attach.iter().flat_map(|way| ["--attach", way]);
        let chosen = own.contains(&"--attach");
        fault.chain(inlined).chain(attach.filter(|_| !chosen)).collect()
    }
}

/// Where a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a network namespace of its own.
    NewNetns,
    /// In the initial one; it takes nf_conntrack away, or finds it absent.
    WithoutConntrack,
}

/// What a test does.
pub(crate) type Body = Box<dyn Fn(&Env, &mut Checks) -> Result<()> + Send + Sync>;

/// One test.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    /// One line for people.
    pub(crate) title: String,
    /// More than that, where there is more to say.
    pub(crate) shows: String,
    pub(crate) place: Place,
    /// Takes long: it is run only where its whole name is given.
    pub(crate) on_demand: bool,
    /// Leaves the machine as it is, but for namespaces of its own: it may also run where it is not alone.
    pub(crate) anywhere: bool,
    /// Of what ctmon makes of its counts, more than of the kernel: see `--of-the-kernel`.
    pub(crate) of_ctmon: bool,
    pub(crate) body: Body,
}

impl Test {
    /// A test in a network namespace of its own.
    pub(crate) fn new(
        name: &'static str,
        title: &str,
        body: impl Fn(&Env, &mut Checks) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            title: title.to_owned(),
            shows: String::new(),
            place: Place::NewNetns,
            on_demand: false,
            anywhere: false,
            of_ctmon: false,
            body: Box::new(body),
        }
    }
}

impl Test {
    /// The same, where it leaves the machine as it is.
    pub(crate) fn anywhere(self) -> Self {
        Self { anywhere: true, ..self }
    }
}

/// How to run them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// End after the first failure.
    pub(crate) fail_fast: bool,
    /// Print what was seen, too.
    pub(crate) verbose: bool,
}

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

/// Runs the tests and prints the results.
///
/// # Errors
/// When the results cannot be printed.
pub(crate) fn run(env: &Env, tests: &[&Test], how: How) -> io::Result<Tally> {
    let release = kernel::release();
    let mut tally = Tally::default();
    for test in tests {
        let began = Instant::now();
        let (mut checks, mut result) = attempt(test, env);
        for number in 1..ATTEMPTS {
            if result.is_err() || checks.hold() || !env.skipped.load(Ordering::Relaxed) {
                break;
            }
            say(&format!(
                "again {}: attempt {number} of {ATTEMPTS}, in which the kernel may have skipped programs: {}",
                test.name,
                checks.reason(Ok(())).unwrap_or_default()
            ))?;
            (checks, result) = attempt(test, env);
        }
        let skipped = result.as_ref().err().and_then(Skip::reason);
        let failed_before = tally.failed;
        let line = if let Some(reason) = skipped {
            tally.skipped += 1;
            format!("skipped {}: {release}: {reason}", test.name)
        } else if let Some(reason) = checks.reason(result) {
            tally.failed += 1;
            format!("FAILED {}: {reason}", test.name)
        } else {
            tally.passed += 1;
            let untold = checks.untold().map(|names| format!("; not told here: {names}"));
            let seconds = began.elapsed().as_secs_f64();
            format!("ok {} ({seconds:.1} s){}", test.name, untold.unwrap_or_default())
        };
        say(&line)?;
        for note in checks.notes().iter().filter(|_| how.verbose || tally.failed > failed_before) {
            say(&format!("    {note}"))?;
        }
        if how.fail_fast && tally.failed > 0 {
            break;
        }
    }
    say(&format!("{} passed, {} failed, {} skipped", tally.passed, tally.failed, tally.skipped))?;
    Ok(tally)
}

/// Plays a test once.
fn attempt(test: &Test, env: &Env) -> (Checks, Result<()>) {
    let mut checks = Checks::default();
    env.skipped.store(false, Ordering::Relaxed);
    let result = match test.place {
        Place::NewNetns => in_new_netns(test, env, &mut checks),
        Place::WithoutConntrack => caught(|| (test.body)(env, &mut checks)),
    };
    (checks, result)
}

/// Says how ctmon attaches on this kernel.
///
/// # Errors
/// When it cannot be printed.
pub(crate) fn introduce(env: &Env) -> io::Result<()> {
    let watch = match Watch::start(env, &["--source", "ebpf"]) {
        Ok(watch) => watch,
        Err(error) => {
            return say(&format!(
                "hooks: none attached: {}",
                crate::checks::one_line(&format!("{error:#}"))
            ));
        }
    };
    for hook in &watch.started().hooks {
        let function = hook.function.as_deref().unwrap_or("no function");
        say(&match (&hook.attached_via, &hook.reason) {
            (Some(via), _) => format!("hook {}: {function} by {via}", hook.hook),
            (None, reason) => {
                format!(
                    "hook {}: {function} not attached: {}",
                    hook.hook,
                    reason.as_deref().unwrap_or("no reason given")
                )
            }
        })?;
    }
    Ok(())
}

/// Prints a line at once: whoever waits for it sees how far the tests are.
pub(crate) fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Hands a file out of the machine: `cargo xtask vm test --files FOLDER` puts it there.
///
/// # Errors
/// When it cannot be printed.
pub(crate) fn give(name: &str, bytes: &[u8]) -> io::Result<()> {
    const PIECE: usize = 2048;
    for (piece, at) in bytes.chunks(PIECE).zip((0..).step_by(PIECE)) {
        let hex: String = piece.iter().map(|byte| format!("{byte:02x}")).collect();
        say(&format!("file {name} {at} {hex}"))?;
    }
    Ok(())
}

fn in_new_netns(test: &Test, env: &Env, checks: &mut Checks) -> Result<()> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            netns::enter_new()?;
            let result = caught(|| (test.body)(env, checks));
            result.and(leave())
        });
        thread.join().map_err(|_| anyhow!("the test's thread panicked"))?
    })
}

/// Empties the table, so that the end of the namespace frees nothing while the next test counts.
fn leave() -> Result<()> {
    command::flush()?;
    wait::until("an empty table after the test", wait::SHORT, || {
        Ok((kernel::count()? == 0).then_some(()))
    })
}

/// A test that panics has failed; the others go on.
fn caught(body: impl FnOnce() -> Result<()>) -> Result<()> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    result.map_err(|_| anyhow!("the test panicked"))?
}

/// ctmon, from the environment or the PATH.
///
/// # Errors
/// When it is not there.
pub(crate) fn find_ctmon() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CTMON") {
        let path = PathBuf::from(path);
        return path
            .is_file()
            .then(|| path.clone())
            .with_context(|| format!("no ctmon at {} (CTMON)", path.display()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join("ctmon"))
        .find(|path| Path::is_file(path));
    found.context("no ctmon on the PATH: name it in the environment variable CTMON")
}
