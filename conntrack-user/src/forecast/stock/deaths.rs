//! What has died: of which spans, and what that says of how long entries live.

use super::{Collection, Stock};
use crate::{
    forecast::{
        history::{KINDS, REPLIED, Span, UNREPLIED},
        snapshot::Ended,
    },
    model::class::EntryStatus,
};

/// Deaths beyond this many standard deviations are a flush, and nothing that age explains.
const FLUSH: f64 = 8.0;
/// So large a part of the entries does not die by itself between two snapshots.
const FLUSHED: f64 = 0.15;
/// How far the deaths of a span are off what its law has, as part of them.
const LAW_ERROR: f64 = 0.2;
/// Seconds in which the pace of deaths is found.
const PACE: f64 = 20.0;

/// Sees whether as many die as were expected.
fn keep_pace(pace: &mut f64, deaths: f64, expected: f64, seconds: f64) {
    if expected < 1.0 {
        return;
    }
    let weight = (seconds / PACE).min(1.0) * (expected / (expected + 20.0));
    let ratio = (deaths / expected).clamp(0.3, 3.0);
    *pace = (*pace * ratio.powf(weight)).clamp(0.4, 2.5);
}

/// Deaths that enter the laws of lifetimes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::forecast) enum Learns {
    /// No deaths: evictions say nothing of lifetimes.
    Nothing,
    /// Deaths below the number that a user's flush has: causes are not counted.
    NoFlush,
    /// All deaths: causes are counted, and deletes by a user are left out.
    All,
}

/// Entries whose end is told of.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    /// Entries that they stand for.
    number: f64,
    /// The sum of the squares of what each stands for.
    squares: f64,
}

impl Stock {
    /// Takes in what has died, by kind, in the `seconds` before `now`; returns how many of them were not here.
    /// `ended`: how old those were whose insert was seen; without it all ages are supposed.
    pub(in crate::forecast) fn die(
        &mut self,
        deaths: [f64; KINDS],
        now: f64,
        seconds: f64,
        learns: Learns,
        ended: Option<&[Ended]>,
        collection: &Collection,
    ) -> f64 {
        let mut missing = 0.0;
        for kind in [UNREPLIED, REPLIED] {
            let all = deaths[kind];
            let [counted, old] = self.expect(kind, now, seconds, collection);
            let there = self.history.alive()[kind];
            let expected = counted + old;
            let flush = (if collection.passes { 1.5 } else { 1.0 }) * expected
                + FLUSH * (expected.max(1.0) * 4.0).sqrt()
                + 0.03 * there;
            // Where ages are told, more than were expected are news of the law, unless it is a good part of all.
            let most = if ended.is_some() { flush.max(FLUSHED * there) } else { flush };
            let is_learning = match learns {
                Learns::Nothing => false,
                Learns::NoFlush => all <= most,
                Learns::All => true,
            };
            let is_saw = collection.last.is_some();
            let left = if let Some(ended) = ended {
                let told = self.hear(kind, ended, now, seconds, is_learning, collection);
                // Those whose insert was not seen are from before. A sample tells now of more than have died, now of
                // fewer: what it tells too much is taken off what it tells too little.
                self.untold[kind] += all - told.number;
                let of_old = self.untold[kind].clamp(0.0, all);
                self.untold[kind] -= of_old;
                self.see_old_gone(kind, of_old);
                if is_learning && is_saw == collection.passes {
                    keep_pace(&mut self.old_pace[kind], of_old, old, seconds);
                }
                let left = self.die_supposed(kind, of_old, |span| !span.is_counted);
                left + self.die_told(kind, all - of_old, &told, counted)
            } else {
                self.see_old_gone(kind, all);
                let turned = if self.share.is_known { 0.0 } else { self.turn(kind, all, expected) };
                if is_learning && is_saw == collection.passes {
                    keep_pace(&mut self.pace[kind], all - turned, expected, seconds);
                    self.old_pace[kind] = self.pace[kind];
                    if expected > 0.0 && !is_saw {
                        self.learn_supposed(kind, all / expected, now, seconds);
                    }
                }
                all
            };
            missing += self.die_supposed(kind, left, |_| true);
        }
        // Of one kind more than were supposed to be of it: the others were.
        for kind in [UNREPLIED, REPLIED] {
            missing -= self.die_alike(kind, missing);
        }
        if collection.last.is_none() || collection.has_passed.is_some() {
            self.look_back(now, ended.is_some(), learns != Learns::Nothing, collection);
        }
        missing
    }

