//! How inserts and destroys find each other.

use conntrack_ebpf::is_sampled;
use serde::Serialize;

use super::{Flows, alive, late::Destroy, netns::NO_NETNS, table::Flow};
use crate::model::{
    class::{EntryStatus, Protocol},
    flow::{FlowEvent, Sample, Status},
    lifetimes::{Alive, Weight},
};

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
    /// Flows whose destroy event was lost.
    pub unpaired: u64,
    /// By what that was seen; the sum is `unpaired`.
    pub unpaired_by: Unpaired,
}

/// By what it was seen that a destroy event was lost; in flows of the sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Unpaired {
    /// Another flow had its entry.
    pub entry_used_again: u64,
    /// Its entry was read again, and gone.
    pub found_gone: u64,
    /// Its namespace has ended.
    pub netns_ended: u64,
}

/// By what one was seen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lost {
    EntryUsedAgain,
    FoundGone,
    NetnsEnded,
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

impl Flows {
    /// Takes in an insert.
    pub(super) fn insert(&mut self, event: &FlowEvent, threshold: u32) -> Option<Ended> {
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
                self.lose(&lost, Lost::EntryUsedAgain);
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

    /// Takes in a destroy.
    pub(super) fn destroy(&mut self, event: &FlowEvent, threshold: u32) -> Option<Ended> {
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
                self.lose(&flow, Lost::EntryUsedAgain);
            }
        }
        if let Some(flow) = self.late.take_flow(entry, hash, time_ns) {
            return Some(self.end(&flow, time_ns, event.status));
        }
        let before_sample = !is_sampled(hash, self.threshold.lowest());
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
    pub(super) fn lose(&mut self, flow: &Flow, seen_by: Lost) {
        self.pairing.unpaired += 1;
        let by = &mut self.pairing.unpaired_by;
        *match seen_by {
            Lost::EntryUsedAgain => &mut by.entry_used_again,
            Lost::FoundGone => &mut by.found_gone,
            Lost::NetnsEnded => &mut by.netns_ended,
        } += 1;
        let age_ns = self.lifetimes.observed_from_ns(flow.inserted_ns);
        self.lifetimes.left(Alive { age_ns, ..alive(flow, self.now_ns) });
    }
}
