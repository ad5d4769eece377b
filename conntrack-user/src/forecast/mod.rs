//! When a table will be full. Pure: time comes with the data.

mod arrivals;
mod calibration;
pub mod growth;
mod history;
mod law;
mod levels;
pub mod outlook;
mod passes;
mod path;
mod reason;
pub mod snapshot;
mod stock;
pub mod table;

use outlook::Outlook;
use snapshot::Snapshot;

use crate::model::tick::Limit;

/// The state of a table at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Nanoseconds on a clock that never jumps.
    pub time_ns: u64,
    /// Entries in the table.
    pub entries: u64,
    /// Entries it may have.
    pub limit: Limit,
}

/// What a forecast says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TimeToFull {
    /// Too little is known yet.
    Unknown,
    /// It does not grow.
    NotGrowing,
    /// It is full.
    Full,
    /// It has no limit.
    Unlimited,
    /// It will be full if it goes on as it does.
    In {
        /// In so many seconds.
        seconds: f64,
    },
}

/// Looks ahead for one table.
pub trait Forecast {
    /// Takes in the next point; points come in the order of time.
    fn observe(&mut self, point: Point);

    /// What follows from the points so far.
    fn time_to_full(&self) -> TimeToFull;
}

/// Looks ahead for one table.
pub trait Forecaster {
    /// Takes in the next snapshot. One whose time is not after that of the one before is left out.
    fn observe(&mut self, snapshot: &Snapshot);

    /// What follows from the snapshots so far.
    fn outlook(&self) -> Outlook;
}