    /// More have died than of this kind were expected to: of those of the same age that were supposed to be of the other
    /// kind some are of this one. Returns how many.
    fn turn(&mut self, kind: usize, deaths: f64, expected: f64) -> f64 {
        if deaths <= expected || expected <= 0.0 {
            return 0.0;
        }
        let excess = (deaths - expected) / expected;
        let mut turned = 0.0;
        for (span, expected) in self.history.spans_mut().zip(&self.expected) {
            let entries = (excess * expected).min(span.alive[1 - kind]);
            span.turn(1 - kind, entries);
            turned += entries;
        }
        turned
    }

    /// A pass is over, or there are none: what is alive has not expired since the one before; and where no ages are
    /// told, what has died did so in between.
    fn look_back(&mut self, now: f64, is_told: bool, is_learning: bool, collection: &Collection) {
        // The pass may have ended some time before it is seen to be over.
        let passed = collection.has_passed;
        let now = passed.unwrap_or(now);
        let seen = self.seen.replace(now).filter(|_| is_learning);
        for span in self.history.spans_mut().filter(|span| span.is_counted || !is_told) {
            for kind in [UNREPLIED, REPLIED] {
                let (before, alive) = (span.before[kind], span.alive[kind]);
                let dead = (before - alive).max(0.0);
                if let Some(seen) = seen.filter(|_| passed.is_none() && is_told) {
                    self.laws[kind].observe(span.age(now), alive, 0.0, now - seen);
                } else if let Some(seen) = seen.filter(|_| passed.is_some()) {
                    let age = span.age(now);
                    let from = (age - (now - seen)).max(0.0);
                    let (entries, dead) = if is_told { (alive, 0.0) } else { (before, dead) };
                    self.laws[kind].observe_between(from, age, entries, dead);
                }
                span.before[kind] = alive;
            }
        }
    }

    /// Works out how many are expected to die of each span; returns the sums of those whose insert was counted and
    /// of the others.
    fn expect(&mut self, kind: usize, now: f64, seconds: f64, collection: &Collection) -> [f64; 2] {
        let law = &self.laws[kind];
        let mut sums = [0.0; 2];
        self.expected.clear();
        for span in self.history.spans() {
            let expected = if span.alive[kind] <= 0.0 {
                0.0
            } else {
                let age = span.age(now);
                let pace = if span.is_counted { 1.0 } else { self.old_pace[kind] };
                let before = (age - seconds).max(0.0);
                let there = collection.unexpired(law, before, now - seconds, pace);
                let expire = there * (1.0 - law.stay(before, age, pace));
                let die = match (collection.last.is_some(), collection.passes) {
                    (true, true) => expire + 1.0 - there,
                    (true, false) => {
                        let met = 1.0 - collection.fate.stay(seconds);
                        collection.fate.at_once() * expire + met * (1.0 - there)
                    }
                    (false, _) => expire,
                };
                span.alive[kind] * die
            };
            sums[usize::from(!span.is_counted)] += expected;
            self.expected.push(expected);
        }
        sums
    }

    /// Takes in how old those were that have died, and learns from it.
    fn hear(
        &mut self,
        kind: usize,
        ended: &[Ended],
        now: f64,
        seconds: f64,
        is_learning: bool,
        collection: &Collection,
    ) -> Told {
        let is_saw = collection.last.is_some();
        let law = &mut self.laws[kind];
        let mut told = Told::default();
        self.told.clear();
        self.told.resize(self.expected.len(), 0.0);
        for one in ended {
            let is_unreplied = one.status == EntryStatus::Unreplied;
            if one.protocol != self.protocol || is_unreplied != (kind == UNREPLIED) {
                continue;
            }
            told.number += one.weight;
            told.squares += one.weight * one.weight;
            if is_learning && !is_saw {
                law.observe_death(one.seconds, one.weight);
                // Half of the time since the snapshot before it was alive.
                law.observe(one.seconds - 0.5 * seconds, 0.5 * one.weight, 0.0, seconds);
            }
            let span = self.history.place(now - one.seconds);
            if let Some(of_span) = span.and_then(|span| self.told.get_mut(span)) {
                *of_span += one.weight;
            }
        }
        if is_learning && is_saw {
            let spans = self.history.spans().zip(&self.told);
            for (span, dead) in spans.filter(|(span, dead)| span.is_counted && **dead > 0.0) {
                // It had not expired when the collector passed last.
                let age = span.age(now);
                law.observe_between(collection.met(age, now), age, *dead, *dead);
            }
        }
        told
    }

