//! What the feed writes and requests read.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{flight::Flight, history::History, latest::Latest};
use crate::lock::lock;

/// Copies are of the same.
#[derive(Debug, Clone)]
pub struct Shared {
    latest: Arc<Mutex<Latest>>,
    history: Arc<Mutex<History>>,
    flight: Option<Arc<Mutex<Flight>>>,
}

impl Shared {
    /// What is told last goes into `latest`, the last minutes into `flight`; none: none are kept.
    #[must_use]
    pub fn new(latest: Latest, flight: Option<Flight>) -> Self {
        Self {
            latest: Arc::new(Mutex::new(latest)),
            history: Arc::default(),
            flight: flight.map(|flight| Arc::new(Mutex::new(flight))),
        }
    }

    /// The node as it was told last.
    pub fn latest(&self) -> MutexGuard<'_, Latest> {
        lock(&self.latest)
    }

    /// The last minutes of each table, second by second.
    pub fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// The flight recorder; none where no last minutes are kept.
    #[must_use]
    pub fn flight(&self) -> Option<MutexGuard<'_, Flight>> {
        self.flight.as_deref().map(lock)
    }
}
