//! Holt's double exponential smoothing, by the formula of Prometheus' `double_exponential_smoothing`
//! (promql/functions.go), over all samples and carried on as a line, which Prometheus leaves to the reader.

use super::{Line, max, nothing};
use crate::forecast::{Forecaster, outlook::Outlook, snapshot::Snapshot};

/// Seconds between two samples.
const SCRAPE: f64 = 1.0;
/// Weight of the last sample in the level (`sf`).
const LEVEL: f64 = 0.3;
/// Weight of the last step in the trend (`tf`).
const TREND: f64 = 0.1;

/// Level and trend, smoothed.
#[derive(Debug, Clone, Default)]
pub struct Holt {
    taken_ns: Option<u64>,
    samples: u64,
    before: f64,
    level: f64,
    trend: f64,
    max: Option<f64>,
}

impl Holt {
    fn take(&mut self, sample: f64) {
        self.samples += 1;
        match self.samples {
            1 => {
                self.level = sample;
                return;
            }
            2 => self.trend = sample - self.level,
            _ => self.trend = TREND * (self.level - self.before) + (1.0 - TREND) * self.trend,
        }
        let level = LEVEL * sample + (1.0 - LEVEL) * (self.level + self.trend);
        (self.before, self.level) = (self.level, level);
    }
}

impl Forecaster for Holt {
    fn observe(&mut self, snapshot: &Snapshot) {
        let due = |taken| snapshot.time_ns.saturating_sub(taken) as f64 >= (SCRAPE - 1e-3) * 1e9;
        if let Some(entries) = snapshot.entries
            && self.taken_ns.is_none_or(due)
        {
            self.taken_ns = Some(snapshot.time_ns);
            self.max = max(snapshot);
            self.take(entries as f64);
        }
    }

    fn outlook(&self) -> Outlook {
        match self.max {
            Some(max) if self.samples >= 2 => {
                Line { level: self.level, slope: self.trend / SCRAPE }.outlook(max)
            }
            _ => nothing(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_smooths_as_prometheus_does() {
        let mut holt = Holt::default();
        for sample in [10.0, 20.0, 40.0] {
            holt.take(sample);
        }
        // Trend 10, level 0.3 * 20 + 0.7 * 20 = 20; then trend 0.1 * 10 + 0.9 * 10 = 10, level
        // 0.3 * 40 + 0.7 * 30 = 33.
        assert!((holt.trend - 10.0).abs() < 1e-9 && (holt.level - 33.0).abs() < 1e-9, "{holt:?}");
    }
}
