//! Weighs several forecasters of one level by the errors of their recent predictions.
//!
//! Each predicts the entries in 10, 30 and 60 s as a normal law. When a prediction is due, its log score is added to those
//! before, which fade: Bayesian model averaging with forgetting (Raftery, Karny, Ettler 2010, doi 10.1198/TECH.2009.08104).
//! Beyond 60 s nothing has been judged: there the weights go back towards those of the start.

use std::collections::VecDeque;

use super::path::normal;

/// Forecasters: the queue of entries by age, the same if what it takes for likely is not so, the level that stays, and net growth
/// over each of [`GROWTH_SECS`].
pub(super) const EXPERTS: usize = 3 + GROWTH_SECS.len();
/// Place of the queue among them.
pub(super) const QUEUE: usize = 0;
/// Spans over which growth is measured, in seconds.
pub(super) const GROWTH_SECS: [f64; 3] = [8.0, 30.0, 120.0];

/// Weights before anything was judged: where all inserts were seen, and where nothing is known of the entries.
const PRIOR: [f64; EXPERTS] = [0.55, 0.41, 0.01, 0.01, 0.01, 0.01];
const PRIOR_IN_DOUBT: [f64; EXPERTS] = [0.16, 0.14, 0.1, 0.44, 0.08, 0.08];
/// Seconds ahead that are judged.
pub(super) const HORIZONS: [f64; 3] = [10.0, 30.0, 60.0];
/// Seconds in which a score fades to a third.
const FADES_SECS: [f64; 3] = [20.0, 40.0, 80.0];
/// Predictions are at least so many seconds apart.
const APART_SECS: f64 = 0.95;
/// The last horizon that is judged, in seconds.
const LAST: f64 = 60.0;
/// Part of its horizon for which one prediction counts: predictions that overlap are not independent.
const OVERLAP: f64 = 0.5;
/// Least probability that a forecaster is taken to have given to a table that is full now.
const LEAST_FULL: f64 = 1e-3;
/// Part by which predictions count that were made before arrivals became others.
const BEFORE_CHANGE: f64 = 0.05;
/// Part of the scores that is kept when arrivals become others.
const KEEPS_AT_CHANGE: f64 = 0.3;
/// Difference in seconds, and as part of the time since, below which two estimates of a change of arrivals mean the same one.
const SAME_CHANGE_SECS: f64 = 3.0;
const SAME_CHANGE_PART: f64 = 0.25;
/// Degrees of freedom of the law that scores: one surprise does not decide.
const FREEDOM: f64 = 4.0;
/// Entries and part of the level by which any prediction may be off.
const FLOOR: f64 = 1.5;
const FLOOR_PART: f64 = 0.001;
/// Entries, and part of the level, by which a quantile may be off.
const ENOUGH: f64 = 0.2;
const ENOUGH_PART: f64 = 1e-4;
/// Weights below this one do not change any result.
const NEGLIGIBLE: f64 = 1e-5;
/// No score takes more than this from a weight, as a logarithm.
const LEAST: f64 = -40.0;

/// A normal law of a level.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Normal {
    pub(super) mean: f64,
    pub(super) error: f64,
}

/// Predictions of every forecaster for one moment.
#[derive(Debug, Clone, Copy)]
struct Due {
    at: f64,
    made: f64,
    laws: [Normal; EXPERTS],
}

/// Scores of the forecasters, and their predictions that are not due yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Mixture {
    /// Predictions by horizon, the earliest first.
    due: [VecDeque<Due>; HORIZONS.len()],
    /// Sums of log scores that fade, by horizon.
    scores: [[f64; EXPERTS]; HORIZONS.len()],
    judged: [Option<f64>; HORIZONS.len()],
    last: Option<f64>,
    /// When arrivals last became others, as far as is known.
    changed: f64,
}

impl Mixture {
    /// Judges what was predicted for now. `full`: the limit, where the table is full, so that more could not come. `changed`:
    /// when arrivals became others: what was predicted before that says little of a forecaster.
    pub(super) fn judge(&mut self, now: f64, entries: f64, full: Option<f64>, changed: f64) {
        // The estimate of that moment moves from one tick to the next, and the more the longer ago it is.
        let same = SAME_CHANGE_SECS + SAME_CHANGE_PART * (now - changed).max(0.0);
        if changed > self.changed + same {
            self.scores.iter_mut().flatten().for_each(|score| *score *= KEEPS_AT_CHANGE);
        }
        self.changed = changed.max(self.changed);
        for (at, due) in self.due.iter_mut().enumerate() {
            while let Some(was) = due.front().copied().filter(|was| was.at <= now) {
                due.pop_front();
                if now - was.at > 2.0 * APART_SECS {
                    continue;
                }
                let passed = self.judged[at].map_or(APART_SECS, |before| (now - before).max(0.0));
                self.judged[at] = Some(now);
                let keep = (-passed / FADES_SECS[at]).exp();
                let part = if was.made < changed { BEFORE_CHANGE } else { 1.0 };
                let weight = part * (passed / (OVERLAP * HORIZONS[at])).min(1.0);
                let floor = FLOOR + FLOOR_PART * entries;
                let scores = was.laws.map(|law| score(law, entries, full, floor));
                let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                for (sum, score) in self.scores[at].iter_mut().zip(scores) {
                    *sum = (*sum * keep + weight * (score - best)).max(LEAST);
                }
            }
        }
    }

    /// Reports whether the next predictions are due.
    pub(super) fn is_due(&self, now: f64) -> bool {
        self.last.is_none_or(|last| now - last >= APART_SECS)
    }

