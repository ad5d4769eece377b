//! The forecaster: what is here now and survives, and what will come and stay.
//!
//! Entries of each protocol are kept by the time of their insert (`history`), in two kinds that live for different
//! times (`stock`), by laws that begin with the kernel's timeouts and follow what is observed (`law`). The level to
//! come is that of an infinite-server queue: survivors plus arrivals (Eick, Massey, Whitt 1993,
//! doi 10.1287/opre.41.4.731). Where arrivals have been the same for long, a sure trend of the level (`levels`) is
//! believed instead: what leaks is not in any law.

mod ahead;
mod jump;
mod look;

pub use jump::{FACTOR as JUMP_FACTOR, Jump};

use self::{ahead::Queue, jump::Told};
use super::{
    Forecaster, arrivals,
    calibration::Calibration,
    coming::Coming,
    growth::Growth,
    history::{KINDS, UNREPLIED},
    levels::Levels,
    mixture::{self, Mixture},
    outlook::{AHEAD, HORIZON, Outlook, State},
    passes::{Passes, Work},
    path,
    season::Season,
    snapshot::{ByClass, Live, Snapshot, Timeouts},
    stock::{Collection, Learns, Stock},
};
use crate::model::{
    class::{PROTOCOLS, Protocol},
    tick::Limit,
};

/// Time between two snapshots beyond which what happened in between is not known, in seconds.
const GAP: f64 = 5.0;
/// Seconds between which the laws are worked out anew, once they are known.
const SLOW: f64 = 5.0;
/// Seconds after which entries from before are supposed to be like those that have come; longer where live ones may tell more.
const LIVE_SECS: f64 = 5.0;
const NO_LIVE_SECS: f64 = 8.0;
/// Part of the entries that live ones must be to tell what all are.
const MOST_ARE: f64 = 0.5;
/// Part of the answered TCP entries that is all of them but for chance, and reads that tell so.
const ALL_LAST: f64 = 0.995;
const ENOUGH: f64 = 50.0;
/// Seconds after which lives have been seen, so that they are believed alone.
const YOUNG: f64 = 120.0;

/// The forecaster of one table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    now: f64,
    is_begun: bool,
    entries: Option<f64>,
    limit: Option<Limit>,
    timeouts: Timeouts,
    stocks: [Option<Box<Stock>>; PROTOCOLS],
    seasons: [Season; PROTOCOLS],
    /// Entries of which nothing is known yet.
    rest: f64,
    /// Entries that were there when counting began.
    at_first: f64,
    /// Entries of `rest` that have gone.
    rest_gone: f64,
    /// Seconds that the entries of `rest` have lived, summed up.
    rest_lived: f64,
    levels: Levels,
    passes: Passes,
    is_saw: bool,
    has_passed: bool,
    /// Part of the replied entries that is not assured, as live entries tell.
    replied_unassured: f64,
    /// Entries were evicted or packets dropped since the snapshot before: it is at its limit, if a little below.
    is_evicting: bool,
    /// Part of the live entries that has expired and waits for the collector, and when that was seen.
    expired: Option<(f64, f64)>,
    /// Entries that come lately, a second.
    arriving: f64,
    /// Inserts and deletes have been counted for so many seconds.
    counted: f64,
    /// Since the laws were last worked out.
    stale: f64,
    calibration: Calibration,
    growth: Growth,
    /// Open TCP connections, by live entries.
    open: Growth,
    mixture: Mixture,
    /// Time to full that was told at the last snapshot; none where nothing was.
    told: Option<Told>,
    outlook: Option<Outlook>,
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
            self.at_first = self.rest;
        }
        self.is_begun = true;
        self.now = now;
        self.entries = entries.or(self.entries);
        if let Some(entries) = entries {
            // Of a saw the level after each pass.
            if !self.is_saw || self.has_passed {
                self.levels.push(now, entries);
            }
            self.calibration.judge(now, entries, self.max());
            self.growth.push(now, entries);
        }
        let judges = self.counted > 3.0 && self.calibration.is_due(now);
        let is_known = self.counted > 1.0 || snapshot.change.is_none();
        let predicts = is_known && self.mixture.is_due(now);
        let queue = Queue::of(self);
        if let Some(entries) = entries {
            let full = self.max().filter(|max| self.is_full(entries, *max));
            self.mixture.judge(now, entries, full, now - queue.coming.changed());
        }
        if judges || predicts {
            self.predict(&queue, judges, predicts);
        }
        let outlook = self.look(&queue);
        let full = self.max().zip(outlook.seconds_to_full);
        self.told = full.map(|(max, full)| Told { at: now, median: full.median, max });
        self.outlook = Some(outlook);
    }

    fn outlook(&self) -> Outlook {
        let unknown = || Outlook::unknown(State::Unknown, "nothing was seen yet");
        self.outlook.clone().unwrap_or_else(unknown)
    }
}

impl Table {
    /// Keeps the predictions of now, to judge them when they are due.
    fn predict(&mut self, queue: &Queue, is_for_width: bool, is_for_weights: bool) {
        let now = self.now;
        if is_for_width {
            let there = path::between(&queue.points, AHEAD);
            self.calibration.expect(now, there.level, there.error);
        }
        if is_for_weights {
            let projection = self.growth.project(now, self.entries.unwrap_or(0.0));
            let laws = mixture::HORIZONS
                .map(|ahead| self.laws(&path::between(&queue.points, ahead), &projection));
            self.mixture.expect(now, laws);
        }
    }

