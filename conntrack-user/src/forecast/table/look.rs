//! Derives the outlook from the predicted level.

use super::{Table, ahead::Queue, jump};
use crate::{
    forecast::{
        growth::Projection,
        mixture::{Belief, EXPERTS, Normal, QUEUE, above, quantile},
        outlook::{AHEAD, IS_FULL, Outlook, Quantiles, State, WITHIN},
        path::{self, ALIKE, Point, Z90, Z975},
        reached::{Reached, passes},
        reason,
    },
    model::tick::Limit,
};

/// Seconds to be seen before the first forecast: counted by programs, and of counts alone.
const COUNTED_SECS: f64 = 3.0;
const POLLED_SECS: f64 = 15.0;
/// Seconds by which a pass of the collector comes early or late.
const JITTER: f64 = 1.5;
/// Part of the limit from which on a table that evicts is full, and one of which evictions are not seen.
const EVICTS: f64 = 0.9;
const UNSEEN: f64 = 0.999;
/// Part of the limit that assured entries must be for packets to be dropped.
const ASSURED: f64 = 0.98;
/// Seconds in which doubt about entries from before fades to a third: by then predictions have been judged.
const DOUBT_SECS: f64 = 30.0;
/// Least probability of what the present growth comes to where nothing expires.
const LEAST_OF_GROWTH: f64 = 0.5;
/// Part of the entries that does not matter.
const FEW: f64 = 0.01;
/// Seconds ahead at which the queue must be believed, or the others say the same, for its steady state to be told.
const STEADY_SECS: f64 = 600.0;

impl Table {
    pub(super) fn look(&self, queue: &Queue) -> Outlook {
        let Some(now) = self.entries else {
            return Outlook::unknown(State::Unknown, "the number of entries is not known");
        };
        if matches!(self.limit, Some(Limit::Unavailable) | None) {
            return Outlook::unknown(State::Unknown, "the limit is not known");
        }
        let max = self.max();
        let is_full = max.is_some_and(|max| self.is_full(now, max));
        if let Some(reason) = self.missing() {
            return match is_full {
                true => Outlook::unknown(State::Full, IS_FULL),
                false => Outlook::unknown(State::Unknown, &reason),
            };
        }
        let Queue { coming, path, points } = queue;
        let future = Future {
            table: self,
            is_full,
            keeps: self.keeps(),
            belief: self.belief(),
            projection: self.growth.project(self.now, now),
            points,
        };
        let is_known = self.counted > 0.0 && self.rest < 0.5 * now;
        let (times, full_probability) = max.map(|max| future.reaches(max)).unzip();
        let medians = max.zip(times).map(|(max, [full, _]): (f64, [_; 2])| (max, full.median));
        let jump = medians.and_then(|(max, median)| self.jump(max, median, coming));
        let seconds_to_full = times.map(|[full, _]| full);
        let seconds_to_first_drop = times.filter(|_| is_known).map(|[_, drop]| drop);
        let assured = points.first().map_or(0.0, |point| point.assured);
        let evictable_entries = is_known.then(|| (now - assured).clamp(0.0, now));
        let steady_state = path.steady_state(points).filter(|_| future.is_queue());
        let (ahead, entries_in_60s_95) = future.in_a_minute();
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
        let mut reason = reason::text(state, now, max, coming, steady_state);
        if let Some(jump) = jump {
            reason += "; time to full: ";
            reason += jump.text();
        }
        Outlook {
            state,
            seconds_to_full,
            full_probability,
            seconds_to_first_drop,
            evictable_entries,
            steady_state,
            entries_in_60s: Some(ahead),
            entries_in_60s_95: Some(entries_in_60s_95),
            jump,
            reason,
        }
    }

    /// The time that is missing for a forecast, in words; none where enough has been seen.
    fn missing(&self) -> Option<String> {
        let polled = self.levels.first().map_or(0.0, |first| self.now - first);
        if self.counted >= COUNTED_SECS || polled >= POLLED_SECS {
            return None;
        }
        let [seen, least] = match self.counted > 0.0 {
            true => [self.counted, COUNTED_SECS],
            false => [polled, POLLED_SECS],
        };
        if seen == 0.0 {
            return Some("it was read only once so far".to_owned());
        }
        Some(format!("{:.0} s of {least:.0} s seen so far", seen.floor()))
    }

    /// Predictions of all forecasters for the moment of `point`, which is that of the queue.
    pub(super) fn laws(&self, point: &Point, projection: &Projection) -> [Normal; EXPERTS] {
        let ahead = point.ahead;
        let error = self.calibration.width.mean() * point.error;
        let queue = Normal { mean: point.level, error };
        let [level, spread] = point.otherwise;
        let otherwise = Normal { mean: level, error: self.calibration.width.mean() * spread };
        let [short, middle, long] = [0, 1, 2].map(|at| projection.grows(at, ahead));
        [queue, otherwise, projection.stays(ahead), short, middle, long]
    }

    /// Evidence for the forecasters. Entries from before ctmon count as unknown until deletes have shown how long they live.
    fn belief(&self) -> Belief {
        let old = (self.at_first / self.entries.unwrap_or(0.0).max(1.0)).min(1.0);
        self.mixture.belief(old * (-self.counted / DOUBT_SECS).exp())
    }

