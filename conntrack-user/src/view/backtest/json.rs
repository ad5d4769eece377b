//! Scores for programs: one line a scenario or recording and forecaster.

use serde::{Serialize, Serializer};

use crate::backtest::{
    estimate::Estimate,
    score::{self, METRICS},
    trial::{Kind, Outcome},
};

/// What a forecaster is worth in a scenario or recording.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    scenario: &'a str,
    title: &'a str,
    drawn: bool,
    recorded: bool,
    forecaster: &'a str,
    scores: Scores<'a>,
}

#[derive(Debug)]
struct Scores<'a>(&'a [Option<Estimate>; METRICS]);

impl Serialize for Scores<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let scores = score::ALL.iter().zip(self.0);
        serializer.collect_map(scores.map(|(metric, estimate)| (metric.name, estimate)))
    }
}

/// All lines.
pub fn lines(outcomes: &[Outcome]) -> impl Iterator<Item = Line<'_>> {
    outcomes.iter().flat_map(|outcome| {
        outcome.forecasters.iter().map(|judged| Line {
            scenario: &outcome.case.name,
            title: outcome.case.title(),
            drawn: outcome.case.kind() == Kind::Drawn,
            recorded: outcome.case.kind() == Kind::Recorded,
            forecaster: judged.name,
            scores: Scores(&judged.metrics),
        })
    })
}