    fn advance(&mut self, snapshot: &Snapshot, now: f64, seconds: f64, entries: Option<f64>) {
        let change = snapshot.change.filter(|_| seconds <= GAP);
        let Some(change) = change else {
            self.is_evicting = false;
            self.pass_unseen(now, seconds, entries);
            return;
        };
        self.counted += seconds;
        let is_evicting = change.early_drops > 0 || change.refused > 0;
        self.is_evicting = is_evicting;
        let gone: f64 = change.deletes.iter().flatten().map(|gone| *gone as f64).sum();
        let not_the_kernels = change.early_drops + change.removed.unwrap_or(0);
        let gone = (gone - not_the_kernels as f64).max(0.0);
        let before = change.removed.is_none().then(|| self.entries.unwrap_or(f64::INFINITY));
        let came: f64 = change.inserts.iter().map(|came| *came as f64).sum();
        self.arriving += (seconds / 5.0).min(1.0) * (came / seconds - self.arriving);
        let work = self.passes.observe(now, seconds, [came, gone], before);
        let collection = self.collection(work);
        self.rest_lived += self.rest * seconds;
        let learns = match change.removed {
            _ if is_evicting => Learns::Nothing,
            None => Learns::NoFlush,
            Some(_) => Learns::All,
        };
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
            stock.wait(deaths, seconds);
            let unanswered = stock.history.alive()[UNREPLIED];
            let missing = stock.die(
                deaths,
                now,
                seconds,
                learns,
                snapshot.ended.as_deref().filter(|_| !is_evicting),
                &collection,
            );
            self.rest_gone += missing.min(self.rest);
            self.rest = (self.rest - missing).max(0.0);
            let off = unanswered - stock.history.alive()[UNREPLIED] - deaths[UNREPLIED];
            stock.share.advance(inserts, off, seconds);
            stock.come(inserts, self.now, now, true);
            let dispersion = || arrivals::dispersion(&stock.history, now);
            self.seasons[index].push(inserts, seconds, dispersion);
        }
        if let Some(live) = &snapshot.live {
            self.hear(live, now, seconds);
        }
        let waits = if snapshot.live.is_some() { LIVE_SECS } else { NO_LIVE_SECS };
        if self.rest > 0.0 && self.counted > waits {
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
        self.seasons.iter_mut().for_each(Season::clear);
        self.stocks.iter_mut().flatten().for_each(|stock| stock.wait_anew());
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

    /// Takes in what live entries are doing: of all, where they are most of them.
    fn hear(&mut self, live: &Live, now: f64, seconds: f64) {
        let all: f64 = live.entries.iter().flatten().sum();
        let of_protocol = |at: usize| live.entries.map(|of| of[at]);
        if let Some(stock) = &mut self.stocks[Protocol::Tcp as usize] {
            let answered: f64 = of_protocol(Protocol::Tcp as usize)[1..].iter().sum();
            if answered > 0.0 {
                let open = live.old_established.unwrap_or(live.established / answered);
                stock.see_open(open, seconds);
                let reads = f64::from(live.reads) * answered / all;
                stock.see_lasting(reads >= ENOUGH && live.lasting >= ALL_LAST * answered);
            }
        }
        let are_most = all > 0.0 && all >= MOST_ARE * self.entries.unwrap_or(0.0);
        let tells = are_most && f64::from(live.reads) >= ENOUGH;
        if tells {
            self.open.push(now, live.established / all * self.entries.unwrap_or(all));
        } else {
            self.open.clear();
        }
        self.expired = tells.then(|| ((live.expired / all).clamp(0.0, 1.0), now));
        if are_most {
            self.believe(&live.entries, f64::from(live.reads), now, seconds);
            return;
        }
        for (at, stock) in self.stocks.iter_mut().enumerate() {
            let by_status = of_protocol(at);
            let sum: f64 = by_status.iter().sum();
            if let Some(stock) = stock.as_mut().filter(|_| sum > 0.0) {
                let reads = f64::from(live.reads) * sum / all;
                stock.believe(by_status[0] / sum, reads, false, now, seconds);
            }
        }
    }

    /// Live entries tell what there is.
    fn believe(&mut self, live: &ByClass<f64>, reads: f64, now: f64, seconds: f64) {
        let all: f64 = live.iter().flatten().sum();
        if all <= 0.0 || reads < 1.0 {
            return;
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
                stock.share.start(unreplied, more, reads * of_protocol / all);
                self.rest -= more;
            }
            stock.believe(
                by_status[0] / of_protocol,
                reads * of_protocol / all,
                true,
                now,
                seconds,
            );
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

    /// The limit; none where there is none, and where it is not known.
    fn max(&self) -> Option<f64> {
        match self.limit {
            Some(Limit::Entries(max)) => Some(f64::from(max)),
            Some(Limit::Unlimited | Limit::Unavailable) | None => None,
        }
    }

    fn coming(&self) -> Coming {
        let rates = self
            .stocks
            .each_ref()
            .map(|stock| stock.as_ref().map(|stock| arrivals::rate(&stock.history, self.now)));
        let recurring = std::array::from_fn(|at| self.seasons[at].ahead(rates[at].as_ref()?));
        Coming { rates, recurring }
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
}

#[cfg(test)]
mod tests;
