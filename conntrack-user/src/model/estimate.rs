//! Estimates from a sample, with their errors.
//!
//! Every entry is in the sample by itself with a known probability, its ratio (Poisson sampling). Counts
//! are Horvitz-Thompson estimates (1952, doi 10.2307/2280784): each sampled entry stands for 1/ratio
//! entries. The intervals are score intervals (Wilson 1927, doi 10.2307/2276774), which keep their
//! coverage at small counts where value +- 1.96 sd does not. At counts of 1 to 3 their low ends are too
//! high; there the one-sided exact bound takes their place (Brown, Cai, DasGupta 2001, section 4.1.1, doi
//! 10.1214/ss/1009213286).

use serde::Serialize;

/// The 97.5 % quantile of the normal distribution: two-sided 95 %.
pub const Z: f64 = 1.959_963_984_540_054;

/// Means of Poisson distributions that reach 1, 2 and 3 with a probability of 5 %: the one-sided exact
/// bounds (Garwood 1936, doi 10.2307/2333958).
const SMALL_COUNTS: [f64; 3] = [0.051_293, 0.355_362, 0.817_691];

/// A number, and what it lies between with a confidence of 95 %. Without an error all three are equal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The best guess.
    pub value: f64,
    /// The low end of the 95 % interval.
    pub low: f64,
    /// The high end of the 95 % interval.
    pub high: f64,
}

impl Estimate {
    /// Without an error.
    #[must_use]
    pub const fn exact(value: f64) -> Self {
        Self { value, low: value, high: value }
    }

    /// High end less low end.
    #[must_use]
    pub const fn width(&self) -> f64 {
        self.high - self.low
    }
}

/// Entries in the sample, and how many they stand for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sampled {
    /// How many.
    pub n: u64,
    /// Sum of 1/ratio.
    pub weight: f64,
    /// Sum of 1/ratio^2.
    pub weight_squared: f64,
}

impl Sampled {
    /// `n` entries that were in the sample with the probability `ratio`, above 0 and at most 1.
    #[must_use]
    pub fn new(n: u64, ratio: f64) -> Self {
        let (n_real, weight) = (n as f64, 1.0 / ratio);
        Self { n, weight: n_real * weight, weight_squared: n_real * weight * weight }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            n: self.n + other.n,
            weight: self.weight + other.weight,
            weight_squared: self.weight_squared + other.weight_squared,
        }
    }

    /// Takes in an entry that was in the sample with the probability `ratio`.
    pub fn add(&mut self, ratio: f64) {
        *self = self.plus(&Self::new(1, ratio));
    }

    /// How many equally likely entries would tell as much (Kish 1965): at most `n`.
    #[must_use]
    pub fn effective(&self) -> f64 {
        if self.n == 0 { 0.0 } else { self.weight * self.weight / self.weight_squared }
    }

    /// How many entries there are in all. `ratio`: the lowest that such an entry may have had; what the
    /// interval rests on while none is in the sample.
    ///
    /// The numbers N for which (estimate - N)^2 <= z^2 V(N), where the variance V is proportional to N:
    /// N q / p with one ratio p = 1 - q, and with several the mean of q / p over the entries that the
    /// sample stands for. Never below `n`: these have been seen.
    #[must_use]
    pub fn count(&self, ratio: f64) -> Estimate {
        // The sum of (1 - ratio) / ratio^2 estimates the variance.
        let odds = if self.n == 0 {
            (1.0 - ratio) / ratio
        } else {
            (self.weight_squared - self.weight).max(0.0) / self.weight
        };
        let (total, spread) = (self.weight, Z * Z * odds);
        let middle = total + spread / 2.0;
        let half = (spread * (total + spread / 4.0)).sqrt();
        let low = (middle - half).min(self.small_count().unwrap_or(f64::INFINITY));
        let seen = self.n as f64;
        // Rounding must not part the ends of an interval without width from the value.
        Estimate { value: total, low: low.max(seen).min(total), high: (middle + half).max(total) }
    }

    /// The low end for a handful of entries; none for more.
    fn small_count(&self) -> Option<f64> {
        let mean = SMALL_COUNTS.get(usize::try_from(self.n).ok()?.checked_sub(1)?)?;
        Some(mean * self.weight / self.n as f64)
    }

    /// Which share of all entries belongs to the class of which this is the sample, where `all` is the
    /// sample of all, this class among them. `population`: how many entries there are at most, such as the
    /// high end of `all.count()`. None if the sample is empty.
    ///
    /// Wilson's interval, narrower by the finite population correction: of a population of which most is
    /// in the sample, most is known.
    #[must_use]
    pub fn share(&self, all: &Self, population: f64) -> Option<Estimate> {
        if all.n == 0 {
            return None;
        }
        let value = (self.weight / all.weight).clamp(0.0, 1.0);
        let unseen = unseen(all.n as f64, all.weight);
        if unseen == 0.0 {
            return Some(Estimate::exact(value));
        }
        let n = all.effective();
        let (low, high) = wilson(value, n, unseen);
        let rest = Self {
            n: all.n.saturating_sub(self.n),
            weight: (all.weight - self.weight).max(0.0),
            weight_squared: (all.weight_squared - self.weight_squared).max(0.0),
        };
        // What has been seen is there, however many there are.
        let floor = |class: &Self, low: f64| {
            let small = class.small_count().map_or(f64::INFINITY, |count| count / all.weight);
            let seen = class.n as f64 / population.max(all.n as f64);
            low.min(small).max(seen)
        };
        let low = floor(self, low).min(value);
        let high = (1.0 - floor(&rest, 1.0 - high)).max(value);
        Some(Estimate { value, low, high })
    }
}

/// The finite population correction: which share of `population` is not among `n` drawn from it without
/// replacement.
#[must_use]
pub fn unseen(n: f64, population: f64) -> f64 {
    if population <= 1.0 {
        return 0.0;
    }
    ((population - n) / (population - 1.0)).clamp(0.0, 1.0)
}

/// Both ends of Wilson's interval of a share that came out as `value` among `n` (which need not be whole,
/// above 0), its variance times `correction`.
#[must_use]
pub fn wilson(value: f64, n: f64, correction: f64) -> (f64, f64) {
    let z2 = Z * Z * correction;
    let middle = (value + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = (z2 * (value * (1.0 - value) / n + z2 / (4.0 * n * n))).sqrt() / (1.0 + z2 / n);
    ((middle - half).clamp(0.0, 1.0), (middle + half).clamp(0.0, 1.0))
}

#[cfg(test)]
#[path = "estimate_tests.rs"]
mod tests;
