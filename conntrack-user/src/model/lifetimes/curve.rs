//! What a life table says: survival, hazard and quantiles.
//!
//! Survival is the actuarial estimator (Cutler, Ederer 1958, doi 10.1016/0021-9681(58)90126-7): the
//! product over the bins of 1 - died / exposed, where whoever comes or leaves in a bin is exposed to half
//! of it. Its variance is Greenwood's (1926), with the effective number of flows (Kish 1965) where they
//! weigh differently; intervals are made on the log(-log) scale (Kalbfleisch, Prentice 1980, section 1.4).
//! While all or none survive that scale has no room, and Wilson's interval takes its place, as Rothman
//! (1978, doi 10.1016/0021-9681(78)90043-7) has it.

use serde::Serialize;

use super::{Ended, Table, bins, entries};
use crate::model::{
    class::{EntryStatus, STATUSES},
    estimate::{Estimate, Z, wilson},
};

/// One protocol's lifetimes.
///
/// The intervals say how far the lifetimes of entries like these may lie from those observed; they have a
/// width also when every entry is observed, and do not foresee that entries come to behave otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// By age, from 0 up to the last bin in which anything was observed.
    pub bins: Vec<Bin>,
    /// Flows that ended, in the sample.
    pub ended: u64,
    /// The lifetimes of those that ended, by final status in the order of [`EntryStatus::ALL`].
    pub by_status: [EndedLifetimes; STATUSES],
    /// Quantiles of the lifetimes of all, those alive among them.
    pub median: Quantile,
    /// The age by which 90 % have ended.
    pub p90: Quantile,
}

/// A bin of ages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// Its end in seconds; it begins where the one before ends. Infinite for the last of all.
    pub end_seconds: f64,
    /// Entries, as estimated, that were exposed in it, those half exposed as halves.
    pub exposed: f64,
    /// Flows that would say as much if all weighed the same.
    pub effective: f64,
    /// Entries, as estimated, that ended in it.
    pub died: f64,
    /// The share of those alive at its begin that are not at its end. None while none was exposed.
    pub hazard: Option<f64>,
    /// The share of all that live to its end. None from the first bin on in which none was exposed
    /// though some had lived so long.
    pub survival: Option<Estimate>,
}

/// An age in seconds, with its 95 % interval; none where it is not reached yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Quantile {
    /// The best guess; as exact as a bin is wide (6 to 12 %).
    pub value: Option<f64>,
    /// The low end of its 95 % interval.
    pub low: Option<f64>,
    /// The high end.
    pub high: Option<f64>,
}

/// The lifetimes of flows that ended with one status. Those alive are not among them: where many live
/// long, lifetimes in general are longer than these.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EndedLifetimes {
    /// The status.
    pub status: EntryStatus,
    /// How many, in the sample.
    pub ended: u64,
    /// How many entries they stand for.
    pub ended_estimated: f64,
    /// Half of them ended by this age.
    pub median: Quantile,
    /// 90 % of them ended by this age.
    pub p90: Quantile,
}

impl Curve {
    pub(super) fn new(table: &Table) -> Self {
        let bins = survival(table);
        let (median, p90) = (quantile(&bins, 0.5), quantile(&bins, 0.1));
        let by_status = std::array::from_fn(|at| ended_lifetimes(table, at));
        let ended = table.ended.iter().map(|ended| ended.n).sum();
        Self { bins, ended, by_status, median, p90 }
    }

    /// The share of entries that live longer than `age_seconds`: at the end of the bin that it lies in.
    /// None where none has been observed so long.
    #[must_use]
    pub fn survival(&self, age_seconds: f64) -> Option<Estimate> {
        let bin = self.bins.iter().find(|bin| bin.end_seconds > age_seconds);
        // Where all have ended before, none lives longer.
        let all_ended = || self.bins.last()?.survival.filter(|survival| survival.value == 0.0);
        bin.map_or_else(all_ended, |bin| bin.survival)
    }
}

/// Where the bin ends, in seconds.
fn end_seconds(bin: usize) -> f64 {
    if bin + 1 < bins::BINS { bins::start_ns(bin + 1) as f64 / 1e9 } else { f64::INFINITY }
}

