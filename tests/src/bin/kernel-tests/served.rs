//! A `ctmon serve` that is asked over a unix socket.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use conntrack_tests::client;
pub(crate) use conntrack_tests::client::{Answer, Metrics};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::{
    process::{self, Ended, Process},
    runner::Env,
    wait,
};

/// A running `ctmon serve`.
#[derive(Debug)]
pub(crate) struct Served {
    process: Process,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Served {
    /// Starts it in the calling thread's network namespace, as `prepare` wants it.
    pub(crate) fn start_by(
        env: &Env,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("socket");
        let listen = format!("unix:{}", socket.display());
        let own = env.arguments(arguments);
        let all =
            [&["serve", "--listen", &listen, "--interval", "100ms"], arguments, &own].concat();
        let process = Process::start_by(env, &all, prepare)?;
        Ok(Self { process, socket, _folder: folder })
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn start(env: &Env, arguments: &[&str]) -> Result<Self> {
        let served = Self::start_by(env, arguments, |_| ())?;
        served.until_ready()?;
        Ok(served)
    }

    /// Waits until it has read the tables.
    pub(crate) fn until_ready(&self) -> Result<()> {
        let ready = || Ok(self.get("/readyz").ok().filter(|answer| answer.status == 200).map(drop));
        wait::until("ctmon serve is ready", wait::SHORT, ready).with_context(|| self.process.said())
    }

    /// Asks for a path.
    pub(crate) fn get(&self, path: &str) -> Result<Answer> {
        client::get(&self.socket, path)
    }

    /// Sends a request as it is.
    pub(crate) fn ask(&self, request: &str) -> Result<Answer> {
        client::ask(&self.socket, request)
    }

    /// Asks for a path whose answer is JSON.
    pub(crate) fn json(&self, path: &str) -> Result<Value> {
        let answer = self.get(path)?;
        if answer.status != 200 {
            bail!("{path} is answered with {}: {}", answer.status, answer.body);
        }
        serde_json::from_str(&answer.body).with_context(|| format!("{path}: {}", answer.body))
    }

    /// All metrics.
    pub(crate) fn metrics(&self) -> Result<Metrics> {
        Metrics::scrape(&self.socket)
    }

    /// Its privileged half.
    pub(crate) fn helper(&mut self) -> Result<Pid> {
        process::only_child(self.process.id()?)
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it has said on standard error.
    pub(crate) fn said(&self) -> String {
        self.process.stderr()
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(self) -> Result<Ended> {
        self.process.end_by(Signal::KILL)
    }

    /// Ends it with SIGTERM.
    pub(crate) fn terminate(self) -> Result<Ended> {
        self.process.end_by(Signal::TERM)
    }
}
