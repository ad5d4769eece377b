//! The verdict as text.

use std::fmt::Write as _;

use super::text::{BOLD, DIM};
use crate::backtest::trial::Outcome;
use crate::backtest::verdict::{Check, Measure, verdicts};

/// Highest number of scenarios that a check names.
const NAMED: usize = 10;

/// One line a criterion; nothing where `ctmon`'s forecaster was not tried.
#[must_use]
pub fn text(outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    for verdict in verdicts(outcomes) {
        let (forecaster, number) = (verdict.forecaster, verdict.scenarios);
        let kind = if verdict.drawn { "drawn" } else { "written" };
        let scenarios = if number == 1 { "scenario" } else { "scenarios" };
        let _ = writeln!(
            out,
            "{BOLD}{forecaster} beside the clairvoyant, {number} {kind} {scenarios}:{BOLD:#}"
        );
        for check in &verdict.checks {
            let answer = if check.met { "met" } else { "NOT MET" };
            let _ = writeln!(out, "  {answer:7} {}", line(check));
            for place in check.scenarios.iter().take(NAMED) {
                let (scenario, ours, other) = (&place.scenario, place.ours, place.clairvoyant);
                let _ = writeln!(
                    out,
                    "{DIM}          {scenario}: {ours:.2}, clairvoyant {other:.2}{DIM:#}"
                );
            }
            let more = check.scenarios.len().saturating_sub(NAMED);
            if more > 0 {
                let _ = writeln!(out, "{DIM}          and {more} more{DIM:#}");
            }
        }
    }
    out
}

fn line(check: &Check) -> String {
    let target = check.target;
    let [ours, other, missed, of] =
        [check.ours, check.clairvoyant, check.missed, check.of].map(Option::unwrap_or_default);
    let ratio = match (check.value, check.within) {
        (Some(value), Some(within)) => format!("ratio {value:.2} ±{within:.2}"),
        (Some(value), None) => format!("ratio {value:.2}"),
        _ => "no ratio".to_owned(),
    };
    match check.measure {
        Measure::FalseAlarms => format!(
            "false alarms: {ours:.1} min, clairvoyant {other:.1} min, {ratio}, at most {target}; \
             missed fills: {missed:.0} of {of:.0}, at most 0"
        ),
        Measure::Crps => format!(
            "CRPS of the entries in 60 s: {ours:.2} % of the limit, clairvoyant {other:.2} %, {ratio}, at most {target}"
        ),
        Measure::Eta => format!(
            "error of the time to full above 1 where the clairvoyant's is below 0.5: {:.0} of {of:.0} scenarios, at most 0",
            check.value.unwrap_or_default()
        ),
    }
}
