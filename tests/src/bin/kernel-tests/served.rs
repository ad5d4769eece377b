//! `ctmon serve`, asked over a unix socket: a connection over loopback would be an entry of its own.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::{
    process::{Ended, Process},
    runner::Env,
    wait,
};

/// For one answer.
const ANSWER: Duration = Duration::from_secs(20);

/// A running `ctmon serve`.
#[derive(Debug)]
pub(crate) struct Served {
    process: Process,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
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
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"))
    }

    /// Sends a request as it is.
    pub(crate) fn ask(&self, request: &str) -> Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket).context("nobody listens")?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(request.as_bytes())?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let (head, body) = text.split_once("\r\n\r\n").context("an answer without an end")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("no status in {head:?}"))?;
        Ok(Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() })
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
        Ok(Metrics(self.get("/metrics")?.body))
    }

    /// Its privileged half.
    pub(crate) fn helper(&mut self) -> Result<Pid> {
        let id = self.process.id()?.as_raw_nonzero();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let helper = children.trim().parse().ok().and_then(Pid::from_raw);
        helper.with_context(|| format!("{children:?} is not one helper"))
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

/// Metrics as text.
#[derive(Debug)]
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    /// The value of a series, which is written as there; none where it is absent.
    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
    }

    /// The values of all series with that name.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = f64> + 'a {
        let of = move |line: &str| {
            line.strip_prefix(name)?.strip_prefix('{')?.split(' ').next_back()?.parse().ok()
        };
        self.0.lines().filter_map(of)
    }

    /// The value of a namespace's series without other labels.
    pub(crate) fn of(&self, name: &str, inode: u64) -> Option<f64> {
        self.value(&format!("{name}{{netns=\"{inode}\"}}"))
    }
}
