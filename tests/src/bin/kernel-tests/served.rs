//! A `ctmon serve` that is asked over a unix socket.

use std::{
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use conntrack_tests::client;
pub(crate) use conntrack_tests::client::{Answer, Metrics};
use rustix::{
    fs::{Gid, Uid},
    process::{Pid, Resource, Rlimit, Signal, setrlimit},
    thread::{
        CapabilitySet, CapabilitySets, configure_capability_in_ambient_set,
        remove_capability_from_bounding_set, set_capabilities, set_keep_capabilities,
        set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    process::{self, Ended, Process},
    runner::Env,
    wait,
};

/// User and group that the serving half of a `ctmon serve` of root becomes where there is no user `ctmon`.
pub(crate) const SERVING: u32 = 65_534;

/// Hands `folder` over to the serving half, which then reads it and writes into it.
pub(crate) fn hand_over(folder: &Path) -> Result<()> {
    chown(folder, Some(SERVING), Some(SERVING)).with_context(|| folder.display().to_string())
}

/// A folder of the serving half.
pub(crate) fn folder() -> Result<TempDir> {
    let folder = tempfile::tempdir()?;
    hand_over(folder.path())?;
    Ok(folder)
}

/// Has `command` run as the user [`SERVING`] with these capabilities (bits) and no others, as by a unit of systemd with `User=`,
/// `AmbientCapabilities=` and `CapabilityBoundingSet=`.
pub(crate) fn as_user(command: &mut Command, capabilities: u64) {
    let kept = CapabilitySet::from_bits_retain(capabilities);
    let become_user = move || {
        for capability in CapabilitySet::all().difference(kept) {
            // The kernel does not know all of them.
            let _ = remove_capability_from_bounding_set(capability);
        }
        // Maps count as locked memory before 5.11.
        setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None })?;
        set_keep_capabilities(true)?;
        let (user, group) = (Uid::from_raw(SERVING), Gid::from_raw(SERVING));
        set_thread_groups(&[])?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
        let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: kept };
        set_capabilities(None, sets)?;
        for capability in kept {
            configure_capability_in_ambient_set(capability, true)?;
        }
        Ok(())
    };
    // SAFETY: system calls alone, between fork(2) and exec(2).
    unsafe {
        command.pre_exec(become_user);
    }
}

/// A running `ctmon serve`.
#[derive(Debug)]
pub(crate) struct Served {
    process: Process,
    socket: PathBuf,
    _folder: TempDir,
}

impl Served {
    /// Starts it in the calling thread's network namespace, as `prepare` wants it.
    pub(crate) fn start_by(
        env: &Env,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        Self::start_each_by(env, "100ms", arguments, prepare)
    }

    /// Starts it with ticks of `interval`, as `prepare` wants it.
    fn start_each_by(
        env: &Env,
        interval: &str,
        arguments: &[&str],
        prepare: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let folder = folder()?;
        let socket = folder.path().join("socket");
        let listen = format!("unix:{}", socket.display());
        let own = env.arguments(arguments);
        let all =
            [&["serve", "--listen", &listen, "--interval", interval], arguments, &own].concat();
        let process = Process::start_by(env, &all, prepare)?;
        Ok(Self { process, socket, _folder: folder })
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn start(env: &Env, arguments: &[&str]) -> Result<Self> {
        let served = Self::start_by(env, arguments, |_| ())?;
        served.until_ready()?;
        Ok(served)
    }

    /// Starts it with ticks of `interval`, and waits until it is ready.
    pub(crate) fn start_each(env: &Env, interval: &str, arguments: &[&str]) -> Result<Self> {
        let served = Self::start_each_by(env, interval, arguments, |_| ())?;
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

    /// Waits until it knows the entries of `netns` exactly.
    pub(crate) fn settled(&self, netns: u64) -> Result<()> {
        wait::until("a settled baseline", wait::SHORT, || {
            let uncertainty = self.metrics()?.of("ctmon_entries_uncertainty", netns);
            Ok((uncertainty == Some(0.0)).then_some(()))
        })
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
