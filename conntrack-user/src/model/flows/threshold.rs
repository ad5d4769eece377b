//! Below which hash flows are in the sample: the kernel's threshold as far as it is known, and a lower one of
//! our own while the table is full.

use std::collections::VecDeque;

use conntrack_ebpf::EVERY_FLOW;

/// Around a change of the threshold, CPUs may still send by the one before.
const SLACK_NS: u64 = 1_000_000;
/// For so long an event that tells of a threshold from before a change says nothing of a change back: the
/// CPU may have been kept waiting, by a hypervisor for instance, after it had read the threshold.
const STALE_NS: u64 = 1_000_000_000;
/// Between steps by which a table that was full lets more in again.
const EASE_NS: u64 = 1_000_000_000;

/// The threshold, and how it changes.
#[derive(Debug, Clone)]
pub(super) struct Threshold {
    /// In force in the kernel, as far as is known, and since when.
    kernel: u32,
    changed_ns: u64,
    /// Changes that events from before may still follow: when, and to what.
    changes: VecDeque<(u64, u32)>,
    /// Thresholds of the last [`STALE_NS`] that others have replaced, and when.
    replaced: VecDeque<(u64, u32)>,
    /// Lower than that while the table is full, and since when.
    own: u32,
    own_ns: u64,
    /// The lowest of all since attaching.
    lowest: u32,
}

impl Threshold {
    /// Every flow is in the sample.
    pub(super) fn new(begin_ns: u64) -> Self {
        Self {
            kernel: EVERY_FLOW,
            changed_ns: 0,
            changes: VecDeque::new(),
            replaced: VecDeque::new(),
            own: EVERY_FLOW,
            own_ns: begin_ns,
            lowest: EVERY_FLOW,
        }
    }

    /// The one in force.
    pub(super) fn now(&self) -> u32 {
        self.kernel.min(self.own)
    }

    /// The lowest that was in force at any time since `time_ns`, as far as the last [`STALE_NS`] are known: what an
    /// event of then that comes only now has lived through.
    pub(super) fn since(&self, time_ns: u64) -> u32 {
        let replaced = self.replaced.iter().rev().take_while(|(ns, _)| *ns > time_ns);
        let lowest = replaced.map(|(_, before)| *before).min().unwrap_or(EVERY_FLOW);
        self.now().min(lowest)
    }

    /// The lowest that was ever in force.
    pub(super) const fn lowest(&self) -> u32 {
        self.lowest
    }

    /// It was set at that time: to be told when it is written, so that a change is known also if no event
    /// tells. Events from before that are still to be read may come afterwards.
    pub(super) fn set(&mut self, threshold: u32, time_ns: u64) {
        let (last_ns, last) = self.last_change();
        if threshold != last && time_ns >= last_ns {
            self.expect(threshold, time_ns);
        }
    }

    /// An event tells of it; returns whether that is a change.
    pub(super) fn heed(&mut self, threshold: u32, time_ns: u64) -> bool {
        // Around a change, and from before, events tell of the threshold that was.
        let (last_ns, last) = self.last_change();
        let is_stale = |(ns, before): &(u64, u32)| {
            *before == threshold && time_ns <= ns.saturating_add(STALE_NS)
        };
        let is_change = threshold != last
            && time_ns > last_ns.saturating_add(SLACK_NS)
            && !self.replaced.iter().any(is_stale);
        if is_change {
            self.expect(threshold, time_ns);
        }
        is_change
    }

    fn expect(&mut self, threshold: u32, time_ns: u64) {
        let (_, before) = self.last_change();
        while self.replaced.front().is_some_and(|(ns, _)| ns.saturating_add(STALE_NS) < time_ns) {
            self.replaced.pop_front();
        }
        self.replaced.push_back((time_ns, before));
        self.changes.push_back((time_ns, threshold.max(1)));
    }

    /// The next change that holds by now, if there is one. A rise holds at once, a fall only when no event
    /// from before will come any more.
    pub(super) fn change(&mut self, now_ns: u64) -> Option<u32> {
        let &(time_ns, threshold) = self.changes.front()?;
        let is_due = if threshold > self.kernel {
            now_ns.saturating_add(SLACK_NS) >= time_ns
        } else {
            now_ns > time_ns.saturating_add(SLACK_NS)
        };
        if !is_due {
            return None;
        }
        self.changes.pop_front();
        (self.kernel, self.changed_ns) = (threshold, time_ns);
        self.lowest = self.lowest.min(threshold);
        Some(threshold)
    }

    /// Lowers our own, which is above 1, so that an eighth leaves; the kernel's follows when the controller
    /// sees how full the table is.
    pub(super) fn lower(&mut self, now_ns: u64) -> u32 {
        let now = self.now();
        (self.own, self.own_ns) = ((now - now / 8).min(now - 1), now_ns);
        self.lowest = self.lowest.min(self.own);
        self.own
    }

    /// Our own rises again by a step, where the last one is long enough ago.
    pub(super) fn ease(&mut self, now_ns: u64) {
        if self.own != EVERY_FLOW && now_ns >= self.own_ns.saturating_add(EASE_NS) {
            (self.own, self.own_ns) = (self.own.saturating_mul(2), now_ns);
        }
    }

    /// The last change that is known of: when, and to what.
    fn last_change(&self) -> (u64, u32) {
        self.changes.back().copied().unwrap_or((self.changed_ns, self.kernel))
    }
}
