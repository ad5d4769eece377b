//! Says nothing: what an alarm at a fixed share of the limit knows of the future.

use super::nothing;
use crate::forecast::{Forecaster, outlook::Outlook, snapshot::Snapshot};

/// Says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Forecaster for Silent {
    fn observe(&mut self, _: &Snapshot) {}

    fn outlook(&self) -> Outlook {
        nothing()
    }
}
