//! From readings to ticks.

use std::collections::{HashMap, VecDeque};

use super::{
    baseline::{Baseline, Known},
    counts::{Counted, Totals},
    detail::Detail,
    flow::FlowEvent,
    flows::Flows,
    reading::{CountRead, NetnsId, NetnsReading, Reading, Time},
    tick::{Entries, Limit, NetnsTick, Rates, Tick},
};
use crate::forecast::{Forecast, Point, TimeToFull};

/// Remembers each namespace from tick to tick.
pub struct Monitor {
    cpus: u32,
    new_forecast: fn() -> Box<dyn Forecast>,
    netns: HashMap<NetnsId, State>,
    last: Option<Time>,
    overflow_said: bool,
    detail: Option<Detail>,
}

/// A namespace at the tick before.
struct State {
    baseline: Baseline,
    forecast: Box<dyn Forecast>,
    totals: Option<Totals>,
    entries: Entries,
    /// Drift at the last few ticks where it could be told.
    drifts: VecDeque<i64>,
    max: Option<u32>,
}

/// Ticks over which the lowest drift counts: longer than an entry is in flight, even when the task
/// that allocates it is pre-empted.
const DRIFT_TICKS: usize = 3;

impl State {
    /// The lowest drift of the last few ticks. An entry in flight makes it look higher for a moment;
    /// nothing makes it look lower.
    fn drift(&mut self, counts: &[CountRead]) -> Option<i64> {
        let now = self.baseline.drift(counts)?;
        if self.drifts.len() == DRIFT_TICKS {
            self.drifts.pop_front();
        }
        self.drifts.push_back(now);
        self.drifts.iter().copied().min()
    }
}

impl Monitor {
    /// For a machine with `cpus` possible CPUs; each namespace gets a forecast of its own.
    #[must_use]
    pub fn new(cpus: u32, new_forecast: fn() -> Box<dyn Forecast>) -> Self {
        Self {
            cpus,
            new_forecast,
            netns: HashMap::new(),
            last: None,
            overflow_said: false,
            detail: None,
        }
    }

    /// Takes in reads for the baselines only, between ticks.
    pub fn settle(&mut self, reading: &Reading) {
        self.begin_detail(reading);
        for netns in reading.netns.iter().filter(|netns| netns.totals.is_some()) {
            self.state(netns.id).baseline.observe(&netns.counts);
        }
    }

