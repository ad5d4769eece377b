//! How wide intervals are.

use std::collections::VecDeque;

use super::{outlook::AHEAD, path::Z90};

/// How wide intervals have to be so that eight of ten hold: adaptive conformal inference (Gibbs, Candes 2021,
/// arXiv 2106.00170) on the forecasts that have come due.
#[derive(Debug, Clone)]
pub(super) struct Calibration {
    /// By which errors are multiplied.
    pub(super) width: f64,
    /// (due at, median, error without the width), the earliest first.
    due: VecDeque<(f64, f64, f64)>,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { width: 1.0, due: VecDeque::new() }
    }
}

impl Calibration {
    /// Forecasts are kept at least so many seconds apart.
    const APART: f64 = 2.0;
    const STEP: f64 = 0.04;

    pub(super) fn judge(&mut self, now: f64, entries: f64) {
        while let Some((due, median, error)) = self.due.front().copied().filter(|due| due.0 <= now)
        {
            self.due.pop_front();
            if now - due > Self::APART {
                continue;
            }
            let is_outside = (entries - median).abs() > Z90 * error * self.width;
            let step = if is_outside { 0.8 } else { -0.2 };
            self.width = (self.width * f64::exp(Self::STEP * step)).clamp(0.5, 8.0);
        }
    }

    pub(super) fn is_due(&self, now: f64) -> bool {
        self.due.back().is_none_or(|(due, ..)| now + AHEAD - due >= Self::APART)
    }

    pub(super) fn expect(&mut self, now: f64, median: f64, error: f64) {
        self.due.push_back((now + AHEAD, median, error));
    }
}
