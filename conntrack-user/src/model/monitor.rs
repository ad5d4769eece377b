//! From readings to ticks.

mod standing;
mod state;

use std::collections::HashMap;

pub use standing::Standing;

use super::{
    baseline::{Baseline, Known},
    counts::{Counted, Totals},
    detail::Detail,
    evictable::Evictable,
    flow::FlowEvent,
    flows::Flows,
    forecasts::{self, Forecasts},
    full::Observation,
    limit_changes::LimitChanges,
    reading::{NetnsId, NetnsReading, Reading, Time},
    reconcile::{TableFacts, is_full_at_once, reconcile},
    tick::{Entries, Limit, NetnsTick, Rates, Tick},
};
use crate::forecast::{
    outlook::{self, Outlook},
    snapshot::Snapshot,
};

use state::State;

/// Reason for which an idle namespace has no forecast.
pub const IDLE: &str = "nothing was counted in it lately";
/// Fill from which on the kernel's count of dropped packets counts as that of a full table.
const NEARLY_FULL: f64 = 0.9;

/// Remembers each namespace from tick to tick.
pub struct Monitor {
    cpus: u32,
    netns: HashMap<NetnsId, State>,
    forecasts: Forecasts,
    last: Option<Time>,
    overflow_said: bool,
    limit_changes: LimitChanges,
    detail: Option<Detail>,
}

impl Monitor {
    /// For a machine with `cpus` possible CPUs.
    #[must_use]
    pub fn new(cpus: u32) -> Self {
        Self {
            cpus,
            netns: HashMap::new(),
            forecasts: Forecasts::default(),
            last: None,
            overflow_said: false,
            limit_changes: LimitChanges::default(),
            detail: None,
        }
    }

    /// From now on the snapshots that forecasts are made from are kept, until they are taken.
    pub fn keep_snapshots(&mut self) {
        self.forecasts.keep();
    }

    /// The snapshots that were kept since the call before, in the order of time.
    pub fn take_snapshots(&mut self) -> Vec<(NetnsId, Snapshot)> {
        self.forecasts.take_kept()
    }

    /// Takes in reads for the baselines only, between ticks.
    pub fn settle(&mut self, reading: &Reading) {
        self.begin_detail(reading);
        for netns in &reading.netns {
            self.state(netns.id).observe(netns, &reading.counted);
            if netns.timeouts.is_some() {
                self.state(netns.id).timeouts = netns.timeouts;
            }
        }
    }

