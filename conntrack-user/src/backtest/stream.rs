//! Entries of one `[[arrivals]]`: how many are there, and when how many of them go.

use std::collections::VecDeque;

use anyhow::{Context as _, Result};
use rand_distr::{Distribution as _, weighted::WeightedAliasIndex};

use super::{
    class::Class,
    collector::Left,
    draw::{self, Source},
    law::{Law, Life},
    memory,
    scenario::{Arrivals, Scenario},
    simulator::AFTER,
};

/// What is the same for every seed.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Who comes.
    pub(super) arrivals: Arrivals,
    /// How long they live, in ticks.
    pub(super) life: Life,
    lives: WeightedAliasIndex<f64>,
    /// What is left of the lives of those that are there after a long time.
    rests: WeightedAliasIndex<f64>,
    /// The life of a closed connection.
    closed: WeightedAliasIndex<f64>,
    tick: f64,
    /// Watched entries of a tick.
    watched: u64,
    /// Seconds that an entry has left after its last packet, and before it.
    timeouts: (f64, f64),
}

impl Plan {
    /// For `ticks` to come.
    pub(super) fn new(scenario: &Scenario, arrivals: &Arrivals, ticks: usize) -> Result<Self> {
        let (timeout, open) = arrivals.timeouts(scenario);
        let active = arrivals.active.clone().unwrap_or(Law::Fixed(0.0));
        let life = |law: &Law| Life::new(law, timeout, scenario.tick, ticks);
        let (closed, life) = (life(&Law::Fixed(0.0)), life(&active));
        let within: f64 = life.survival.iter().sum();
        let mut rests = life.survival.clone();
        rests.push((life.mean - within).max(0.0));
        Ok(Self {
            lives: deaths(&life)?,
            rests: WeightedAliasIndex::new(rests).context("no law of what is left of a life")?,
            closed: deaths(&closed)?,
            life,
            tick: scenario.tick,
            watched: watched(scenario).1,
            timeouts: (timeout, open),
            arrivals: arrivals.clone(),
        })
    }

    /// Entries that have not expired, after a long time at the first rate.
    #[must_use]
    pub(super) fn settled(&self) -> f64 {
        self.arrivals.rate_at(0.0) * self.life.mean * self.tick
    }
}

/// The law of the tick in which an entry expires, counted from 0 for the first after it came; the last: later.
fn deaths(life: &Life) -> Result<WeightedAliasIndex<f64>> {
    let mut deaths: Vec<f64> =
        life.survival.windows(2).map(|pair| (pair[0] - pair[1]).max(0.0)).collect();
    deaths.push(life.survival.last().copied().unwrap_or(0.0));
    WeightedAliasIndex::new(deaths).context("no law of lives")
}

/// Of what comes in a tick, so many are watched at the most.
const WATCHED: u64 = 40;
/// Watched entries of a whole scenario, in the mean and at the most.
const WATCHED_IN_ALL: u64 = 2_000_000;

/// Watched entries of a whole scenario, from above, and those of a tick and `[[arrivals]]`: fewer where there would be too many.
pub(super) fn watched(scenario: &Scenario) -> (u64, u64) {
    let all = memory::come(scenario, WATCHED) as u64;
    if all <= WATCHED_IN_ALL {
        return (all, WATCHED);
    }
    let ticks = (scenario.seconds + AFTER) / scenario.tick * scenario.arrivals.len() as f64;
    let each = (WATCHED_IN_ALL as f64 / ticks.max(1.0)) as u64;
    (WATCHED_IN_ALL, each.clamp(1, WATCHED))
}

/// The entries of one seed.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    /// Plan that the entries follow.
    pub(super) plan: &'a Plan,
    /// Number of entries.
    pub(super) live: u64,
    /// Number of entries that have expired and wait for the garbage collector.
    pub(super) expired: u64,
    /// How many expire at each tick from the start; the last: later.
    due: Vec<u32>,
    /// Connections that are opened anew, by tick.
    anew: Vec<u32>,
    /// How many came in the last ticks, the last one first.
    recent: VecDeque<u64>,
    /// Of some of those that expire at each tick.
    watched: Vec<Vec<Watched>>,
    /// Of some of those that have expired.
    waiting: Vec<Watched>,
    /// Of some of those that went at the last tick.
    gone: Vec<Watched>,
    /// Parts of one that is watched which have gone so far: as it expired, and later.
    left_over: [f64; 2],
}

