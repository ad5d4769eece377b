//! A conntrack table, simulated by counts: entries come, live for a while, and are refused at the limit. Nothing of it
//! is shared with the forecast that is tried on it.
//!
//! An entry is taken out when its timeout has run and the garbage collector (`collector`) has come by; until then it
//! counts. At the
//! limit the kernel looks into 8 buckets for entries that are not assured (`early_drop`) and evicts those of the first
//! bucket that has any; if none has, the packet is dropped. Within a tick, entries go before others come.

use anyhow::Result;
use rand::Rng as _;

use super::{
    collector::{self, Collector, Left},
    draw::{self, Source},
    said::Said,
    scenario::{Reconnect, Scenario, What},
    stream::{Plan, Stream},
    truth::{Clairvoyant, Moment, Truth},
};
use crate::{
    forecast::snapshot::{Change, Ended, Live, Snapshot, Timeouts},
    model::tick::Limit,
};

/// Seconds that are simulated past the scenario's end, to tell what its last alarms led to.
pub const AFTER: f64 = 900.0;
/// Buckets that the kernel looks into for entries to evict.
const BUCKETS_SEARCHED: f64 = 8.0;
/// Live entries that the monitor reads at the most.
const READS: u64 = 1280;

/// A scenario made ready.
#[derive(Debug)]
pub struct Simulator {
    /// What it simulates.
    pub scenario: Scenario,
    plans: Vec<Plan>,
    /// Ticks of the scenario.
    pub ticks: usize,
    /// Ticks that are simulated.
    simulated: usize,
    timeouts: Timeouts,
}

/// What came of a scenario with one seed, or was recorded.
#[derive(Debug, Clone)]
pub struct Run {
    /// What the monitor sees at each tick, the first at the start; none in a gap.
    pub snapshots: Vec<Option<Snapshot>>,
    /// What it saw between two ticks, by the later one, in the order of time: a recording's ticks come when they can.
    pub earlier: Vec<(usize, Snapshot)>,
    /// At which of them the forecasters start anew.
    pub restarts: Vec<usize>,
    /// What happens, also after the scenario's end; of a recording, up to its end.
    pub truth: Truth,
}

impl Simulator {
    /// Of a scenario.
    pub fn new(scenario: Scenario) -> Result<Self> {
        let ticks = (scenario.seconds / scenario.tick).round() as usize;
        let simulated = ticks + (AFTER / scenario.tick).ceil() as usize;
        let beyond = simulated + Clairvoyant::ticks(scenario.tick);
        let plans = scenario.arrivals.iter().map(|arrivals| Plan::new(&scenario, arrivals, beyond));
        let plans = plans.collect::<Result<_>>()?;
        Ok(Self { plans, ticks, simulated, timeouts: scenario.timeouts(), scenario })
    }

    /// Simulates it with a seed.
    #[must_use]
    pub fn run(&self, seed: u64) -> Run {
        let mut source = draw::source(seed);
        let mut table = Table::new(self, &mut source);
        let tick = self.scenario.tick;
        let mut clairvoyant = Clairvoyant::new(self.plans.iter().map(|plan| &plan.life), tick);
        let mut truth = Truth::new(tick);
        let mut snapshots = Vec::with_capacity(self.ticks + 1);
        let mut restarts = vec![];
        let mut seen_until = 0.0;
        let mut seen_before = false;
        let mut watched_since = 0;
        for now in 0..=self.simulated {
            let mut change = Change { removed: Some(0), ..Change::default() };
            let second = now as f64 * tick;
            for event in &self.scenario.events {
                if (event.at / tick).round() as usize != now {
                    continue;
                }
                match event.what {
                    What::Max(max) => table.max = max,
                    What::Flush => table.flush(now, &mut change, &mut source),
                    What::Reconnect(again) => table.reconnect(now, again, &mut change, &mut source),
                    What::Pause(seconds) => seen_until = second + seconds,
                    What::Restart => {
                        restarts.push(now);
                        seen_before = false;
                    }
                }
            }
            if now > 0 {
                table.step(now, &mut change, &mut source);
            }
            // Beyond the end nobody is compared with it.
            let said =
                if now <= self.ticks { clairvoyant.look(now, &table) } else { Said::default() };
            truth.push(Moment {
                level: table.entries(),
                max: table.max,
                evictable_entries: Some(table.evictable_entries()),
                refused: Some(change.refused),
                found_full: table.found_full,
                clairvoyant: Some(said),
            });
            if now <= self.ticks {
                let seen = second >= seen_until;
                let change = seen_before.then_some(change);
                if !seen_before {
                    watched_since = now;
                }
                snapshots
                    .push(seen.then(|| table.snapshot(now, watched_since, change, &mut source)));
                seen_before = seen;
            }
        }
        Run { snapshots, earlier: vec![], restarts, truth }
    }
}

