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

    /// For so many seconds all rates that matter have been what they are, or have changed as they do; 0 while one recurs.
    pub(super) fn unchanged(&self) -> f64 {
        let seconds = |(rate, recurring): (&Rate, &Option<Recurring>)| match recurring {
            Some(_) => 0.0,
            None => rate.since,
        };
        self.what_matters().map(seconds).fold(f64::INFINITY, f64::min)
    }

    /// A rate that matters changes.
    pub(super) fn changes(&self) -> bool {
        self.what_matters().any(|(rate, _)| rate.slope != 0.0)
    }

    fn what_matters(&self) -> impl Iterator<Item = (&Rate, &Option<Recurring>)> {
        let least = LITTLE * self.all();
        let of_each = self.rates.iter().zip(&self.recurring);
        let known = of_each.filter_map(|(rate, recurring)| Some((rate.as_ref()?, recurring)));
        known.filter(move |(rate, _)| rate.level > least)
    }
}