    /// Reports whether all but few entries are of kinds of which none expires.
    fn keeps(&self) -> bool {
        let expires = self.stocks.iter().flatten().map(|stock| stock.expires()).sum::<f64>();
        self.counted > 0.0 && expires + self.rest <= FEW * self.entries.unwrap_or(0.0)
    }

    /// Evictions keep a full table a little below its limit.
    pub(super) fn is_full(&self, now: f64, max: f64) -> bool {
        let least = match self.counted > 0.0 {
            true if self.is_evicting => EVICTS * max,
            true => max,
            false => UNSEEN * max,
        };
        now >= least
    }
}

/// Level to come, by all forecasters.
struct Future<'a> {
    table: &'a Table,
    is_full: bool,
    /// Nothing is known to expire: see [`Table::keeps`].
    keeps: bool,
    belief: Belief,
    projection: Projection,
    /// Level by the queue.
    points: &'a [Point],
}

impl Future<'_> {
    fn laws(&self, point: &Point) -> [Normal; EXPERTS] {
        self.table.laws(point, &self.projection)
    }

    fn laws_at(&self, ahead: f64) -> [Normal; EXPERTS] {
        self.laws(&path::between(self.points, ahead))
    }

    /// Probabilities at the moment of `point`, of that moment alone.
    fn reached(&self, max: f64, point: &Point) -> Reached {
        let (laws, weights) = (self.laws(point), self.belief.weights(point.ahead));
        let mut full = if self.is_full { 1.0 } else { above(&laws, &weights, max) };
        if self.keeps && self.projection.least(point.ahead) >= max {
            full = full.max(LEAST_OF_GROWTH);
        }
        // A packet is dropped when the table is full and all its entries are assured.
        let part = (point.assured / point.level.max(1.0)).clamp(0.0, 1.0);
        let drop = above(&laws, &weights, ASSURED * max / part.max(1e-9)).min(full);
        Reached { ahead: point.ahead, full, drop }
    }

    /// Quantiles of the times until the table is full and until the first drop; probabilities to be full within [`WITHIN`].
    fn reaches(&self, max: f64) -> ([Quantiles<Option<f64>>; 2], [f64; WITHIN.len()]) {
        let so_far = self.points.iter().scan(Reached::default(), |before, point| {
            *before = self.reached(max, point).after(before);
            Some(*before)
        });
        let reached: Vec<Reached> = so_far.collect();
        let between = |ahead| self.reached(max, &path::between(self.points, ahead));
        let of_full: fn(&Reached) -> f64 = |reached| reached.full;
        let of_drop: fn(&Reached) -> f64 = |reached| reached.drop;
        let when = |of: fn(&Reached) -> f64, part| passes(&reached, of, part, between);
        let [mut full, drop] = [of_full, of_drop].map(|of| Quantiles {
            low: when(of, 0.1),
            median: when(of, 0.5),
            high: when(of, 0.9),
        });
        let told = self.table.told.filter(|told| told.max == max);
        if let Some(told) = told.filter(|told| told.is_far_from(full.median)) {
            let around = jump::AROUND.map(|part| when(of_full, part));
            full.median = told.nearest(self.table.now, around);
        }
        // No packet is dropped before the table is full.
        let times = [full, drop.no_earlier_than(full)];
        let within = |within| {
            path::interpolate(&reached, within, |reached| reached.ahead, |reached| reached.full)
        };
        (times, WITHIN.map(within))
    }

    /// Reports whether the queue has most weight after [`STEADY_SECS`], or the others predict the same level.
    fn is_queue(&self) -> bool {
        let (laws, weights) = (self.laws_at(STEADY_SECS), self.belief.weights(STEADY_SECS));
        let mean: f64 = laws.iter().zip(weights).map(|(law, weight)| weight * law.mean).sum();
        let queue = laws[QUEUE].mean;
        weights[QUEUE] >= 0.5 || (mean - queue).abs() <= ALIKE * queue
    }

    /// Entries in [`AHEAD`] seconds: quantiles, and the ends of the 95 % interval.
    fn in_a_minute(&self) -> (Quantiles<f64>, [f64; 2]) {
        let weights = self.belief.weights(AHEAD);
        let there = self.laws_at(AHEAD);
        // A pass that is due about then may come a moment earlier or later.
        let is_saw = self.table.is_saw;
        let moments = is_saw.then(|| [-JITTER, JITTER].map(|early| self.laws_at(AHEAD + early)));
        let around = || std::iter::once(&there).chain(moments.iter().flatten());
        let ends = |z: f64| around().map(move |laws| quantile(laws, &weights, z));
        let lowest = |z: f64| ends(-z).fold(f64::INFINITY, f64::min);
        let highest = |z: f64| ends(z).fold(0.0, f64::max);
        let median = quantile(&there, &weights, 0.0);
        let ahead =
            Quantiles { low: lowest(Z90).min(median), median, high: highest(Z90).max(median) };
        (ahead, [lowest(Z975).min(ahead.low), highest(Z975).max(ahead.high)])
    }
}
