//! Of the level at which the table settles.

use super::{Mean, NEVER};
use crate::backtest::{said::Said, simulator::Run};

/// Errors, and how often a level was said.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) error: Mean,
    pub(super) told: Mean,
}

pub(super) fn score(run: &Run, said: &[Said]) -> Settled {
    let mut sums = Settled::default();
    if said.iter().all(|said| said.steady_state.is_none()) {
        return sums;
    }
    for (at, said) in said.iter().enumerate() {
        let best = run.truth.clairvoyant.get(at);
        let Some(level) = best.and_then(|best| best.steady_state) else { continue };
        // What is refused is not seen, and so not where it would lead to.
        if run.snapshots[at].is_none() || run.truth.is_full(at) {
            continue;
        }
        sums.told.add(f64::from(said.steady_state.is_some()));
        if let Some(said) = said.steady_state {
            sums.error.add(((said - level).abs() / level.max(1.0)).min(NEVER));
        }
    }
    sums
}
