//! Writes the last minutes into files, when they are asked for or a warning wants them.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use conntrack_user::{
    daemon::{
        flight::{Dump, Flight, files::Folder},
        log::{Level, Logger},
    },
    source::ebpf::monotonic_ns,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
    time::{Interval, interval},
};

/// How often it is looked whether a file is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The flight recorder, as the feed writes it and requests read it.
pub(super) type Shared = Arc<Mutex<Flight>>;

pub(super) fn lock(flight: &Mutex<Flight>) -> MutexGuard<'_, Flight> {
    // Whoever panicked meanwhile has left it whole: each call changes it at once.
    flight.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The files.
pub(super) struct Files {
    flight: Option<Shared>,
    folder: Option<Folder>,
    asked: Signal,
    looks: Interval,
    logger: Logger,
}

impl Files {
    /// Begins to listen for SIGUSR1, and removes what a killed process has left in `folder`.
    pub(super) fn new(
        flight: Option<Shared>,
        folder: Option<Folder>,
        logger: Logger,
    ) -> Result<Self> {
        let asked = signal(SignalKind::user_defined1()).context("cannot listen for signals")?;
        if let Some(folder) = &folder
            && let Err(error) = folder.clean()
        {
            let path = folder.path.display();
            let text =
                format!("--flight-dir {path} cannot be used now: {error}; each file tries anew");
            logger.log(Level::Warning, &text, &[]);
        }
        Ok(Self { flight, folder, asked, looks: interval(LOOK_EVERY), logger })
    }

    /// Writes each file when it is due, one after the other.
    pub(super) async fn run(&mut self) -> Infallible {
        loop {
            tokio::select! {
                _ = self.asked.recv() => self.ask(),
                _ = self.looks.tick() => {}
            }
            self.write(|flight| flight.due(monotonic_ns())).await;
        }
    }

    /// Writes what was yet to be written.
    pub(super) async fn finish(&mut self) {
        self.write(Flight::rest).await;
    }

    fn warn(&self, text: &str) {
        self.logger.log(Level::Warning, text, &[]);
    }

    fn ask(&self) {
        match (&self.flight, &self.folder) {
            (None, _) => self.warn("SIGUSR1: no last minutes are kept, --flight-memory is 0"),
            (_, None) => self.warn(
                "SIGUSR1: the last minutes have no folder, --flight-dir; /api/v1/flight has them",
            ),
            (Some(flight), Some(_)) => lock(flight).ask(monotonic_ns()),
        }
    }

    /// Writes a file, if there is one to be written. A thread of its own waits for the disk.
    async fn write(&self, which: impl FnOnce(&mut Flight) -> Option<Dump>) {
        let (Some(flight), Some(folder)) = (&self.flight, &self.folder) else { return };
        let Some(Dump { reason, snapshot }) = which(&mut lock(flight)) else { return };
        let (to, why) = (folder.clone(), reason.clone());
        let written = spawn_blocking(move || to.write(&why, &snapshot)).await;
        let written = written.map_err(anyhow::Error::from).and_then(|path| Ok(path?));
        lock(flight).count(written.is_ok());
        match written {
            Ok(path) => {
                let text = format!("{reason}: the last minutes are in {}", path.display());
                self.logger.log(Level::Notice, &text, &[]);
            }
            Err(error) => self.warn(&format!(
                "{reason}: the last minutes cannot be written into {}: {error}",
                folder.path.display()
            )),
        }
    }
}
