//! Writes the last minutes into files, when they are asked for or a warning wants them.

use std::{convert::Infallible, time::Duration};

use anyhow::{Context as _, Result};
use conntrack_user::{
    daemon::{
        flight::{Dump, Flight, files::Folder},
        log::{Level, Logger},
        shared::Shared,
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

/// The files.
pub(super) struct Files {
    shared: Shared,
    folder: Option<Folder>,
    asked: Signal,
    looks: Interval,
    logger: Logger,
}

impl Files {
    /// Begins to listen for SIGUSR1, and removes what a killed process has left in `folder`.
    pub(super) fn new(shared: Shared, folder: Option<Folder>, logger: Logger) -> Result<Self> {
        let asked = signal(SignalKind::user_defined1()).context("cannot listen for signals")?;
        if let Some(folder) = &folder
            && let Err(error) = folder.clean()
        {
            let path = folder.path.display();
            let text =
                format!("--flight-dir {path} cannot be used now: {error}; each file tries anew");
            logger.log(Level::Warning, &text, &[]);
        }
        Ok(Self { shared, folder, asked, looks: interval(LOOK_EVERY), logger })
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
        match (self.shared.flight(), &self.folder) {
            (None, _) => self.warn("SIGUSR1: no last minutes are kept, --flight-memory is 0"),
            (_, None) => self.warn(
                "SIGUSR1: the last minutes have no folder, --flight-dir; /api/v1/flight has them",
            ),
            (Some(mut flight), Some(_)) => flight.ask(monotonic_ns()),
        }
    }

    /// Writes a file, if there is one to be written. A thread of its own waits for the disk.
    async fn write(&self, which: impl FnOnce(&mut Flight) -> Option<Dump>) {
        let Some(folder) = &self.folder else { return };
        let dump = self.shared.flight().and_then(|mut flight| which(&mut flight));
        let Some(Dump { reason, snapshot }) = dump else { return };
        let (to, why) = (folder.clone(), reason.clone());
        let written = spawn_blocking(move || to.write(&why, &snapshot)).await;
        let written = written.map_err(anyhow::Error::from).and_then(|path| Ok(path?));
        if let Some(mut flight) = self.shared.flight() {
            flight.count(written.is_ok());
        }
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
