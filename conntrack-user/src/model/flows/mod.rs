//! The live table: flows in the sample, from their insert to their destroy.
//!
//! A flow is in the sample as long as its hash is below the threshold in force. When the threshold falls,
//! flows from there on leave; their destroys would not be sent. So every flow in the table is one whose
//! destroy will be sent, and it was in the sample with the probability of the lowest threshold of its life:
//! that is what it weighs. When the threshold rises, destroys arrive of flows whose insert was not sent;
//! they are counted apart.

mod late;
mod netns;
mod table;

use std::collections::VecDeque;

use conntrack_ebpf::{EVERY_FLOW, is_sampled};
use serde::{Deserialize, Serialize};

use super::{
    class::{EntryStatus, PROTOCOLS, Protocol},
    estimate::{Estimate, Sampled},
    flow::{EventKind, FlowEvent, Sample, Status, ratio},
    lifetimes::{Alive, Lifetimes, Weight, Window, curve::Curve},
    random::SplitMix64,
};
use late::{Destroy, Late};
use netns::{NO_NETNS, Namespaces};
use table::{Flow, Table};

/// Flows that the table holds unless it is told otherwise: 5.5 MB when full.
pub const DEFAULT_CAP: usize = 131_072;

/// Around a change of the threshold, CPUs may still send by the one before.
const SLACK_NS: u64 = 1_000_000;
/// For so long an event that tells of a threshold from before a change says nothing of a change back: the
/// CPU may have been kept waiting, by a hypervisor for instance, after it had read the threshold.
const STALE_NS: u64 = 1_000_000_000;
/// Between steps by which a table that was full lets more in again.
const EASE_NS: u64 = 1_000_000_000;

/// How events have found each other since attaching; in flows of the sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Pairing {
    /// Insert events, by packets or ctnetlink.
    pub inserts: u64,
    /// Destroy events.
    pub destroys: u64,
    /// Inserts that have found their destroy.
    pub paired: u64,
    /// Flows that left the sample alive, as the threshold fell; inserts that arrived when it had fallen.
    pub left_sample: u64,
    /// Destroys of entries inserted before they were in the sample: the threshold was below their hash at
    /// some time.
    pub destroys_before_sample: u64,
    /// Destroys of entries that were there before the programs, or whose insert event was lost.
    pub destroys_before_attach: u64,
    /// Flows whose destroy event was lost: another was inserted at their entry, it was found gone, or its
    /// namespace has ended.
    pub unpaired: u64,
}

/// A live entry to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// The address of its `struct nf_conn`.
    pub entry: u64,
    /// When it was inserted: with `entry`, this names the flow.
    pub inserted_ns: u64,
    /// Its hash, by which to see that the entry is not another's by now.
    pub hash: u32,
    /// Its namespace (`net->net_cookie`); none beyond 65,535 of them.
    pub netns_cookie: Option<u64>,
    /// Its zone.
    pub zone: u16,
}

/// A flow that was in the sample throughout its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// When it was inserted, as `CLOCK_MONOTONIC` in nanoseconds.
    pub inserted_ns: u64,
    /// When it was destroyed.
    pub ended_ns: u64,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its final status.
    pub status: EntryStatus,
    /// Its hash, and the lowest threshold of its life.
    pub sample: Sample,
}

/// What is known of a flow that is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its hash, and the lowest threshold of its life so far.
    pub sample: Sample,
}

/// The live table.
#[derive(Debug, Clone)]
pub struct Flows {
    cap: usize,
    table: Table,
    netns: Namespaces,
    late: Late,
    lifetimes: Lifetimes,
    pairing: Pairing,
    /// The latest time of any event.
    now_ns: u64,
    /// In force in the kernel, as far as is known, and since when.
    threshold: u32,
    changed_ns: u64,
    /// Changes that events from before may still follow: when, and to what.
    changes: VecDeque<(u64, u32)>,
    /// Thresholds of the last [`STALE_NS`] that others have replaced, and when.
    replaced: VecDeque<(u64, u32)>,
    /// Lower than that while the table is full, and since when.
    own: u32,
    own_ns: u64,
    /// No flow in the table has a higher threshold.
    highest: u32,
    /// The lowest of all thresholds since attaching.
    lowest: u32,
}

impl Flows {
    /// An empty table for `cap` flows (at least 1), attached at `begin_ns`.
    #[must_use]
    pub fn new(cap: usize, window: Window, begin_ns: u64) -> Self {
        Self {
            cap: cap.max(1),
            table: Table::default(),
            netns: Namespaces::default(),
            late: Late::default(),
            lifetimes: Lifetimes::new(window, begin_ns),
            pairing: Pairing::default(),
            now_ns: begin_ns,
            threshold: EVERY_FLOW,
            changed_ns: 0,
            changes: VecDeque::new(),
            replaced: VecDeque::new(),
            own: EVERY_FLOW,
            own_ns: begin_ns,
            highest: 0,
            lowest: EVERY_FLOW,
        }
    }

