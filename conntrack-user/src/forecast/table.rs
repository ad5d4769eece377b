//! The forecaster: what is here now and survives, and what will come and stay.
//!
//! Entries of each protocol are kept by the time of their insert (`history`), in two kinds that live for different
//! times (`stock`), by laws that begin with the kernel's timeouts and follow what is observed (`law`). The level to
//! come is that of an infinite-server queue: survivors plus arrivals (Eick, Massey, Whitt 1993,
//! doi 10.1287/opre.41.4.731). Where arrivals have been the same for long, a sure trend of the level (`levels`) is
//! believed instead: what leaks is not in any law.

use super::{
    Forecaster,
    arrivals::{self, Rate},
    calibration::Calibration,
    history::KINDS,
    levels::{Levels, Trend},
    outlook::{AHEAD, HORIZON, Outlook, Quantiles, Settles, State, WITHIN},
    passes::{Passes, Work},
    path::{self, GRID, Path, Saw, Z90, crossing, normal, value},
    reason,
    snapshot::{ByClass, Snapshot, Timeouts},
    stock::{Collection, Stock},
};
use crate::model::{
    class::{PROTOCOLS, Protocol},
    tick::Limit,
};

/// Time between two snapshots beyond which what happened in between is not known, in seconds.
const GAP: f64 = 5.0;
/// Seconds between which the laws are worked out anew, once they are known.
const SLOW: f64 = 5.0;
/// Seconds after which lives have been seen, so that they are believed alone.
const YOUNG: f64 = 120.0;
/// Seconds after which what live entries tell of those from before is believed.
const BELIEVED: f64 = 10.0;
/// Seconds after which the collector has passed once.
const MOST_BETWEEN_PASSES: f64 = 62.0;
/// Seconds by which a pass of the collector comes early or late.
const JITTER: f64 = 1.5;
/// A level that grows by more than this part of it in the last hour before the horizon has not settled.
const RISES: f64 = 0.02;
/// How far a forecast of a change is off, as part of it, besides what chance does.
const MODEL_ERROR: f64 = 0.08;

/// The forecaster of one table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    now: f64,
    is_begun: bool,
    entries: Option<f64>,
    limit: Option<Limit>,
    timeouts: Timeouts,
    stocks: [Option<Box<Stock>>; PROTOCOLS],
    /// Entries of which nothing is known yet.
    rest: f64,
    levels: Levels,
    passes: Passes,
    is_saw: bool,
    has_passed: bool,
    /// Part of the replied entries that is not assured, as live entries tell.
    replied_unassured: f64,
    /// Entries were evicted or packets dropped since the snapshot before: it is at its limit, if a little below.
    is_evicting: bool,
    /// Entries that come lately, a second.
    arriving: f64,
    /// Entries that go lately, a second.
    leaving: f64,
    /// For so many seconds live entries have told what nearly all are, those from before too.
    knows_old: f64,
    /// Packets dropped lately, a second.
    refused: f64,
    /// Inserts and deletes have been counted for so many seconds.
    counted: f64,
    /// Since the laws were last worked out.
    stale: f64,
    calibration: Calibration,
}

impl Forecaster for Table {
    fn observe(&mut self, snapshot: &Snapshot) {
        let now = snapshot.time_ns as f64 / 1e9;
        let seconds = now - self.now;
        if self.is_begun && seconds <= 0.0 {
            return;
        }
        self.limit = Some(snapshot.limit);
        if self.timeouts != snapshot.timeouts {
            self.timeouts = snapshot.timeouts;
            self.stocks
                .iter_mut()
                .flatten()
                .for_each(|stock| stock.set_timeouts(&snapshot.timeouts));
        }
        let entries = snapshot.entries.map(|entries| entries as f64);
        if self.is_begun {
            self.advance(snapshot, now, seconds, entries);
        } else {
            self.rest = entries.unwrap_or(0.0);
        }
        self.is_begun = true;
        self.now = now;
        self.entries = entries.or(self.entries);
        if let Some(entries) = entries {
            // Of a saw the level after each pass.
            if !self.is_saw || self.has_passed {
                self.levels.push(now, entries);
            }
            self.calibration.judge(now, entries);
        }
        if self.counted > 3.0 && self.calibration.is_due(now) {
            let points = self.path(&self.rates()).points();
            let median = path::at(&points, AHEAD, |point| point.level);
            let error = path::at(&points, AHEAD, |point| point.error);
            self.calibration.expect(now, median, error);
        }
    }

