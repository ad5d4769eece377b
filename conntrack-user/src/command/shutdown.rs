//! Signals.

use std::{process, thread, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};

/// Listens from the moment it is made, so that no signal in between is lost.
pub(crate) struct Shutdown {
    interrupt: Signal,
    terminate: Signal,
}

impl Shutdown {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Returns when this process is asked to end.
    pub(crate) async fn requested(&mut self) {
        self.which().await;
    }

    /// Returns the name of the signal that asks this process to end.
    pub(crate) async fn signal(&mut self) -> &'static str {
        if self.which().await == SignalKind::interrupt() { "SIGINT" } else { "SIGTERM" }
    }

    /// Returns the signal that asks this process to end.
    async fn which(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        }
    }
}

/// Longest time that a command goes on after a signal.
const GRACE: Duration = Duration::from_millis(700);

/// From now on this process ends soon after it was asked to, also while it waits for a file or computes: with the exit
/// code of a process that the signal ended. For commands that leave nothing half done.
pub(crate) fn end_in_time() -> Result<()> {
    let watch = || -> Result<()> {
        runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let mut shutdown = Shutdown::listen()?;
            let signal = shutdown.which().await;
            thread::sleep(GRACE);
            process::exit(128 + signal.as_raw_value())
        })
    };
    // Where it cannot watch, signals end the command as far as it listens to them.
    thread::Builder::new()
        .name("shutdown".into())
        .spawn(watch)
        .map(drop)
        .context("cannot start the thread that ends this process in time")
}

/// SIGUSR2: the programs are to be detached, or attached again.
pub(crate) struct Release(Signal);

impl Release {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Self> {
        signal(SignalKind::user_defined2()).context("cannot listen for signals").map(Self)
    }

    /// Returns when it came.
    pub(crate) async fn requested(&mut self) {
        self.0.recv().await;
    }
}
