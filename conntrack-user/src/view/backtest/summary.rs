//! Scores over several scenarios.

use crate::backtest::trial::{Estimate, Outcome, estimate};

/// The mean over the scenarios that could tell, and how exact it is.
pub(super) fn over(outcomes: &[&Outcome], forecaster: usize, metric: usize) -> Option<Estimate> {
    let told =
        outcomes.iter().filter_map(|outcome| outcome.forecasters[forecaster].metrics[metric]);
    let told: Vec<Estimate> = told.collect();
    if outcomes.iter().any(|outcome| outcome.case.drawn) {
        return estimate(told.iter().map(|estimate| estimate.mean));
    }
    // Those that were written are given, and only the seeds are drawn: their errors add up.
    let n = told.len() as f64;
    let squares = told.iter().map(|estimate| estimate.within.map(|within| within * within));
    let within = squares.sum::<Option<f64>>().map(|squares| squares.sqrt() / n);
    (n > 0.0).then(|| Estimate {
        mean: told.iter().map(|estimate| estimate.mean).sum::<f64>() / n,
        within,
        seeds: told.iter().map(|estimate| estimate.seeds).sum(),
    })
}

/// Scenarios that are shown together, with a heading.
pub(super) fn groups(outcomes: &[Outcome]) -> Vec<(String, Vec<&Outcome>)> {
    let mut groups: Vec<(String, Vec<&Outcome>)> = vec![];
    for outcome in outcomes {
        let case = &outcome.case;
        // One drawn scenario tells nothing by itself; those of one kind do.
        let name =
            if case.drawn { format!("drawn: {}", case.scenario.title) } else { case.name.clone() };
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, members)) => members.push(outcome),
            None => groups.push((name, vec![outcome])),
        }
    }
    let all = |drawn: bool| outcomes.iter().filter(|outcome| outcome.case.drawn == drawn).collect();
    let kinds: [(&str, Vec<&Outcome>); 2] = [("written", all(false)), ("drawn", all(true))];
    for (name, members) in kinds {
        if members.len() > 1 {
            groups.push((format!("all {} {name}", members.len()), members));
        }
    }
    groups
}
