//! How wide intervals are.

use std::collections::VecDeque;

use super::{outlook::AHEAD, path::Z90};

/// How wide the two halves of an 80 % interval have to be so that each holds as often as it says: adaptive conformal
/// inference (Gibbs, Candes 2021, arXiv 2106.00170) on the forecasts that have come due, each judged by the width that it
/// had.
#[derive(Debug, Clone)]
pub(super) struct Calibration {
    pub(super) width: Width,
    /// The earliest first.
    due: VecDeque<Expected>,
}

/// By which errors that are known are multiplied, below the median and above it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Width {
    below: f64,
    above: f64,
}

/// A forecast that was made.
#[derive(Debug, Clone, Copy)]
struct Expected {
    /// When it can be judged, in seconds.
    due: f64,
    ends: [f64; 2],
}

impl Default for Calibration {
    fn default() -> Self {
        let first = Width { below: Self::FIRST, above: Self::FIRST };
        Self { width: first, due: VecDeque::new() }
    }
}

impl Calibration {
    /// Forecasts are kept at least so many seconds apart.
    const APART: f64 = 2.0;
    const STEP: f64 = 0.05;
    /// The width before anything has come due.
    const FIRST: f64 = 2.0;
    /// The part of the forecasts that is to be beyond each end. Ends beyond the limit are cut there, and so hold more often.
    const BEYOND: f64 = 0.11;
    const LEAST: f64 = 0.3;
    const MOST: f64 = 30.0;

    /// So many `entries` there are, of at most so many where there is a limit.
    pub(super) fn judge(&mut self, now: f64, entries: f64, limit: Option<f64>) {
        while let Some(was) = self.due.front().copied().filter(|was| was.due <= now) {
            self.due.pop_front();
            if now - was.due > Self::APART {
                continue;
            }
            // No level is above the limit, whatever is told without regard to it.
            let most = limit.map_or(f64::INFINITY, |limit| limit.max(entries));
            let adapt = |width: &mut f64, is_beyond: bool| {
                let step = f64::from(u8::from(is_beyond)) - Self::BEYOND;
                *width = (*width * f64::exp(Self::STEP * step)).clamp(Self::LEAST, Self::MOST);
            };
            let [low, high] = was.ends;
            adapt(&mut self.width.below, entries < low.min(most));
            adapt(&mut self.width.above, entries > high);
        }
    }

    pub(super) fn is_due(&self, now: f64) -> bool {
        self.due.back().is_none_or(|was| now + AHEAD - was.due >= Self::APART)
    }

    /// Keeps what is expected in [`AHEAD`] seconds, with its standard error.
    pub(super) fn expect(&mut self, now: f64, median: f64, error: f64) {
        let end = |z: f64| median + self.width.of(z) * z * error;
        self.due.push_back(Expected { due: now + AHEAD, ends: [end(-Z90), end(Z90)] });
    }
}

impl Width {
    /// By which the error of both halves together is multiplied.
    pub(super) const fn mean(&self) -> f64 {
        0.5 * (self.below + self.above)
    }

    /// By which the error is multiplied `z` standard errors above the median.
    fn of(&self, z: f64) -> f64 {
        if z < 0.0 { self.below } else { self.above }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each half second 1,000 are expected with an error of 10, and `come` are there a minute later; returns the width.
    fn widths(come: impl Fn(u32) -> f64, limit: Option<f64>) -> Width {
        let mut calibration = Calibration::default();
        for tick in 0..8000 {
            let now = f64::from(tick) * 0.5;
            calibration.judge(now, come(tick), limit);
            if calibration.is_due(now) {
                calibration.expect(now, 1000.0, 10.0);
            }
        }
        calibration.width
    }

    #[test]
    fn each_half_is_as_wide_as_it_has_to_be() {
        // Beyond the upper end one time of five, and never below.
        let width = widths(|tick| if tick / 4 % 5 == 0 { 1040.0 } else { 1001.0 }, None);
        assert!(width.below < 0.4, "{width:?}");
        assert!((2.5..4.0).contains(&width.above), "{width:?}");
    }

    #[test]
    fn a_table_at_its_limit_says_nothing_of_what_is_expected_beyond() {
        let width = widths(|_| 900.0, Some(900.0));
        assert!(width.below < 0.4, "{width:?}");
    }
}
