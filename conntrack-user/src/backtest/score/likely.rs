//! Of the probabilities that the table is full within some times.

use super::{Judge, Mean};
use crate::{
    backtest::{said::Said, truth::Truth},
    forecast::outlook::WITHIN,
};

/// At each tick the next one at which the table is full.
pub(super) fn next_full(truth: &Truth) -> Vec<Option<usize>> {
    let mut next = None;
    let mut all = vec![None; truth.level.len()];
    for at in (0..all.len()).rev() {
        all[at] = next;
        if truth.is_full(at) {
            next = Some(at);
        }
    }
    all
}

/// Brier's score of each of [`WITHIN`].
pub(super) fn score(judge: &Judge<'_>, said: &[Said]) -> [Option<f64>; WITHIN.len()] {
    if said.iter().all(|said| said.full.is_none() && said.within.is_none()) {
        return [None; WITHIN.len()];
    }
    let truth = &judge.run.truth;
    let mut scores = [Mean::default(); WITHIN.len()];
    for (at, said) in said.iter().enumerate() {
        if judge.run.snapshots[at].is_none() || truth.is_full(at) {
            continue;
        }
        for (place, score) in scores.iter_mut().enumerate() {
            let end = at + truth.ticks(WITHIN[place]);
            if end >= truth.level.len() {
                continue;
            }
            let came = judge.next_full[at].is_some_and(|full| full <= end);
            let is_soon = said.median().is_some_and(|seconds| seconds <= WITHIN[place]);
            let likely = said.within.map_or(f64::from(is_soon), |within| within[place]);
            score.add((likely - f64::from(came)).powi(2));
        }
    }
    scores.map(Mean::get)
}
