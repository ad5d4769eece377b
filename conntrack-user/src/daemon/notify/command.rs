//! A program that is started at each change: the only place of the daemon that executes one.

use std::{
    io::Write as _,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    process::{Child, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Failure, Message, Target, config};
use crate::view::warning::{object, plain};

/// How often it is looked whether it has ended.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What its variables begin with.
const PREFIX: &str = "CTMON_CHANGE_";
/// What the variables of the daemon itself begin with, which are not for it.
const OWN: &str = "CTMON_";

/// The program.
#[derive(Debug, Clone)]
pub struct Command {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
}

/// How it ended.
enum End {
    Itself(ExitStatus),
    /// It was killed, because it took too long.
    Late,
    /// It was killed, because the daemon ends.
    Abandoned,
}

impl Command {
    /// None where none is configured.
    #[must_use]
    pub fn new(config: &config::Command) -> Option<Self> {
        let (program, arguments) = config.run.split_first()?;
        let timeout = Duration::try_from_secs_f64(config.timeout_seconds).unwrap_or(Duration::MAX);
        Some(Self { program: program.clone(), arguments: arguments.to_vec(), timeout })
    }

    /// Starts it in a process group of its own, with the change in variables and as JSON on its standard input.
    fn spawn(&self, message: &Message) -> std::io::Result<Child> {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.arguments).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with(OWN) {
                command.env_remove(key);
            }
        }
        for (key, value) in &message.fields {
            if let Some(value) = plain(value) {
                command.env(format!("{PREFIX}{}", key.to_ascii_uppercase()), value);
            }
        }
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // It fits into the pipe, so this never waits; and who does not read it has no need of it.
            let _ = stdin.write_all(format!("{}\n", object(&message.fields)).as_bytes());
        }
        Ok(child)
    }

    /// Waits for its end, and does not let it outlive its time or the daemon.
    fn wait(&self, child: &mut Child, is_abandoned: &dyn Fn() -> bool) -> std::io::Result<End> {
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(End::Itself(status));
            }
            let is_late = started.elapsed() >= self.timeout;
            if is_late || is_abandoned() {
                kill(child);
                child.wait()?;
                return Ok(if is_late { End::Late } else { End::Abandoned });
            }
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// Kills it and what it started. It was not waited for, so its number is still its own.
fn kill(child: &Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        // It may have ended by itself meanwhile.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

impl Target for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn deliver(&self, message: &Message, is_abandoned: &dyn Fn() -> bool) -> Result<(), Failure> {
        let failure = |why: String| Failure { why, is_temporary: true };
        let program = &self.program;
        let mut child = self
            .spawn(message)
            .map_err(|error| failure(format!("{program} cannot be started: {error}")))?;
        let ended = self
            .wait(&mut child, is_abandoned)
            .map_err(|error| failure(format!("{program} cannot be waited for: {error}")))?;
        match ended {
            End::Itself(status) if status.success() => Ok(()),
            End::Itself(status) => Err(failure(format!("{program} {}", how(status)))),
            End::Late => {
                let seconds = self.timeout.as_secs_f64();
                Err(failure(format!("{program} had not ended after {seconds} s and was killed")))
            }
            End::Abandoned => {
                Err(failure(format!("{program} was killed, because the daemon ends")))
            }
        }
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
