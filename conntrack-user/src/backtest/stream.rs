//! Entries of one `[[arrivals]]`: how many are there, and when how many of them go.

use std::collections::VecDeque;

use anyhow::{Context as _, Result};
use rand_distr::{Distribution as _, weighted::WeightedAliasIndex};

use super::{
    class::Class,
    draw::{self, Source},
    law::{Law, Life},
    scenario::{Arrivals, Scenario},
};

/// What is the same for every seed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Who comes.
    pub arrivals: Arrivals,
    /// How long they live, in ticks.
    pub life: Life,
    lives: WeightedAliasIndex<f64>,
    /// What is left of the lives of those that are there after a long time.
    rests: WeightedAliasIndex<f64>,
    /// The life of a closed connection.
    closed: WeightedAliasIndex<f64>,
    tick: f64,
}

impl Plan {
    /// For `ticks` to come.
    pub fn new(scenario: &Scenario, arrivals: &Arrivals, ticks: usize) -> Result<Self> {
        let timeout =
            arrivals.timeout.unwrap_or_else(|| arrivals.class.timeout(&scenario.timeouts()));
        let active = arrivals.active.clone().unwrap_or(Law::Fixed(0.0));
        let life = |law: &Law| Life::new(law, timeout, scenario.gc_seconds, scenario.tick, ticks);
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
            arrivals: arrivals.clone(),
        })
    }

    /// Entries that are there after a long time at the first rate.
    #[must_use]
    pub fn settled(&self) -> f64 {
        self.arrivals.rate_at(0.0) * self.life.mean * self.tick
    }
}

/// The law of the tick in which an entry goes, counted from 0 for the first after it came; the last: later.
fn deaths(life: &Life) -> Result<WeightedAliasIndex<f64>> {
    let mut deaths: Vec<f64> =
        life.survival.windows(2).map(|pair| (pair[0] - pair[1]).max(0.0)).collect();
    deaths.push(life.survival.last().copied().unwrap_or(0.0));
    WeightedAliasIndex::new(deaths).context("no law of lives")
}

/// Of what comes in a tick, so many are watched.
const WATCHED: u64 = 40;

/// The entries of one seed.
#[derive(Debug)]
pub struct Stream<'a> {
    /// What they are.
    pub plan: &'a Plan,
    /// How many are there.
    pub live: u64,
    /// How many go at each tick from the start; the last: later.
    due: Vec<u32>,
    /// Connections that are opened anew, by tick.
    anew: Vec<u32>,
    /// How many came in the last ticks, the last one first.
    recent: VecDeque<u64>,
    /// Of some of those that go at each tick: how many ticks they will have lived, and how many they stand for.
    watched: Vec<Vec<(u32, f32)>>,
}

impl<'a> Stream<'a> {
    /// With those that are there at the start.
    pub fn new(plan: &'a Plan, ticks: usize, source: &mut Source) -> Self {
        let mut stream = Self {
            plan,
            live: 0,
            due: vec![0; ticks + 2],
            anew: vec![0; ticks + 2],
            recent: VecDeque::new(),
            watched: vec![Vec::new(); ticks + 2],
        };
        let settled = || plan.settled().round() as u64;
        let entries = plan.arrivals.at_start.unwrap_or_else(settled);
        stream.add(0, entries, &plan.rests, source);
        // Nobody saw when they came.
        stream.watched.iter_mut().for_each(Vec::clear);
        stream
    }

    /// The class.
    #[must_use]
    pub fn class(&self) -> Class {
        self.plan.arrivals.class
    }

    /// How many go at each tick from the start.
    #[must_use]
    pub fn due(&self) -> &[u32] {
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
        let every = entries.div_ceil(WATCHED).max(1);
        for entry in 0..entries {
            let due = (now + 1 + law.sample(source)).min(last);
            self.due[due] += 1;
            if entry % every == 0 {
                self.watched[due].push(((due - now) as u32, every as f32));
            }
        }
        self.live += entries;
    }

    /// Takes out those whose time has come, and says how many.
    pub fn expire(&mut self, now: usize) -> u64 {
        let gone = u64::from(std::mem::take(&mut self.due[now]));
        self.live -= gone;
        gone
    }

    /// Of those that go at `now`, some: how many ticks they lived, and how many they stand for.
    #[must_use]
    pub fn watched(&self, now: usize) -> &[(u32, f32)] {
        &self.watched[now]
    }

    /// New ones a second that are to be expected: of the rate, and of those opened anew.
    #[must_use]
    pub fn rate(&self, now: usize) -> f64 {
        let tick = self.plan.tick;
        self.plan.arrivals.rate_at((now as f64 - 0.5) * tick) + f64::from(self.anew[now]) / tick
    }

    /// How many want in.
    pub fn wanting(&mut self, now: usize, source: &mut Source) -> u64 {
        let arrivals = &self.plan.arrivals;
        let tick = self.plan.tick;
        let mean = arrivals.rate_at((now as f64 - 0.5) * tick) * tick;
        draw::count(source, mean, arrivals.dispersion) + u64::from(self.anew[now])
    }

    /// Puts in new ones.
    pub fn insert(&mut self, now: usize, entries: u64, source: &mut Source) {
        let plan = self.plan;
        self.add(now, entries, &plan.lives, source);
        self.recent.push_front(entries);
        self.recent.truncate((self.class().young().1 / plan.tick).ceil().max(1.0) as usize);
    }

    /// Takes out some, each as likely, of those that are to go at `now` or later.
    pub fn remove(&mut self, now: usize, entries: u64, source: &mut Source) {
        let mut need = entries.min(self.live);
        let mut left = self.live;
        self.live -= need;
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
    pub fn reconnect(
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
    pub fn young(&self) -> u64 {
        let mut ticks = self.class().young().1 / self.plan.tick;
        let mut young = 0.0;
        for entries in &self.recent {
            young += *entries as f64 * ticks.clamp(0.0, 1.0);
            ticks -= 1.0;
        }
        (young.round() as u64).min(self.live)
    }
}