    /// Flows in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flows it holds at the most.
    #[must_use]
    pub const fn cap(&self) -> usize {
        self.cap
    }

    /// Bytes that the table of flows takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// How events have found each other.
    #[must_use]
    pub const fn pairing(&self) -> &Pairing {
        &self.pairing
    }

    /// Below which hash flows are in the sample now.
    #[must_use]
    pub fn threshold(&self) -> u32 {
        self.threshold.min(self.own)
    }

    /// Takes in an event, and returns the flow of which both insert and destroy have come with it. Only
    /// inserts and destroys matter here.
    pub fn observe(&mut self, event: &FlowEvent) -> Option<Ended> {
        let is_insert = match event.kind {
            EventKind::InsertPacket | EventKind::InsertCtnetlink => true,
            EventKind::Destroy(_) => false,
            EventKind::Refused | EventKind::Evicted => return None,
        };
        self.advance(event.time_ns);
        let threshold = self.heed(event.sample.threshold, event.time_ns);
        if is_insert { self.insert(event, threshold) } else { self.destroy(event, threshold) }
    }

    /// The threshold was set at that time: what is to be said when it is written, so that a change is known
    /// also if no event tells. Events from before that are still to be read may come afterwards.
    pub fn set_threshold(&mut self, threshold: u32, time_ns: u64) {
        let (last_ns, last) = self.last_change();
        if threshold != last && time_ns >= last_ns {
            self.change(threshold, time_ns);
        }
    }

    /// Time has gone on, whether events came or not: all those sent before have been taken in.
    pub fn advance(&mut self, now_ns: u64) {
        if now_ns <= self.now_ns {
            return;
        }
        self.now_ns = now_ns;
        self.apply_changes(now_ns);
        while let Some(flow) = self.late.expired(now_ns) {
            self.lose(&flow);
        }
        if self.lifetimes.is_epoch_over(now_ns) {
            let (flows, late) = (self.table.as_slice(), &self.late);
            let alive = flows.iter().chain(late.flows()).map(|flow| alive(flow, now_ns));
            self.lifetimes.begin_epoch(now_ns, alive);
        }
        if self.own != EVERY_FLOW
            && self.len() < self.cap / 2
            && now_ns >= self.own_ns.saturating_add(EASE_NS)
        {
            (self.own, self.own_ns) = (self.own.saturating_mul(2), now_ns);
        }
    }

    /// A namespace has ended, and the events of its flows' destroys have been read: those that are still
    /// here have lost theirs.
    pub fn end_netns(&mut self, cookie: u64) {
        let Some(index) = self.netns.find(cookie) else { return };
        let mut at = 0;
        while let Some(flow) = self.table.get(at).copied() {
            if flow.netns == index {
                self.take(at);
                self.lose(&flow);
            } else {
                at += 1;
            }
        }
    }

    /// A flow has been found gone, and its destroy has not come in the seconds since: it was lost. Nothing
    /// if the flow is not here any more.
    pub fn forget(&mut self, entry: u64, inserted_ns: u64) {
        if let Some(at) = self.table.find(entry)
            && self.table.get(at).is_some_and(|flow| flow.inserted_ns == inserted_ns)
            && let Some(flow) = self.take(at)
        {
            self.lose(&flow);
        }
    }

    /// What is known of a flow, if it is alive.
    #[must_use]
    pub fn get(&self, entry: u64, inserted_ns: u64) -> Option<Known> {
        let flow = self.table.get(self.table.find(entry)?)?;
        (flow.inserted_ns == inserted_ns)
            .then_some(Known { protocol: flow.protocol, sample: flow.sample })
    }

    /// Chooses `n` flows that are alive, or all if there are no more: each set of `n` is as likely
    /// (Floyd's algorithm, Bentley 1987, doi 10.1145/30401.315746). The same for the same events and
    /// `seed`, whatever the entries' addresses.
    #[must_use]
    pub fn choose(&self, n: usize, seed: u64) -> Vec<Choice> {
        let (len, mut random) = (self.len(), SplitMix64::new(seed));
        let mut places: Vec<usize> = Vec::with_capacity(n.min(len));
        for top in len.saturating_sub(n)..len {
            let place = random.below(top as u64 + 1) as usize;
            match places.binary_search(&place) {
                Err(at) => places.insert(at, place),
                // The top itself is higher than all that have been chosen.
                Ok(_) => places.push(top),
            }
        }
        let choice = |flow: &Flow| Choice {
            entry: flow.entry,
            inserted_ns: flow.inserted_ns,
            hash: flow.sample.hash,
            netns_cookie: self.netns.cookie(flow.netns),
            zone: flow.zone,
        };
        places.into_iter().filter_map(|at| self.table.get(at)).map(choice).collect()
    }

