//! Of the entries 60 s ahead.

use super::Mean;
use crate::{
    backtest::{said::Said, simulator::Run},
    forecast::outlook::{AHEAD, Quantiles},
};

/// Losses in per cent of the limit, and how often the interval held.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    pub(super) pinball: Mean,
    pub(super) crps: Mean,
    pub(super) covers: Mean,
    /// The same of the 95 % interval.
    pub(super) covers95: Mean,
}

pub(super) fn score(run: &Run, said: &[Said]) -> Ahead {
    let mut sums = Ahead::default();
    if said.iter().all(|said| said.ahead.is_none()) {
        return sums;
    }
    let truth = &run.truth;
    let later = truth.ticks(AHEAD);
    for (at, said) in said.iter().enumerate() {
        // Nothing is said in a gap, and nothing is to be foreseen of a table that is full.
        if run.snapshots[at].is_none() || truth.is_full(at) {
            continue;
        }
        let (level, max) = (truth.level[at + later] as f64, f64::from(truth.max[at + later]));
        let now = truth.level[at] as f64;
        let Quantiles { low, median, high } =
            said.ahead.unwrap_or(Quantiles { low: now, median: now, high: now });
        // The level cannot go beyond the limit.
        let within = |entries: f64| entries.clamp(0.0, max.max(level));
        let law = [low, median, high].map(within);
        let percent = 100.0 / max;
        let losses: [f64; 3] =
            std::array::from_fn(|at| pinball([0.1, 0.5, 0.9][at], law[at], level));
        sums.pinball.add(losses.iter().sum::<f64>() / 3.0 * percent);
        sums.crps.add(crps(law, level) * percent);
        sums.covers.add(f64::from((law[0]..=law[2]).contains(&level)));
        if let Some([low, high]) = said.ahead95.map(|ends| ends.map(within)) {
            sums.covers95.add(f64::from((low..=high).contains(&level)));
        }
    }
    sums
}

/// What it costs to have said `quantile` for the share `p`.
fn pinball(p: f64, quantile: f64, is: f64) -> f64 {
    if is >= quantile { p * (is - quantile) } else { (1.0 - p) * (quantile - is) }
}

/// Continuous ranked probability score of a law whose quantile function is a line between those of 10, 50 and 90 %,
/// and goes on as it does there: twice the mean of the pinball losses of all its quantiles.
fn crps([low, median, high]: [f64; 3], is: f64) -> f64 {
    const STEPS: usize = 20;
    let quantile = |p: f64| {
        let slope = if p < 0.5 { median - low } else { high - median };
        median + slope * (p - 0.5) / 0.4
    };
    let at = |step: usize| (step as f64 + 0.5) / STEPS as f64;
    let losses = (0..STEPS).map(|step| pinball(at(step), quantile(at(step)), is));
    2.0 * losses.sum::<f64>() / STEPS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crps_is_the_error_of_a_point_and_a_quarter_of_a_wide_law() {
        assert!((crps([5.0; 3], 8.0) - 3.0).abs() < 1e-9);
        // Uniform from 0 to 1, and 0.5 comes: 1/12.
        assert!((crps([0.1, 0.5, 0.9], 0.5) - 1.0 / 12.0).abs() < 1e-3);
    }
}
