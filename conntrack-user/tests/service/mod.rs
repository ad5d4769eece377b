//! `ctmon serve` as a child of a test.

#![allow(dead_code, reason = "each program of tests uses a part")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Service that is killed when it is dropped.
pub(crate) struct Service {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    /// Starts `command`, and reads its standard error as the log.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let log = BufReader::new(child.stderr.take().context("no standard error")?);
        Ok(Self { child, log })
    }

    /// Reads the log up to and including the next line that contains `text`.
    pub(crate) fn until(&mut self, text: &str) -> Result<String> {
        let mut all = String::new();
        while !all.lines().any(|line| line.contains(text)) {
            ensure!(self.log.read_line(&mut all)? > 0, "no {text:?} in: {all}");
        }
        Ok(all)
    }

    /// Reads the log up to the next line that contains `text`, and returns that line.
    pub(crate) fn line(&mut self, text: &str) -> Result<String> {
        let all = self.until(text)?;
        Ok(all.lines().last().unwrap_or_default().to_owned())
    }

    /// Process number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Exit status, once it has ended.
    pub(crate) fn status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Ends it by SIGTERM, and expects exit code 0.
    pub(crate) fn end(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.child.wait()?;
        ensure!(status.code() == Some(0), "{status}");
        Ok(())
    }
}
