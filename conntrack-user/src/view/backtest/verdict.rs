//! The verdict for people.

use std::fmt::Write as _;

use super::text::{BOLD, DIM};
use crate::backtest::trial::Outcome;
use crate::backtest::verdict::{Check, Measure, Place, verdicts};

/// Scenarios that are named at the most.
const NAMED: usize = 10;

/// What was to be shown, and whether it was; nothing where `ctmon`'s forecaster was not tried.
#[must_use]
pub fn text(outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    for verdict in verdicts(outcomes) {
        let (forecaster, number) = (verdict.forecaster, verdict.scenarios);
        let kind = if verdict.drawn { "drawn" } else { "written" };
        let scenarios = if number == 1 { "scenario" } else { "scenarios" };
        let _ = writeln!(
            out,
            "{BOLD}Is {forecaster} good enough on {number} {kind} {scenarios}?{BOLD:#}"
        );
        for check in &verdict.checks {
            let answer = if check.met { "yes" } else { "NO" };
            let _ = writeln!(out, "  {answer:3} {}", line(check));
            for place in check.scenarios.iter().take(NAMED) {
                let _ = writeln!(out, "{DIM}        {}{DIM:#}", named(place));
            }
            let more = check.scenarios.len().saturating_sub(NAMED);
            if more > 0 {
                let _ = writeln!(out, "{DIM}        and {more} more{DIM:#}");
            }
        }
    }
    out
}

fn line(check: &Check) -> String {
    let Check { value, target, of, .. } = check;
    let share = estimate(*value, check.within, 3);
    let number = value.unwrap_or(0.0);
    let mean = check
        .mean
        .map(|mean| estimate(Some(mean.mean), mean.within, 2))
        .unwrap_or_else(|| "-".into());
    match check.measure {
        Measure::FalseAlarms => {
            let whom = check.against.unwrap_or_default();
            format!("false alarms: {share} of {whom}'s {of:.1} min, at most {target}")
        }
        Measure::MissedFills => format!("missed fills: {number:.0} of {of:.0}"),
        Measure::Eta => format!("error of the time to full: {share}, at most {target}"),
        Measure::Worse => format!(
            "worse than the best line in {number:.0} of {of:.0} scenarios; above it by {mean} in the mean"
        ),
        Measure::ShortLeads => {
            format!("leads below 0.8 of the clairvoyant's: {number:.0} of {of:.0}")
        }
        Measure::Coverage => format!(
            "80 % intervals hold too often or too seldom in {number:.0} of {of:.0} scenarios; {mean} in the mean"
        ),
    }
}

fn named(place: &Place) -> String {
    let value = estimate(Some(place.value), place.within, 2);
    let best = place.best.map(|(name, error)| format!(" above {name}'s {error:.2}"));
    format!("{}: {value}{}", place.scenario, best.unwrap_or_default())
}

fn estimate(value: Option<f64>, within: Option<f64>, decimals: usize) -> String {
    let Some(value) = value else { return "-".into() };
    let within = within.map(|within| format!(" ±{within:.decimals$}")).unwrap_or_default();
    format!("{value:.decimals$}{within}")
}
