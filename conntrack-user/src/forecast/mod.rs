//! When a table will be full. Pure: time comes with the data.

mod arrivals;
mod calibration;
mod coming;
mod growth;
mod history;
mod law;
mod levels;
mod mixture;
pub mod outlook;
mod passes;
mod path;
mod reached;
pub(crate) mod reason;
mod season;
pub mod snapshot;
mod stock;
pub mod table;

use outlook::Outlook;
use snapshot::Snapshot;

/// Looks ahead for one table.
pub trait Forecaster {
    /// Takes in the next snapshot. One whose time is not after that of the one before is left out.
    fn observe(&mut self, snapshot: &Snapshot);

    /// What follows from the snapshots so far.
    fn outlook(&self) -> Outlook;
}
