//! What is remembered of a namespace from tick to tick.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::super::{
    baseline::{Baseline, Known},
    bounds::{self, at_most},
    counts::{Counted, Totals},
    full::{FullTracker, losses_by_kernel},
    in_flight::InFlightTracker,
    kernel_counters::KernelCounters,
    reading::{CountRead, KernelStat, NetnsReading},
    recent::Recent,
    tick::Entries,
    unheard::Unheard,
};
use crate::forecast::snapshot::Timeouts;

/// A namespace at the tick before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) baseline: Baseline,
    /// What stands for the baseline where inserts and deletes are all that is told.
    unheard: Unheard,
    /// As last told; none: they are not known.
    pub(super) timeouts: Option<Timeouts>,
    /// When there was last a snapshot of it.
    pub(super) snapshot_ns: Option<u64>,
    pub(super) totals: Option<Totals>,
    pub(super) entries: Entries,
    /// Events that were lost before something was last lost at every tick; none at a tick without.
    losing: Option<u64>,
    /// Drift at the last few ticks where it could be told.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::REMEMBERED }>")]
    drifts: VecDeque<i64>,
    pub(super) max: Option<u32>,
    /// Fields that older recordings lack begin anew.
    #[serde(default)]
    pub(super) kernel: Option<KernelStat>,
    #[serde(default, skip_serializing_if = "KernelCounters::is_empty")]
    pub(super) kernel_counters: KernelCounters,
    #[serde(default)]
    pub(super) full: FullTracker,
    #[serde(default)]
    growth: Recent,
    #[serde(default)]
    pub(super) in_flight: InFlightTracker,
}

/// Nanoseconds over which growth is measured.
const GROWTH_NS: u64 = 10_000_000_000;

/// Ticks over which the lowest drift counts: longer than an entry is in flight, even when the task
/// that allocates it is pre-empted.
const DRIFT_TICKS: usize = 3;

impl State {
    /// Nothing is known yet, on a machine with `cpus` possible CPUs.
    pub(super) fn new(cpus: u32) -> Self {
        Self {
            baseline: Baseline::new(cpus),
            unheard: Unheard::default(),
            timeouts: None,
            snapshot_ns: None,
            totals: None,
            entries: Entries::Unavailable,
            losing: None,
            drifts: VecDeque::new(),
            max: None,
            kernel: None,
            kernel_counters: KernelCounters::default(),
            full: FullTracker::default(),
            growth: Recent::default(),
            in_flight: InFlightTracker::default(),
        }
    }

    /// Takes in the reads of a reading.
    pub(super) fn observe(&mut self, reading: &NetnsReading, counted: &Counted) {
        match reading.totals {
            Some(_) if counted.allocs => self.baseline.observe(&reading.counts),
            Some(_) => self.unheard.observe(&reading.counts, reading.missed),
            None => self.unheard = Unheard::default(),
        }
        if reading.missed {
            self.drifts.clear();
        }
    }

    /// Entries before anything was counted, as far as that is known.
    pub(super) fn before(&self, counted: &Counted) -> Option<i64> {
        match self.baseline.known() {
            _ if !counted.allocs => self.unheard.known(),
            Known::Exactly(value) => Some(value),
            Known::Nothing | Known::Between(..) => None,
        }
    }

    /// What is said when a source begins to lose what it counts, and when it has ended.
    pub(super) fn loss(&mut self, reading: &NetnsReading) -> Option<String> {
        let lost = |totals: Option<Totals>| totals.map_or(0, |totals| totals.events_lost);
        let inode = reading.id.inode;
        match (self.losing, reading.missed) {
            (None, true) => {
                self.losing = Some(lost(self.totals));
                Some(format!(
                    "events of the network namespace {inode} are lost: its rates are unknown until that ends"
                ))
            }
            (Some(before), false) => {
                self.losing = None;
                let lost = lost(reading.totals).saturating_sub(before);
                Some(format!(
                    "{lost} events of the network namespace {inode} were lost: by as many its inserts and deletes stay \
                     too low; all else is right again"
                ))
            }
            (None, false) | (Some(_), true) => None,
        }
    }

    /// Entries a second by which the table has grown lately. `net_rate`: that of a tick of `seconds` until `now_ns`.
    pub(super) fn growth(
        &mut self,
        now_ns: u64,
        seconds: Option<f64>,
        net_rate: Option<f64>,
    ) -> Option<f64> {
        match seconds.zip(net_rate) {
            Some((seconds, rate)) => self.growth.push(now_ns, seconds, rate * seconds, GROWTH_NS),
            None => self.growth.clear(),
        }
        self.growth.rate()
    }

    /// Losses of a tick: packets dropped, and entries evicted; none: not counted. `kernel`: the kernel's own counters.
    pub(super) fn losses(
        &mut self,
        change: Option<&Totals>,
        counted: &Counted,
        kernel: Option<KernelStat>,
        is_nearly_full: bool,
    ) -> [Option<u64>; 2] {
        let before = self.kernel;
        self.kernel = kernel.or(before);
        match change.filter(|_| counted.early_drops) {
            Some(change) => {
                let evicted = counted.deletes.then_some(change.early_drops);
                [Some(change.table_full_drops), evicted]
            }
            None => kernel
                .zip(before)
                .map_or([None; 2], |(now, before)| losses_by_kernel(&now, &before, is_nearly_full)),
        }
    }

    /// The lowest drift of the last few ticks. An entry in flight makes it look higher for a moment;
    /// nothing makes it look lower.
    pub(super) fn count_drift(&mut self, counts: &[CountRead], counted: &Counted) -> Option<i64> {
        let now = match counted.allocs {
            true => self.baseline.count_drift(counts),
            false => self.unheard.count_drift(counts),
        }?;
        while self.drifts.len() >= DRIFT_TICKS {
            self.drifts.pop_front();
        }
        self.drifts.push_back(now);
        self.drifts.iter().copied().min()
    }
}
