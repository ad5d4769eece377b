//! The median of the time to full from one tick to the next: it stays what it was where the forecast allows it, and where it
//! jumps, the cause is named.

use super::Table;
use crate::forecast::{coming::Coming, outlook::HORIZON};

/// A median that is more than so many times another is a jump.
pub const FACTOR: f64 = 2.0;
/// Differences below this one, in seconds, are no jump.
const LEAST_SECS: f64 = 30.0;
/// Probabilities between which a quantile may be told as the median, where the median itself is a jump away: a table that was told
/// to be full soon stays so for a little longer, and none waits to be told so.
pub(super) const AROUND: [f64; 2] = [0.45, 0.5];
/// Seconds in which a new rate of arrivals explains a jump.
const NEW_RATE_SECS: f64 = 15.0;

/// Cause of a jump of the time to full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// The limit changed.
    Limit,
    /// Arrivals changed.
    Arrivals,
    /// The kernel's collector has passed, or is to pass about then.
    Collector,
    /// The level did not go as predicted: the probability to be full by then changed by a twentieth or more.
    Evidence,
}

impl Jump {
    /// Words for it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Limit => "the limit changed",
            Self::Arrivals => "arrivals changed",
            Self::Collector => "the collector removes what has expired",
            Self::Evidence => "the level did not go as predicted",
        }
    }
}

/// Time to full that the outlook of the tick before told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Told {
    /// Seconds on the source's clock.
    pub(super) at: f64,
    /// Median of the time to full, in seconds; none beyond the horizon.
    pub(super) median: Option<f64>,
    /// Limit in entries.
    pub(super) max: f64,
}

impl Told {
    /// Reports whether `median` is a jump away from what was told.
    pub(super) fn is_far_from(&self, median: Option<f64>) -> bool {
        let [before, after] = [self.median, median].map(|median| median.unwrap_or(HORIZON));
        let (less, more) = (before.min(after), before.max(after));
        more > FACTOR * less && more - less >= LEAST_SECS
    }

    /// The median that is nearest to what was told before, of all `between`, in seconds from now; none is beyond the horizon.
    pub(super) fn nearest(&self, now: f64, between: [Option<f64>; 2]) -> Option<f64> {
        let [low, high] = between.map(|time| time.unwrap_or(f64::INFINITY));
        let before =
            self.median.map_or(f64::INFINITY, |median| (median - (now - self.at)).max(0.0));
        Some(before.clamp(low, high.max(low))).filter(|time| time.is_finite())
    }
}

impl Table {
    /// Names the cause if `median` jumps from that of the tick before; none where it does not, or nothing was told then.
    pub(super) fn jump(&self, max: f64, median: Option<f64>, coming: &Coming) -> Option<Jump> {
        let told = self.told.filter(|told| told.is_far_from(median))?;
        Some(match () {
            () if told.max != max => Jump::Limit,
            () if coming.unchanged() < NEW_RATE_SECS || coming.changes() => Jump::Arrivals,
            () if self.is_saw => Jump::Collector,
            () => Jump::Evidence,
        })
    }
}