fn survival(table: &Table) -> Vec<Bin> {
    let (mut weight, mut squares) = (table.born.weight, table.born.squares);
    let mut known = Some(Survival::ALL);
    let mut bins = Vec::new();
    let mut observed = 0;
    for (at, cell) in table.cells.iter().enumerate() {
        let exposed =
            entries(weight) + (entries(cell.entered.weight) - entries(cell.left.weight)) / 2.0;
        // Rounding may leave a trace of the squares; as each weight is at least 1, they are never less
        // than the weights.
        let effective = exposed * exposed
            / (squares + (cell.entered.squares - cell.left.squares) / 2.0).max(exposed);
        let died = entries(cell.died.weight);
        let hazard = (exposed > 0.0).then(|| (died / exposed).clamp(0.0, 1.0));
        known = match (known, hazard) {
            (Some(known), Some(hazard)) => Some(known.after(hazard, effective)),
            // Whoever had lived so long has ended: there is nobody left to observe.
            (Some(known), None) if known.value == 0.0 => Some(known),
            _ => None,
        };
        if hazard.is_some() {
            observed = at + 1;
        }
        bins.push(Bin {
            end_seconds: end_seconds(at),
            exposed: exposed.max(0.0),
            effective: if exposed > 0.0 { effective } else { 0.0 },
            died,
            hazard,
            survival: known.map(Survival::estimate),
        });
        // Each has come before it goes, so that this is never below 0.
        weight = weight
            .saturating_add(cell.entered.weight)
            .saturating_sub(cell.left.weight)
            .saturating_sub(cell.died.weight);
        squares += cell.entered.squares - cell.left.squares - cell.died.squares;
    }
    bins.truncate(observed);
    bins
}

/// Survival to some age.
#[derive(Debug, Clone, Copy)]
struct Survival {
    value: f64,
    /// Greenwood's sum: the variance of log(value).
    variance: f64,
    /// The fewest flows, effectively, that a bin up to here rests on.
    fewest: f64,
    /// The high end before the last ones ended.
    high: f64,
}

impl Survival {
    const ALL: Self = Self { value: 1.0, variance: 0.0, fewest: f64::INFINITY, high: 1.0 };

    fn after(self, hazard: f64, effective: f64) -> Self {
        if self.value == 0.0 {
            return self;
        }
        let fewest = self.fewest.min(effective);
        if hazard >= 1.0 {
            let high = self.estimate().high * wilson(0.0, effective, 1.0).1;
            return Self { value: 0.0, fewest, high, ..self };
        }
        let variance = self.variance + hazard / (effective * (1.0 - hazard));
        Self { value: self.value * (1.0 - hazard), variance, fewest, high: 1.0 }
    }

    fn estimate(self) -> Estimate {
        let value = self.value;
        if value == 0.0 {
            return Estimate { value, low: 0.0, high: self.high };
        }
        if value >= 1.0 {
            return Estimate { value, low: wilson(1.0, self.fewest, 1.0).0, high: 1.0 };
        }
        let spread = (Z * self.variance.sqrt() / value.ln().abs()).exp();
        Estimate { value, low: value.powf(spread), high: value.powf(1.0 / spread) }
    }
}

/// The age at which survival falls to `target`.
fn quantile(bins: &[Bin], target: f64) -> Quantile {
    let crossing = |of: fn(Estimate) -> f64| {
        let (mut start_seconds, mut start) = (0.0, 1.0);
        for bin in bins {
            let end = of(bin.survival?);
            if end <= target {
                // Within the bin as if they ended evenly.
                let share = (start - target) / (start - end);
                let age = start_seconds + share * (bin.end_seconds - start_seconds);
                return Some(age).filter(|age| age.is_finite());
            }
            (start_seconds, start) = (bin.end_seconds, end);
        }
        None
    };
    Quantile {
        value: crossing(|survival| survival.value),
        low: crossing(|survival| survival.low),
        high: crossing(|survival| survival.high),
    }
}

fn ended_lifetimes(table: &Table, at: usize) -> EndedLifetimes {
    let status = EntryStatus::ALL.get(at).copied().unwrap_or(EntryStatus::Unreplied);
    let Ended { n, sum } = table.ended.get(at).copied().unwrap_or_default();
    let all = entries(sum.weight);
    let effective = all * all / sum.squares.max(all);
    let mut rest = sum.weight;
    let mut bins = Vec::new();
    if n > 0 {
        for (bin, cell) in table.cells.iter().enumerate() {
            let died = cell.died_by_status.get(at).copied().unwrap_or_default();
            rest = rest.saturating_sub(died);
            let value = entries(rest) / all;
            let (low, high) = wilson(value, effective, 1.0);
            bins.push(Bin {
                end_seconds: end_seconds(bin),
                exposed: all,
                effective,
                died: entries(died),
                hazard: None,
                survival: Some(Estimate { value, low, high }),
            });
            if rest == 0 {
                break;
            }
        }
    }
    let (median, p90) = (quantile(&bins, 0.5), quantile(&bins, 0.1));
    EndedLifetimes { status, ended: n, ended_estimated: all, median, p90 }
}