/// The table while it is simulated.
#[derive(Debug)]
pub(super) struct Table<'a> {
    simulator: &'a Simulator,
    pub(super) streams: Vec<Stream<'a>>,
    pub(super) max: u32,
    pub(super) buckets: f64,
    pub(super) collector: Collector,
    /// The share of entries that are met as soon as they expire.
    pub(super) met_at_once: f64,
    /// Whether there was no room for some in the last tick, if only until what had expired was taken out.
    found_full: bool,
}

impl<'a> Table<'a> {
    fn new(simulator: &'a Simulator, source: &mut Source) -> Self {
        let scenario = &simulator.scenario;
        let slots = simulator.simulated + Clairvoyant::ticks(scenario.tick);
        let of = |plan| Stream::new(plan, slots, source);
        let mut streams: Vec<Stream<'_>> = simulator.plans.iter().map(of).collect();
        let buckets = f64::from(scenario.buckets(scenario.max));
        let (hz, wait) = (f64::from(scenario.hz), left(&streams, 0).wait(scenario.hz.into()));
        let since = scenario.collected.unwrap_or_else(|| wait * source.random::<f64>()).min(wait);
        let looks = streams.iter().map(|stream| stream.rate(0)).sum();
        let met_at_once = met_at_once(&streams, 0, buckets);
        let met = [met_at_once, collector::met(looks, buckets)];
        streams.iter_mut().for_each(|stream| stream.wait(since, met, source));
        let collector = Collector::new(hz, wait, since);
        let max = scenario.max;
        Self { simulator, streams, max, buckets, collector, met_at_once, found_full: false }
    }

    pub(super) fn entries(&self) -> u64 {
        self.streams.iter().map(|stream| stream.live).sum()
    }

    fn flush(&mut self, now: usize, change: &mut Change, source: &mut Source) {
        for stream in &mut self.streams {
            let gone = stream.live;
            stream.remove(now, gone, source);
            count_deletes(change, stream, gone);
            change.removed = Some(change.removed.unwrap_or(0) + gone);
        }
    }

    fn reconnect(
        &mut self,
        now: usize,
        again: Reconnect,
        change: &mut Change,
        source: &mut Source,
    ) {
        let over = (again.over / self.simulator.scenario.tick).round() as usize;
        for stream in self.streams.iter_mut().filter(|stream| stream.class() == again.class) {
            let gone = stream.reconnect(now, again.share, over, again.lingers, source);
            count_deletes(change, stream, gone);
        }
    }

    fn step(&mut self, now: usize, change: &mut Change, source: &mut Source) {
        self.met_at_once = met_at_once(&self.streams, now, self.buckets);
        for stream in &mut self.streams {
            let gone = stream.expire(now, self.met_at_once, source);
            count_deletes(change, stream, gone);
        }
        let wanting: Vec<u64> =
            self.streams.iter_mut().map(|stream| stream.wanting(now, source)).collect();
        let all: u64 = wanting.iter().sum();
        self.found_full = all > u64::from(self.max).saturating_sub(self.entries());
        self.collect(now, all, change, source);
        let room = u64::from(self.max).saturating_sub(self.entries());
        let (mut accepted, mut evicted) = (all.min(room), 0);
        if all > room {
            let (inserted, gone) = self.at_the_limit(all - room, source);
            accepted += inserted;
            evicted = gone;
        }
        change.refused += all - accepted;
        // Those evicted are of before this tick, or of the room that was still there.
        let shares = draw::share_out(source, &wanting, accepted);
        for (stream, share) in self.streams.iter_mut().zip(shares) {
            stream.insert(now, share, source);
            change.inserts[stream.class().protocol() as usize] += share;
        }
        if evicted > 0 {
            self.evict(now, evicted, change, source);
        }
    }

    /// Takes out what has expired: by the collector, and by `all` that look for a place.
    fn collect(&mut self, now: usize, all: u64, change: &mut Change, source: &mut Source) {
        let tick = self.simulator.scenario.tick;
        let expired: u64 = self.streams.iter().map(|stream| stream.expired).sum();
        let streams = &self.streams;
        let collected =
            self.collector.collect(now as f64 * tick, tick, expired, || left(streams, now));
        let mut share = collected as f64 / expired.max(1) as f64;
        if collected < expired {
            // Those that find no room look into 8 buckets more.
            let room = u64::from(self.max).saturating_sub(self.entries());
            let looks = all as f64 + BUCKETS_SEARCHED * all.saturating_sub(room) as f64;
            share += (1.0 - share) * collector::met(looks, self.buckets);
        }
        for stream in &mut self.streams {
            let gone = draw::binomial(source, stream.expired, share);
            stream.collect(gone);
            count_deletes(change, stream, gone);
        }
    }

