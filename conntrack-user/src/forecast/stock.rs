//! Entries of one protocol: what is alive, by age and kind, and how long each kind lives.

use super::{
    history::{History, KINDS, REPLIED, Span, UNREPLIED},
    law::{Law, Prior},
    snapshot::{Ended, Timeouts},
};
use crate::model::class::{EntryStatus, Protocol};

/// Deaths beyond this many standard deviations are a flush, and nothing that age explains.
const FLUSH: f64 = 8.0;
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

/// Seconds in which the pace of deaths is found.
const PACE: f64 = 20.0;

/// Which spans deaths are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    All,
    /// Those whose inserts were not counted.
    Old,
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
    /// Observed deaths by expected ones of the last minute, by kind.
    pub(super) pace: [f64; KINDS],
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
                    self.history.spans_mut().for_each(|span| span.alive[kind] *= by);
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
            .map(|ages| Span {
                from: now - ages[1],
                to: now - ages[0],
                inserts: 0.0,
                is_counted: false,
                alive: [spans(UNREPLIED, ages[0], ages[1]), spans(REPLIED, ages[0], ages[1])],
            })
            .collect();
        old.reverse();
        self.history.put_before(old);
    }

    /// Takes in what has died, by kind, in the `seconds` before `now`; returns how many of them were not here.
    pub(super) fn die(
        &mut self,
        deaths: [f64; KINDS],
        now: f64,
        seconds: f64,
        is_learning: bool,
        ended: Option<&[Ended]>,
    ) -> f64 {
        let mut missing = 0.0;
        for kind in [UNREPLIED, REPLIED] {
            let deaths = deaths[kind];
            if is_learning {
                self.keep_pace(kind, deaths, now, seconds);
            }
            missing += match ended {
                None => self.die_of_kind(kind, deaths, now, seconds, is_learning, Of::All),
                Some(ended) => {
                    let told = self.learn(kind, deaths, ended, now, seconds);
                    // Those whose insert was not seen are from before.
                    let old = self.die_of_kind(kind, deaths - told, now, seconds, true, Of::Old);
                    self.die_of_kind(kind, told + old, now, seconds, false, Of::All)
                }
            };
        }
        // Of one kind more than were supposed to be of it: the others were.
        for kind in [UNREPLIED, REPLIED] {
            let there: f64 = self.history.alive()[kind];
            let taken = missing.min(there);
            if taken > 0.0 {
                let keep = 1.0 - taken / there;
                self.history.spans_mut().for_each(|span| span.alive[kind] *= keep);
                missing -= taken;
            }
        }
        missing
    }

    /// Sees whether as many die as the law has it.
    fn keep_pace(&mut self, kind: usize, deaths: f64, now: f64, seconds: f64) {
        let law = &self.laws[kind];
        let expect = |span: &Span| {
            let age = (span.age(now) - seconds).max(0.0);
            span.alive[kind] * (1.0 - law.survival(age + seconds) / law.survival(age))
        };
        let expected: f64 = self.history.spans().map(expect).sum();
        if expected < 1.0 {
            return;
        }
        let weight = (seconds / PACE).min(1.0) * (expected / (expected + 20.0));
        let ratio = (deaths / expected).clamp(0.3, 3.0);
        self.pace[kind] = (self.pace[kind] * ratio.powf(weight)).clamp(0.4, 2.5);
    }

    /// Learns from the ages of those that have died; returns for how many of them an age is told.
    fn learn(&mut self, kind: usize, deaths: f64, ended: &[Ended], now: f64, seconds: f64) -> f64 {
        let law = &mut self.laws[kind];
        let protocol = self.protocol;
        let own = ended.iter().filter(|one| {
            let is_unreplied = one.status == EntryStatus::Unreplied;
            one.protocol == protocol && is_unreplied == (kind == UNREPLIED)
        });
        let told: f64 = own.clone().map(|one| one.weight).sum();
        let scale = if told > deaths { deaths / told } else { 1.0 };
        for one in own {
            law.observe_death(one.seconds, one.weight * scale);
        }
        for span in self.history.spans().filter(|span| span.is_counted) {
            law.observe(span.age(now), span.alive[kind], 0.0, seconds);
        }
        told * scale
    }

    fn die_of_kind(
        &mut self,
        kind: usize,
        deaths: f64,
        now: f64,
        seconds: f64,
        is_learning: bool,
        of: Of,
    ) -> f64 {
        let law = &self.laws[kind];
        let is_meant = |span: &Span| of == Of::All || !span.is_counted;
        let expect = |span: &Span| {
            if span.alive[kind] <= 0.0 || !is_meant(span) {
                return 0.0;
            }
            let age = (span.age(now) - seconds).max(0.0);
            span.alive[kind] * (1.0 - law.survival(age + seconds) / law.survival(age))
        };
        let expectations: Vec<f64> = self.history.spans().map(expect).collect();
        let expected: f64 = expectations.iter().sum();
        let meant = self.history.spans().filter(|span| is_meant(span));
        let there: f64 = meant.map(|span| span.alive[kind]).sum();
        if there <= 0.0 || deaths <= 0.0 {
            return deaths;
        }
        let taken = deaths.min(there);
        let is_flush = taken > expected + FLUSH * (expected.max(1.0) * 4.0).sqrt() + 0.03 * there
            || expected <= 0.0;
        let is_learning = is_learning && !is_flush;
        let factor = if is_flush { taken / there } else { taken / expected };
        let mut left = taken;
        let law = &mut self.laws[kind];
        for (span, expected) in self.history.spans_mut().zip(expectations) {
            let weight = match is_flush {
                true if is_meant(span) => span.alive[kind],
                true => 0.0,
                false => expected,
            };
            let die = (weight * factor).min(span.alive[kind]).min(left);
            if is_learning && span.alive[kind] > 0.0 && is_meant(span) {
                law.observe(span.age(now), span.alive[kind], die, seconds);
            }
            span.alive[kind] -= die;
            left -= die;
        }
        // What would have been more than there was in a span.
        if left > 1e-9 {
            let meant = self.history.spans().filter(|span| is_meant(span));
            let rest: f64 = meant.map(|span| span.alive[kind]).sum();
            let keep = 1.0 - if rest > 0.0 { (left / rest).min(1.0) } else { 0.0 };
            for span in self.history.spans_mut().filter(|span| is_meant(span)) {
                span.alive[kind] *= keep;
            }
        }
        deaths - taken
    }

    /// Takes in what has come.
    pub(super) fn come(&mut self, inserts: f64, from: f64, now: f64, is_counted: bool) {
        let alive = [inserts * self.unreplied, inserts * (1.0 - self.unreplied)];
        self.history.push(Span { from, to: now, inserts, is_counted, alive });
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
        let (from, to) = if moved > 0.0 { (REPLIED, UNREPLIED) } else { (UNREPLIED, REPLIED) };
        let weight = |span: &Span| span.alive[from] * (-span.age(now) / YOUNG).exp();
        let movable: f64 = self.history.spans().map(weight).sum();
        if movable <= 0.0 {
            return;
        }
        let part = (moved.abs() / movable).min(1.0);
        for span in self.history.spans_mut() {
            let taken =
                (span.alive[from] * (-span.age(now) / YOUNG).exp() * part).min(span.alive[from]);
            span.alive[from] -= taken;
            span.alive[to] += taken;
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

    /// Entries alive now that still are at each of the times `ahead`, in seconds.
    pub(super) fn survivors<const N: usize>(
        &self,
        now: f64,
        ahead: &[f64; N],
    ) -> [[f64; KINDS]; N] {
        let mut sums = [[0.0; KINDS]; N];
        for span in self.history.spans() {
            let age = span.age(now);
            for kind in [UNREPLIED, REPLIED] {
                if span.alive[kind] > 0.01 {
                    let law = &self.laws[kind];
                    let by = span.alive[kind] / law.survival(age);
                    for (sum, ahead) in sums.iter_mut().zip(ahead) {
                        sum[kind] += by * law.survival(age + ahead);
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
