//! What is known of single flows, beside the counts.

use super::{
    flow::FlowEvent,
    flow_summary::FlowSummary,
    flows::{DEFAULT_CAP, Ended, Flows},
    lifetimes::Window,
    live_state::LiveState,
    reading::{NetnsId, Reading},
};
use crate::forecast::snapshot::Live;

/// Between two summaries: each looks at every live flow.
const SUMMARY_NS: u64 = 1_000_000_000;

/// The live table, and what live entries are doing.
#[derive(Debug, Clone)]
pub struct Detail {
    flows: Flows,
    state: LiveState,
    /// When the last summary was made.
    summary_ns: u64,
}

impl Detail {
    /// From `begin_ns` on, on the source's clock.
    #[must_use]
    pub fn new(begin_ns: u64) -> Self {
        Self {
            flows: Flows::new(DEFAULT_CAP, Window::default(), begin_ns),
            state: LiveState::default(),
            summary_ns: begin_ns,
        }
    }

    /// The live table.
    #[must_use]
    pub const fn flows(&self) -> &Flows {
        &self.flows
    }

    /// Takes in an event; they come nearly in the order of time. Returns the flow that has ended with it, if its insert
    /// was seen.
    pub fn observe_event(&mut self, event: &FlowEvent) -> Option<Ended> {
        self.flows.observe(event)
    }

    /// The threshold was set at that time; at least one event or reading after that tells of it too, but not of
    /// one that was replaced before any came.
    pub fn observe_threshold(&mut self, threshold: u32, time_ns: u64) {
        self.flows.set_threshold(threshold, time_ns);
    }

    /// Takes in a reading.
    pub fn observe(&mut self, reading: &Reading) {
        let now_ns = reading.time.monotonic_ns;
        if let Some(events) = reading.events {
            self.flows.set_threshold(events.threshold, now_ns);
        }
        if let Some(batch) = &reading.rereads {
            self.state.observe(batch, &mut self.flows);
        }
        for netns in reading.netns.iter().filter(|netns| netns.ended) {
            netns.id.cookie.into_iter().for_each(|cookie| self.flows.end_netns(cookie));
        }
        self.flows.advance(now_ns);
    }

    /// Status of the live entries of a namespace whose insert was seen. None where too few were read, and where namespaces
    /// have no cookies.
    #[must_use]
    pub fn live(&self, netns: NetnsId, now_ns: u64) -> Option<Live> {
        self.state.of_netns(netns.cookie?, &self.flows, now_ns)
    }

    /// Tells once a second what is known. `entries`: the count of entries in all tables, where that is known.
    pub fn summary(&mut self, now_ns: u64, entries: Option<u64>) -> Option<FlowSummary> {
        if now_ns.saturating_sub(self.summary_ns) < SUMMARY_NS {
            return None;
        }
        self.summary_ns = now_ns;
        Some(FlowSummary::new(&self.flows, &self.state, now_ns, entries))
    }
}