    /// Flows that are alive, by protocol in the order of [`Protocol::ALL`]. Looks at each.
    #[must_use]
    pub fn sampled(&self) -> [Sampled; PROTOCOLS] {
        let mut sampled = [Sampled::default(); PROTOCOLS];
        for flow in self.table.as_slice() {
            if let Some(sampled) = sampled.get_mut(flow.protocol as usize) {
                sampled.add(ratio(flow.sample.threshold));
            }
        }
        sampled
    }

    /// Entries inserted since attaching that are alive, by protocol and in all. Looks at each flow.
    #[must_use]
    pub fn alive(&self) -> ([Estimate; PROTOCOLS], Estimate) {
        let sampled = self.sampled();
        let all = sampled.iter().fold(Sampled::default(), |sum, of| sum.plus(of));
        let ratio = ratio(self.threshold());
        (sampled.map(|of| of.count(ratio)), all.count(ratio))
    }

    /// Lifetimes by protocol in the order of [`Protocol::ALL`]. Looks at each flow: not more than once a
    /// second.
    #[must_use]
    pub fn lifetimes(&self) -> [Curve; PROTOCOLS] {
        let flows = self.table.as_slice().iter().chain(self.late.flows());
        self.lifetimes.curves(flows.map(|flow| alive(flow, self.now_ns)))
    }

    /// Seconds that the lifetimes rest on, up to the latest event.
    #[must_use]
    pub fn lifetimes_window_seconds(&self) -> f64 {
        self.now_ns.saturating_sub(self.lifetimes.since_ns()) as f64 / 1e9
    }

    /// The threshold by which an event is in the sample or not.
    fn heed(&mut self, threshold: u32, time_ns: u64) -> u32 {
        // Around a change, and from before, events tell of the threshold that was.
        let (last_ns, last) = self.last_change();
        let is_stale = |(ns, before): &(u64, u32)| {
            *before == threshold && time_ns <= ns.saturating_add(STALE_NS)
        };
        if threshold != last
            && time_ns > last_ns.saturating_add(SLACK_NS)
            && !self.replaced.iter().any(is_stale)
        {
            self.change(threshold, time_ns);
            self.apply_changes(time_ns);
        }
        threshold.min(self.threshold())
    }

    fn change(&mut self, threshold: u32, time_ns: u64) {
        let (_, before) = self.last_change();
        while self.replaced.front().is_some_and(|(ns, _)| ns.saturating_add(STALE_NS) < time_ns) {
            self.replaced.pop_front();
        }
        self.replaced.push_back((time_ns, before));
        self.changes.push_back((time_ns, threshold.max(1)));
    }

    /// The last change that is known of: when, and to what.
    fn last_change(&self) -> (u64, u32) {
        self.changes.back().copied().unwrap_or((self.changed_ns, self.threshold))
    }

    /// A rise holds at once, a fall only when no event from before will come any more.
    fn apply_changes(&mut self, now_ns: u64) {
        while let Some(&(time_ns, threshold)) = self.changes.front() {
            let is_due = if threshold > self.threshold {
                now_ns.saturating_add(SLACK_NS) >= time_ns
            } else {
                now_ns > time_ns.saturating_add(SLACK_NS)
            };
            if !is_due {
                return;
            }
            self.changes.pop_front();
            (self.threshold, self.changed_ns) = (threshold, time_ns);
            self.thin(threshold);
        }
    }

    /// Flows from a threshold on leave the sample; the others were in it by luck, and weigh more.
    fn thin(&mut self, threshold: u32) {
        self.lowest = self.lowest.min(threshold);
        if threshold >= self.highest {
            return;
        }
        self.highest = threshold;
        let mut at = 0;
        while let Some(flow) = self.table.get_mut(at) {
            if flow.sample.threshold <= threshold {
                at += 1;
                continue;
            }
            self.lifetimes.left(alive(flow, self.now_ns));
            if is_sampled(flow.sample.hash, threshold) {
                flow.sample.threshold = threshold;
                self.lifetimes.entered(alive(flow, self.now_ns));
                at += 1;
            } else {
                self.pairing.left_sample += 1;
                self.take(at);
            }
        }
    }

