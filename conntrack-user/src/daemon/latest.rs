//! The node as it was told last: each namespace, also one that ticks leave out because nothing happens in it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    alerts::Told,
    high_water::{Before, HighWater},
    kernel_sum::KernelSum,
};
use crate::{
    forecast::outlook::{Outlook, State},
    model::{
        counts::Totals,
        flow_summary::FlowSummary,
        kernel_counters::KernelTick,
        monitor::IDLE,
        reading::{KernelStat, NetnsId, Reading},
        tick::{Limit, NetnsTick, Tick},
    },
    source::item::Start,
};

/// Nanoseconds for which the last counts of a namespace that has ended are kept: longer than between two scrapes.
const KEPT_NS: u64 = 120_000_000_000;

/// What was told last, since the source was opened.
#[derive(Debug, Default)]
pub struct Latest {
    source: Option<Start>,
    opened: u64,
    ticks: u64,
    /// The last tick, without its namespaces.
    tick: Option<Tick>,
    netns: BTreeMap<NetnsId, NetnsTick>,
    /// Those that have ended, and when.
    ended: BTreeMap<NetnsId, (u64, NetnsTick)>,
    /// Those that are told apart where there is room for some only.
    apart: BTreeSet<NetnsId>,
    /// How many may be.
    most_apart: usize,
    /// What was counted in those that have ended and were not told apart.
    others_ended: Totals,
    /// The kernel's counters of namespaces without series of their own.
    others_kernel: KernelSum,
    /// High-water marks of namespaces with series of their own.
    high_water: BTreeMap<NetnsId, HighWater>,
    /// Single flows, as summed up last: not at every tick.
    flows: Option<Box<FlowSummary>>,
    told: Told,
}

/// Namespaces that are not told apart, together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Others {
    /// How many there are now.
    pub netns: u64,
    /// Their entries, as far as they can be told.
    pub entries: u64,
    /// What was counted in them, those that have ended among them. It never shrinks: who is told apart stays so.
    pub totals: Totals,
    /// The kernel's counters of them since ctmon first read them; none where they cannot be read.
    pub kernel: Option<KernelStat>,
}

impl Latest {
    /// Nothing yet; `most_apart` namespaces are told apart.
    #[must_use]
    pub fn new(most_apart: usize) -> Self {
        Self { most_apart, ..Self::default() }
    }

    /// A source was opened: everything is counted anew.
    pub fn open(&mut self, start: &Start) {
        *self = Self {
            source: Some(start.clone()),
            opened: self.opened + 1,
            ticks: self.ticks,
            told: std::mem::take(&mut self.told),
            ..Self::new(self.most_apart)
        };
    }

    /// What was read says which namespaces are gone, and the limit of those that are idle.
    pub fn read(&mut self, reading: &Reading) {
        for id in &reading.gone {
            self.end(*id, reading.time.monotonic_ns, None);
        }
        for idle in reading.netns.iter().filter(|netns| netns.idle) {
            if let (Some(netns), Some(max)) = (self.netns.get_mut(&idle.id), idle.max) {
                netns.limit = Limit::of(max);
            }
        }
    }

    /// What became of it.
    pub fn take(&mut self, mut tick: Tick) {
        let now_ns = tick.time.monotonic_ns;
        let before_unix_ns = self.tick.as_ref().map(|before| before.time.unix_ns);
        let mut told = BTreeSet::new();
        for mut netns in std::mem::take(&mut tick.netns) {
            told.insert(netns.id);
            if !netns.ended {
                self.make_room(netns.id);
            }
            self.mark(now_ns, before_unix_ns, &netns);
            self.sum_kernel(netns.id, netns.kernel_counters.as_ref());
            if netns.ended {
                let before = self.netns.get(&netns.id).and_then(|before| before.kernel_counters);
                netns.kernel_counters = netns.kernel_counters.or(before);
                self.end(netns.id, now_ns, Some(netns));
            } else {
                self.netns.insert(netns.id, netns);
            }
        }
        for (id, counters) in std::mem::take(&mut tick.reviewed) {
            self.sum_kernel(id, Some(&counters));
            if let Some(netns) = self.netns.get_mut(&id) {
                netns.kernel_counters = Some(counters);
            }
        }
        self.flows = tick.flows.take().or(self.flows.take());
        for (id, high_water) in &mut self.high_water {
            if !told.contains(id)
                && let Some(netns) =
                    self.netns.get(id).or(self.ended.get(id).map(|(_, netns)| netns))
            {
                high_water.rest(now_ns, netns, tick.idle > 0 && !netns.ended);
            }
        }
        // Where none is left out as idle, those that are missing are not known to be.
        if tick.idle > 0 {
            let idle = self.netns.iter_mut().filter(|(id, _)| !told.contains(id));
            idle.for_each(|(_, netns)| rest(netns));
        }
        let is_old = |ended_ns: u64| now_ns.saturating_sub(ended_ns) >= KEPT_NS;
        let old: Vec<NetnsId> =
            self.ended.iter().filter(|(_, (at, _))| is_old(*at)).map(|(id, _)| *id).collect();
        old.into_iter().for_each(|id| self.forget(id));
        self.ticks += 1;
        self.tick = Some(tick);
    }

