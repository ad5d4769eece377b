//! Derives the outlook from the predicted level.

use super::Table;
use crate::{
    forecast::{
        growth::Projection,
        mixture::{Belief, EXPERTS, Normal, QUEUE, above, quantile},
        outlook::{AHEAD, Outlook, Quantiles, State, SteadyState, WITHIN},
        path::{self, GRID, Z90, Z975},
        reason,
    },
    model::tick::Limit,
};

/// Seconds by which a pass of the collector comes early or late.
const JITTER: f64 = 1.5;
/// Part of the limit from which on a table that evicts is full, and one of which evictions are not seen.
const EVICTS: f64 = 0.9;
const UNSEEN: f64 = 0.999;
/// A level that grows by more than this part of it in the last hour before the horizon has not settled.
const RISES: f64 = 0.02;

/// Part of the limit that assured entries must be for packets to be dropped.
const ASSURED: f64 = 0.98;
/// Seconds in which doubt about entries from before fades to a third: by then predictions have been judged.
const DOUBT_SECS: f64 = 30.0;
/// A probability rises steeply if it does by more than this from one moment to the next; that time is halved so often.
const STEEP: f64 = 0.1;
const HALVINGS: usize = 6;
/// Seconds ahead at which the queue must be believed, or the others say the same, for its steady state to be told.
const STEADY_SECS: f64 = 600.0;
/// Levels are the same if they differ by no more than this part.
const ALIKE: f64 = 0.05;

/// Probabilities to have been full, and to have dropped a packet, by a moment ahead.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    ahead: f64,
    full: f64,
    drop: f64,
}

impl Reached {
    /// Keeps the probabilities from falling: a table that has been full has been full.
    fn after(self, before: &Self) -> Self {
        Self { full: self.full.max(before.full), drop: self.drop.max(before.drop), ..self }
    }
}

/// When a probability comes to `part`: on straight lines between moments, with more of those where it rises steeply.
fn passes(
    reached: &[Reached],
    of: impl Fn(&Reached) -> f64,
    part: f64,
    between: impl Fn(f64) -> Reached,
) -> Option<f64> {
    let next = reached.iter().position(|reached| of(reached) >= part)?;
    let Some(before) = next.checked_sub(1) else { return Some(0.0) };
    let (mut one, mut other) = (reached[before], reached[next]);
    for _ in 0..HALVINGS {
        if of(&other) - of(&one) < STEEP {
            break;
        }
        let middle = between(f64::midpoint(one.ahead, other.ahead)).after(&one);
        if of(&middle) >= part { other = middle } else { one = middle }
    }
    let share = (part - of(&one)) / (of(&other) - of(&one)).max(1e-9);
    Some(one.ahead + share.clamp(0.0, 1.0) * (other.ahead - one.ahead))
}

/// A probability at a moment ahead.
fn at_time(reached: &[Reached], of: impl Fn(&Reached) -> f64, ahead: f64) -> f64 {
    let next = reached.partition_point(|reached| reached.ahead < ahead);
    let one = next.checked_sub(1).and_then(|at| reached.get(at));
    match (one, reached.get(next)) {
        (Some(one), Some(other)) => {
            let share = (ahead - one.ahead) / (other.ahead - one.ahead).max(1e-9);
            of(one) + share * (of(other) - of(one))
        }
        (Some(only), None) | (None, Some(only)) => of(only),
        (None, None) => 0.0,
    }
}

