//! Of fills: how early the alarm came, and how right the time to full was before them.

use super::{BEFORE, Judge, Mean, NEVER, SHORT};
use crate::{
    backtest::{
        said::Said,
        simulator::AFTER,
        truth::{Fill, Truth},
    },
    forecast::outlook::Quantiles,
};

/// Seconds by which an alarm before a fill may pause.
const PAUSES: f64 = 60.0;

/// Of the fills of which the clairvoyant gave the alarm; of a recording, of those that could be foreseen.
#[derive(Debug, Default)]
pub(super) struct Leads {
    pub(super) seconds: Mean,
    pub(super) shares: Mean,
    pub(super) missed: Mean,
    /// How many have a share below [`SHORT`].
    pub(super) short: f64,
}

pub(super) fn leads(judge: &Judge<'_>, alarms: &[bool]) -> Leads {
    let truth = &judge.run.truth;
    let mut leads = Leads::default();
    for fill in &judge.judged {
        let possible = judge.best.as_ref().map(|best| lead(best, fill, truth));
        if possible.map_or(fill.foreseeable < fill.start, |possible| possible > 0.0) {
            let lead = lead(alarms, fill, truth);
            leads.seconds.add(lead);
            leads.missed.add(f64::from(lead == 0.0));
            if let Some(possible) = possible {
                let share = (lead / possible).min(1.0);
                leads.shares.add(share);
                leads.short += f64::from(share < SHORT);
            }
        }
    }
    leads
}

/// Seconds from the alarm to the fill; 0 without one.
fn lead(alarms: &[bool], fill: &Fill, truth: &Truth) -> f64 {
    let mut first = fill.start;
    for at in (fill.start.saturating_sub(truth.ticks(AFTER))..fill.start).rev() {
        if alarms[at] {
            first = at;
        } else if first - at > truth.ticks(PAUSES) {
            break;
        }
    }
    (fill.start - first) as f64 * truth.tick
}

/// Mean errors of the time to full.
#[derive(Debug)]
pub(super) struct Errors {
    /// At each of [`BEFORE`].
    pub(super) before: [Option<f64>; BEFORE.len()],
    /// Half way.
    pub(super) half: Option<f64>,
    /// The mean of those before, or that half way where there are none.
    pub(super) mean: Option<f64>,
}

pub(super) fn eta(judge: &Judge<'_>, said: &[Said]) -> Errors {
    let truth = &judge.run.truth;
    let mean_error = |at: &dyn Fn(&Fill) -> Option<usize>| {
        let mut errors = Mean::default();
        for fill in &judge.judged {
            let error = |at: usize| {
                let left = (fill.start - at) as f64 * truth.tick;
                error(said[at].median(), left)
            };
            at(fill).into_iter().for_each(|at| errors.add(error(at)));
        }
        errors.get()
    };
    let before = BEFORE.map(|seconds| mean_error(&|fill| before(fill, truth.ticks(seconds))));
    let half = mean_error(&half_way);
    let mut mean = Mean::default();
    before.iter().flatten().for_each(|error| mean.add(*error));
    Errors { before, half, mean: mean.get().or(half) }
}

/// The tick that many before the fill; none where it was not foreseeable yet.
fn before(fill: &Fill, ticks: usize) -> Option<usize> {
    let at = fill.start.checked_sub(ticks)?;
    (at >= fill.foreseeable && ticks > 0).then_some(at)
}

fn half_way(fill: &Fill) -> Option<usize> {
    before(fill, (fill.start - fill.foreseeable) / 2)
}

fn error(said: Option<f64>, left: f64) -> f64 {
    said.map_or(NEVER, |said| ((said - left).abs() / left).min(NEVER))
}

/// Error of the time to the first dropped packet, where that is not the fill's.
pub(super) fn drop(judge: &Judge<'_>, said: &[Said]) -> Option<f64> {
    if said.iter().all(|said| said.drop.is_none()) {
        return None;
    }
    let truth = &judge.run.truth;
    let mut errors = Mean::default();
    for fill in judge.judged.iter().filter(|fill| truth.knows_drops(fill)) {
        let first = truth.first_drop(fill);
        if first == Some(fill.start) {
            continue;
        }
        let mut at: Vec<usize> =
            BEFORE.iter().filter_map(|seconds| before(fill, truth.ticks(*seconds))).collect();
        if at.is_empty() {
            at.extend(half_way(fill));
        }
        for at in at {
            let left = (first.unwrap_or(fill.end) - at) as f64 * truth.tick;
            let said = said[at].drop.and_then(|drop| drop.median);
            let is_right = first.is_none() && said.is_none_or(|said| said >= left);
            errors.add(if is_right { 0.0 } else { error(said, left) });
        }
    }
    errors.get()
}

/// Error of the entries that can be evicted when the table becomes full, per cent of the limit.
pub(super) fn evictable_entries(judge: &Judge<'_>, said: &[Said]) -> Option<f64> {
    let truth = &judge.run.truth;
    let mut errors = Mean::default();
    for fill in &judge.judged {
        if let (Some(said), Some(is)) =
            (said[fill.start].evictable_entries, truth.evictable_entries[fill.start])
        {
            let off = (said - is as f64).abs();
            errors.add(off * 100.0 / f64::from(truth.max[fill.start]));
        }
    }
    errors.get()
}

/// How often the 80 % interval of the time to full held while a fill was foreseeable.
pub(super) fn covers(judge: &Judge<'_>, said: &[Said]) -> Option<f64> {
    let mut covered = Mean::default();
    for fill in &judge.judged {
        for (said, left) in said[fill.foreseeable..fill.start].iter().rev().zip(1..) {
            if let Some(Quantiles { low, high, .. }) = said.full {
                let left = f64::from(left) * judge.run.truth.tick;
                let holds = low.is_some_and(|low| low <= left);
                covered.add(f64::from(holds && high.is_none_or(|high| left <= high)));
            }
        }
    }
    covered.get()
}
