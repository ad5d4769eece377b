//! Net growth of a level over several spans, and how much it varies from one second to the next.

use std::collections::VecDeque;

use super::mixture::{GROWTH_SECS, Normal};

/// Levels are at least so many seconds apart.
const APART_SECS: f64 = 0.95;
/// Part of a span that must be there for a growth over it.
const LEAST_PART: f64 = 0.5;
/// Part of a growth by which it may be another after as long a time as it was measured over.
const CHANGES: f64 = 0.5;
/// Part of a growth that goes on for sure where nothing is deleted.
const SURE: f64 = 0.9;
/// Entries squared a second: no level is surer than that.
const LEAST_VARIANCE: f64 = 0.25;

/// Levels of the last minutes.
#[derive(Debug, Clone, Default)]
pub(super) struct Growth {
    /// (seconds, entries), the earliest first.
    levels: VecDeque<(f64, f64)>,
}

/// Measured growth.
#[derive(Debug, Clone, Copy)]
struct Measured {
    /// Entries a second.
    slope: f64,
    /// Length of the span, in seconds.
    seconds: f64,
}

/// Level and growth from which the next minutes are predicted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Projection {
    now: f64,
    /// Entries squared a second by which the level varies.
    variance: f64,
    growth: [Option<Measured>; GROWTH_SECS.len()],
}

impl Growth {
    pub(super) fn push(&mut self, now: f64, entries: f64) {
        if self.levels.back().is_some_and(|(before, _)| now - before < APART_SECS) {
            return;
        }
        self.levels.push_back((now, entries));
        let oldest = now - GROWTH_SECS[GROWTH_SECS.len() - 1] - 1.0;
        while self.levels.front().is_some_and(|(time, _)| *time < oldest) {
            self.levels.pop_front();
        }
    }

    /// Level that was pushed last.
    pub(super) fn last(&self) -> Option<f64> {
        self.levels.back().map(|(_, level)| *level)
    }

    /// Forgets all levels.
    pub(super) fn clear(&mut self) {
        self.levels.clear();
    }

    /// Starts a prediction from `entries` at `now`.
    pub(super) fn project(&self, now: f64, entries: f64) -> Projection {
        let growth = GROWTH_SECS.map(|span| {
            let first = self.levels.partition_point(|(time, _)| *time < now - span - 0.5);
            let (time, level) = *self.levels.get(first)?;
            let seconds = now - time;
            let is_enough = seconds >= (LEAST_PART * span).max(3.0);
            is_enough.then(|| Measured { slope: (entries - level) / seconds, seconds })
        });
        Projection { now: entries, variance: self.variance(), growth }
    }

    /// Variance of the steps of the last half minute around their slope, in entries squared a second.
    fn variance(&self) -> f64 {
        let end = self.levels.back().map_or(0.0, |(time, _)| *time);
        let from = self.levels.partition_point(|(time, _)| *time < end - GROWTH_SECS[1]);
        let recent = || self.levels.range(from..);
        let (Some(first), Some(last)) = (recent().next(), recent().next_back()) else {
            return LEAST_VARIANCE;
        };
        let seconds = last.0 - first.0;
        if seconds <= 0.0 {
            return LEAST_VARIANCE;
        }
        let slope = (last.1 - first.1) / seconds;
        let steps = recent().zip(recent().skip(1));
        let squares: f64 = steps
            .map(|((t, level), (next_t, next))| {
                let off = next - level - slope * (next_t - t);
                off * off
            })
            .sum();
        (squares / seconds).max(LEAST_VARIANCE)
    }
}

impl Projection {
    /// Level after so many seconds without growth.
    pub(super) fn stays(&self, ahead: f64) -> Normal {
        Normal { mean: self.now, error: (self.variance * ahead).sqrt() }
    }

    /// Least level after so many seconds by any of the spans, if nine tenths of its growth go on. A span that is not there yet
    /// counts as no growth.
    pub(super) fn least(&self, ahead: f64) -> f64 {
        let slopes = self.growth.map(|growth| growth.map_or(0.0, |growth| growth.slope));
        self.now + SURE * slopes.into_iter().fold(f64::INFINITY, f64::min) * ahead
    }

    /// Level after so many seconds if the growth over the span `at` of [`GROWTH_SECS`] goes on. An unknown growth counts as 0.
    pub(super) fn grows(&self, at: usize, ahead: f64) -> Normal {
        self.known(at).map_or_else(|| self.stays(ahead), |known| known.after(ahead))
    }

    /// Growth over the span `at`; none where it is not known yet.
    pub(super) fn known(&self, at: usize) -> Option<Known> {
        let measured = self.growth.get(at).copied().flatten()?;
        Some(Known { now: self.now, variance: self.variance, measured })
    }
}

/// A growth that is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    now: f64,
    variance: f64,
    measured: Measured,
}

impl Known {
    /// Entries a second.
    pub(super) const fn slope(&self) -> f64 {
        self.measured.slope
    }

    /// Level after so many seconds if it goes on.
    pub(super) fn after(&self, ahead: f64) -> Normal {
        let Measured { slope, seconds } = self.measured;
        let of_slope = self.variance / seconds * ahead * ahead;
        let changes = CHANGES * slope * ahead * ahead / (ahead + seconds);
        let error = (self.variance * ahead + of_slope + changes * changes).sqrt();
        Normal { mean: (self.now + slope * ahead).max(0.0), error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_growth_goes_on_and_is_the_less_sure_the_farther() {
        let mut growth = Growth::default();
        for second in 0..=60 {
            growth.push(f64::from(second), 1000.0 + 20.0 * f64::from(second));
        }
        let projection = growth.project(60.0, 2200.0);
        for at in 0..3 {
            let [near, far] = [10.0, 100.0].map(|ahead| projection.grows(at, ahead));
            assert!((near.mean - 2400.0).abs() < 1e-6 && (far.mean - 4200.0).abs() < 1e-6);
            assert!(near.error < 0.1 * far.error.max(200.0), "{near:?} {far:?}");
        }
        assert_eq!(projection.stays(100.0).mean, 2200.0);
    }

    #[test]
    fn before_anything_is_known_it_stays() {
        let projection = Growth::default().project(5.0, 7.0);
        assert_eq!(projection.grows(0, 60.0), projection.stays(60.0));
    }
}
