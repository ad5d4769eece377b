//! Whether `ctmon`'s forecaster is as good as it is to be, beside the lines that people run.

use serde::Serialize;

use super::{
    estimate::{Estimate, estimate, over, ratio},
    registry::{LINES, OURS},
    score::place,
    trial::{Judged, Kind, Outcome},
};

/// Mean error of the time to full at the most.
const ETA: f64 = 0.30;
/// An error of the time to full is worse where it is above another one by more than this share of it, and by more
/// than [`WORSE_BY`].
const WORSE_SHARE: f64 = 0.10;
const WORSE_BY: f64 = 0.05;
/// How often the 80 % interval is to hold, in scenarios of which a run has as many forecasts.
const COVERAGE: (f64, f64) = (0.75, 0.88);
const FORECASTS: f64 = 1000.0;

/// Of all scenarios that were written, or all that were drawn.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Of whom.
    #[serde(rename = "verdict")]
    pub forecaster: &'static str,
    /// Of scenarios that were drawn.
    pub drawn: bool,
    /// How many there are.
    pub scenarios: usize,
    /// What was to be shown.
    pub checks: Vec<Check>,
}

/// One thing that was to be shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// What is compared with `target`.
    pub measure: Measure,
    /// With whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<&'static str>,
    /// How much it is; none where there is nothing to compare.
    pub value: Option<f64>,
    /// `value` is so exact, up and down, with 95 % probability; none where it is a number of things.
    pub within: Option<f64>,
    /// It may be so much.
    pub target: f64,
    /// Of how many: minutes of a run of each scenario, fills of all runs, or scenarios.
    pub of: f64,
    /// It is not more.
    pub met: bool,
    /// Of `worse` how much the error is above that of each scenario's best line, of `coverage` how often the interval
    /// held: the mean over those scenarios.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<Estimate>,
    /// The scenarios that are counted, the worst first.
    pub scenarios: Vec<Place>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// Minutes of false alarm in all scenarios, as a share of another one's.
    FalseAlarms,
    /// Fills without an alarm before them, of those of which the clairvoyant gives it.
    MissedFills,
    /// Mean relative error of the time to full.
    Eta,
    /// Scenarios with an error of the time to full above that of the best line.
    Worse,
    /// Fills with less than [`super::score::SHORT`] of the clairvoyant's lead.
    ShortLeads,
    /// Scenarios in which the 80 % interval of the entries in 60 s does not hold as often as it is to.
    Coverage,
}

/// How it is in a scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    /// Its name.
    pub scenario: String,
    /// Of `missed_fills` and `short_leads` their share, of `worse` how much the error is above the best line's, of
    /// `coverage` how often the interval held.
    pub value: f64,
    /// It is so exact.
    pub within: Option<f64>,
    /// The best line, and its error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<(&'static str, f64)>,
}

/// Of those that were written and of those that were drawn; none where `ctmon`'s forecaster was not tried.
#[must_use]
pub fn verdicts(outcomes: &[Outcome]) -> Vec<Verdict> {
    let all = [(Kind::Written, false), (Kind::Drawn, true)].map(|(kind, drawn)| {
        let of = outcomes.iter().filter(|outcome| outcome.case.kind() == kind).collect();
        Set { outcomes: of, drawn }.verdict()
    });
    all.into_iter().flatten().collect()
}

struct Set<'a> {
    outcomes: Vec<&'a Outcome>,
    drawn: bool,
}