    /// Raises the high-water marks of a namespace with series of its own.
    fn mark(&mut self, now_ns: u64, before_unix_ns: Option<u64>, netns: &NetnsTick) {
        if !self.apart.contains(&netns.id) {
            return;
        }
        let entries = self.netns.get(&netns.id).and_then(|before| before.entries.at_most());
        let before = entries.zip(before_unix_ns);
        let before = before.map(|(entries, unix_ns)| Before { entries, unix_ns });
        self.high_water.entry(netns.id).or_default().observe(now_ns, netns, before);
    }

    /// Adds the kernel's counters of a namespace without series of its own.
    fn sum_kernel(&mut self, id: NetnsId, counters: Option<&KernelTick>) {
        if let Some(counters) = counters.filter(|_| !self.apart.contains(&id)) {
            self.others_kernel.add(id, &counters.totals);
        }
    }

    /// Lets `id` be told apart if it is new and there is room: one that has ended makes it.
    fn make_room(&mut self, id: NetnsId) {
        if self.netns.contains_key(&id) {
            return;
        }
        if self.apart.len() >= self.most_apart {
            let apart = self.ended.iter().filter(|(id, _)| self.apart.contains(id));
            let oldest = apart.min_by_key(|(_, (at, _))| *at).map(|(id, _)| *id);
            oldest.into_iter().for_each(|id| self.forget(id));
        }
        if self.apart.len() < self.most_apart {
            self.apart.insert(id);
        }
    }

    fn end(&mut self, id: NetnsId, now_ns: u64, last: Option<NetnsTick>) {
        let last = match (self.netns.remove(&id), last) {
            (Some(before), last) => last.unwrap_or(before),
            // It came and went between two ticks. With the others: series of its own would have one value each.
            (None, Some(last)) if !self.ended.contains_key(&id) => last,
            (None, _) => return,
        };
        // Also where its last tick was of when it was there.
        let last = NetnsTick { ended: true, ..last };
        if self.apart.contains(&id) {
            self.ended.insert(id, (now_ns, last));
        } else {
            self.others_ended = self.others_ended.plus(&last.totals.unwrap_or_default());
            self.others_kernel.end(id);
        }
    }

    fn forget(&mut self, id: NetnsId) {
        self.ended.remove(&id);
        self.apart.remove(&id);
        self.high_water.remove(&id);
    }

    /// The source; none before one was opened.
    #[must_use]
    pub const fn source(&self) -> Option<&Start> {
        self.source.as_ref()
    }

    /// How many sources were opened one after the other: with each, counting begins anew.
    #[must_use]
    pub const fn opened(&self) -> u64 {
        self.opened
    }

    /// How many ticks there were, of all sources.
    #[must_use]
    pub const fn ticks(&self) -> u64 {
        self.ticks
    }

    /// The last tick, without its namespaces; none before the first.
    #[must_use]
    pub const fn tick(&self) -> Option<&Tick> {
        self.tick.as_ref()
    }

    /// All namespaces that are there.
    pub fn netns(&self) -> impl Iterator<Item = &NetnsTick> {
        self.netns.values()
    }

    /// Those that are told apart, and after them those of them that ended lately.
    pub fn apart(&self) -> impl Iterator<Item = &NetnsTick> {
        let is_apart = |netns: &&NetnsTick| self.apart.contains(&netns.id);
        self.netns.values().filter(is_apart).chain(self.ended.values().map(|(_, netns)| netns))
    }

    /// The others; none while all are told apart.
    #[must_use]
    pub fn others(&self) -> Option<Others> {
        let kernel = self.others_kernel.sum();
        let mut others = Others { totals: self.others_ended, kernel, ..Others::default() };
        for netns in self.not_apart() {
            others.netns += 1;
            others.entries += netns.entries.at_most().unwrap_or(0);
            others.totals = others.totals.plus(&netns.totals.unwrap_or_default());
        }
        (others != Others::default()).then_some(others)
    }

    /// High-water marks of a namespace with series of its own.
    #[must_use]
    pub fn high_water(&self, id: NetnsId) -> Option<&HighWater> {
        self.high_water.get(&id)
    }

    /// Single flows as summed up last; none without events.
    #[must_use]
    pub fn flows(&self) -> Option<&FlowSummary> {
        self.flows.as_deref()
    }

    /// What was warned of by now.
    pub fn warn(&mut self, told: Told) {
        self.told = told;
    }

    /// What was warned of.
    #[must_use]
    pub const fn told(&self) -> &Told {
        &self.told
    }

    /// Those that are not told apart.
    pub fn not_apart(&self) -> impl Iterator<Item = &NetnsTick> {
        self.netns.values().filter(|netns| !self.apart.contains(&netns.id))
    }

    /// The last tick with all namespaces, also those that it left out.
    #[must_use]
    pub fn whole(&self) -> Option<Tick> {
        let netns = self.netns.values().cloned().collect();
        let flows = self.flows.clone();
        self.tick.as_ref().map(|tick| Tick { netns, flows, ..tick.clone() })
    }
}

/// Nothing comes: the forecast of when something did holds no longer. A table at its limit stays full.
fn rest(netns: &mut NetnsTick) {
    if let Some(counters) = &mut netns.kernel_counters {
        counters.rates = KernelStat::default();
    }
    if netns.full.is_some() && netns.limit.is_reached(netns.entries) {
        return;
    }
    netns.full = None;
    if !matches!(netns.outlook.state, State::Unknown) {
        netns.outlook = Outlook::unknown(State::Unknown, IDLE);
    }
}

#[cfg(test)]
#[path = "latest_tests.rs"]
mod tests;
