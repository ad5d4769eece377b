//! Entries of one protocol: what is alive, by age and kind, and how long each kind lives.

mod collection;
mod deaths;
mod quiet;
mod share;

pub(super) use collection::Collection;
pub(super) use deaths::Learns;

use self::{quiet::Quiet, share::Share};
use super::{
    history::{History, KINDS, REPLIED, Span, UNREPLIED},
    law::{Law, Prior},
    season::Recurring,
    snapshot::Timeouts,
};
use crate::model::class::Protocol;

/// Entries younger than that, in seconds, are the first to be of another kind than supposed.
const YOUNG: f64 = 20.0;
/// So many times as old they are what they were supposed to be.
const OLD: f64 = 6.0;

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
    Prior { timeout, goes_on: kind == REPLIED && protocol != Protocol::Icmp, open: 0.0 }
}

/// Seconds in which the part of the open connections is found.
const OPEN_SECS: f64 = 10.0;

/// Of so small a part of the entries in one span nothing depends.
const FEW: f64 = 1e-5;
/// The entries of a protocol.
#[derive(Debug, Clone)]
pub(super) struct Stock {
    protocol: Protocol,
    pub(super) history: History,
    pub(super) laws: [Law; KINDS],
    /// The part of the arrivals that stays unanswered.
    pub(super) share: Share,
    /// Whether entries from before are in it.
    has_old: bool,
    /// Set once live entries have shown the part that is open.
    is_open_known: bool,
    /// Observed deaths by expected ones lately, by kind: of entries whose insert was counted.
    pub(super) pace: [f64; KINDS],
    /// The same of those from before, whose ages are supposed.
    old_pace: [f64; KINDS],
    /// Deaths that were counted and not told of yet, less those told of and not counted; at most 0 between snapshots.
    untold: [f64; KINDS],
    quiet: Quiet,
    /// When ages were last learnt from by what has died since.
    seen: Option<f64>,
    /// Deaths that are expected of each span; kept for its memory.
    expected: Vec<f64>,
    /// Deaths that are told of each span, likewise.
    told: Vec<f64>,
}

impl Stock {
    pub(super) fn new(protocol: Protocol, timeouts: &Timeouts) -> Self {
        Self {
            protocol,
            history: History::default(),
            laws: [UNREPLIED, REPLIED].map(|kind| Law::new(prior(protocol, kind, timeouts))),
            share: Share::default(),
            has_old: false,
            is_open_known: false,
            pace: [1.0; KINDS],
            old_pace: [1.0; KINDS],
            untold: [0.0; KINDS],
            quiet: Quiet::default(),
            seen: None,
            expected: Vec::new(),
            told: Vec::new(),
        }
    }

    pub(super) fn set_timeouts(&mut self, timeouts: &Timeouts) {
        let open = self.laws[REPLIED].open();
        for (kind, law) in self.laws.iter_mut().enumerate() {
            law.set_prior(prior(self.protocol, kind, timeouts));
        }
        self.laws[REPLIED].set_open(open);
    }

    /// Part of the answered entries that are open connections, by what live ones are doing.
    pub(super) fn see_open(&mut self, part: f64, seconds: f64) {
        let known = self.laws[REPLIED].open();
        let weight = if self.is_open_known { (seconds / OPEN_SECS).min(1.0) } else { 1.0 };
        self.is_open_known = true;
        self.laws[REPLIED].set_open(known + weight * (part - known));
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

    /// Takes in what has come.
    pub(super) fn come(&mut self, inserts: f64, from: f64, now: f64, is_counted: bool) {
        let alive = [inserts * self.share.part, inserts * (1.0 - self.share.part)];
        self.history.push(Span::new(from, now, inserts, is_counted, alive));
    }

    /// Of the deaths lately so many were unanswered: a hint as long as nothing tells more.
    pub(super) fn hint(&mut self, deaths: [f64; KINDS], seconds: f64) {
        let all = deaths[0] + deaths[1];
        if all > 0.0 && !self.share.is_known {
            let weight = (seconds / 20.0).min(1.0) * (all / (all + 10.0));
            self.share.part += weight * (deaths[UNREPLIED] / all - self.share.part);
        }
    }

    /// Of the live entries this part is unanswered, judged by `reads` of them; of all, or of those whose insert was
    /// counted.
    pub(super) fn believe(
        &mut self,
        unreplied: f64,
        reads: f64,
        of_all: bool,
        now: f64,
        seconds: f64,
    ) {
        let is_meant = |span: &Span| of_all || span.is_counted;
        let meant = self.history.spans().filter(|span| is_meant(span));
        let [u, r] = meant.fold([0.0; KINDS], |[u, r], span| {
            [u + span.alive[UNREPLIED], r + span.alive[REPLIED]]
        });
        let all = u + r;
        if all < 1.0 || reads < 2.0 {
            return;
        }
        let moved = self.share.see(unreplied, [u, all], reads, seconds);
        if moved.abs() < FEW * all {
            return;
        }
        let from = if moved > 0.0 { REPLIED } else { UNREPLIED };
        // Of what was there before nothing was known.
        let likely = |span: &Span| match span.age(now) / YOUNG {
            _ if !is_meant(span) => 0.0,
            _ if !span.is_counted => 1.0,
            ages if ages > OLD => 0.0,
            ages => (-ages).exp(),
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
                    if self.keeps(kind, span.is_counted) {
                        sums.iter_mut().for_each(|sum| sum[kind] += span.alive[kind]);
                        continue;
                    }
                    let law = &self.laws[kind];
                    let pace = if span.is_counted { 1.0 } else { self.old_pace[kind] };
                    let there = span.alive[kind] * collection.unexpired(law, age, now, pace);
                    let stay = law.stays(age, pace);
                    for (sum, ahead) in sums.iter_mut().zip(ahead) {
                        sum[kind] += there * stay(age + ahead);
                    }
                }
            }
        }
        sums
    }

    /// What one arrival a second comes to in `ahead` seconds, and such that grow by one a second for at most
    /// `rising` seconds.
    pub(super) fn arrivals(&self, ahead: f64, rising: f64) -> ([f64; KINDS], [f64; KINDS]) {
        let share = [self.share.part, 1.0 - self.share.part];
        let level = [0, 1].map(|kind| share[kind] * self.stays_of(kind, ahead));
        let slope = [0, 1].map(|kind| {
            let ramp = |seconds: f64| match self.keeps(kind, true) {
                true => 0.5 * seconds * seconds,
                false => self.laws[kind].stock_of_ramp(seconds),
            };
            share[kind] * (ramp(ahead) - if ahead > rising { ramp(ahead - rising) } else { 0.0 })
        });
        (level, slope)
    }

    /// Entries alive after so many seconds of one arrival a second.
    fn stays_of(&self, kind: usize, seconds: f64) -> f64 {
        if self.keeps(kind, true) { seconds } else { self.laws[kind].stock(seconds) }
    }

    /// What comes to be there in `ahead` seconds of arrivals that recur.
    pub(super) fn recurring(&self, ahead: f64, recurring: &Recurring) -> [f64; KINDS] {
        let share = [self.share.part, 1.0 - self.share.part];
        let mut sums = [0.0; KINDS];
        for (from, to, rate) in recurring.parts(ahead) {
            for (kind, sum) in sums.iter_mut().enumerate() {
                let stays = self.stays_of(kind, ahead - from) - self.stays_of(kind, ahead - to);
                *sum += share[kind] * rate * stays;
            }
        }
        sums
    }
}
