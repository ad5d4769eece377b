//! ctmon as a child process.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{checks::one_line, runner::Env, wait};

/// After the process has ended, for what is still in its pipes.
const DRAIN: Duration = Duration::from_secs(2);

/// A running ctmon, killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    line: String,
    stdout: Option<Receiver<String>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    stderr_done: Receiver<()>,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// What had not been read before.
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    /// Starts ctmon in the calling thread's network namespace.
    pub(crate) fn start(env: &Env, arguments: &[&str]) -> Result<Self> {
        Self::start_as(env, arguments, None)
    }

    /// Starts ctmon with a user and group id.
    pub(crate) fn start_as(env: &Env, arguments: &[&str], id: Option<u32>) -> Result<Self> {
        Self::start_by(env, arguments, |command| {
            id.into_iter().for_each(|id| _ = command.uid(id).gid(id));
        })
    }

    /// Starts ctmon as `prepare` wants it.
    pub(crate) fn start_by(
        env: &Env,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let line = format!("ctmon {}", arguments.join(" "));
        let mut command = Command::new(&env.ctmon);
        command.args(arguments);
        prepare(&mut command);
        Self::spawn(command, line)
    }

    /// Starts another program; `line`: what it is called in messages.
    pub(crate) fn spawn(mut command: Command, line: String) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {line:?} ({:?})", command.get_program()))?;
        let (Some(stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
            bail!("{line:?} has no pipes");
        };

        let (lines, receiver) = channel();
        thread::spawn(move || {
            // Ends with the pipe, or as soon as nobody wants the lines any more: the pipe is then closed.
            for text in BufReader::new(stdout).lines() {
                let Ok(text) = text else { break };
                if lines.send(text).is_err() {
                    break;
                }
            }
        });
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (done, stderr_done) = channel();
        let shared = Arc::clone(&kept);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut buffer) {
                let text = buffer.get(..length).unwrap_or_default();
                shared.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(text);
            }
            drop(done);
        });
        Ok(Self { child, line, stdout: Some(receiver), stderr: kept, stderr_done })
    }

    /// What it has written to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap_or_else(PoisonError::into_inner))
            .into_owned()
    }

    /// The next line of its standard output; none once that is closed.
    pub(crate) fn next_line(&self, limit: Duration) -> Result<Option<String>> {
        let Some(lines) = &self.stdout else {
            bail!("standard output of {:?} has been closed", self.line);
        };
        match lines.recv_timeout(limit) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(anyhow!(
                "{:?} printed no line for {} s; {}",
                self.line,
                limit.as_secs(),
                self.said()
            )),
        }
    }

    /// A line that has arrived already.
    pub(crate) fn line_here(&self) -> Option<String> {
        self.stdout.as_ref().and_then(|lines| lines.try_recv().ok())
    }

    /// Standard error, for a message.
    pub(crate) fn said(&self) -> String {
        match self.stderr() {
            said if said.is_empty() => "it said nothing on standard error".to_owned(),
            said => format!("it said: {}", one_line(&said)),
        }
    }

    /// Closes the reading end of its standard output, when it prints the next line.
    pub(crate) fn close_stdout(&mut self) {
        self.stdout = None;
    }

    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Memory that it holds, in KiB, page by page: `VmRSS` of kernels before 6.2 lags behind by what was mapped since the
    /// last 64 page faults, which may be whole maps (`SPLIT_RSS_COUNTING`, mm/memory.c).
    pub(crate) fn memory_kib(&self) -> Result<i64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Rss:"));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("no Rss of {:?}", self.line))
    }

    /// CPU time of its threads so far, in user mode and in the kernel.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        cpu_time(self.id()?)
    }

    /// Its number.
    pub(crate) fn id(&self) -> Result<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.id()?, signal)
            .with_context(|| format!("cannot send {signal:?} to {:?}", self.line))
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn end_by(self, signal: Signal) -> Result<Ended> {
        self.signal(signal)?;
        self.end(wait::SHORT)
    }

    /// Waits for the end.
    pub(crate) fn end(mut self, limit: Duration) -> Result<Ended> {
        let status = wait::until(&format!("the end of {:?}", self.line), limit, || {
            Ok(self.child.try_wait()?)
        })
        .with_context(|| self.said())?;
        let mut stdout = String::new();
        while let Some(Ok(line)) = self.stdout.as_ref().map(|lines| lines.recv_timeout(DRAIN)) {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        // Disconnected, not a message, is what says that all has been read.
        let _ = self.stderr_done.recv_timeout(DRAIN);
        Ok(Ended { status, stdout, stderr: self.stderr() })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs ctmon to its end.
pub(crate) fn run(env: &Env, arguments: &[&str]) -> Result<Ended> {
    Process::start(env, arguments)?.end(wait::SHORT)
}

/// CPU time of a process's threads so far, in user mode and in the kernel.
pub(crate) fn cpu_time(process: Pid) -> Result<Duration> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero()))? {
        // In nanoseconds; utime and stime would be in hundredths of a second.
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        let first = text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
        sum += first.with_context(|| format!("schedstat holds {text:?}"))?;
    }
    Ok(Duration::from_nanos(sum))
}

/// The only child of the first thread of a process.
pub(crate) fn only_child(parent: Pid) -> Result<Pid> {
    let id = parent.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    let child = children.trim().parse().ok().and_then(Pid::from_raw);
    child.with_context(|| format!("{children:?} is not one helper"))
}
