//! Entries of one protocol: what is alive, by age and kind, and how long each kind lives.

use super::{
    history::{History, KINDS, REPLIED, Span, UNREPLIED},
    law::{Law, Prior},
    passes::Fate,
    snapshot::{Ended, Timeouts},
};
use crate::model::class::{EntryStatus, Protocol};

/// Deaths beyond this many standard deviations are a flush, and nothing that age explains.
const FLUSH: f64 = 8.0;
/// So large a part of the entries does not die by itself between two snapshots.
const FLUSHED: f64 = 0.15;
/// Seconds after which half of what live entries tell about the share of kinds is believed.
const BELIEF: f64 = 2.0;
/// Entries younger than that, in seconds, are the first to be of another kind than supposed.
const YOUNG: f64 = 20.0;

/// What is expected of a class before anything is observed.
fn prior(protocol: Protocol, kind: usize, timeouts: &Timeouts) -> Prior {
    let timeout = match (protocol, kind) {
        (Protocol::Tcp, UNREPLIED) => timeouts.tcp_syn_sent,
        (Protocol::Tcp, _) => timeouts.tcp_time_wait,
        (Protocol::Udp, UNREPLIED) => timeouts.udp,
        (Protocol::Udp, _) => timeouts.udp_stream,
        (Protocol::Icmp, _) => timeouts.icmp,
        (Protocol::Other, _) => timeouts.generic,
    };
    Prior { timeout, goes_on: kind == REPLIED && protocol != Protocol::Icmp }
}

/// How far the deaths of a span are off what its law has, as part of them.
const LAW_ERROR: f64 = 0.2;
/// Of so small a part of the entries in one span nothing depends.
const FEW: f64 = 1e-5;
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

/// The entries of a protocol.
#[derive(Debug, Clone)]
pub(super) struct Stock {
    protocol: Protocol,
    pub(super) history: History,
    pub(super) laws: [Law; KINDS],
    /// The part of the arrivals that stays unanswered.
    pub(super) unreplied: f64,
    /// Whether anything has told it.
    has_share: bool,
    /// Whether entries from before are in it.
    has_old: bool,
    /// Observed deaths by expected ones lately, by kind: of entries whose insert was counted.
    pub(super) pace: [f64; KINDS],
    /// The same of those from before, whose ages are supposed.
    old_pace: [f64; KINDS],
    /// Deaths that were counted and not told of yet, less those told of and not counted; at most 0 between snapshots.
    untold: [f64; KINDS],
    /// When ages were last learnt from by what has died since.
    seen: Option<f64>,
    /// Deaths that are expected of each span; kept for its memory.
    expected: Vec<f64>,
    /// Deaths that are told of each span, likewise.
    told: Vec<f64>,
}

/// What the kernel's garbage collector does, as seen from a stock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Collection {
    /// What becomes of what expires until it passes.
    pub(super) fate: Fate,
    /// When it passed last, in seconds on the source's clock; none where nothing waits.
    pub(super) last: Option<f64>,
    /// It is passing.
    pub(super) passes: bool,
    /// It has just passed, and was last seen at that time.
    pub(super) has_passed: Option<f64>,
}

impl Collection {
    /// Everything goes as soon as it has expired.
    pub(super) const NONE: Self =
        Self { fate: Fate::NONE, last: None, passes: false, has_passed: None };

    /// The age at which an entry of the age `age` was met by the last pass; 0 for a later one.
    fn met(&self, age: f64, now: f64) -> f64 {
        self.last.map_or(age, |last| (age - (now - last)).max(0.0))
    }

    /// Of entries alive at `age`, the part that has not expired.
    fn unexpired(&self, law: &Law, age: f64, now: f64, pace: f64) -> f64 {
        let Some(last) = self.last else { return 1.0 };
        let stay = law.stay(self.met(age, now), age, pace);
        let waiting = self.fate.waiting(age.min(now - last));
        stay / (stay + (1.0 - stay) * waiting).max(1e-9)
    }
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
    pub(super) fn new(protocol: Protocol, timeouts: &Timeouts) -> Self {
        Self {
            protocol,
            history: History::default(),
            laws: [UNREPLIED, REPLIED].map(|kind| Law::new(prior(protocol, kind, timeouts))),
            unreplied: 0.5,
            has_share: false,
            has_old: false,
            pace: [1.0; KINDS],
            old_pace: [1.0; KINDS],
            untold: [0.0; KINDS],
            seen: None,
            expected: Vec::new(),
            told: Vec::new(),
        }
    }

    pub(super) fn set_timeouts(&mut self, timeouts: &Timeouts) {
        for (kind, law) in self.laws.iter_mut().enumerate() {
            law.set_prior(prior(self.protocol, kind, timeouts));
        }
    }

    /// Adds entries that were there before: first as old as such that have come for ever at the same rate, later
    /// as old as the others.
    pub(super) fn add_old(&mut self, entries: [f64; KINDS], now: f64) {
        if self.has_old {
            let there = self.history.alive();
            for kind in [UNREPLIED, REPLIED] {
                if there[kind] > 0.0 {
                    let by = 1.0 + entries[kind] / there[kind];
                    self.history.spans_mut().for_each(|span| span.scale(kind, by));
                }
            }
            return;
        }
        self.has_old = true;
        let now = self.history.begin().unwrap_or(now);
        const AGES: [f64; 17] = [
            0.0, 2.0, 4.0, 8.0, 12.0, 18.0, 25.0, 35.0, 50.0, 75.0, 120.0, 200.0, 400.0, 800.0,
            1600.0, 3200.0, 6400.0,
        ];
        let spans = |kind: usize, from: f64, to: f64| {
            let law = &self.laws[kind];
            entries[kind] * (law.stock(to) - law.stock(from)) / law.stock(AGES[16])
        };
        let mut old: Vec<Span> = AGES
            .windows(2)
            .map(|ages| {
                let alive = [UNREPLIED, REPLIED].map(|kind| spans(kind, ages[0], ages[1]));
                Span::new(now - ages[1], now - ages[0], 0.0, false, alive)
            })
            .collect();
        old.reverse();
        self.history.put_before(old);
    }