    /// Whether the baseline of every namespace whose count can be read is settled.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.netns.values().all(|state| !matches!(state.baseline.known(), Known::Between(..)))
    }

    /// Takes in an event of a namespace; what comes before the first reading is left out.
    pub fn observe_event(&mut self, netns: NetnsId, event: &FlowEvent) {
        if let Some(detail) = &mut self.detail
            && let Some(ended) = detail.observe_event(event)
        {
            self.forecasts.end(netns, &ended);
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
        let before_ns = self.last.map(|last| last.monotonic_ns);
        self.last = Some(reading.time);
        self.begin_detail(reading);
        if let Some(detail) = &mut self.detail {
            detail.observe(reading);
        }
        let interval_ns = interval(before_ns, reading);
        let mut notices = Vec::new();
        let netns: Vec<_> = reading
            .netns
            .iter()
            .map(|netns| (netns, self.observe_netns(netns, reading, before_ns, &mut notices)))
            .collect();
        // An idle one was looked at for what was missed in it: it is shown where there is something.
        let is_shown = |(netns, tick): &(&NetnsReading, NetnsTick)| {
            !netns.idle
                || tick.count_drift.is_some_and(|count_drift| count_drift != 0)
                || tick.in_flight.is_wrong()
        };
        let (netns, hidden): (Vec<_>, Vec<_>) = netns.into_iter().partition(is_shown);
        let netns: Vec<_> = netns.into_iter().map(|(_, tick)| tick).collect();
        let reviewed =
            hidden.iter().filter_map(|(_, tick)| Some((tick.id, tick.kernel_counters?))).collect();
        for id in &reading.gone {
            self.netns.remove(id);
            self.forecasts.forget(*id);
        }
        if reading.overflow != Totals::default() && !self.overflow_said {
            self.overflow_said = true;
            notices.push(
                "more network namespaces than can be counted apart: what is counted in those beyond is \
                 shown together"
                    .into(),
            );
        }
        let entries = entries_of_all(&netns, reading.idle);
        let now_ns = reading.time.monotonic_ns;
        let flows = self.detail.as_mut().and_then(|detail| detail.summary(now_ns, entries));
        Tick {
            time: reading.time,
            interval_ns,
            netns,
            idle: reading.idle,
            reviewed,
            gone: reading.gone.clone(),
            events: reading.events,
            missed_calls_max: reading.missed_calls_max,
            counted: reading.counted,
            overflow: Some(reading.overflow).filter(|overflow| *overflow != Totals::default()),
            probes: reading.probes.clone(),
            victims: reading.victims.clone(),
            blocks: reading.blocks,
            limit_changes: self.limit_changes.count(),
            flows: flows.map(Box::new),
            notices,
            coverage: reading.coverage.clone(),
        }
    }

    fn state(&mut self, id: NetnsId) -> &mut State {
        let cpus = self.cpus;
        self.netns.entry(id).or_insert_with(|| State::new(cpus))
    }

    fn observe_netns(
        &mut self,
        reading: &NetnsReading,
        all: &Reading,
        before_ns: Option<u64>,
        notices: &mut Vec<String>,
    ) -> NetnsTick {
        let interval_ns = interval(before_ns, all);
        let state = self.state(reading.id);
        state.observe(reading, &all.counted);
        let count = reading.counts.last().map(|read| read.count);
        let balanced = reading.totals.as_ref().filter(|_| all.counted.allocs);
        let entries = entries(&state.baseline, balanced, count);
        let limit = reading.max.map_or(Limit::Unavailable, Limit::of);
        let mut limit_change = None;
        if let (Some(before), Some(now)) = (state.max, reading.max)
            && before != now
        {
            limit_change = Some((before, now));
        }

        notices.extend(state.loss(reading));
        let change = match (&reading.totals, &state.totals, interval_ns) {
            // Too little, by nobody knows how much.
            _ if reading.missed => None,
            (Some(now), Some(before), Some(_)) => Some(now.since(before)),
            // Not there at the tick before: all that was counted in it was counted since. Somebody may have begun to
            // listen in it later.
            (Some(now), None, Some(_)) if all.counted.allocs => Some(*now),
            _ => None,
        };
        let rates = rates(change.as_ref(), &all.counted, state.entries, entries, interval_ns);
        let count_drift = state.count_drift(&reading.counts, &all.counted);
        let kernel_counters = state.kernel_counters.observe(all.time.monotonic_ns, reading.kernel);
        let in_flight = state.in_flight.observe(all.time.monotonic_ns, reading.in_flight);
        let baseline = state.before(&all.counted);
        let now_ns = all.time.monotonic_ns;
        let seconds = interval_ns.map(|interval| interval as f64 / 1e9);
        let growth = state.growth(now_ns, seconds, rates.net);
        let is_nearly_full = limit.fill(entries).is_some_and(|fill| fill >= NEARLY_FULL);
        let losses = state.losses(change.as_ref(), &all.counted, reading.kernel, is_nearly_full);
        let entries_before = std::mem::replace(&mut state.entries, entries);
        state.totals = reading.totals;
        state.max = reading.max.or(state.max);
        state.timeouts = reading.timeouts.or(state.timeouts);
        let timeouts = state.timeouts;
        if let Some((before, now)) = limit_change {
            notices.extend(self.limit_changes.observe(before, now, now_ns));
        }
        let may_be_full = [entries_before, entries].iter().any(|of| limit.is_reached(*of));
        let snapshot = Snapshot {
            time_ns: now_ns,
            // Until the baseline is settled, a few too many at the most.
            entries: entries.at_most(),
            limit,
            change: change.and_then(|counts| forecasts::change(&counts, &all.counted, may_be_full)),
            live: self.detail.as_ref().and_then(|detail| detail.live(reading.id, now_ns)),
            ended: None,
            timeouts: timeouts.unwrap_or_default(),
        };
        let unseen_max = baseline.map(|before| {
            before.max(0) as u64 + reading.totals.map_or(0, |totals| totals.events_lost)
        });
        let evictable = Evictable::of(entries.at_most(), snapshot.live.as_ref(), unseen_max);
        let outlook = self.outlook(reading, snapshot, before_ns);
        let full = self.state(reading.id).full.observe(&Observation {
            time: all.time,
            seconds,
            entries,
            limit,
            table_full_drops: losses[0],
            early_drops: losses[1],
            is_counted: reading.totals.is_some() && all.counted.early_drops,
            is_full_at_once: is_full_at_once(&outlook),
        });
        let full = full.filter(|_| !reading.ended);
        let facts = TableFacts {
            entries: entries.at_most(),
            full: full.as_ref(),
            evictable: &evictable,
            is_dropping: losses[0].is_some_and(|drops| drops > 0),
            in_flight: &in_flight,
        };
        let outlook = reconcile(outlook, &facts);
        if reading.ended {
            self.netns.remove(&reading.id);
            self.forecasts.forget(reading.id);
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
            count_drift,
            in_flight,
            outlook,
            full,
            growth,
            evictable,
            timeouts_known: timeouts.is_some(),
            count,
            kernel: reading.kernel,
            kernel_counters,
        }
    }

    /// What becomes of a namespace's table, which is now as in `snapshot`.
    fn outlook(
        &mut self,
        reading: &NetnsReading,
        snapshot: Snapshot,
        before_ns: Option<u64>,
    ) -> Outlook {
        let unknown = |reason| Outlook::unknown(outlook::State::Unknown, reason);
        if reading.ended {
            return unknown("it has ended");
        }
        if reading.idle {
            return unknown(IDLE);
        }
        let now_ns = snapshot.time_ns;
        // One that was idle at the tick before: when what was counted since happened is not known.
        let is_next = self.state(reading.id).snapshot_ns.replace(now_ns) == before_ns;
        let snapshot = Snapshot { change: snapshot.change.filter(|_| is_next), ..snapshot };
        self.forecasts.observe(reading.id, snapshot, self.detail.is_some())
    }
}

/// Nanoseconds since the reading before; none at the first.
fn interval(before_ns: Option<u64>, reading: &Reading) -> Option<u64> {
    let interval = before_ns.map(|before| reading.time.monotonic_ns.saturating_sub(before));
    interval.filter(|interval| *interval > 0)
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

/// What the programs count on top of the baseline; where allocations and frees are not counted, what the kernel says.
fn entries(baseline: &Baseline, totals: Option<&Totals>, count: Option<u32>) -> Entries {
    let Some(totals) = totals else {
        return count.map_or(Entries::Unavailable, |count| Entries::Exact(count.into()));
    };
    let entries = |baseline: i64| baseline.saturating_add(totals.balance().net()).max(0) as u64;
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
    let net = match (change.filter(|_| counted.allocs), before, now) {
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

#[cfg(test)]
#[path = "monitor/heard_tests.rs"]
mod heard_tests;

#[cfg(test)]
#[path = "monitor/full_tests.rs"]
mod full_tests;