/// An entry that is watched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched {
    /// The tick in which it came.
    pub(super) born: u32,
    /// Entries that it stands for.
    pub(super) weight: f32,
}

impl<'a> Stream<'a> {
    /// With those that are there at the start.
    pub(super) fn new(plan: &'a Plan, ticks: usize, source: &mut Source) -> Self {
        let mut stream = Self {
            plan,
            live: 0,
            expired: 0,
            due: vec![0; ticks + 2],
            anew: vec![0; ticks + 2],
            recent: VecDeque::new(),
            watched: vec![Vec::new(); ticks + 2],
            waiting: vec![],
            gone: vec![],
            left_over: [0.5; 2],
        };
        let settled = || plan.settled().round() as u64;
        let entries = plan.arrivals.at_start.unwrap_or_else(settled);
        stream.add(0, entries, &plan.rests, source);
        // Nobody saw when they came.
        stream.watched.iter_mut().for_each(Vec::clear);
        stream
    }

    /// Lets the collector have been away for so many `seconds` at the start, in which of what expires a share was met
    /// at once, and of what waits a share each second.
    pub(super) fn wait(&mut self, seconds: f64, [at_once, met]: [f64; 2], source: &mut Source) {
        let a_second = (1.0 - at_once) * self.live as f64 / (self.plan.life.mean * self.plan.tick);
        let seconds = if met > 0.0 { (1.0 - (-met * seconds).exp()) / met } else { seconds };
        let mut expired = a_second * seconds;
        if self.plan.arrivals.at_start.is_some() {
            // They are among those that are there.
            expired *= self.live as f64 / (self.live as f64 + expired).max(1.0);
            self.remove(0, expired.round() as u64, source);
        }
        self.expired = expired.round() as u64;
        self.live += self.expired;
    }

    /// The class.
    #[must_use]
    pub(super) fn class(&self) -> Class {
        self.plan.arrivals.class
    }

    /// How many expire at each tick from the start.
    #[must_use]
    pub(super) fn due(&self) -> &[u32] {
        &self.due
    }

    fn add(
        &mut self,
        now: usize,
        entries: u64,
        law: &WeightedAliasIndex<f64>,
        source: &mut Source,
    ) {
        let last = self.due.len() - 1;
        let every = entries.div_ceil(self.plan.watched).max(1);
        for entry in 0..entries {
            let due = (now + 1 + law.sample(source)).min(last);
            self.due[due] += 1;
            if entry % every == 0 {
                self.watched[due].push(Watched { born: now as u32, weight: every as f32 });
            }
        }
        self.live += entries;
    }

    /// Lets those expire whose time has come, of which a share is `met` at once; says how many are gone.
    pub(super) fn expire(&mut self, now: usize, met: f64, source: &mut Source) -> u64 {
        let expired = u64::from(std::mem::take(&mut self.due[now]));
        let gone = draw::binomial(source, expired, met);
        self.live -= gone;
        self.expired += expired - gone;
        self.gone.clear();
        let share = gone as f64 / expired.max(1) as f64;
        take(&mut self.watched[now], share, &mut self.left_over[0], &mut self.gone);
        self.waiting.append(&mut self.watched[now]);
        gone
    }

    /// Connections that stay open for long, and have packets.
    pub(super) fn open(&self, now: usize) -> u64 {
        if self.class() == Class::TcpLong { self.established(now) } else { 0 }
    }

    /// Entries in the state ESTABLISHED; 0 where it is not TCP that is answered.
    pub(super) fn established(&self, now: usize) -> u64 {
        if !matches!(self.class(), Class::TcpLong | Class::TcpAssured) {
            return 0;
        }
        let closed = (self.plan.timeouts.0 / self.plan.tick).round() as usize;
        let open = self.due.get(now + 1 + closed..).unwrap_or_default();
        open.iter().map(|due| u64::from(*due)).sum()
    }

    /// Takes out as many that have expired.
    pub(super) fn collect(&mut self, entries: u64) {
        if entries == 0 {
            return;
        }
        let share = entries as f64 / self.expired as f64;
        take(&mut self.waiting, share, &mut self.left_over[1], &mut self.gone);
        self.expired -= entries;
        self.live -= entries;
    }