    fn outlook(&self) -> Outlook {
        self.look()
    }
}

impl Table {
    fn advance(&mut self, snapshot: &Snapshot, now: f64, seconds: f64, entries: Option<f64>) {
        let change = snapshot.change.filter(|_| seconds <= GAP);
        let Some(change) = change else {
            self.pass_unseen(now, seconds, entries);
            return;
        };
        self.counted += seconds;
        let part = (seconds / 10.0).min(1.0);
        self.refused += part * (change.refused as f64 / seconds - self.refused);
        let is_evicting = change.evictions > 0 || change.refused > 0;
        self.is_evicting = is_evicting;
        let gone: f64 = change.deletes.iter().flatten().map(|gone| *gone as f64).sum();
        let gone = (gone - change.evictions as f64).max(0.0);
        let part = (seconds / 10.0).max(seconds / self.counted).min(1.0);
        self.leaving += part * (gone / seconds - self.leaving);
        let before = self.entries.unwrap_or(f64::INFINITY);
        let came: f64 = change.inserts.iter().map(|came| *came as f64).sum();
        self.arriving += (seconds / 5.0).min(1.0) * (came / seconds - self.arriving);
        let work = self.passes.observe(now, seconds, [came, gone], before);
        let collection = self.collection(work);
        for (index, protocol) in Protocol::ALL.into_iter().enumerate() {
            let inserts = change.inserts[index] as f64;
            let by_status = change.deletes.map(|of| of[index] as f64);
            let deaths = [by_status[0], by_status[1..].iter().sum()];
            if inserts + deaths[0] + deaths[1] == 0.0 && self.stocks[index].is_none() {
                continue;
            }
            let timeouts = self.timeouts;
            let stock =
                self.stocks[index].get_or_insert_with(|| Box::new(Stock::new(protocol, &timeouts)));
            stock.hint(deaths, seconds);
            let missing = stock.die(
                deaths,
                now,
                seconds,
                !is_evicting,
                snapshot.ended.as_deref().filter(|_| !is_evicting),
                &collection,
            );
            self.rest = (self.rest - missing).max(0.0);
            stock.come(inserts, self.now, now, true);
        }
        if let Some(live) = &snapshot.live {
            self.believe(&live.entries, f64::from(live.reads), now, seconds);
        } else if self.rest > 0.0 && self.counted > 5.0 {
            self.suppose_rest(now);
        }
        self.has_passed = work == Work::HasPassed;
        if self.has_passed {
            self.passes.settle();
        }
        let is_saw = self.passes.waiting() > 0.0;
        if is_saw != self.is_saw {
            self.is_saw = is_saw;
            self.levels.clear();
        }
        self.fit(entries);
        self.stale += seconds;
        if self.stale >= if self.counted < YOUNG { 1.0 } else { SLOW } {
            for stock in self.stocks.iter_mut().flatten() {
                for (law, pace) in stock.laws.iter_mut().zip(stock.pace) {
                    law.fade(self.stale);
                    law.refresh(pace);
                }
            }
            self.stale = 0.0;
        }
    }

    /// Nothing is known of what happened: what was expected is taken to have.
    fn pass_unseen(&mut self, now: f64, seconds: f64, entries: Option<f64>) {
        for stock in self.stocks.iter_mut().flatten() {
            let rate = arrivals::rate(&stock.history, self.now).level;
            let [survivors] = stock.survivors(self.now, &[seconds], &Collection::NONE);
            let there = stock.history.alive();
            for kind in 0..KINDS {
                let keep = if there[kind] > 0.0 { survivors[kind] / there[kind] } else { 0.0 };
                stock.history.spans_mut().for_each(|span| span.scale(kind, keep));
            }
            if self.counted > 0.0 {
                stock.come(rate * seconds, self.now, now, false);
            }
        }
        self.fit(entries);
    }

    /// Makes the sum of what is supposed what is known.
    fn fit(&mut self, entries: Option<f64>) {
        let Some(entries) = entries else { return };
        let known: f64 = self.known();
        self.rest = (entries - known).max(0.0);
        if known > entries && known > 0.0 {
            let keep = entries / known;
            for span in self.stocks.iter_mut().flatten().flat_map(|stock| stock.history.spans_mut())
            {
                (0..KINDS).for_each(|kind| span.scale(kind, keep));
            }
        }
    }