    /// Whether the baseline of every namespace whose count can be read is settled.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.netns.values().all(|state| !matches!(state.baseline.known(), Known::Between(..)))
    }

    /// Takes in an event; what comes before the first reading is left out.
    pub fn observe_event(&mut self, event: &FlowEvent) {
        if let Some(detail) = &mut self.detail {
            detail.observe_event(event);
        }
    }

    /// The threshold of the sample was set, at that time on `CLOCK_MONOTONIC`.
    pub fn observe_threshold(&mut self, threshold: u32, time_ns: u64) {
        if let Some(detail) = &mut self.detail {
            detail.observe_threshold(threshold, time_ns);
        }
    }

    /// The live table, once there are events.
    #[must_use]
    pub fn flows(&self) -> Option<&Flows> {
        self.detail.as_ref().map(Detail::flows)
    }

    fn begin_detail(&mut self, reading: &Reading) {
        if reading.events.is_some() && self.detail.is_none() {
            self.detail = Some(Detail::new(reading.time.monotonic_ns));
        }
    }

    /// Takes in a reading; readings come in the order of time.
    pub fn observe(&mut self, reading: &Reading) -> Tick {
        let interval_ns = self
            .last
            .map(|last| reading.time.monotonic_ns.saturating_sub(last.monotonic_ns))
            .filter(|interval| *interval > 0);
        self.last = Some(reading.time);
        self.begin_detail(reading);
        let mut notices = Vec::new();
        let netns: Vec<_> = reading
            .netns
            .iter()
            .map(|netns| (netns, self.observe_netns(netns, reading, interval_ns, &mut notices)))
            .collect();
        // An idle one was looked at for its drift: it is shown where there is one.
        let is_shown = |(netns, tick): &(&NetnsReading, NetnsTick)| {
            !netns.idle || tick.drift.is_some_and(|drift| drift != 0)
        };
        let netns: Vec<_> = netns.into_iter().filter(is_shown).map(|(_, tick)| tick).collect();
        for id in &reading.gone {
            self.netns.remove(id);
        }
        if reading.overflow != Totals::default() && !self.overflow_said {
            self.overflow_said = true;
            notices.push(
                "more network namespaces than can be told apart: what is counted in those beyond is \
                 shown together"
                    .into(),
            );
        }
        let entries = entries_of_all(&netns, reading.idle);
        let flows = self.detail.as_mut().and_then(|detail| detail.observe(reading, entries));
        Tick {
            time: reading.time,
            interval_ns,
            netns,
            idle: reading.idle,
            events: reading.events,
            missed_at_most: reading.missed_at_most,
            counted: reading.counted,
            overflow: Some(reading.overflow).filter(|overflow| *overflow != Totals::default()),
            probes: reading.probes.clone(),
            victims: reading.victims.clone(),
            blocks: reading.blocks,
            flows: flows.map(Box::new),
            notices,
        }
    }

    fn state(&mut self, id: NetnsId) -> &mut State {
        let (cpus, new_forecast) = (self.cpus, self.new_forecast);
        self.netns.entry(id).or_insert_with(|| State {
            baseline: Baseline::new(cpus),
            forecast: new_forecast(),
            totals: None,
            entries: Entries::Unavailable,
            drifts: VecDeque::new(),
            max: None,
        })
    }

    fn observe_netns(
        &mut self,
        reading: &NetnsReading,
        all: &Reading,
        interval_ns: Option<u64>,
        notices: &mut Vec<String>,
    ) -> NetnsTick {
        let state = self.state(reading.id);
        if reading.totals.is_some() {
            state.baseline.observe(&reading.counts);
        }
        let count = reading.counts.last().map(|read| read.count);
        let entries = entries(&state.baseline, reading.totals.as_ref(), count);
        let limit = match reading.max {
            Some(0) => Limit::Unlimited,
            Some(max) => Limit::Entries(max),
            None => Limit::Unavailable,
        };
        if let (Some(before), Some(now)) = (state.max, reading.max)
            && before != now
        {
            let notice = format!("nf_conntrack_max changed from {before} to {now}");
            // The limit is one for all namespaces: each sees the change, one says it.
            if !notices.contains(&notice) {
                notices.push(notice);
            }
        }

        let change = match (&reading.totals, &state.totals, interval_ns) {
            (Some(now), Some(before), Some(_)) => Some(now.since(before)),
            // Not there at the tick before: all that was counted in it was counted since.
            (Some(now), None, Some(_)) => Some(*now),
            _ => None,
        };
        let rates = rates(change.as_ref(), &all.counted, state.entries, entries, interval_ns);
        if let Some(entries) = entries.at_most() {
            state.forecast.observe(Point { time_ns: all.time.monotonic_ns, entries, limit });
        }
        let drift = state.drift(&reading.counts);
        state.totals = reading.totals;
        state.entries = entries;
        state.max = reading.max.or(state.max);
        let time_to_full = match entries {
            Entries::Unavailable => TimeToFull::Unknown,
            _ => state.forecast.time_to_full(),
        };
        let baseline = match state.baseline.known() {
            Known::Exactly(value) => Some(value),
            Known::Nothing | Known::Between(..) => None,
        };
        if reading.ended {
            self.netns.remove(&reading.id);
        }
        NetnsTick {
            id: reading.id,
            name: reading.name.clone(),
            ended: reading.ended,
            entries,
            limit,
            change,
            rates,
            windows: reading.windows.clone(),
            totals: reading.totals,
            baseline,
            drift,
            time_to_full,
            count,
            kernel: reading.kernel,
        }
    }
}

/// The entries of all namespaces together; none where one of them is idle, and so was not read, or not
/// settled.
fn entries_of_all(netns: &[NetnsTick], idle: u64) -> Option<u64> {
    let exact = |netns: &NetnsTick| match netns.entries {
        Entries::Exact(entries) => Some(entries),
        Entries::Between(..) | Entries::Unavailable => None,
    };
    if idle > 0 { None } else { netns.iter().filter(|netns| !netns.ended).map(exact).sum() }
}

/// What the programs count on top of the baseline; without them, what the kernel says.
fn entries(baseline: &Baseline, totals: Option<&Totals>, count: Option<u32>) -> Entries {
    let Some(totals) = totals else {
        return count.map_or(Entries::Unavailable, |count| Entries::Exact(count.into()));
    };
    let entries = |baseline: i64| (baseline + totals.balance().net()).max(0) as u64;
    match baseline.known() {
        Known::Exactly(baseline) => Entries::Exact(entries(baseline)),
        Known::Between(low, high) => Entries::Between(entries(low), entries(high)),
        Known::Nothing => Entries::Unavailable,
    }
}

fn rates(
    change: Option<&Totals>,
    counted: &Counted,
    before: Entries,
    now: Entries,
    interval_ns: Option<u64>,
) -> Rates {
    let Some(interval_ns) = interval_ns else {
        return Rates::default();
    };
    let per_second = |entries: f64| entries * 1e9 / interval_ns as f64;
    let net = match (change, before, now) {
        (Some(change), ..) => Some(change.balance().net()),
        (None, Entries::Exact(before), Entries::Exact(now)) => Some(now as i64 - before as i64),
        _ => None,
    };
    Rates {
        insert: change
            .filter(|_| counted.all_inserts())
            .map(|change| per_second(change.inserts() as f64)),
        delete: change
            .filter(|_| counted.deletes)
            .map(|change| per_second(change.deletes.sum() as f64)),
        net: net.map(|net| per_second(net as f64)),
    }
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;