    /// Keeps the predictions of every forecaster, for each of [`HORIZONS`].
    pub(super) fn expect(&mut self, now: f64, laws: [[Normal; EXPERTS]; HORIZONS.len()]) {
        self.last = Some(now);
        for ((due, ahead), laws) in self.due.iter_mut().zip(HORIZONS).zip(laws) {
            due.push_back(Due { at: now + ahead, made: now, laws });
        }
    }

    /// Sums up the scores. `doubt`: part of the entries of which nothing is known, 0 to 1.
    pub(super) fn belief(&self, doubt: f64) -> Belief {
        let mut belief = Belief { start: [0.0; EXPERTS], scores: [0.0; EXPERTS] };
        for at in 0..EXPERTS {
            belief.start[at] = (PRIOR[at] + doubt * (PRIOR_IN_DOUBT[at] - PRIOR[at])).ln();
            belief.scores[at] = self.scores.iter().map(|scores| scores[at]).sum();
        }
        belief
    }
}

/// Evidence from which the weights of the forecasters follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Belief {
    /// Logarithms of the weights before anything was judged.
    start: [f64; EXPERTS],
    /// Log scores since.
    scores: [f64; EXPERTS],
}

impl Belief {
    /// Weights of predictions so many seconds ahead; their sum is 1.
    pub(super) fn weights(&self, ahead: f64) -> [f64; EXPERTS] {
        let trust = LAST / ahead.max(LAST);
        let logs: [f64; EXPERTS] =
            std::array::from_fn(|at| self.start[at] + trust * self.scores[at]);
        let best = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights = logs.map(|log| (log - best).exp());
        let sum: f64 = weights.iter().sum();
        weights.map(|weight| weight / sum)
    }
}

/// Log density of what came, by a law with heavy tails; of a full table the logarithm of the probability of that (Tobin 1958,
/// doi 10.2307/1907382).
fn score(law: Normal, entries: f64, full: Option<f64>, floor: f64) -> f64 {
    let scale = law.error.hypot(floor);
    if let Some(limit) = full {
        return normal((law.mean - limit) / scale).max(LEAST_FULL).ln();
    }
    let off = (entries - law.mean) / scale;
    -scale.ln() - 0.5 * (FREEDOM + 1.0) * (off * off / FREEDOM).ln_1p()
}

/// Probability that the level is above `level`.
pub(super) fn above(laws: &[Normal; EXPERTS], weights: &[f64; EXPERTS], level: f64) -> f64 {
    let parts = laws.iter().zip(weights).filter(|(_, weight)| **weight > NEGLIGIBLE);
    parts.map(|(law, weight)| weight * normal((law.mean - level) / law.error.max(1e-9))).sum()
}

/// Quantile of a mixture: that of a normal law `z` standard errors from its mean. It is between those of its parts.
pub(super) fn quantile(laws: &[Normal; EXPERTS], weights: &[f64; EXPERTS], z: f64) -> f64 {
    let part = normal(z);
    let ends = || {
        let weighed = laws.iter().zip(weights).filter(|(_, weight)| **weight > NEGLIGIBLE);
        weighed.map(|(law, _)| law.mean + z * law.error)
    };
    let mut low = ends().fold(f64::INFINITY, f64::min);
    let mut high = ends().fold(f64::NEG_INFINITY, f64::max);
    let enough = ENOUGH + ENOUGH_PART * high.abs();
    while high - low > enough {
        let middle = f64::midpoint(low, high);
        if above(laws, weights, middle) > 1.0 - part {
            low = middle
        } else {
            high = middle
        }
        if f64::midpoint(low, high) == middle {
            break;
        }
    }
    f64::midpoint(low, high).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A level that grows by 15 a second, while the queue says that it stays.
    #[test]
    fn who_is_too_low_for_half_a_minute_loses_its_weight() {
        let mut mixture = Mixture::default();
        for second in 0..40 {
            let (now, level) = (f64::from(second), 3000.0 + 15.0 * f64::from(second));
            mixture.judge(now, level, None, 0.0);
            mixture.expect(
                now,
                HORIZONS.map(|ahead| {
                    let law = |growth: f64| Normal { mean: level + growth * ahead, error: 40.0 };
                    [law(0.0), law(0.0), law(0.0), law(15.0), law(15.0), law(15.0)]
                }),
            );
        }
        let queue = mixture.belief(0.0).weights(60.0)[QUEUE];
        assert!(queue < 0.05, "{queue}");
        assert!(
            mixture.belief(0.0).weights(3600.0)[QUEUE] > mixture.belief(0.0).weights(60.0)[QUEUE]
        );
    }

    #[test]
    fn only_a_new_change_of_arrivals_takes_from_scores() {
        let mut mixture = Mixture { changed: 60.0, ..Mixture::default() };
        mixture.scores[0][0] = -10.0;
        // The estimate of a change 140 s ago moves by 8 s.
        mixture.judge(200.0, 0.0, None, 68.0);
        assert_eq!(mixture.scores[0][0], -10.0);
        mixture.judge(201.0, 0.0, None, 195.0);
        assert_eq!(mixture.scores[0][0], -10.0 * KEEPS_AT_CHANGE);
    }

    #[test]
    fn quantiles_are_those_of_the_law() {
        let laws = [Normal { mean: 100.0, error: 10.0 }; EXPERTS];
        let weights = [1.0 / EXPERTS as f64; EXPERTS];
        assert!((quantile(&laws, &weights, 0.0) - 100.0).abs() < 0.1);
        assert!((quantile(&laws, &weights, 1.2816) - 112.816).abs() < 0.1);
        assert!((above(&laws, &weights, 100.0) - 0.5).abs() < 1e-6);
    }
}
