//! What people run today, to compare with.

pub mod growth;
pub mod holt;
pub mod predict_linear;
pub mod silent;

use crate::{
    forecast::{
        outlook::{AHEAD, Outlook, Quantiles, State},
        snapshot::Snapshot,
    },
    model::tick::Limit,
};

/// A straight line ahead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Entries now.
    pub level: f64,
    /// Entries a second.
    pub slope: f64,
}

impl Line {
    /// What it says of a table with a limit; a line knows no doubt, so all quantiles are the same.
    fn outlook(self, max: f64) -> Outlook {
        let seconds = match max - self.level {
            room if room <= 0.0 => Some(0.0),
            room if self.slope > 0.0 => Some(room / self.slope),
            _ => None,
        };
        let ahead = self.level + AHEAD * self.slope;
        let state = if self.slope > 0.0 { State::Filling } else { State::Draining };
        Outlook {
            state,
            seconds_to_full: Some(Quantiles { low: seconds, median: seconds, high: seconds }),
            entries_in_60s: Some(Quantiles { low: ahead, median: ahead, high: ahead }),
            ..nothing()
        }
    }
}

/// Of which nothing is known.
fn nothing() -> Outlook {
    Outlook::unknown(State::Unknown, "")
}

/// The limit, where there is one.
fn max(snapshot: &Snapshot) -> Option<f64> {
    match snapshot.limit {
        Limit::Entries(max) => Some(f64::from(max)),
        Limit::Unlimited | Limit::Unavailable => None,
    }
}
