//! How many flows are in the sample: the threshold, so that events keep to a budget.
//!
//! The kernel programs count every insert and delete, whether its event is sent or not, so the ratio is
//! not sought by trial: it is the budget by the rate. What is left to do is to react at once to a jump,
//! and not to anything that is none: the rate is that of the last second, which evens out bursts, unless
//! the last tenth of a second is far beyond all that the two seconds before have shown. A rate that falls
//! is believed by and by, as it may be back soon. What a rate that swings makes of the budget nobody can
//! know before: what was sent too much or too little is made up for in the second after.

use std::{collections::VecDeque, num::NonZeroU32};

use conntrack_ebpf::EVERY_FLOW;

use super::flow::ratio;

const SECOND_NS: u64 = 1_000_000_000;
/// Over which a jump is judged.
const FAST_NS: u64 = SECOND_NS / 10;
/// Over which the rate is taken.
const MEAN_NS: u64 = SECOND_NS;
/// In which jumps are remembered.
const LOOK_BACK_NS: u64 = 2 * SECOND_NS;
/// By how much the last tenth of a second must be above the highest before, besides what chance does: a
/// load that swings has a new highest every other second.
const JUMP: f64 = 1.5;
/// Standard deviations of a Poisson count that are chance.
const CHANCE: f64 = 4.0;
/// What remains after a second of a rate that has fallen.
const HELD: f64 = 0.5;
/// Seconds of the budget that may be sent too early or too late: what bursts of half a second do. What is
/// beyond is made up for within a second.
const SLACK: f64 = 0.25;
/// Seconds of the budget that are made up for, at the most.
const OWED: f64 = 0.4;
/// The ratio stays while it is not this much too high or too low.
const TOO_HIGH: f64 = 1.05;
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
    /// Of them those that were not sent, not being in the sample.
    pub sampled_out: u64,
    /// Events so far that were to be sent and found the ring full.
    pub lost: u64,
    /// Entries in all tables; none where it cannot be told.
    pub entries: Option<u64>,
    /// Flows in the table of live flows.
    pub flows: usize,
    /// Flows that it holds at the most.
    pub flows_cap: usize,
}

impl Load {
    const fn sent(&self) -> u64 {
        self.events.saturating_sub(self.sampled_out)
    }
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
    /// The rate of the last second, or what remains of a higher one before.
    held: f64,
    /// Events so far that were sent, or found the ring full.
    sent: u64,
    /// Events that may be sent besides what is allowed; below 0: that were sent beyond it.
    owed: f64,
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
            held: 0.0,
            sent: 0,
            owed: 0.0,
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
            self.sent = load.sent();
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
        self.balance(load, elapsed);
        let rate = self.expected(load.time_ns, elapsed);
        let now = ratio(self.threshold);
        let wanted = ((self.allowed + self.to_make_up()) / rate).min(table(load, now)).min(1.0);
        if wanted >= 1.0 || now > wanted * TOO_HIGH || wanted > now * TOO_LOW {
            self.threshold = threshold(wanted);
        }
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

    /// The rate that is to be expected.
    fn expected(&mut self, now_ns: u64, elapsed: f64) -> f64 {
        self.held = self.rate(now_ns, MEAN_NS).max(self.held * HELD.powf(elapsed));
        self.jumped_ns = self.jumped_ns.filter(|jumped| now_ns < jumped + MEAN_NS);
        // Of a jump that did not last, little remains in the mean, and then nothing.
        self.jumped_ns.map_or(self.held, |jumped| {
            self.held.max(self.rate(now_ns, (now_ns - jumped).max(FAST_NS)))
        })
    }

    /// What is owed after what was sent. Nothing is while all are sent: there were no more.
    fn balance(&mut self, load: &Load, elapsed: f64) {
        let sent = load.sent();
        let now = sent.saturating_sub(self.sent) as f64;
        self.sent = sent;
        let bound = (SLACK + OWED) * self.allowed;
        let most = if self.threshold == EVERY_FLOW { 0.0 } else { bound };
        self.owed = (self.owed + self.allowed * elapsed - now).clamp(-bound, most);
    }

    /// By how much more or less than is allowed is to be sent in the next second.
    fn to_make_up(&self) -> f64 {
        let slack = SLACK * self.allowed;
        self.owed - self.owed.clamp(-slack, slack)
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