    fn known(&self) -> f64 {
        self.stocks.iter().flatten().map(|stock| stock.history.alive().iter().sum::<f64>()).sum()
    }

    /// Live entries tell what there is.
    fn believe(&mut self, live: &ByClass<f64>, reads: f64, now: f64, seconds: f64) {
        let all: f64 = live.iter().flatten().sum();
        if all <= 0.0 || reads < 1.0 {
            return;
        }
        if all > 0.8 * self.entries.unwrap_or(all) {
            self.knows_old += seconds;
        }
        let timeouts = self.timeouts;
        let (mut replied, mut assured) = (0.0, 0.0);
        for (index, protocol) in Protocol::ALL.into_iter().enumerate() {
            let by_status = live.map(|of| of[index]);
            let of_protocol: f64 = by_status.iter().sum();
            replied += by_status[1];
            assured += by_status[2] + by_status[3];
            if of_protocol <= 0.0 {
                continue;
            }
            let stock =
                self.stocks[index].get_or_insert_with(|| Box::new(Stock::new(protocol, &timeouts)));
            if self.rest > 1.0 {
                let known: f64 = stock.history.alive().iter().sum();
                let more = (of_protocol / all * self.entries.unwrap_or(all) - known).max(0.0);
                let more = more.min(self.rest);
                let unreplied = by_status[0] / of_protocol;
                stock.add_old([more * unreplied, more * (1.0 - unreplied)], now);
                stock.unreplied = unreplied;
                self.rest -= more;
            }
            stock.believe(by_status[0] / of_protocol, reads * of_protocol / all, now, seconds);
        }
        if replied + assured > 0.0 {
            let part = (seconds / 10.0).min(1.0);
            self.replied_unassured +=
                part * (replied / (replied + assured) - self.replied_unassured);
        }
    }

    /// Nothing tells what the entries from before are: what has come lately is taken for like them.
    fn suppose_rest(&mut self, now: f64) {
        let weight = |stock: &Stock| {
            let rate = arrivals::rate(&stock.history, now).level;
            let (level, _) = stock.arrivals(HORIZON, 0.0);
            level.map(|of| of * rate)
        };
        let weights = self.stocks.each_ref().map(|stock| stock.as_ref().map(|stock| weight(stock)));
        let all: f64 = weights.iter().flatten().flatten().sum();
        if all <= 0.0 {
            return;
        }
        let rest = self.rest;
        for (stock, weight) in self.stocks.iter_mut().zip(weights) {
            if let (Some(stock), Some(weight)) = (stock, weight) {
                stock.add_old(weight.map(|of| rest * of / all), now);
            }
        }
        self.rest = 0.0;
    }

    fn rates(&self) -> [Option<Rate>; PROTOCOLS] {
        self.stocks
            .each_ref()
            .map(|stock| stock.as_ref().map(|stock| arrivals::rate(&stock.history, self.now)))
    }

    /// The level to come without regard to the limit.
    fn path(&self, rates: &[Option<Rate>; PROTOCOLS]) -> Path {
        let mut path = self.queue(rates);
        if let Some(trend) = self.trend(rates) {
            self.follow(&mut path, &trend);
        }
        if self.counted > 0.0 && self.counted < YOUNG && self.knows_old < BELIEVED {
            self.temper(&mut path, rates);
        }
        path
    }

    /// What was there before is not known, nor how long those live that come: the less has been seen, the more is
    /// believed that as many go as do now, until the collector passes next.
    fn temper(&self, path: &mut Path, rates: &[Option<Rate>; PROTOCOLS]) {
        let trust = (self.counted / YOUNG).powi(2);
        let come: f64 = rates.iter().flatten().map(|rate| rate.level).sum();
        let seen = self.counted.min(10.0);
        let noise = rates.iter().flatten().map(|rate| rate.error.powi(2)).sum::<f64>()
            + 3.0 * self.leaving / seen;
        let (grows, until) = if self.is_saw {
            (0.0, 0.0)
        } else {
            (come - self.leaving, (MOST_BETWEEN_PASSES - self.counted).max(5.0))
        };
        let now = path.level[0];
        for (at, ahead) in GRID.into_iter().enumerate() {
            let seconds = ahead.min(until);
            path.level[at] =
                trust * path.level[at] + (1.0 - trust) * (now + grows * seconds).max(0.0);
            let error = (trust * path.error[at]).powi(2)
                + (1.0 - trust) * (noise * seconds * seconds + (come + self.leaving) * seconds);
            path.error[at] = error.sqrt();
        }
    }

