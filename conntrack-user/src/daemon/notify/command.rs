//! A program that is started at each change: the only place of the daemon that executes one.

use std::{
    ffi::OsString,
    fs,
    io::Write as _,
    os::unix::{
        fs::PermissionsExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::PathBuf,
    process::{Child, ExitStatus, Stdio},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Failure, Message, Target, config, orphans, output::Output};
use crate::{
    lock::lock,
    text::one_line,
    view::warning::{object, plain},
};

/// How often it is looked whether it has ended.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Error text for processes of a command that survive all attempts to kill them.
const GETS_AWAY: &str = "what it started goes on, because it starts processes faster than they are killed, or \
                         the kernel cannot end them: look for it with ps";

/// What its variables begin with.
const PREFIX: &str = "CTMON_CHANGE_";
/// Folders in which a program is looked for where there is no `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The program.
#[derive(Debug)]
pub struct Command {
    program: String,
    arguments: Vec<String>,
    timeout: Duration,
    /// Lines of the last run that nobody has taken yet.
    lines: Mutex<Vec<String>>,
}

/// How it ended.
enum End {
    Itself(ExitStatus),
    /// It was killed, because it took too long.
    Late,
    /// It was killed, because the daemon ends.
    Abandoned,
    /// Processes of the command survive all attempts to kill them.
    GetsAway,
}

impl Command {
    /// None where none is configured.
    #[must_use]
    pub fn new(config: &config::Command) -> Option<Self> {
        let (program, arguments) = config.run.split_first()?;
        let timeout = Duration::try_from_secs_f64(config.timeout_seconds).unwrap_or(Duration::MAX);
        let (program, arguments) = (program.clone(), arguments.to_vec());
        Some(Self { program, arguments, timeout, lines: Mutex::default() })
    }

    /// Checks that the program is there and may be executed by somebody. A name without a slash is looked for in `PATH`.
    ///
    /// # Errors
    ///
    /// Why it can never be started.
    pub fn check(config: &config::Command) -> Result<(), String> {
        let Some(program) = config.run.first() else { return Ok(()) };
        let candidates: Vec<PathBuf> = if program.contains('/') {
            vec![program.into()]
        } else {
            std::env::split_paths(&path()).map(|folder| folder.join(program)).collect()
        };
        let mut why = format!("{program} is in no folder of PATH");
        for candidate in candidates {
            match fs::metadata(&candidate) {
                Ok(about) if !about.is_file() => why = format!("{program} is not a file"),
                Ok(about) if about.permissions().mode() & 0o111 == 0 => {
                    why = format!("{program} is not executable: chmod +x {program}");
                }
                Ok(_) => return Ok(()),
                Err(error) if program.contains('/') => why = format!("{program}: {error}"),
                Err(_) => {}
            }
        }
        Err(format!("notify.command: {why}"))
    }

    /// Starts it in a process group of its own, with the change in variables and as JSON on its standard input.
    fn spawn(&self, message: &Message) -> std::io::Result<Child> {
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.arguments).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        // Variables of the daemon may be anything, also secrets.
        command.env_clear().env("PATH", path());
        command.envs(std::env::var_os("LANG").map(|language| ("LANG", language)));
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

    /// Waits for its end and for that of all that it has started, and kills them when their time is over or the daemon
    /// ends. What goes on having children that change their process group may get away; that is noted.
    fn wait(
        &self,
        child: &mut Child,
        output: &mut Output,
        is_abandoned: &dyn Fn() -> bool,
    ) -> std::io::Result<End> {
        let started = Instant::now();
        let mut ended = None;
        loop {
            output.read();
            if ended.is_none() {
                ended = child.try_wait()?;
            }
            if let Some(status) = ended
                && orphans::look().is_none()
            {
                return Ok(End::Itself(status));
            }
            let is_late = started.elapsed() >= self.timeout;
            if is_late || is_abandoned() {
                if ended.is_none() {
                    kill(child);
                    child.wait()?;
                }
                if !orphans::kill() {
                    self.note(GETS_AWAY.to_owned());
                    return Ok(End::GetsAway);
                }
                return Ok(match ended {
                    Some(status) => {
                        let seconds = self.timeout.as_secs_f64();
                        self.note(match is_late {
                            true => format!("what it had started was killed after {seconds} s"),
                            false => {
                                "what it had started was killed, because the daemon ends".into()
                            }
                        });
                        End::Itself(status)
                    }
                    None if is_late => End::Late,
                    None => End::Abandoned,
                });
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    fn note(&self, line: String) {
        lock(&self.lines).push(line);
    }
}

/// Folders in which a program is looked for.
fn path() -> OsString {
    std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into())
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
        let program = one_line(&self.program);
        let mut child = self
            .spawn(message)
            .map_err(|error| failure(format!("{program} cannot be started: {error}")))?;
        let mut output = Output::new(child.stderr.take());
        let ended = self.wait(&mut child, &mut output, is_abandoned);
        lock(&self.lines).splice(0..0, output.lines());
        let ended =
            ended.map_err(|error| failure(format!("{program} cannot be waited for: {error}")))?;
        match ended {
            End::Itself(status) if status.success() => Ok(()),
            End::Itself(status) => Err(failure(format!("{program} {}", how(status)))),
            End::Late => {
                let seconds = self.timeout.as_secs_f64();
                Err(failure(format!("{program} had not ended after {seconds} s and was killed")))
            }
            End::GetsAway => Err(failure(format!("{program}: {GETS_AWAY}"))),
            End::Abandoned => {
                Err(failure(format!("{program} was killed, because the daemon ends")))
            }
        }
    }

    fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.lines))
    }

    fn try_out(&self, message: &Message) -> Result<String, Failure> {
        self.deliver(message, &|| false)?;
        Ok(format!("{} ended with exit status 0", self.program))
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