impl Table {
    pub(super) fn look(&self) -> Outlook {
        let Some(now) = self.entries else {
            return Outlook::unknown(State::Unknown, "the number of entries is not known");
        };
        if matches!(self.limit, Some(Limit::Unavailable) | None) {
            return Outlook::unknown(State::Unknown, "the limit is not known");
        }
        let max = self.max();
        let is_full = max.is_some_and(|max| self.is_full(now, max));
        let is_young =
            self.counted < 3.0 && self.levels.first().is_none_or(|first| self.now - first < 15.0);
        if is_young {
            let state = if is_full { State::Full } else { State::Unknown };
            return Outlook::unknown(state, "not enough is known yet");
        }
        let coming = self.coming();
        let path = self.path(&coming);
        let points = path.points();
        let belief = self.belief();
        let projection = self.growth.project(self.now, now);
        let all = |point: &path::Point| self.laws(point, &projection);
        let reach = |max: f64, point: &path::Point| {
            let (laws, weights) = (all(point), belief.weights(point.ahead));
            let full = if is_full { 1.0 } else { above(&laws, &weights, max) };
            // Full, and all that is there is assured.
            let part = (point.assured / point.level.max(1.0)).clamp(0.0, 1.0);
            let drop = above(&laws, &weights, ASSURED * max / part.max(1e-9)).min(full);
            Reached { ahead: point.ahead, full, drop }
        };
        let reached: Vec<Reached> = max.map_or_else(Vec::new, |max| {
            let reached = points.iter().scan(Reached::default(), |before, point| {
                *before = reach(max, point).after(before);
                Some(*before)
            });
            reached.collect()
        });
        let quantiles = |max: f64, of: fn(&Reached) -> f64| {
            let between = |ahead| reach(max, &path::between(&points, ahead));
            let when = |part| passes(&reached, of, part, between);
            Quantiles { low: when(0.1), median: when(0.5), high: when(0.9) }
        };
        let seconds_to_full = max.map(|max| quantiles(max, |reached| reached.full));
        let full_probability =
            max.map(|_| WITHIN.map(|within| at_time(&reached, |reached| reached.full, within)));
        let is_known = self.counted > 0.0 && self.rest < 0.5 * now;
        let evictable_entries =
            is_known.then(|| (now - points.first().map_or(0.0, |it| it.assured)).clamp(0.0, now));
        let seconds_to_first_drop =
            max.filter(|_| is_known).map(|max| quantiles(max, |reached| reached.drop));
        let last = path.level[GRID.len() - 1];
        let is_rising = last - path.level[GRID.len() - 2] > RISES * last;
        let tip = points.last().map_or(last, |point| point.level);
        let is_queue = || {
            let laws = all(&path::between(&points, STEADY_SECS));
            let weights = belief.weights(STEADY_SECS);
            let mean: f64 = laws.iter().zip(weights).map(|(law, weight)| weight * law.mean).sum();
            let queue = laws[QUEUE].mean;
            weights[QUEUE] >= 0.5 || (mean - queue).abs() <= ALIKE * queue
        };
        let steady_state = (!is_rising && is_queue()).then(|| {
            let within = |at: &usize| {
                path.level[*at..]
                    .iter()
                    .all(|level| (level - last).abs() <= ALIKE * last.abs().max(1.0))
            };
            let first = (0..GRID.len()).find(within).unwrap_or(GRID.len() - 1);
            SteadyState { level: tip, seconds: GRID[first] }
        });
        let weights = belief.weights(AHEAD);
        let there = all(&path::between(&points, AHEAD));
        // A pass that is due about then may come a moment earlier or later.
        let moments = self
            .is_saw
            .then(|| [-JITTER, JITTER].map(|early| all(&path::between(&points, AHEAD + early))));
        let around = || std::iter::once(&there).chain(moments.iter().flatten());
        let ends = |z: f64| around().map(move |laws| quantile(laws, &weights, z));
        let lowest = |z: f64| ends(-z).fold(f64::INFINITY, f64::min);
        let highest = |z: f64| ends(z).fold(0.0, f64::max);
        let median = quantile(&there, &weights, 0.0);
        let ahead =
            Quantiles { low: lowest(Z90).min(median), median, high: highest(Z90).max(median) };
        let entries_in_60s_95 = Some([lowest(Z975).min(ahead.low), highest(Z975).max(ahead.high)]);
        let least = 0.01 * now;
        let state = if is_full {
            State::Full
        } else if seconds_to_full.is_some_and(|full| full.median.is_some())
            || ahead.median - now > (ahead.median - ahead.low).max(least)
        {
            State::Filling
        } else if now - ahead.median > (ahead.high - ahead.median).max(least) {
            State::Draining
        } else {
            State::Steady
        };
        let reason = reason::text(state, now, max, &coming, steady_state);
        Outlook {
            state,
            seconds_to_full,
            full_probability,
            seconds_to_first_drop,
            evictable_entries,
            steady_state,
            entries_in_60s: Some(ahead),
            entries_in_60s_95,
            reason,
        }
    }

    /// Predictions of all forecasters for the moment of `point`, which is that of the queue.
    pub(super) fn laws(&self, point: &path::Point, projection: &Projection) -> [Normal; EXPERTS] {
        let ahead = point.ahead;
        let error = self.calibration.width.mean() * point.error;
        let queue = Normal { mean: point.level, error };
        let [short, middle, long] = [0, 1, 2].map(|at| projection.grows(at, ahead));
        [queue, projection.stays(ahead), short, middle, long]
    }

    /// Evidence for the forecasters. Entries from before ctmon count as unknown until deletes have shown how long they live.
    fn belief(&self) -> Belief {
        let old = (self.at_first / self.entries.unwrap_or(0.0).max(1.0)).min(1.0);
        self.mixture.belief(old * (-self.counted / DOUBT_SECS).exp())
    }

    /// Evictions keep a full table a little below its limit.
    fn is_full(&self, now: f64, max: f64) -> bool {
        let least = match self.counted > 0.0 {
            true if self.is_evicting => EVICTS * max,
            true => max,
            false => UNSEEN * max,
        };
        now >= least
    }
}
