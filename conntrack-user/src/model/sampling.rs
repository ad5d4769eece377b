//! How many flows are in the sample: the threshold, so that events keep to a budget.
//!
//! The kernel programs count every insert and delete, whether its event is sent or not, so the ratio is
//! not sought by trial: it is the budget by the rate. What is left to do is to react at once to a jump,
//! and not to anything that is none: the rate is that of the last second, which evens out bursts, unless
//! the last tenth of a second is beyond all that the two seconds before have shown.

use std::{collections::VecDeque, num::NonZeroU32};

use conntrack_ebpf::EVERY_FLOW;

use super::flow::ratio;

const SECOND_NS: u64 = 1_000_000_000;
/// Over which a jump is judged.
const FAST_NS: u64 = SECOND_NS / 10;
/// Over which the rate is taken.
const MEAN_NS: u64 = SECOND_NS;
/// Which the rate must have let pass before the ratio goes up, and in which jumps are remembered.
const LOOK_BACK_NS: u64 = 2 * SECOND_NS;
/// By how much the last tenth of a second must be above the highest before, besides what chance does.
const JUMP: f64 = 1.05;
/// Standard deviations of a Poisson count that are chance.
const CHANCE: f64 = 4.0;
/// The ratio goes down when it is this much too high, to this much of what is allowed, and up when it is
/// this much too low.
const TOO_HIGH: f64 = 1.05;
const DOWN_TO: f64 = 0.95;
const TOO_LOW: f64 = 1.10;
/// How much of the table of live flows may be used.
const TABLE_USE: f64 = 0.9;
/// What remains of the budget when events are lost, and by how much it recovers in a second.
const AFTER_LOSS: f64 = 0.8;
const RECOVERY: f64 = 1.1;
/// Without loss before the budget recovers.
const CALM_NS: u64 = 5 * SECOND_NS;
/// The lowest part of the budget that losses leave.
const LEAST_OF_BUDGET: f64 = 1.0 / 64.0;
/// The lowest threshold: a ratio of 1 in 65,536.
pub const LOWEST_THRESHOLD: u32 = 1 << 16;

/// What the controller is told, about every 100 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub time_ns: u64,
    /// Inserts and deletes of all namespaces so far, in the sample or not.
    pub events: u64,
    /// Events so far that were to be sent and found the ring full.
    pub lost: u64,
    /// Entries in all tables; none where it cannot be told.
    pub entries: Option<u64>,
    /// Flows in the table of live flows.
    pub flows: usize,
    /// Flows that it holds at the most.
    pub flows_cap: usize,
}

/// Chooses the threshold.
#[derive(Debug, Clone)]
pub struct Controller {
    /// Events a second.
    budget: f64,
    /// What of it is used: less after events were lost.
    allowed: f64,
    threshold: u32,
    /// (time, events), the oldest first; the first is at least as old as [`LOOK_BACK_NS`], once there is
    /// one.
    history: VecDeque<(u64, u64)>,
    /// (time, events a second in the tenth of a second before), the oldest first.
    peaks: VecDeque<(u64, f64)>,
    /// Since when the rate is that after a jump.
    jumped_ns: Option<u64>,
    lost: u64,
    lost_ns: Option<u64>,
}

impl Controller {
    /// For a budget of so many events a second. There is none of 0: whoever wants no events leaves them
    /// off.
    #[must_use]
    pub fn new(budget: NonZeroU32) -> Self {
        let budget = f64::from(budget.get());
        Self {
            budget,
            allowed: budget,
            threshold: EVERY_FLOW,
            history: VecDeque::new(),
            peaks: VecDeque::new(),
            jumped_ns: None,
            lost: 0,
            lost_ns: None,
        }
    }

    /// The threshold as last chosen; [`EVERY_FLOW`] at the start.
    #[must_use]
    pub const fn threshold(&self) -> u32 {
        self.threshold
    }

