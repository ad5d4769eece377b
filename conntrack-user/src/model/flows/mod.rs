//! The live table: flows in the sample, from their insert to their destroy.
//!
//! A flow is in the sample as long as its hash is below the threshold in force. When the threshold falls,
//! flows from there on leave; their destroys would not be sent. So every flow in the table is one whose
//! destroy will be sent, and it was in the sample with the probability of the lowest threshold of its life:
//! that is what it weighs. When the threshold rises, destroys arrive of flows whose insert was not sent;
//! they are counted apart.

mod late;
mod netns;
mod pairing;
mod table;
mod threshold;

use conntrack_ebpf::is_sampled;
use serde::{Deserialize, Serialize};

use super::{
    class::{PROTOCOLS, Protocol},
    estimate::{Estimate, Sampled},
    flow::{EventKind, FlowEvent, Sample, ratio},
    lifetimes::{Alive, Lifetimes, Weight, Window, curve::Curve},
    random::SplitMix64,
};
use late::Late;
use netns::Namespaces;
use table::{Flow, Table};
use threshold::Threshold;

use pairing::Lost;
pub use pairing::{Ended, Pairing, Unpaired};

/// Flows that the table holds unless it is told otherwise: 5.5 MB when full.
pub const DEFAULT_CAP: usize = 131_072;

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

/// What is known of a flow that is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its hash, and the lowest threshold of its life so far.
    pub sample: Sample,
    /// Its namespace (`net->net_cookie`); none beyond 65,535 of them.
    pub netns_cookie: Option<u64>,
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
    threshold: Threshold,
    /// No flow in the table has a higher threshold.
    highest: u32,
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
            threshold: Threshold::new(begin_ns),
            highest: 0,
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
        self.threshold.now()
    }

    /// Takes in an event, and returns the flow of which both insert and destroy have come with it. Only
    /// inserts and destroys matter here.
    pub fn observe(&mut self, event: &FlowEvent) -> Option<Ended> {
        let is_insert = match event.kind {
            EventKind::InsertPacket | EventKind::InsertCtnetlink => true,
            EventKind::Destroy(_) => false,
            EventKind::TableFullDrop | EventKind::EarlyDrop => return None,
        };
        self.advance(event.time_ns);
        let threshold = self.heed(event.sample.threshold, event.time_ns);
        if is_insert { self.insert(event, threshold) } else { self.destroy(event, threshold) }
    }

    /// The threshold was set at that time: what is to be said when it is written, so that a change is known
    /// also if no event tells. Events from before that are still to be read may come afterwards.
    pub fn set_threshold(&mut self, threshold: u32, time_ns: u64) {
        self.threshold.set(threshold, time_ns);
    }

    /// Time has gone on, whether events came or not: all those sent before have been taken in.
    pub fn advance(&mut self, now_ns: u64) {
        if now_ns <= self.now_ns {
            return;
        }
        self.now_ns = now_ns;
        self.apply_changes(now_ns);
        while let Some(flow) = self.late.expired(now_ns) {
            self.lose(&flow, Lost::EntryUsedAgain);
        }
        if self.lifetimes.is_epoch_over(now_ns) {
            let (flows, late) = (self.table.as_slice(), &self.late);
            let alive = flows.iter().chain(late.flows()).map(|flow| alive(flow, now_ns));
            self.lifetimes.begin_epoch(now_ns, alive);
        }
        if self.len() < self.cap / 2 {
            self.threshold.ease(now_ns);
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
                self.lose(&flow, Lost::NetnsEnded);
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
            self.lose(&flow, Lost::FoundGone);
        }
    }

    /// What is known of a flow, if it is alive.
    #[must_use]
    pub fn get(&self, entry: u64, inserted_ns: u64) -> Option<Known> {
        let flow = self.table.get(self.table.find(entry)?)?;
        (flow.inserted_ns == inserted_ns).then(|| Known {
            protocol: flow.protocol,
            sample: flow.sample,
            netns_cookie: self.netns.cookie(flow.netns),
        })
    }

    /// Flows in the namespace with this cookie.
    #[must_use]
    pub fn in_netns(&self, cookie: u64) -> u32 {
        self.netns.flows(cookie)
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
        if self.threshold.heed(threshold, time_ns) {
            self.apply_changes(time_ns);
        }
        threshold.min(self.threshold.since(time_ns))
    }

    fn apply_changes(&mut self, now_ns: u64) {
        while let Some(threshold) = self.threshold.change(now_ns) {
            self.thin(threshold);
        }
    }

    /// Flows from a threshold on leave the sample; the others were in it by luck, and weigh more.
    fn thin(&mut self, threshold: u32) {
        if threshold >= self.highest {
            return;
        }
        self.highest = threshold;
        let mut at = 0;
        while let Some(flow) = self.table.get_mut(at) {
            if thinned(flow, threshold, &mut self.lifetimes, self.now_ns) {
                at += 1;
            } else {
                self.pairing.left_sample += 1;
                self.take(at);
            }
        }
        // One whose entry was inserted anew around a fall: its destroy may have been sampled out.
        let waiting = self.late.len();
        self.late.retain(|flow| thinned(flow, threshold, &mut self.lifetimes, self.now_ns));
        self.pairing.left_sample += (waiting - self.late.len()) as u64;
    }

    /// Sees to it that a flow more has room, and returns below which hash it must be.
    fn make_room(&mut self) -> u32 {
        while self.len() >= self.cap && self.threshold() > 1 {
            let threshold = self.threshold.lower(self.now_ns);
            self.thin(threshold);
        }
        if self.len() < self.cap { self.threshold() } else { 0 }
    }

    /// Takes a flow out of the table.
    fn take(&mut self, at: usize) -> Option<Flow> {
        let flow = self.table.remove(at)?;
        self.netns.leave(flow.netns);
        Some(flow)
    }
}

/// Whether a flow stays in the sample at a lower threshold; `lifetimes` are told what becomes of it.
fn thinned(flow: &mut Flow, threshold: u32, lifetimes: &mut Lifetimes, now_ns: u64) -> bool {
    if flow.sample.threshold <= threshold {
        return true;
    }
    lifetimes.left(alive(flow, now_ns));
    let stays = is_sampled(flow.sample.hash, threshold);
    if stays {
        flow.sample.threshold = threshold;
        lifetimes.entered(alive(flow, now_ns));
    }
    stays
}

/// As lifetimes are told of it.
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
mod stall_tests;
#[cfg(test)]
mod tests;
