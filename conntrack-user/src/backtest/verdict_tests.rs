//! Tests of the verdict.

use super::*;
use crate::backtest::{
    drawn,
    estimate::estimate,
    score::{METRICS, Scores},
    trial::{Case, Input, Judged},
};

/// Scores of a forecaster: false-alarm minutes, CRPS, error of the time to full, share of missed fills.
type Given = (f64, Option<f64>, Option<f64>, f64);

/// Forecaster with the same scores in two seeds, of two fills each.
fn judged(name: &'static str, (minutes, crps, eta, missed): Given) -> Judged {
    let mut scores: Scores = [None; METRICS];
    let given = [
        ("false_min", Some(minutes)),
        ("crps_60s", crps),
        ("eta", eta),
        ("missed", Some(missed)),
        ("alarmable", Some(2.0)),
    ];
    for (metric, value) in given {
        scores[place(metric)] = value;
    }
    let seeds = vec![scores; 2];
    let metrics = std::array::from_fn(|at| estimate(seeds.iter().filter_map(|seed| seed[at])));
    Judged { name, metrics, seeds }
}

fn outcome(name: &str, drawn: bool, clairvoyant: Given, ours: Given) -> Outcome {
    let scenario = drawn::scenario(1, 1).1;
    let input = if drawn { Input::Drawn(scenario) } else { Input::Written(scenario) };
    let forecasters = vec![judged(CLAIRVOYANT, clairvoyant), judged(OURS, ours)];
    Outcome { case: Case { name: name.into(), input }, forecasters, first: None }
}

fn checks(outcomes: &[Outcome]) -> Vec<Check> {
    let [verdict] = verdicts(outcomes).try_into().unwrap();
    verdict.checks
}

#[test]
fn at_the_targets_all_criteria_are_met() {
    for drawn in [false, true] {
        // Minutes and CRPS are compared over all scenarios: one may be worse where another is better.
        let checks = checks(&[
            outcome(
                "a",
                drawn,
                (10.0, Some(2.0), Some(0.4), 0.0),
                (18.0, Some(3.0), Some(1.0), 0.0),
            ),
            outcome(
                "b",
                drawn,
                (10.0, Some(3.0), Some(0.6), 0.0),
                (12.0, Some(3.0), Some(9.0), 0.0),
            ),
            outcome("c", drawn, (0.0, None, None, 0.0), (0.0, Some(1.0), None, 0.0)),
        ]);
        assert!(checks.iter().all(|check| check.met), "{checks:?}");
        let figures = |check: &Check| (check.value, check.ours, check.clairvoyant);
        assert_eq!(figures(&checks[0]), (Some(1.5), Some(30.0), Some(20.0)));
        assert_eq!(figures(&checks[1]), (Some(1.2), Some(3.0), Some(2.5)));
        assert_eq!((checks[0].missed, checks[0].of), (Some(0.0), Some(12.0)));
        assert_eq!((checks[2].value, checks[2].of), (Some(0.0), Some(2.0)));
    }
}

#[test]
fn beyond_the_targets_none_is_met() {
    let checks = checks(&[
        outcome(
            "bad",
            true,
            (10.0, Some(2.0), Some(0.49), 0.0),
            (16.0, Some(2.5), Some(1.01), 0.0),
        ),
        outcome(
            "worst",
            true,
            (10.0, Some(2.0), Some(0.1), 0.0),
            (16.0, Some(2.5), Some(7.0), 0.0),
        ),
    ]);
    assert!(checks.iter().all(|check| !check.met), "{checks:?}");
    let names: Vec<&str> = checks[2].scenarios.iter().map(|one| one.scenario.as_str()).collect();
    assert_eq!(names, ["worst", "bad"]);
}

#[test]
fn few_false_alarms_with_missed_fills_do_not_count() {
    let given = (10.0, Some(2.0), Some(0.1), 0.0);
    let checks = checks(&[outcome("a", false, given, (0.0, Some(2.0), Some(0.1), 0.5))]);
    assert!(!checks[0].met && checks[0].missed == Some(2.0) && checks[1].met, "{checks:?}");
}

#[test]
fn where_the_clairvoyant_has_no_false_alarm_one_is_too_many() {
    let given = (0.0, Some(2.0), Some(0.1), 0.0);
    let of = |minutes| checks(&[outcome("a", false, given, (minutes, Some(2.0), Some(0.1), 0.0))]);
    assert!(of(0.0)[0].met && !of(0.1)[0].met && of(0.1)[0].value.is_none());
}

#[test]
fn without_ctmon_there_is_no_verdict() {
    let given = (0.0, None, None, 0.0);
    let mut other = outcome("a", false, given, given);
    other.forecasters.remove(1);
    assert!(verdicts(&[other]).is_empty());
}
