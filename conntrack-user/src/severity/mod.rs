//! Is a table in trouble? One scale, one table of thresholds, and the conditions that `serve`, its page, `watch`, `status`,
//! `doctor` and the alert rules judge by.

pub mod condition;
pub mod facts;
pub mod range;
mod scale;
pub mod thresholds;

#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod users_tests;

pub use condition::Condition;
pub use scale::Severity;
pub use thresholds::{THRESHOLDS, Thresholds};

use crate::model::tick::{NetnsTick, Tick};
use condition::Verdict;
use facts::Facts;

/// Judges a table by one tick, without the waiting times of warnings. [`Severity::Unknown`] where its fill is not
/// available and nothing else is wrong.
#[must_use]
pub fn of_tick(netns: &NetnsTick, tick: &Tick, thresholds: &Thresholds) -> Severity {
    let facts = Facts::of(netns, tick, None, thresholds);
    let known = if facts.fill.is_some() { Severity::Ok } else { Severity::Unknown };
    raised(&facts, thresholds).map(Condition::severity).fold(known, Severity::max)
}

/// Judges a table by its forecast, or as full; not by its fill.
#[must_use]
pub fn of_forecast(netns: &NetnsTick, thresholds: &Thresholds) -> Severity {
    let facts = Facts::of_forecast(netns);
    let raised = raised(&facts, thresholds)
        .filter(|condition| condition.is_forecast() || *condition == Condition::Full);
    raised.map(Condition::severity).fold(Severity::Ok, Severity::max)
}

fn raised(facts: &Facts<'_>, thresholds: &Thresholds) -> impl Iterator<Item = Condition> {
    let is_raised = |condition: &Condition| condition.verdict(facts, thresholds) == Verdict::Raise;
    Condition::ALL.into_iter().filter(is_raised)
}
