//! What follows from the level to come.

use super::Table;
use crate::{
    forecast::{
        calibration::Width,
        outlook::{AHEAD, Outlook, Quantiles, State, SteadyState, WITHIN},
        path::{self, GRID, Z90, Z975, crossing, normal, value},
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
        let width = self.calibration.width;
        let end = |width: Width, z: f64| {
            move |point: &path::Point| point.level + z * width.of(z) * point.error
        };
        let line = |z: f64| end(width, z);
        let evictable_entries = self.counted > 0.0 && self.rest < 0.5 * now;
        let evictable_entries = evictable_entries
            .then(|| (now - points.first().map_or(0.0, |it| it.assured)).clamp(0.0, now));
        let at_once = Some(0.0).filter(|_| is_full);
        let seconds_to_full = max.map(|max| Quantiles {
            low: at_once.or_else(|| crossing(&points, max, line(Z90))),
            median: at_once.or_else(|| crossing(&points, max, line(0.0))),
            high: at_once.or_else(|| crossing(&points, max, line(-Z90))),
        });
        let full_probability = max.map(|max| {
            let reach = |level: f64, error: f64| {
                let above = level - max;
                normal(above / (width.of(-above) * error).max(1e-9))
            };
            let mut likely = if is_full { 1.0 } else { 0.0 };
            let mut rest = points.iter().peekable();
            WITHIN.map(|within| {
                while let Some(point) = rest.next_if(|point| point.ahead <= within) {
                    likely = f64::max(likely, reach(point.level, point.error));
                }
                let last = reach(
                    path::at(&points, within, |point| point.level),
                    path::at(&points, within, |point| point.error),
                );
                likely.max(last)
            })
        });
        let seconds_to_first_drop = max.filter(|_| evictable_entries.is_some()).map(|max| {
            let part = |z: f64| {
                // Full, and all that is there is assured.
                let assured = move |point: &path::Point| {
                    point.assured * (line(z)(point) / point.level.max(1.0)).max(0.0)
                };
                crossing(&points, 0.98 * max, assured)
            };
            Quantiles { low: part(Z90), median: part(0.0), high: part(-Z90) }
        });
        let last = path.level[GRID.len() - 1];
        let is_rising = last - path.level[GRID.len() - 2] > RISES * last;
        let tip = points.last().map_or(last, |point| point.level);
        let steady_state = (!is_rising).then(|| {
            let within = |at: &usize| {
                path.level[*at..]
                    .iter()
                    .all(|level| (level - last).abs() <= 0.05 * last.abs().max(1.0))
            };
            let first = (0..GRID.len()).find(within).unwrap_or(GRID.len() - 1);
            SteadyState { level: tip, seconds: GRID[first] }
        });
        let moved = value(&path.level, AHEAD) - path.level[0];
        let noise = (Z90 * width.of(-moved) * value(&path.error, AHEAD)).max(0.01 * now);
        let state = if is_full {
            State::Full
        } else if seconds_to_full.is_some_and(|full| full.median.is_some()) || moved > noise {
            State::Filling
        } else if moved < -noise {
            State::Draining
        } else {
            State::Steady
        };
        // A pass that is due about then may come a moment earlier or later.
        let around = |ahead: f64, width: Width, z: f64| path::at(&points, ahead, end(width, z));
        let ends = |width: Width, z: f64| {
            let low = around(AHEAD, width, -z).min(around(AHEAD + JITTER, width, -z));
            let high = around(AHEAD, width, z).max(around(AHEAD - JITTER, width, z));
            [low.max(0.0), high.max(0.0)]
        };
        let [low, high] = ends(width, Z90);
        let ahead = Quantiles { low, median: around(AHEAD, width, 0.0).max(0.0), high };
        let [widest_low, widest_high] = ends(self.calibration.wide, Z975);
        let entries_in_60s_95 = Some([widest_low.min(low), widest_high.max(high)]);
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
