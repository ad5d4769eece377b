//! Prometheus' `predict_linear(entries[5m], 600) >= max`: least squares, by the formula of promql/functions.go
//! (`linearRegression`), at each scrape.

use std::collections::VecDeque;

use super::{Line, max, nothing};
use crate::forecast::{Forecaster, outlook::Outlook, snapshot::Snapshot};

/// A regression over the last samples.
#[derive(Debug, Clone)]
pub struct PredictLinear {
    range_ns: u64,
    scrape_ns: u64,
    /// Times and entries.
    samples: VecDeque<(u64, f64)>,
    max: Option<f64>,
}

impl PredictLinear {
    /// Over `range` seconds of samples that are `scrape` seconds apart.
    #[must_use]
    pub fn new(range: u64, scrape: u64) -> Self {
        let [range_ns, scrape_ns] = [range, scrape].map(|seconds| seconds * 1_000_000_000);
        Self { range_ns, scrape_ns, samples: VecDeque::new(), max: None }
    }

    /// As it is mostly set up: five minutes of a scrape every 15 s.
    #[must_use]
    pub fn usual() -> Self {
        Self::new(300, 15)
    }

    /// As fast as it can be: one minute at a sample a second.
    #[must_use]
    pub fn fast() -> Self {
        Self::new(60, 1)
    }
}

/// Level at `intercept_ns` and slope of the line through the samples.
fn regression(samples: &VecDeque<(u64, f64)>, intercept_ns: u64) -> Option<Line> {
    if samples.len() < 2 {
        return None;
    }
    let n = samples.len() as f64;
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) = (0.0, 0.0, 0.0, 0.0);
    for (time_ns, y) in samples {
        let x = -(intercept_ns.saturating_sub(*time_ns) as f64) / 1e9;
        x_sum += x;
        y_sum += y;
        xy_sum += x * y;
        xx_sum += x * x;
    }
    let covariance = xy_sum - x_sum * y_sum / n;
    let variance = xx_sum - x_sum * x_sum / n;
    let slope = covariance / variance;
    Some(Line { level: y_sum / n - slope * x_sum / n, slope })
}

impl Forecaster for PredictLinear {
    fn observe(&mut self, snapshot: &Snapshot) {
        let now = snapshot.time_ns;
        // A tick may be a little early.
        let due = |last: &(u64, f64)| now.saturating_sub(last.0) + 1_000_000 >= self.scrape_ns;
        let Some(entries) = snapshot.entries else { return };
        if self.samples.back().is_none_or(due) {
            self.samples.push_back((now, entries as f64));
            self.max = max(snapshot);
            // Open to the left, as ranges are since Prometheus 3.
            while self.samples.front().is_some_and(|first| first.0 + self.range_ns <= now) {
                self.samples.pop_front();
            }
        }
    }

    fn outlook(&self) -> Outlook {
        let line = self.samples.back().and_then(|last| regression(&self.samples, last.0));
        match (line, self.max) {
            (Some(line), Some(max)) => line.outlook(max),
            _ => nothing(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::outlook::Quantiles;

    #[test]
    fn it_predicts_as_prometheus_does() {
        // By hand, with x = -30, -15, 0 and y = 100, 130, 190: n = 3, sums -45, 420, -4950 and 1125;
        // covariance -4950 + 45 * 420 / 3 = 1350, variance 1125 - 45 * 45 / 3 = 450, slope 3,
        // level 140 + 3 * 15 = 185.
        let samples =
            VecDeque::from([(0, 100.0), (15_000_000_000, 130.0), (30_000_000_000, 190.0)]);
        let line = regression(&samples, 30_000_000_000).unwrap();
        assert_eq!(line, Line { level: 185.0, slope: 3.0 });
        let outlook = line.outlook(785.0);
        let expected = Some(200.0);
        let quantiles = Quantiles { low: expected, median: expected, high: expected };
        assert_eq!(outlook.seconds_to_full, Some(quantiles));
        assert_eq!(outlook.entries_in_60s.unwrap().median, 365.0);
    }

    #[test]
    fn one_sample_says_nothing() {
        assert_eq!(regression(&VecDeque::from([(0, 1.0)]), 0), None);
    }
}