    /// How many of `wanting` are inserted into a full table, and how many entries are evicted for them.
    fn at_the_limit(&self, wanting: u64, source: &mut Source) -> (u64, u64) {
        let in_a_bucket = self.evictable_entries() as f64 / self.buckets;
        let found = 1.0 - (-BUCKETS_SEARCHED * in_a_bucket).exp();
        if found <= 0.0 {
            return (0, 0);
        }
        // In the first bucket that has any: all of them are evicted.
        let at_once = (in_a_bucket / (1.0 - (-in_a_bucket).exp())).max(1.0);
        let over = self.entries() > u64::from(self.max);
        // What is evicted beyond one makes room for the packets after; not while there are too many.
        let needy =
            if over { wanting as f64 } else { wanting as f64 / (1.0 + found * (at_once - 1.0)) };
        let needy = (needy.round() as u64).min(wanting);
        let successes = draw::binomial(source, needy, found);
        let evicted = ((successes as f64 * at_once).round() as u64).min(self.evictable_entries());
        let inserted = if over { successes } else { successes + (wanting - needy) };
        (inserted.min(evicted), evicted)
    }

    fn evictable_entries(&self) -> u64 {
        let streams = self.streams.iter().filter(|stream| stream.class().is_evictable());
        streams.map(|stream| stream.live).sum()
    }

    fn evict(&mut self, now: usize, entries: u64, change: &mut Change, source: &mut Source) {
        let live = |stream: &Stream<'_>| {
            if stream.class().is_evictable() { stream.live } else { 0 }
        };
        let places: Vec<u64> = self.streams.iter().map(live).collect();
        let shares = draw::share_out(source, &places, entries);
        for (stream, share) in self.streams.iter_mut().zip(shares) {
            stream.remove(now, share, source);
            count_deletes(change, stream, share);
            change.early_drops += share;
        }
    }

    /// `watched_since`: entries that came earlier were not seen to come.
    fn snapshot(
        &self,
        now: usize,
        watched_since: usize,
        change: Option<Change>,
        source: &mut Source,
    ) -> Snapshot {
        let tick_ns = self.simulator.scenario.tick * 1e9;
        Snapshot {
            time_ns: (now as f64 * tick_ns).round() as u64,
            entries: Some(self.entries()),
            limit: Limit::Entries(self.max),
            change,
            live: Some(self.live(now, source)),
            ended: change.map(|_| self.ended(now, watched_since)),
            timeouts: self.simulator.timeouts,
        }
    }

    /// How long some of those lived that have just gone.
    fn ended(&self, now: usize, watched_since: usize) -> Vec<Ended> {
        let tick = self.simulator.scenario.tick;
        let of = |stream: &Stream<'_>| -> Vec<Ended> {
            let class = stream.class();
            let seen = stream.gone().iter();
            let seen = seen.filter(move |entry| entry.born as usize >= watched_since);
            let ended = seen.map(|entry| Ended {
                protocol: class.protocol(),
                status: class.status(),
                // It came in the middle of a tick, and went in the middle of one.
                seconds: (now - entry.born as usize) as f64 * tick,
                weight: entry.weight.into(),
            });
            ended.collect()
        };
        self.streams.iter().flat_map(of).collect()
    }

    /// What some entries drawn at random look like.
    fn live(&self, now: usize, source: &mut Source) -> Live {
        let reads = self.entries().min(READS) as u32;
        let mut live = Live { reads, ..Live::default() };
        let is_kept_for_long = self.simulator.timeouts.tcp_established > 3600.0;
        let (mut reads, mut left) = (u64::from(live.reads), self.entries());
        let each = left as f64 / reads.max(1) as f64;
        for stream in &self.streams {
            let young = stream.young();
            let statuses =
                [(stream.class().young().0, young), (stream.class().status(), stream.live - young)];
            for (status, entries) in statuses {
                let least = reads.saturating_sub(left - entries);
                let share = entries as f64 / left.max(1) as f64;
                let read = draw::binomial(source, reads, share).clamp(least, reads.min(entries));
                live.entries[status as usize][stream.class().protocol() as usize] +=
                    read as f64 * each;
                if status == stream.class().status() {
                    let of_all = read as f64 * each / entries.max(1) as f64;
                    let open = of_all * stream.established(now).min(entries) as f64;
                    live.established += open;
                    live.lasting += if is_kept_for_long { open } else { 0.0 };
                    live.expired += of_all * stream.expired.min(entries) as f64;
                }
                reads -= read;
                left -= entries;
            }
        }
        live
    }
}

/// How long the entries of all streams have left.
fn left(streams: &[Stream<'_>], now: usize) -> Left {
    let mut all = Left::default();
    streams.iter().for_each(|stream| stream.left(now, &mut all));
    all
}

fn met_at_once(streams: &[Stream<'_>], now: usize, buckets: f64) -> f64 {
    let open: u64 = streams.iter().map(|stream| stream.open(now)).sum();
    collector::met_at_once(open as f64, buckets)
}

fn count_deletes(change: &mut Change, stream: &Stream<'_>, entries: u64) {
    let class = stream.class();
    change.deletes[class.status() as usize][class.protocol() as usize] += entries;
}