    fn queue(&self, rates: &[Option<Rate>; PROTOCOLS]) -> Path {
        let mut path = Path::default();
        let collection = self.collection(Work::Rests);
        let now = self.entries.unwrap_or_else(|| self.known() + self.rest);
        let survivors = self
            .stocks
            .each_ref()
            .map(|stock| stock.as_ref().map(|stock| stock.survivors(self.now, &GRID, &collection)));
        // Before it has seen what lives and dies for a while, the laws are guessed.
        let guessed = 0.15 * (-self.counted / 90.0).exp();
        for (at, ahead) in GRID.into_iter().enumerate() {
            let (mut level, mut assured, mut variance, mut turned) = (self.rest, 0.0, 0.0, 0.0);
            let mut all = 0.0;
            for ((stock, rate), survivors) in self.stocks.iter().zip(rates).zip(&survivors) {
                let (Some(stock), Some(rate), Some(survivors)) = (stock, rate, survivors) else {
                    continue;
                };
                let here: f64 = survivors[0].iter().sum();
                let stay = survivors[at];
                let (per_rate, per_slope) = stock.arrivals(ahead, rate.since);
                let come = [0, 1].map(|kind| {
                    f64::max(rate.level * per_rate[kind] + rate.slope * per_slope[kind], 0.0)
                });
                let (stayed, came): (f64, f64) = (stay.iter().sum(), come.iter().sum());
                level += stayed + came;
                let rising = ahead.min(rate.since);
                all += (rate.level * ahead + rate.slope * rising * (ahead - 0.5 * rising)).max(0.0);
                assured += (stay[1] + come[1]) * (1.0 - self.replied_unassured);
                turned += (here - stayed) + came;
                variance += stayed * (1.0 - stayed / here.max(1.0)) + came * rate.dispersion;
                variance += (rate.error * per_rate.iter().sum::<f64>()).powi(2);
                variance +=
                    (rate.slope_error * rate.slope.signum().abs() * per_slope.iter().sum::<f64>())
                        .powi(2);
            }
            variance +=
                (MODEL_ERROR * (level - now)).powi(2) + ((0.004 + guessed) * turned).powi(2);
            path.level[at] = level;
            path.come[at] = all;
            path.assured[at] = assured;
            path.error[at] = variance.sqrt();
        }
        // Now it is what it is.
        let off = now - path.level[0];
        let next = self.passes.next(self.now).filter(|_| self.is_saw);
        if let Some(next) = next.filter(|_| off >= 0.0) {
            path.saw = Some(Saw {
                waiting: off,
                fate: self.passes.fate(self.arriving),
                next,
                interval: self.passes.interval(),
            });
        } else {
            path.level.iter_mut().for_each(|level| *level = (*level + off).max(0.0));
        }
        path.error[0] = 0.0;
        path
    }

    fn collection(&self, work: Work) -> Collection {
        let last = self.passes.last().filter(|_| self.is_saw);
        Collection {
            fate: self.passes.fate(self.arriving),
            last,
            passes: work == Work::Passes,
            has_passed: (work == Work::HasPassed && last.is_some()).then(|| self.passes.seen()),
        }
    }

    /// A trend that arrivals do not explain; none where they have changed lately.
    fn trend(&self, rates: &[Option<Rate>; PROTOCOLS]) -> Option<Trend> {
        let all: f64 = rates.iter().flatten().map(|rate| rate.level).sum();
        let matter = |rate: &&Rate| rate.level > 0.02 * all;
        let same = rates
            .iter()
            .flatten()
            .filter(matter)
            .map(|rate| if rate.slope == 0.0 { rate.since } else { 0.0 });
        let same = same.fold(f64::INFINITY, f64::min);
        let lifetime = self.entries? / all.max(1.0);
        let settled = same - 2.0 * lifetime.clamp(5.0, 240.0);
        let (seconds, memory) = if self.counted == 0.0 {
            // Counts alone: a trend is all there is.
            (self.now - self.levels.first()?, 10.0)
        } else {
            (settled, lifetime.clamp(5.0, 120.0))
        };
        let seconds = seconds.min(3600.0);
        let enough = if self.counted == 0.0 { 15.0 } else { 120.0 };
        if seconds < enough {
            return None;
        }
        self.levels.trend(self.now, seconds, memory)
    }

