//! Events that CPUs have sent out of order: halves of pairs that wait a moment for the other.

use std::collections::VecDeque;

use super::table::Flow;

/// How long a half waits, in nanoseconds of the events' time.
pub(super) const HOLD_NS: u64 = 1_000_000_000;
/// Destroys that wait for an insert: each insert looks at them all, so they are few and wait for 10 ms.
const DESTROYS: usize = 32;
const DESTROY_HOLD_NS: u64 = 10_000_000;
/// Flows that wait for their destroy.
const FLOWS: usize = 1024;

/// A destroy whose insert is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Destroy {
    pub(super) time_ns: u64,
    pub(super) entry: u64,
    pub(super) hash: u32,
    pub(super) status: crate::model::flow::Status,
    /// Counted among those from before the sample, not those from before the programs.
    pub(super) before_sample: bool,
}

/// What waits.
#[derive(Debug, Clone, Default)]
pub(super) struct Late {
    destroys: VecDeque<Destroy>,
    /// Flows whose entry has been inserted anew, and when that was.
    flows: VecDeque<(u64, Flow)>,
}

impl Late {
    /// A destroy came for which there is no flow.
    pub(super) fn destroy(&mut self, destroy: Destroy) {
        if self.destroys.len() == DESTROYS {
            self.destroys.pop_front();
        }
        self.destroys.push_back(destroy);
    }

    /// The destroy of a flow inserted at that time, if it came before.
    pub(super) fn take_destroy(&mut self, flow: &Flow) -> Option<Destroy> {
        let ended = |destroy: &Destroy| {
            destroy.entry == flow.entry
                && destroy.hash == flow.sample.hash
                && (flow.inserted_ns..flow.inserted_ns.saturating_add(DESTROY_HOLD_NS))
                    .contains(&destroy.time_ns)
        };
        let at = self.destroys.iter().position(ended)?;
        self.destroys.remove(at)
    }

    /// A flow's entry was inserted anew before its destroy came. Returns one that has no room to wait.
    pub(super) fn flow(&mut self, now_ns: u64, flow: Flow) -> Option<Flow> {
        self.flows.push_back((now_ns, flow));
        if self.flows.len() > FLOWS { self.flows.pop_front().map(|(_, flow)| flow) } else { None }
    }

    /// The flow that a destroy belongs to.
    pub(super) fn take_flow(&mut self, entry: u64, hash: u32, time_ns: u64) -> Option<Flow> {
        let ended = |(_, flow): &(u64, Flow)| {
            flow.entry == entry && flow.sample.hash == hash && flow.inserted_ns <= time_ns
        };
        let at = self.flows.iter().position(ended)?;
        self.flows.remove(at).map(|(_, flow)| flow)
    }

    /// The next flow that has waited for too long.
    pub(super) fn expired(&mut self, now_ns: u64) -> Option<Flow> {
        let (since_ns, flow) = self.flows.front().copied()?;
        if now_ns < since_ns.saturating_add(HOLD_NS) {
            return None;
        }
        self.flows.pop_front();
        Some(flow)
    }

    /// Flows that wait.
    pub(super) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Those for which `stays` does not hold wait no more.
    pub(super) fn retain(&mut self, mut stays: impl FnMut(&mut Flow) -> bool) {
        self.flows.retain_mut(|(_, flow)| stays(flow));
    }

    pub(super) fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter().map(|(_, flow)| flow)
    }
}
