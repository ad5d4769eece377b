//! The flight recorder: the last minutes as they were told, at hand when something happens. docs/flight.md.

pub mod files;
pub mod ring;
mod trigger;

#[cfg(test)]
pub(crate) use trigger::MANUAL as MANUAL_REASON;

use crate::{
    model::reading::Time,
    source::{item::Item, recording::writer::WriteError},
};
use ring::{Limits, Ring, Snapshot};
use trigger::Trigger;

/// What may be missing at the end of what is asked for however often.
const YOUNG_NS: u64 = 1_000_000_000;

/// The last minutes, and when they are to be written.
pub struct Flight {
    ring: Ring,
    trigger: Trigger,
    written: u64,
    failed: u64,
}

/// Why a file is to be written, and what into it.
#[derive(Debug)]
pub struct Dump {
    /// In a word, which becomes part of the file's name.
    pub reason: String,
    /// What is recorded.
    pub snapshot: Snapshot,
}

impl Flight {
    /// Nothing recorded yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { ring: Ring::new(limits), trigger: Trigger::default(), written: 0, failed: 0 }
    }

    /// Takes in the next item that the source tells. `standing` is asked for from time to time: what a model needs to go
    /// on from before this item ([`crate::source::listener::Listener::standing`]).
    ///
    /// # Errors
    /// When it cannot be recorded: then all that was is given up, and recording begins anew.
    pub fn take(
        &mut self,
        item: &Item,
        standing: impl FnOnce() -> Vec<Item>,
    ) -> Result<(), WriteError> {
        self.ring.take(item, standing)
    }

    /// Somebody wants a file at once. Times are those of `CLOCK_MONOTONIC`, in nanoseconds.
    pub fn ask(&mut self, now_ns: u64) {
        self.trigger.ask(now_ns);
    }

    /// Something has become worse: a file is to be written 30 s later, with what came in them.
    pub fn warn(&mut self, reason: &str, now_ns: u64) {
        self.trigger.warn(reason, now_ns);
    }

    /// What is to be written by now, if anything is.
    pub fn due(&mut self, now_ns: u64) -> Option<Dump> {
        if self.ring.is_empty() {
            return None;
        }
        let reason = self.trigger.due(now_ns)?;
        Some(Dump { reason, snapshot: self.ring.snapshot(0)? })
    }

    /// What was yet to be written, whether its time has come or not.
    pub fn rest(&mut self) -> Option<Dump> {
        self.due(u64::MAX)
    }

    /// What is recorded up to now, but for the last second at the most; none when nothing is.
    pub fn snapshot(&mut self) -> Option<Snapshot> {
        self.ring.snapshot(YOUNG_NS)
    }

    /// A file was written, or could not be.
    pub const fn count(&mut self, is_written: bool) {
        if is_written {
            self.written += 1;
        } else {
            self.failed += 1;
        }
    }

    /// Files that were written, and those that could not be.
    #[must_use]
    pub const fn dumps(&self) -> (u64, u64) {
        (self.written, self.failed)
    }

    /// Bytes of memory in use.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ring.bytes()
    }

    /// From when to when it is recorded; none when nothing is.
    #[must_use]
    pub fn span(&self) -> Option<(Time, Time)> {
        self.ring.span()
    }
}

impl std::fmt::Debug for Flight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flight").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}