impl Set<'_> {
    fn verdict(&self) -> Option<Verdict> {
        let ours = self.forecaster(OURS)?;
        let lines: Vec<(usize, f64)> = LINES
            .iter()
            .filter_map(|(name, target)| Some((self.forecaster(name)?, *target)))
            .collect();
        let mut checks: Vec<Check> =
            lines.iter().map(|(line, target)| self.false_alarms(ours, *line, *target)).collect();
        checks.push(self.missed(ours));
        checks.push(self.eta(ours));
        let lines: Vec<usize> = lines.into_iter().map(|(line, _)| line).collect();
        checks.push(self.worse(ours, &lines));
        checks.push(self.short_leads(ours));
        checks.push(self.coverage(ours));
        let scenarios = self.outcomes.len();
        Some(Verdict { forecaster: OURS, drawn: self.drawn, scenarios, checks })
    }

    /// The place of one of that name.
    fn forecaster(&self, name: &str) -> Option<usize> {
        self.outcomes.first()?.forecasters.iter().position(|judged| judged.name == name)
    }

    /// The sum over all scenarios by seed; of drawn ones, which are drawn as seeds are, each one's mean.
    fn sums(&self, forecaster: usize, metric: usize) -> Vec<f64> {
        let of = |outcome: &&Outcome| -> Vec<f64> {
            let judged = &outcome.forecasters[forecaster];
            judged.seeds.iter().map(|seed| seed[metric].unwrap_or(0.0)).collect()
        };
        let each: Vec<Vec<f64>> = self.outcomes.iter().map(of).collect();
        if self.drawn {
            return each.iter().map(|one| one.iter().sum::<f64>() / one.len() as f64).collect();
        }
        let seeds = each.first().map_or(0, Vec::len);
        (0..seeds).map(|seed| each.iter().map(|one| one[seed]).sum()).collect()
    }

    fn false_alarms(&self, ours: usize, line: usize, target: f64) -> Check {
        let metric = place("false_min");
        let (own, other) = (self.sums(ours, metric), self.sums(line, metric));
        let pairs: Vec<(f64, f64)> = own.into_iter().zip(other).collect();
        let runs = if self.drawn { 1.0 } else { pairs.len() as f64 };
        let minutes = pairs.iter().map(|pair| pair.1).sum::<f64>() / runs;
        let value = ratio(&pairs);
        let met = match value {
            Some(value) => value.mean <= target,
            None => pairs.iter().all(|pair| pair.0 == 0.0),
        };
        Check {
            against: Some(self.outcomes[0].forecasters[line].name),
            value: value.map(|value| value.mean),
            within: value.and_then(|value| value.within),
            met,
            ..check(Measure::FalseAlarms, 0.0, target, minutes)
        }
    }

    /// A number of fills, and in which scenarios they are.
    fn fills(
        &self,
        measure: Measure,
        ours: usize,
        number: impl Fn(&[Option<f64>]) -> f64,
    ) -> Check {
        let alarmable = place("alarmable");
        let (mut all, mut of, mut scenarios) = (0.0, 0.0, vec![]);
        for outcome in &self.outcomes {
            let pairs = outcome.forecasters[ours].seeds.iter();
            let pairs: Vec<(f64, f64)> =
                pairs.map(|seed| (number(seed), seed[alarmable].unwrap_or(0.0))).collect();
            let Some(share) = ratio(&pairs) else { continue };
            let here: f64 = pairs.iter().map(|pair| pair.0).sum();
            (all, of) = (all + here, of + pairs.iter().map(|pair| pair.1).sum::<f64>());
            if here > 0.0 {
                let scenario = outcome.case.name.clone();
                let (value, within) = (share.mean, share.within);
                scenarios.push(Place { scenario, value, within, best: None });
            }
        }
        sort(&mut scenarios, |place| place.value);
        Check { scenarios, ..check(measure, all, 0.0, of) }
    }

    fn missed(&self, ours: usize) -> Check {
        let (missed, alarmable) = (place("missed"), place("alarmable"));
        self.fills(Measure::MissedFills, ours, |seed| {
            seed[missed].unwrap_or(0.0) * seed[alarmable].unwrap_or(0.0)
        })
    }

    fn short_leads(&self, ours: usize) -> Check {
        let short = place("short_leads");
        self.fills(Measure::ShortLeads, ours, |seed| seed[short].unwrap_or(0.0))
    }

    fn eta(&self, ours: usize) -> Check {
        let metric = place("eta");
        let told = |outcome: &&&Outcome| outcome.forecasters[ours].metrics[metric].is_some();
        let of = self.outcomes.iter().filter(told).count() as f64;
        let mean = over(&self.outcomes, ours, metric);
        Check {
            value: mean.map(|mean| mean.mean),
            within: mean.and_then(|mean| mean.within),
            met: mean.is_none_or(|mean| mean.mean <= ETA),
            ..check(Measure::Eta, 0.0, ETA, of)
        }
    }

    fn worse(&self, ours: usize, lines: &[usize]) -> Check {
        let metric = place("eta");
        let (mut above, mut scenarios) = (vec![], vec![]);
        for outcome in &self.outcomes {
            let error = |of: usize| outcome.forecasters[of].metrics[metric].map(|error| error.mean);
            let errors = lines.iter().filter_map(|line| Some((*line, error(*line)?)));
            let Some((line, best)) = errors.min_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
            let line = &outcome.forecasters[line];
            let Some(by) = differences(&outcome.forecasters[ours], line, metric) else { continue };
            above.push(by.mean);
            if by.mean > f64::max(WORSE_SHARE * best, WORSE_BY) {
                scenarios.push(Place {
                    scenario: outcome.case.name.clone(),
                    value: by.mean,
                    within: by.within,
                    best: Some((line.name, best)),
                });
            }
        }
        sort(&mut scenarios, |place| place.value);
        Check {
            mean: estimate(above.iter().copied()),
            ..check(Measure::Worse, scenarios.len() as f64, 0.0, above.len() as f64)
        }
        .with(scenarios)
    }

    fn coverage(&self, ours: usize) -> Check {
        let (covers, forecasts) = (place("covers_60s"), place("forecasts"));
        let (mut all, mut scenarios) = (vec![], vec![]);
        for outcome in &self.outcomes {
            let metrics = &outcome.forecasters[ours].metrics;
            let (Some(covers), Some(forecasts)) = (metrics[covers], metrics[forecasts]) else {
                continue;
            };
            if forecasts.mean < FORECASTS {
                continue;
            }
            all.push(covers.mean);
            if !(COVERAGE.0..=COVERAGE.1).contains(&covers.mean) {
                let (value, within) = (covers.mean, covers.within);
                scenarios.push(Place {
                    scenario: outcome.case.name.clone(),
                    value,
                    within,
                    best: None,
                });
            }
        }
        sort(&mut scenarios, |place| f64::max(COVERAGE.0 - place.value, place.value - COVERAGE.1));
        Check {
            mean: estimate(all.iter().copied()),
            ..check(Measure::Coverage, scenarios.len() as f64, 0.0, all.len() as f64)
        }
        .with(scenarios)
    }
}