    fn insert(&mut self, event: &FlowEvent, threshold: u32) -> Option<Ended> {
        self.pairing.inserts += 1;
        let mut sample = Sample { hash: event.sample.hash, threshold };
        let before = self.table.find(event.entry);
        if before.is_none() {
            sample.threshold = sample.threshold.min(self.make_room());
        }
        if !is_sampled(sample.hash, sample.threshold) {
            self.pairing.left_sample += 1;
            return None;
        }
        let mut flow = Flow {
            entry: event.entry,
            inserted_ns: event.time_ns,
            sample,
            netns: NO_NETNS,
            zone: event.zone,
            protocol: Protocol::of(event.original.protocol),
        };
        self.lifetimes.born(flow.protocol, Weight::of(sample.threshold));
        if let Some(destroy) = self.late.take_destroy(&flow) {
            let counted = if destroy.before_sample {
                &mut self.pairing.destroys_before_sample
            } else {
                &mut self.pairing.destroys_before_attach
            };
            *counted = counted.saturating_sub(1);
            return Some(self.end(&flow, destroy.time_ns, destroy.status));
        }
        if let Some(at) = before {
            // The earlier of the two waits for its destroy.
            let is_later = self.table.get(at).is_some_and(|live| live.inserted_ns <= event.time_ns);
            let earlier = if is_later { self.take(at) } else { Some(flow) };
            if let Some(earlier) = earlier
                && let Some(lost) = self.late.flow(self.now_ns, earlier)
            {
                self.lose(&lost);
            }
            if !is_later {
                return None;
            }
        }
        flow.netns = self.netns.enter(event.netns_cookie);
        self.highest = self.highest.max(sample.threshold);
        self.table.push(flow);
        None
    }

    /// Sees to it that a flow more has room, and returns below which hash it must be.
    fn make_room(&mut self) -> u32 {
        while self.len() >= self.cap && self.threshold() > 1 {
            // An eighth leaves; the kernel's threshold follows when the controller sees how full it is.
            let now = self.threshold();
            (self.own, self.own_ns) = ((now - now / 8).min(now - 1), self.now_ns);
            self.thin(self.own);
        }
        if self.len() < self.cap { self.threshold() } else { 0 }
    }

    fn destroy(&mut self, event: &FlowEvent, threshold: u32) -> Option<Ended> {
        self.pairing.destroys += 1;
        let (entry, hash, time_ns) = (event.entry, event.sample.hash, event.time_ns);
        if let Some(at) = self.table.find(entry)
            && let Some(flow) = self.table.get(at)
            && flow.inserted_ns <= time_ns
        {
            let is_same = flow.sample.hash == hash;
            if let Some(flow) = self.take(at) {
                if is_same {
                    return Some(self.end(&flow, time_ns, event.status));
                }
                // Another's: both its own destroy and that one's insert were lost.
                self.lose(&flow);
            }
        }
        if let Some(flow) = self.late.take_flow(entry, hash, time_ns) {
            return Some(self.end(&flow, time_ns, event.status));
        }
        let before_sample = !is_sampled(hash, self.lowest);
        if before_sample {
            self.pairing.destroys_before_sample += 1;
        } else {
            self.pairing.destroys_before_attach += 1;
        }
        if is_sampled(hash, threshold) {
            let status = event.status;
            self.late.destroy(Destroy { time_ns, entry, hash, status, before_sample });
        }
        None
    }

    /// A flow that is not in the table any more has ended.
    fn end(&mut self, flow: &Flow, ended_ns: u64, status: Status) -> Ended {
        self.pairing.paired += 1;
        let status = EntryStatus::of(status);
        self.lifetimes.died(alive(flow, ended_ns), status);
        let Flow { inserted_ns, protocol, sample, .. } = *flow;
        Ended { inserted_ns, ended_ns, protocol, status, sample }
    }

    /// A flow that is not in the table any more has lost its destroy. When it ended is not known, only that
    /// the loss has nothing to do with how long it lived: it is taken out as if it had not been observed
    /// in this epoch.
    fn lose(&mut self, flow: &Flow) {
        self.pairing.unpaired += 1;
        let age_ns = self.lifetimes.observed_from_ns(flow.inserted_ns);
        self.lifetimes.left(Alive { age_ns, ..alive(flow, self.now_ns) });
    }

    fn take(&mut self, at: usize) -> Option<Flow> {
        let flow = self.table.remove(at)?;
        self.netns.leave(flow.netns);
        Some(flow)
    }
}

fn alive(flow: &Flow, now_ns: u64) -> Alive {
    Alive {
        protocol: flow.protocol,
        age_ns: now_ns.saturating_sub(flow.inserted_ns),
        weight: Weight::of(flow.sample.threshold),
    }
}

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod tests;