    /// Takes in what has died, by kind, in the `seconds` before `now`; returns how many of them were not here.
    /// `ended`: how old those were whose insert was seen; without it all ages are supposed.
    pub(super) fn die(
        &mut self,
        deaths: [f64; KINDS],
        now: f64,
        seconds: f64,
        is_learning: bool,
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
            let is_learning = is_learning && all <= most;
            let is_saw = collection.last.is_some();
            let left = if let Some(ended) = ended {
                let told = self.hear(kind, ended, now, seconds, is_learning, collection);
                // Those whose insert was not seen are from before. A sample tells now of more than have died, now of
                // fewer: what it tells too much is taken off what it tells too little.
                self.untold[kind] += all - told.number;
                let of_old = self.untold[kind].clamp(0.0, all);
                self.untold[kind] -= of_old;
                if is_learning && is_saw == collection.passes {
                    keep_pace(&mut self.old_pace[kind], of_old, old, seconds);
                }
                let left = self.die_supposed(kind, of_old, |span| !span.is_counted);
                left + self.die_told(kind, all - of_old, &told, counted)
            } else {
                let turned = if self.has_share { 0.0 } else { self.turn(kind, all, expected) };
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
            self.look_back(now, ended.is_some(), is_learning, collection);
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

    /// Takes in what has come.
    pub(super) fn come(&mut self, inserts: f64, from: f64, now: f64, is_counted: bool) {
        let alive = [inserts * self.unreplied, inserts * (1.0 - self.unreplied)];
        self.history.push(Span::new(from, now, inserts, is_counted, alive));
    }

    /// Of the deaths lately so many were unanswered: a hint as long as nothing tells more.
    pub(super) fn hint(&mut self, deaths: [f64; KINDS], seconds: f64) {
        let all = deaths[0] + deaths[1];
        if all > 0.0 && !self.has_share {
            let weight = (seconds / 20.0).min(1.0) * (all / (all + 10.0));
            self.unreplied += weight * (deaths[UNREPLIED] / all - self.unreplied);
        }
    }

    /// Of the live entries this part is unanswered, judged by `reads` of them.
    pub(super) fn believe(&mut self, unreplied: f64, reads: f64, now: f64, seconds: f64) {
        let [u, r] = self.history.alive();
        let all = u + r;
        if all < 1.0 || reads < 2.0 {
            return;
        }
        self.has_share = true;
        let off = unreplied - u / all;
        let noise = (unreplied * (1.0 - unreplied) / reads).max(0.25 / (reads * reads)).sqrt();
        // The reads of some seconds are one sample.
        let trust = off * off / (off * off + noise * noise);
        let moved = off * all * trust * (1.0 - 0.5_f64.powf(seconds / BELIEF));
        let from = if moved > 0.0 { REPLIED } else { UNREPLIED };
        // Of what was there before nothing was known.
        let likely = |span: &Span| {
            if span.is_counted { (-span.age(now) / YOUNG).exp() } else { 1.0 }
        };
        let movable: f64 = self.history.spans().map(|span| span.alive[from] * likely(span)).sum();
        if movable <= 0.0 {
            return;
        }
        let part = (moved.abs() / movable).min(1.0);
        for span in self.history.spans_mut() {
            let taken = (span.alive[from] * likely(span) * part).min(span.alive[from]);
            span.turn(from, taken);
        }
        let young: f64 = self
            .history
            .spans()
            .map(|span| (span.alive[0] + span.alive[1]) * (-span.age(now) / YOUNG).exp())
            .sum();
        if young > 0.0 {
            self.unreplied = (self.unreplied + moved / young).clamp(0.0, 1.0);
        }
    }

    /// Entries that have not expired now, and of them those that have not at each of the times `ahead`, in seconds.
    pub(super) fn survivors<const N: usize>(
        &self,
        now: f64,
        ahead: &[f64; N],
        collection: &Collection,
    ) -> [[f64; KINDS]; N] {
        let mut sums = [[0.0; KINDS]; N];
        let [one, other] = self.history.alive();
        let least = FEW * (one + other);
        for span in self.history.spans() {
            let age = span.age(now);
            for kind in [UNREPLIED, REPLIED] {
                if span.alive[kind] > least {
                    let law = &self.laws[kind];
                    let pace = if span.is_counted { 1.0 } else { self.old_pace[kind] };
                    let there = span.alive[kind] * collection.unexpired(law, age, now, pace);
                    for (sum, ahead) in sums.iter_mut().zip(ahead) {
                        sum[kind] += there * law.stay(age, age + ahead, pace);
                    }
                }
            }
        }
        sums
    }

    /// What one arrival a second comes to in `ahead` seconds, and such that grow by one a second for at most
    /// `rising` seconds.
    pub(super) fn arrivals(&self, ahead: f64, rising: f64) -> ([f64; KINDS], [f64; KINDS]) {
        let share = [self.unreplied, 1.0 - self.unreplied];
        let level = [0, 1].map(|kind| share[kind] * self.laws[kind].stock(ahead));
        let slope = [0, 1].map(|kind| {
            let ramp = |seconds: f64| self.laws[kind].stock_of_ramp(seconds);
            share[kind] * (ramp(ahead) - if ahead > rising { ramp(ahead - rising) } else { 0.0 })
        });
        (level, slope)
    }
}