impl Check {
    fn with(self, scenarios: Vec<Place>) -> Self {
        Self { scenarios, ..self }
    }
}

/// A number of things, of which there may be `target`.
fn check(measure: Measure, value: f64, target: f64, of: f64) -> Check {
    Check {
        measure,
        against: None,
        value: Some(value),
        within: None,
        target,
        of,
        met: value <= target,
        mean: None,
        scenarios: vec![],
    }
}

/// How much a metric is above another one's, seed by seed.
fn differences(ours: &Judged, other: &Judged, metric: usize) -> Option<Estimate> {
    let pairs = ours.seeds.iter().zip(&other.seeds);
    estimate(pairs.filter_map(|(ours, other)| Some(ours[metric]? - other[metric]?)))
}

/// The worst first.
fn sort(scenarios: &mut [Place], badness: impl Fn(&Place) -> f64) {
    scenarios.sort_by(|a, b| badness(b).total_cmp(&badness(a)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtest::{
        drawn,
        score::{METRICS, Scores},
        trial::{Case, Input},
    };

    /// A forecaster with the same scores in two seeds, but for the error, which is 0.1 off to both sides.
    fn judged(name: &'static str, of: &[(&str, f64)]) -> Judged {
        let seeds = [-0.1, 0.1].map(|off| {
            let mut scores: Scores = [None; METRICS];
            for (metric, value) in of {
                scores[place(metric)] = Some(value + if *metric == "eta" { off } else { 0.0 });
            }
            scores
        });
        let metrics = std::array::from_fn(|at| estimate(seeds.iter().filter_map(|seed| seed[at])));
        Judged { name, metrics, seeds: seeds.to_vec() }
    }

    fn outcome(name: &str, drawn: bool, eta: f64, covers: f64, minutes: f64) -> Outcome {
        let scenario = drawn::scenario(1, 1).1;
        let of = |name, eta, minutes| {
            judged(
                name,
                &[
                    ("false_min", minutes),
                    ("eta", eta),
                    ("alarmable", 2.0),
                    ("missed", if minutes > 5.0 { 0.5 } else { 0.0 }),
                    ("short_leads", if minutes > 5.0 { 2.0 } else { 0.0 }),
                    ("covers_60s", covers),
                    ("forecasts", 1200.0),
                ],
            )
        };
        let forecasters =
            vec![of(OURS, eta, minutes), of("predict-linear", 0.3, 20.0), of("holt", 0.2, 0.0)];
        let input = if drawn { Input::Drawn(scenario) } else { Input::Written(scenario) };
        Outcome { case: Case { name: name.into(), input }, forecasters, first: None }
    }

    fn check_of(verdict: &Verdict, measure: Measure) -> &Check {
        verdict.checks.iter().find(|check| check.measure == measure).unwrap()
    }

    #[test]
    fn what_is_good_enough_is_met() {
        let outcomes = [outcome("a", false, 0.24, 0.8, 0.0), outcome("b", false, 0.2, 0.8, 2.0)];
        let [verdict] = &verdicts(&outcomes)[..] else { panic!() };
        let holt = &verdict.checks[1];
        // Holt has no minute, and ctmon two.
        assert!(holt.against == Some("holt") && !holt.met && holt.value.is_none());
        let met: Vec<bool> = verdict.checks.iter().map(|check| check.met).collect();
        assert_eq!(met, [true, false, true, true, true, true, true]);
        assert_eq!((verdict.checks[0].value, verdict.checks[0].of), (Some(0.05), 40.0));
    }

    #[test]
    fn what_is_not_is_named_with_the_worst_first() {
        let outcomes = [
            outcome("good", true, 0.2, 0.8, 0.0),
            outcome("bad", true, 0.3, 0.7, 6.0),
            outcome("worst", true, 0.5, 0.99, 6.0),
        ];
        let [verdict] = &verdicts(&outcomes)[..] else { panic!() };
        assert!(verdict.drawn && verdict.checks[..2].iter().all(|check| !check.met));
        let worse = check_of(verdict, Measure::Worse);
        assert_eq!((worse.value, worse.of, worse.met), (Some(2.0), 3.0, false));
        let names = |check: &Check| -> Vec<String> {
            check.scenarios.iter().map(|place| place.scenario.clone()).collect()
        };
        assert_eq!(names(worse), ["worst", "bad"]);
        // Both are off in the same seeds, so their difference is exact.
        let by = &worse.scenarios[0];
        assert!((by.value - 0.3).abs() < 1e-9 && by.within.unwrap() < 1e-9, "{by:?}");
        assert_eq!(by.best.map(|best| best.0), Some("holt"));
        assert_eq!(names(check_of(verdict, Measure::Coverage)), ["worst", "bad"]);
        let missed = check_of(verdict, Measure::MissedFills);
        assert_eq!((missed.value, missed.of, missed.scenarios[0].value), (Some(4.0), 12.0, 0.5));
        assert_eq!(check_of(verdict, Measure::ShortLeads).value, Some(8.0));
        assert!(!check_of(verdict, Measure::Eta).met);
    }

    #[test]
    fn without_ctmon_there_is_none() {
        let mut other = outcome("a", false, 0.1, 0.8, 0.0);
        other.forecasters.remove(0);
        assert!(verdicts(&[other]).is_empty());
    }
}
