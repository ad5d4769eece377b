//! Signals.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

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
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
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