    /// Takes in the load and chooses the threshold: [`EVERY_FLOW`] while all fits, else between
    /// [`LOWEST_THRESHOLD`] and below that. Loads come in the order of time; one that does not is left
    /// out.
    pub fn observe(&mut self, load: &Load) -> u32 {
        let Some(&(last_ns, last_events)) = self.history.back() else {
            self.history.push_back((load.time_ns, load.events));
            self.lost = load.lost;
            return self.threshold;
        };
        if load.time_ns <= last_ns || load.events < last_events {
            return self.threshold;
        }
        self.history.push_back((load.time_ns, load.events));
        while self.history.get(1).is_some_and(|(ns, _)| ns + LOOK_BACK_NS <= load.time_ns) {
            self.history.pop_front();
        }
        let elapsed = (load.time_ns - last_ns) as f64 / SECOND_NS as f64;
        let fast = self.rate(load.time_ns, FAST_NS);
        self.loss(load, fast, elapsed);
        self.peak(load.time_ns, fast);
        let since_jump = self.jumped_ns.map_or(MEAN_NS, |jumped| load.time_ns - jumped);
        let mean = self.rate(load.time_ns, since_jump.clamp(FAST_NS, MEAN_NS));
        if since_jump >= MEAN_NS {
            self.jumped_ns = None;
        }
        let now = ratio(self.threshold);
        let down = (self.allowed / mean).min(table(load, now));
        let slow = self.rate(load.time_ns, LOOK_BACK_NS).max(mean);
        let up = (self.allowed / slow).min(table(load, now));
        let chosen = if now > down * TOO_HIGH {
            down * DOWN_TO
        } else if self.jumped_ns.is_none() && (up > now * TOO_LOW || up >= 1.0) {
            up.min(now * 2f64.powf(elapsed))
        } else {
            now
        };
        self.threshold = threshold(chosen);
        self.threshold
    }

    /// Events a second in the last `span_ns`, as straight lines between the loads have it; 0 before there
    /// are two.
    fn rate(&self, now_ns: u64, span_ns: u64) -> f64 {
        let begin_ns = now_ns.saturating_sub(span_ns);
        let after = self.history.partition_point(|(ns, _)| *ns <= begin_ns);
        let (Some(&(_, events)), Some(&(after_ns, after_events))) =
            (self.history.back(), self.history.get(after))
        else {
            return 0.0;
        };
        let (begin_ns, begin_events) =
            match after.checked_sub(1).and_then(|at| self.history.get(at)) {
                Some(&(ns, events)) => {
                    let share = (begin_ns - ns) as f64 / (after_ns - ns) as f64;
                    (begin_ns, events as f64 + share * (after_events - events) as f64)
                }
                // Not so much is known.
                None => (after_ns, after_events as f64),
            };
        if now_ns <= begin_ns {
            return 0.0;
        }
        (events as f64 - begin_events) * SECOND_NS as f64 / (now_ns - begin_ns) as f64
    }

    /// Whether the last tenth of a second was a jump.
    fn peak(&mut self, now_ns: u64, fast: f64) {
        let span_ns = LOOK_BACK_NS + 2 * FAST_NS;
        while self.peaks.front().is_some_and(|(ns, _)| ns + span_ns < now_ns) {
            self.peaks.pop_front();
        }
        // The latest share events with the one judged.
        let earlier = self.peaks.iter().filter(|(ns, _)| ns + 2 * FAST_NS <= now_ns);
        let highest = earlier.map(|(_, rate)| *rate).fold(0.0, f64::max);
        let per_window = FAST_NS as f64 / SECOND_NS as f64;
        let chance = CHANCE * (highest / per_window).sqrt();
        if fast > highest * JUMP + chance && fast > self.allowed {
            self.jumped_ns = Some(now_ns.saturating_sub(FAST_NS));
        }
        self.peaks.push_back((now_ns, fast));
    }

    /// What the reader cannot keep up with is beyond the budget, whatever the budget is.
    fn loss(&mut self, load: &Load, fast: f64, elapsed: f64) {
        let is_lost = load.lost > self.lost;
        self.lost = load.lost;
        if is_lost {
            // Once for each burst: the ring takes a while to become empty.
            if self.lost_ns.is_none_or(|ns| load.time_ns >= ns + 2 * FAST_NS) {
                let sent = fast * ratio(self.threshold);
                self.allowed = (self.allowed.min(sent) * AFTER_LOSS)
                    .clamp(self.budget * LEAST_OF_BUDGET, self.budget);
                self.lost_ns = Some(load.time_ns);
            }
        } else if self.lost_ns.is_some_and(|ns| load.time_ns >= ns + CALM_NS) {
            self.allowed = (self.allowed * RECOVERY.powf(elapsed)).min(self.budget);
        }
    }
}

/// The ratio at which the table of live flows holds what is in the sample; `now`: the ratio as it is.
fn table(load: &Load, now: f64) -> f64 {
    let room = load.flows_cap as f64 * TABLE_USE;
    let flows = load.flows as f64;
    let by_flows = if flows > room { now * room / flows } else { 1.0 };
    let entries = load.entries.filter(|entries| *entries > 0);
    entries.map_or(1.0, |entries| room / entries as f64).min(by_flows)
}

/// The threshold of a ratio.
fn threshold(ratio: f64) -> u32 {
    if ratio >= 1.0 {
        return EVERY_FLOW;
    }
    // A number too large becomes the largest.
    ((ratio * 4_294_967_296.0) as u32).clamp(LOWEST_THRESHOLD, EVERY_FLOW - 1)
}

#[cfg(test)]
#[path = "sampling_tests.rs"]
mod tests;
