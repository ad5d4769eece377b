//! What is known of arrivals now, and of those to come.

use super::{arrivals::Rate, season::Recurring};
use crate::model::class::PROTOCOLS;

/// So small a part of the arrivals, now and before they changed, does not matter.
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

    /// Seconds since a rate that matters became another one; infinite where none did, and while all recur.
    pub(super) fn changed(&self) -> f64 {
        let lasting = self
            .what_matters()
            .filter(|(rate, recurring)| recurring.is_none() && rate.before.is_some());
        lasting.map(|(rate, _)| rate.since).fold(f64::INFINITY, f64::min)
    }

    /// A rate that matters changes.
    pub(super) fn changes(&self) -> bool {
        self.what_matters().any(|(rate, _)| rate.slope != 0.0)
    }

    fn what_matters(&self) -> impl Iterator<Item = (&Rate, &Option<Recurring>)> {
        // Arrivals that have ended have changed, too.
        let most = |rate: &Rate| rate.before.map_or(rate.level, |before| before.max(rate.level));
        let least = LITTLE * self.rates.iter().flatten().map(most).sum::<f64>();
        let of_each = self.rates.iter().zip(&self.recurring);
        let known = of_each.filter_map(|(rate, recurring)| Some((rate.as_ref()?, recurring)));
        known.filter(move |(rate, _)| most(rate) > least)
    }
}