    /// Takes `deaths` out of the spans whose inserts were counted: where every death is told, out of those that they
    /// are of; the fewer are in the sample, the more as is expected. Returns for how many there was no room.
    fn die_told(&mut self, kind: usize, deaths: f64, told: &Told, expected: f64) -> f64 {
        if deaths <= 0.0 {
            return 0.0;
        }
        let as_told = if told.number > 0.0 { deaths / told.number } else { 0.0 };
        let as_expected = if expected > 0.0 { deaths / expected } else { 0.0 };
        let weight = if told.number > 0.0 { told.squares / told.number } else { 1.0 };
        let is_told = told.number > 0.0;
        let mut left = deaths;
        let spans = self.history.spans_mut().zip(self.expected.iter().zip(&self.told));
        for (span, (expected, told)) in spans.filter(|(span, _)| span.is_counted) {
            let (expected, told) = (expected * as_expected, told * as_told);
            // As in a Kalman filter: by the variances of what is expected and of what a sample tells.
            let of_law = (LAW_ERROR * expected).powi(2) + expected;
            let of_sample = (weight - 1.0) * told.max(expected);
            let trust = match (is_told, expected > 0.0) {
                (true, true) => of_law / (of_law + of_sample),
                (is_told, _) => f64::from(u8::from(is_told)),
            };
            let die = expected + trust * (told - expected);
            left -= die - span.take(kind, die);
        }
        left.max(0.0)
    }

    /// Learns from deaths of which only the number is known: `factor` times what was expected of each span.
    fn learn_supposed(&mut self, kind: usize, factor: f64, now: f64, seconds: f64) {
        let law = &mut self.laws[kind];
        for (span, expected) in self.history.spans().zip(&self.expected) {
            if span.alive[kind] > 0.0 {
                let die = (expected * factor).min(span.alive[kind]);
                law.observe(span.age(now), span.alive[kind], die, seconds);
            }
        }
    }

    /// Takes `deaths` out of the spans that are meant: in proportion to what is expected of them, or if that is less
    /// than a tenth of it, of all alike. Returns for how many there was no room.
    fn die_supposed(&mut self, kind: usize, deaths: f64, is_meant: impl Fn(&Span) -> bool) -> f64 {
        if deaths <= 0.0 {
            return 0.0;
        }
        let meant = || self.history.spans().zip(&self.expected).filter(|(span, _)| is_meant(span));
        let (expected, there) = meant().fold((0.0, 0.0), |(expected, there), (span, of)| {
            (expected + of.min(span.alive[kind]), there + span.alive[kind])
        });
        if there <= 0.0 {
            return deaths;
        }
        let is_alike = deaths > 10.0 * expected && deaths > 0.03 * there;
        let factor = if is_alike { deaths / there } else { deaths / expected.max(1e-9) };
        let mut left = deaths;
        for (span, expected) in self.history.spans_mut().zip(&self.expected) {
            if is_meant(span) {
                let weight = if is_alike { span.alive[kind] } else { *expected };
                let die = (weight * factor).min(span.alive[kind]).min(left);
                span.alive[kind] -= die;
                left -= die;
            }
        }
        // What would have been more than there was in a span.
        let meant = self.history.spans().filter(|span| is_meant(span));
        let rest: f64 = meant.map(|span| span.alive[kind]).sum();
        let more = left.min(rest);
        if more > 1e-9 {
            let keep = 1.0 - more / rest;
            let meant = self.history.spans_mut().filter(|span| is_meant(span));
            meant.for_each(|span| span.alive[kind] *= keep);
        }
        left - more
    }

    /// Takes `deaths` out of all spans alike; returns how many could be.
    fn die_alike(&mut self, kind: usize, deaths: f64) -> f64 {
        let there = self.history.alive()[kind];
        let taken = deaths.min(there);
        if taken > 0.0 {
            let keep = 1.0 - taken / there;
            self.history.spans_mut().for_each(|span| span.alive[kind] *= keep);
        }
        taken.max(0.0)
    }
}
