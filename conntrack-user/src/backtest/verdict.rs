//! Verdict on `ctmon`'s forecaster: its scores beside those of the clairvoyant.

use serde::Serialize;

use super::{
    estimate::ratio,
    registry::{CLAIRVOYANT, OURS},
    score::place,
    trial::{Kind, Outcome},
};

/// Highest ratio of false-alarm minutes to those of the clairvoyant.
const FALSE_ALARMS: f64 = 1.5;
/// Highest ratio of the CRPS of the entries in 60 s to that of the clairvoyant.
const CRPS: f64 = 1.2;
/// Error of the time to full above which a scenario counts as wrong ...
const ETA: f64 = 1.0;
/// ... where that of the clairvoyant is below this.
const ETA_POSSIBLE: f64 = 0.5;

/// Verdict on all written or on all drawn scenarios.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Name of the forecaster.
    #[serde(rename = "verdict")]
    pub forecaster: &'static str,
    /// The scenarios were drawn.
    pub drawn: bool,
    /// Number of scenarios.
    pub scenarios: usize,
    /// One check for each criterion.
    pub checks: Vec<Check>,
}

/// Result of one criterion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What `value` is.
    pub measure: Measure,
    /// Ratio of `ours` to `clairvoyant`, or number of scenarios; none where the clairvoyant has 0.
    pub value: Option<f64>,
    /// Half-width of the 95 % confidence interval of a ratio.
    pub within: Option<f64>,
    /// Highest `value` that meets the criterion.
    pub target: f64,
    /// Figure of `ctmon`: false-alarm minutes in all scenarios, or mean CRPS in per cent of the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours: Option<f64>,
    /// The same figure of the clairvoyant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clairvoyant: Option<f64>,
    /// Of false alarms: fills that `ctmon` missed in all runs, more than 0 of which do not meet the criterion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<f64>,
    /// Of false alarms: fills of all runs for which the clairvoyant gave an alarm. Of the time to full: scenarios in
    /// which both have an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<f64>,
    /// The criterion is met.
    pub met: bool,
    /// Of the time to full: the scenarios that are wrong, the worst first.
    pub scenarios: Vec<Place>,
}

/// Criterion of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// False-alarm minutes, divided by those of the clairvoyant, at equal misses.
    FalseAlarms,
    /// CRPS of the entries in 60 s, divided by that of the clairvoyant.
    Crps,
    /// Scenarios with a wrong time to full where the clairvoyant has a right one.
    Eta,
}

/// Errors of the time to full in one scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    /// Name of the scenario.
    pub scenario: String,
    /// Mean error of `ctmon`.
    pub ours: f64,
    /// Mean error of the clairvoyant.
    pub clairvoyant: f64,
}

/// Verdicts on written and on drawn scenarios; none where `ctmon`'s forecaster or the clairvoyant was not tried.
#[must_use]
pub fn verdicts(outcomes: &[Outcome]) -> Vec<Verdict> {
    let all = [(Kind::Written, false), (Kind::Drawn, true)].map(|(kind, drawn)| {
        let of = outcomes.iter().filter(|outcome| outcome.case.kind() == kind).collect();
        Set { outcomes: of, drawn }.verdict()
    });
    all.into_iter().flatten().collect()
}

/// Scenarios that are judged together.
struct Set<'a> {
    outcomes: Vec<&'a Outcome>,
    drawn: bool,
}