    /// How long those have left that have not expired.
    pub(super) fn left(&self, now: usize, left: &mut Left) {
        let (timeout, open) = self.plan.timeouts;
        for (due, ticks) in self.due[now + 1..].iter().zip(1_u32..) {
            if *due > 0 {
                let seconds = f64::from(ticks) * self.plan.tick;
                left.add(f64::from(*due), if seconds > timeout { open } else { seconds });
            }
        }
    }

    /// Of those that went at the last tick, some.
    #[must_use]
    pub(super) fn gone(&self) -> &[Watched] {
        &self.gone
    }

    /// New ones a second that are to be expected: of the rate, and of those opened anew.
    #[must_use]
    pub(super) fn rate(&self, now: usize) -> f64 {
        let tick = self.plan.tick;
        self.plan.arrivals.rate_at((now as f64 - 0.5) * tick) + f64::from(self.anew[now]) / tick
    }

    /// How many want in.
    pub(super) fn wanting(&mut self, now: usize, source: &mut Source) -> u64 {
        let arrivals = &self.plan.arrivals;
        let tick = self.plan.tick;
        let mean = arrivals.rate_at((now as f64 - 0.5) * tick) * tick;
        draw::count(source, mean, arrivals.dispersion) + u64::from(self.anew[now])
    }

    /// Puts in new ones.
    pub(super) fn insert(&mut self, now: usize, entries: u64, source: &mut Source) {
        let plan = self.plan;
        self.add(now, entries, &plan.lives, source);
        self.recent.push_front(entries);
        self.recent.truncate((self.class().young().1 / plan.tick).ceil().max(1.0) as usize);
    }

    /// Takes out some, each as likely, of those that have expired and those that do so at `now` or later.
    pub(super) fn remove(&mut self, now: usize, entries: u64, source: &mut Source) {
        let mut need = entries.min(self.live);
        let mut left = self.live;
        self.live -= need;
        let share = need as f64 / left.max(1) as f64;
        let least = need.saturating_sub(left - self.expired);
        let gone = draw::binomial(source, self.expired, share).clamp(least, need.min(self.expired));
        left -= self.expired;
        self.expired -= gone;
        need -= gone;
        for slot in &mut self.due[now..] {
            if need == 0 {
                return;
            }
            let here = u64::from(*slot);
            let least = need.saturating_sub(left - here);
            let gone = draw::binomial(source, here, need as f64 / left.max(1) as f64);
            let gone = gone.clamp(least, need);
            *slot -= gone as u32;
            need -= gone;
            left -= here;
        }
    }

    /// Closes a share of the connections and opens them anew over some ticks; says how many were deleted at once.
    pub(super) fn reconnect(
        &mut self,
        now: usize,
        share: f64,
        over: usize,
        lingers: bool,
        source: &mut Source,
    ) -> u64 {
        let again = draw::binomial(source, self.live, share);
        self.remove(now, again, source);
        if lingers {
            let plan = self.plan;
            self.add(now, again, &plan.closed, source);
        }
        let over = over.max(1) as u64;
        for step in 0..over {
            // Nothing comes at the very start.
            let place = (now.max(1) + step as usize).min(self.anew.len() - 1);
            self.anew[place] += (again * (step + 1) / over - again * step / over) as u32;
        }
        if lingers { 0 } else { again }
    }

    /// How many have not come to the status of their class yet.
    #[must_use]
    pub(super) fn young(&self) -> u64 {
        let mut ticks = self.class().young().1 / self.plan.tick;
        let mut young = 0.0;
        for entries in &self.recent {
            young += *entries as f64 * ticks.clamp(0.0, 1.0);
            ticks -= 1.0;
        }
        (young.round() as u64).min(self.live)
    }
}

/// Moves a share of those that are watched, every so many of them. Fractions are `left` for the next time.
fn take(from: &mut Vec<Watched>, share: f64, left: &mut f64, to: &mut Vec<Watched>) {
    if share >= 1.0 {
        to.append(from);
        return;
    }
    let all = from.len();
    *left += share * all as f64;
    let some = (*left as usize).min(all);
    *left -= some as f64;
    // From the end on, so that what takes a place was there before.
    to.extend((0..some).rev().map(|at| from.swap_remove((2 * at + 1) * all / (2 * some))));
}
