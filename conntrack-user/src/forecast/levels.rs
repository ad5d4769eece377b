//! The level of a table over the last hour, and whether it has a trend.

use std::collections::VecDeque;

/// Points kept; of the earlier half every other one is left out when there are more.
const POINTS: usize = 256;
/// Points are at least so many seconds apart.
const APART: f64 = 0.95;
/// Standard errors beyond which a trend is one.
const SURE: f64 = 4.0;

/// A straight line through a level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Trend {
    /// Entries a second.
    pub(super) slope: f64,
    /// Its standard error.
    pub(super) error: f64,
    /// Over so many seconds.
    pub(super) seconds: f64,
    /// Standard deviation of the level around it.
    pub(super) noise: f64,
}

impl Trend {
    pub(super) fn is_sure(&self) -> bool {
        self.slope.abs() > SURE * self.error
    }
}

/// (seconds, entries), the earliest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Levels {
    points: VecDeque<(f64, f64)>,
}

impl Levels {
    pub(super) fn push(&mut self, now: f64, entries: f64) {
        if self.points.back().is_some_and(|(before, _)| now - before < APART) {
            return;
        }
        self.points.push_back((now, entries));
        if self.points.len() > POINTS {
            let mut at = 0;
            self.points.retain(|_| {
                at += 1;
                at > POINTS / 2 || at % 2 == 0
            });
        }
    }

    /// What came before is of another kind.
    pub(super) fn clear(&mut self) {
        self.points.clear();
    }

    /// The first time that is known.
    pub(super) fn first(&self) -> Option<f64> {
        self.points.front().map(|(time, _)| *time)
    }

    /// The line through the last `seconds`, by least squares. Neighbouring levels are alike: the error is that
    /// of as many independent ones as there are times of `memory` seconds.
    pub(super) fn trend(&self, now: f64, seconds: f64, memory: f64) -> Option<Trend> {
        let points = || self.points.iter().filter(|(time, _)| *time >= now - seconds);
        // By the time between them: early points are further apart.
        let mut sums = [0.0; 5];
        let mut before: Option<f64> = None;
        for (time, level) in points() {
            let (t, y) = (time - now, *level);
            let w = before.map_or(1.0, |before| (time - before).min(30.0));
            before = Some(*time);
            for (sum, add) in sums.iter_mut().zip([1.0, t, y, t * t, t * y]) {
                *sum += w * add;
            }
        }
        let [w, t, y, tt, ty] = sums;
        let spread = tt - t * t / w;
        let number = points().count();
        if number < 8 || spread <= 0.0 {
            return None;
        }
        let slope = (ty - t * y / w) / spread;
        let (middle, mean) = (t / w, y / w);
        let squares: f64 = points()
            .map(|(time, level)| (level - mean - slope * (time - now - middle)).powi(2))
            .sum();
        let noise = (squares / (number as f64 - 2.0)).sqrt();
        let span = -points().next().map_or(0.0, |(time, _)| time - now);
        let independent = (span / memory.max(1.0)).clamp(1.0, number as f64);
        // Of a line over `span`: the spread of as many points is their number times span^2 / 12.
        let error = noise.max(1.0) / (span * (independent / 12.0).sqrt()).max(1e-9);
        Some(Trend { slope, error, seconds: span, noise })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_seen_and_noise_is_not() {
        for (leak, is_sure) in [(20.0, true), (0.0, false)] {
            let mut levels = Levels::default();
            for second in 0..1200 {
                let noise = f64::from((second * 7919) % 601) - 300.0;
                levels.push(f64::from(second), 1e5 + leak * f64::from(second) + noise);
            }
            let trend = levels.trend(1200.0, 900.0, 60.0).unwrap();
            assert_eq!(trend.is_sure(), is_sure, "{trend:?}");
            assert!((trend.slope - leak).abs() < 1.0, "{trend:?}");
        }
    }
}
