//! What is known of arrivals now, and of those to come.

use super::{arrivals::Rate, season::Recurring};
use crate::model::class::PROTOCOLS;

/// So small a part of the arrivals does not matter.
const LITTLE: f64 = 0.02;

/// By protocol; none where there were no entries yet.
#[derive(Debug)]
pub(super) struct Coming {
    pub(super) rates: [Option<Rate>; PROTOCOLS],
    /// Where they recur, and are now as they were a period before.
    pub(super) recurring: [Option<Recurring>; PROTOCOLS],
}

impl Coming {
    /// Arrivals a second.
    pub(super) fn all(&self) -> f64 {
        self.rates.iter().flatten().map(|rate| rate.level).sum()
    }

    /// For so many seconds all rates that matter have been what they are; 0 while one of them changes, or recurs.
    pub(super) fn unchanged(&self) -> f64 {
        let least = LITTLE * self.all();
        let seconds = |(rate, recurring): (&Option<Rate>, &Option<Recurring>)| {
            let rate = rate.as_ref().filter(|rate| rate.level > least)?;
            Some(if rate.slope == 0.0 && recurring.is_none() { rate.since } else { 0.0 })
        };
        let of_each = self.rates.iter().zip(&self.recurring);
        of_each.filter_map(seconds).fold(f64::INFINITY, f64::min)
    }
}
