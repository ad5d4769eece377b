//! The net growth of the last few ticks, as `ctmon watch` shows it.

use super::nothing;
use crate::forecast::{
    Forecast as _, Forecaster, Point, TimeToFull,
    growth::Growth,
    outlook::{Outlook, Quantiles},
    snapshot::Snapshot,
};

/// [`Growth`], which sees the levels only.
#[derive(Debug, Clone, Default)]
pub struct NetGrowth {
    growth: Growth,
}

impl Forecaster for NetGrowth {
    fn observe(&mut self, snapshot: &Snapshot) {
        if let Some(entries) = snapshot.entries {
            let (time_ns, limit) = (snapshot.time_ns, snapshot.limit);
            self.growth.observe(Point { time_ns, entries, limit });
        }
    }

    fn outlook(&self) -> Outlook {
        let seconds = match self.growth.time_to_full() {
            TimeToFull::Full => Some(0.0),
            TimeToFull::In { seconds } => Some(seconds),
            TimeToFull::NotGrowing => None,
            TimeToFull::Unknown | TimeToFull::Unlimited => return nothing(),
        };
        let full = Quantiles { low: seconds, median: seconds, high: seconds };
        Outlook { full: Some(full), ..nothing() }
    }
}