impl Set<'_> {
    fn verdict(&self) -> Option<Verdict> {
        let pair = [self.forecaster(OURS)?, self.forecaster(CLAIRVOYANT)?];
        let checks = vec![self.false_alarms(pair), self.crps(pair), self.eta(pair)];
        let scenarios = self.outcomes.len();
        Some(Verdict { forecaster: OURS, drawn: self.drawn, scenarios, checks })
    }

    /// Index of the forecaster with that name.
    fn forecaster(&self, name: &str) -> Option<usize> {
        self.outcomes.first()?.forecasters.iter().position(|judged| judged.name == name)
    }

    /// Pairs of sums over the scenarios that have both numbers: one pair a seed, or one a drawn scenario, because
    /// those are drawn as seeds are.
    fn pairs(&self, pair: [usize; 2], metric: &str) -> Vec<(f64, f64)> {
        let metric = place(metric);
        let of = |outcome: &&Outcome| -> Vec<(f64, f64)> {
            let [ours, other] = pair.map(|at| &outcome.forecasters[at].seeds);
            let both = ours.iter().zip(other);
            both.map(|(ours, other)| ours[metric].zip(other[metric]).unwrap_or_default()).collect()
        };
        let each: Vec<Vec<(f64, f64)>> = self.outcomes.iter().map(of).collect();
        let add = |sum: (f64, f64), one: &(f64, f64)| (sum.0 + one.0, sum.1 + one.1);
        if self.drawn {
            let mean = |one: &Vec<(f64, f64)>| {
                let (sum, runs) = (one.iter().fold((0.0, 0.0), add), one.len().max(1) as f64);
                (sum.0 / runs, sum.1 / runs)
            };
            return each.iter().map(mean).collect();
        }
        let seeds = each.first().map_or(0, Vec::len);
        let of_seed = |seed: usize| each.iter().filter_map(move |one| one.get(seed));
        (0..seeds).map(|seed| of_seed(seed).fold((0.0, 0.0), add)).collect()
    }

    fn false_alarms(&self, pair: [usize; 2]) -> Check {
        let pairs = self.pairs(pair, "false_min");
        let runs = if self.drawn { 1.0 } else { pairs.len().max(1) as f64 };
        let check = compare(Measure::FalseAlarms, FALSE_ALARMS, &pairs, runs);
        let (missed, alarmable) = (place("missed"), place("alarmable"));
        let seeds = self.outcomes.iter().flat_map(|outcome| &outcome.forecasters[pair[0]].seeds);
        let fills = seeds.map(|seed| (seed[missed].unwrap_or(0.0), seed[alarmable].unwrap_or(0.0)));
        let add = |(missed, all), (share, fills)| (missed + share * fills, all + fills);
        // The clairvoyant misses none of these fills.
        let (missed, all) = fills.fold((0.0, 0.0), add);
        Check { missed: Some(missed), of: Some(all), met: check.met && missed == 0.0, ..check }
    }

    fn crps(&self, pair: [usize; 2]) -> Check {
        let metric = place("crps_60s");
        let has = |outcome: &&&Outcome| {
            pair.iter().all(|at| outcome.forecasters[*at].metrics[metric].is_some())
        };
        let scenarios = self.outcomes.iter().filter(has).count().max(1) as f64;
        let pairs = self.pairs(pair, "crps_60s");
        let divisor = if self.drawn { scenarios } else { pairs.len().max(1) as f64 * scenarios };
        compare(Measure::Crps, CRPS, &pairs, divisor)
    }

    fn eta(&self, pair: [usize; 2]) -> Check {
        let metric = place("eta");
        let (mut of, mut scenarios) = (0.0, vec![]);
        for outcome in &self.outcomes {
            let errors = pair.map(|at| outcome.forecasters[at].metrics[metric]);
            let [Some(ours), Some(clairvoyant)] = errors else { continue };
            of += 1.0;
            if ours.mean > ETA && clairvoyant.mean < ETA_POSSIBLE {
                scenarios.push(Place {
                    scenario: outcome.case.name.clone(),
                    ours: ours.mean,
                    clairvoyant: clairvoyant.mean,
                });
            }
        }
        scenarios.sort_by(|a, b| b.ours.total_cmp(&a.ours));
        Check {
            measure: Measure::Eta,
            value: Some(scenarios.len() as f64),
            within: None,
            target: 0.0,
            ours: None,
            clairvoyant: None,
            missed: None,
            of: Some(of),
            met: scenarios.is_empty(),
            scenarios,
        }
    }
}

/// Check of a ratio; the figures are the sums of the pairs divided by `divisor`.
fn compare(measure: Measure, target: f64, pairs: &[(f64, f64)], divisor: f64) -> Check {
    let ours = pairs.iter().map(|pair| pair.0).sum::<f64>() / divisor;
    let clairvoyant = pairs.iter().map(|pair| pair.1).sum::<f64>() / divisor;
    let value = ratio(pairs);
    Check {
        measure,
        value: value.map(|value| value.mean),
        within: value.and_then(|value| value.within),
        target,
        ours: Some(ours),
        clairvoyant: Some(clairvoyant),
        missed: None,
        of: None,
        met: value.map_or(ours == 0.0, |value| value.mean <= target),
        scenarios: vec![],
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