    /// Lets the level go on as it did, as far as that is known better than from the laws.
    fn follow(&self, path: &mut Path, trend: &Trend) {
        let now = path.level[0];
        let slope = if trend.is_sure() { trend.slope } else { 0.0 };
        for (at, ahead) in GRID.into_iter().enumerate() {
            path.level[at] = (now + slope * ahead).max(0.0);
            let stays = path.error[at].min(1.5 * trend.noise + 2.0);
            path.error[at] = (stays * stays + (trend.error * ahead).powi(2)).sqrt();
        }
    }

    fn look(&self) -> Outlook {
        let Some(now) = self.entries else {
            return Outlook::unknown(State::Unknown, "the number of entries is not known");
        };
        let max = match self.limit {
            Some(Limit::Entries(max)) => Some(f64::from(max)),
            Some(Limit::Unlimited) => None,
            Some(Limit::Unavailable) | None => {
                return Outlook::unknown(State::Unknown, "the limit is not known");
            }
        };
        let is_young =
            self.counted < 3.0 && self.levels.first().is_none_or(|first| self.now - first < 15.0);
        if is_young {
            let state =
                if max.is_some_and(|max| now >= max) { State::Full } else { State::Unknown };
            return Outlook::unknown(state, "not enough is known yet");
        }
        let rates = self.rates();
        let path = self.path(&rates);
        let is_full = max.is_some_and(|max| now >= max || (self.is_evicting && now >= 0.9 * max));
        let points = path.points();
        let width = self.calibration.width;
        let line = |z: f64| move |point: &path::Point| point.level + z * width * point.error;
        let evictable = self.counted > 0.0 && self.rest < 0.5 * now;
        let evictable =
            evictable.then(|| (now - points.first().map_or(0.0, |it| it.assured)).clamp(0.0, now));
        let at_once = Some(0.0).filter(|_| is_full);
        let full = max.map(|max| Quantiles {
            low: at_once.or_else(|| crossing(&points, max, line(Z90))),
            median: at_once.or_else(|| crossing(&points, max, line(0.0))),
            high: at_once.or_else(|| crossing(&points, max, line(-Z90))),
        });
        let full_within = max.map(|max| {
            WITHIN.map(|within| {
                let reach =
                    |level: f64, error: f64| normal((level - max) / (width * error).max(1e-9));
                let until = points.iter().filter(|point| point.ahead <= within);
                let last = reach(
                    path::at(&points, within, |point| point.level),
                    path::at(&points, within, |point| point.error),
                );
                let first = if is_full { 1.0 } else { last };
                until.map(|point| reach(point.level, point.error)).fold(first, f64::max)
            })
        });
        let drop = max.filter(|_| evictable.is_some()).map(|max| {
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
        let settles = (!is_rising).then(|| {
            let within = |at: &usize| {
                path.level[*at..]
                    .iter()
                    .all(|level| (level - last).abs() <= 0.05 * last.abs().max(1.0))
            };
            let first = (0..GRID.len()).find(within).unwrap_or(GRID.len() - 1);
            Settles { level: tip, seconds: GRID[first] }
        });
        let moved = value(&path.level, AHEAD) - path.level[0];
        let noise = (Z90 * width * value(&path.error, AHEAD)).max(0.01 * now);
        let state = if is_full {
            State::Full
        } else if full.is_some_and(|full| full.median.is_some()) || moved > noise {
            State::Filling
        } else if moved < -noise {
            State::Draining
        } else {
            State::Steady
        };
        // A pass that is due about then may come a moment earlier or later.
        let around = |ahead: f64, z: f64| path::at(&points, ahead, line(z));
        let ahead = Quantiles {
            low: around(AHEAD, -Z90).min(around(AHEAD + JITTER, -Z90)).max(0.0),
            median: around(AHEAD, 0.0).max(0.0),
            high: around(AHEAD, Z90).max(around(AHEAD - JITTER, Z90)).max(0.0),
        };
        let reason = reason::text(state, now, max, &rates, settles);
        Outlook { state, full, full_within, drop, evictable, settles, ahead: Some(ahead), reason }
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
