//! How long entries live.

use anyhow::{Result, bail, ensure};
use serde::Deserialize;

/// A law of spans of time.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Law {
    /// Always so many seconds.
    Fixed(f64),
    /// Exponential, with a mean in seconds.
    Exponential(f64),
    /// Lognormal.
    Lognormal {
        /// In seconds.
        median: f64,
        /// Standard deviation of the logarithm.
        sigma: f64,
    },
    /// Each of several for a share of the entries.
    Mixture(Vec<Part>),
}

/// A part of a mixture.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its share; those of all parts are taken relative to their sum.
    pub share: f64,
    /// Its law.
    pub law: Law,
}

impl Law {
    /// Says what makes no sense.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Fixed(seconds) => ensure!((0.0..=1e7).contains(seconds), "fixed is not a time"),
            Self::Exponential(mean) => {
                ensure!(*mean > 0.0 && *mean <= 1e7, "the mean is not above 0");
            }
            Self::Lognormal { median, sigma } => {
                ensure!(*median > 0.0 && *median <= 1e7, "the median is not above 0");
                ensure!((0.0..=3.0).contains(sigma), "sigma is not within 0 and 3");
            }
            Self::Mixture(parts) => {
                if !parts.iter().any(|part| part.share > 0.0) {
                    bail!("no part of the mixture has a share");
                }
                ensure!(
                    parts.iter().all(|part| (0.0..=1e9).contains(&part.share)),
                    "a share is not within 0 and a billion"
                );
                for part in parts {
                    part.law.check()?;
                }
            }
        }
        Ok(())
    }

    /// The mean in seconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match self {
            Self::Fixed(seconds) => *seconds,
            Self::Exponential(mean) => *mean,
            Self::Lognormal { median, sigma } => median * (sigma * sigma / 2.0).exp(),
            Self::Mixture(parts) => mix(parts, Self::mean),
        }
    }

    /// The probability that it is longer than `seconds`.
    #[must_use]
    pub fn survival(&self, seconds: f64) -> f64 {
        if seconds < 0.0 {
            return 1.0;
        }
        match self {
            Self::Fixed(fixed) => f64::from(seconds < *fixed),
            Self::Exponential(mean) => (-seconds / mean).exp(),
            Self::Lognormal { median, sigma } if *sigma > 0.0 => {
                upper_tail((seconds / median).ln() / sigma)
            }
            Self::Lognormal { median, .. } => f64::from(seconds < *median),
            Self::Mixture(parts) => mix(parts, |law| law.survival(seconds)),
        }
    }
}

fn mix(parts: &[Part], of: impl Fn(&Law) -> f64) -> f64 {
    let shares: f64 = parts.iter().map(|part| part.share).sum();
    parts.iter().map(|part| part.share * of(&part.law)).sum::<f64>() / shares
}

/// The probability that a standard normal is above `x`, to 1e-7 (Abramowitz and Stegun 26.2.17).
fn upper_tail(x: f64) -> f64 {
    if x < 0.0 {
        return 1.0 - upper_tail(-x);
    }
    let t = 1.0 / (1.0 + 0.231_641_9 * x);
    let polynomial = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530]
        .iter()
        .fold(0.0, |sum, factor| (sum + factor) * t);
    (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt() * polynomial
}

/// A law in ticks, with the timeout that follows.
#[derive(Debug, Clone)]
pub struct Life {
    /// The mean in ticks, also of what lies beyond the end of `survival`.
    pub mean: f64,
    /// The probability that it has not expired after that many ticks; the first is 1.
    pub survival: Vec<f64>,
}

impl Life {
    /// Of a `law` that a `timeout` in seconds follows, of entries that come in the middle of a tick; for `ticks` of
    /// `tick` seconds.
    #[must_use]
    pub fn new(law: &Law, timeout: f64, tick: f64, ticks: usize) -> Self {
        let later = (0..ticks).map(|at| law.survival((at as f64 + 1.5) * tick - timeout));
        let survival = std::iter::once(1.0).chain(later).collect();
        Self { mean: (law.mean() + timeout) / tick, survival }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_is_a_law_and_a_timeout() {
        let life = Life::new(&Law::Fixed(2.0), 30.0, 1.0, 100);
        // It came up to a second before the first tick.
        assert_eq!((life.survival[31], life.survival[32], life.mean), (1.0, 0.0, 32.0));
    }

    #[test]
    fn the_sum_of_survival_is_the_mean() {
        let mixture = Law::Mixture(vec![
            Part { share: 3.0, law: Law::Exponential(10.0) },
            Part { share: 1.0, law: Law::Lognormal { median: 20.0, sigma: 0.8 } },
        ]);
        for law in [Law::Fixed(5.0), Law::Exponential(40.0), mixture] {
            for tick in [0.1, 1.0] {
                let life = Life::new(&law, 10.0, tick, (2000.0 / tick) as usize);
                let sum: f64 = life.survival.iter().sum();
                assert!((sum / life.mean - 1.0).abs() < 0.01, "{law:?}: {sum} {}", life.mean);
            }
        }
    }

    #[test]
    fn the_normal_tail_is_right() {
        for (x, expected) in
            [(0.0, 0.5), (1.281_551_6, 0.1), (-1.281_551_6, 0.9), (3.0, 0.001_349_9)]
        {
            assert!((upper_tail(x) - expected).abs() < 1e-6, "{x}");
        }
    }
}
