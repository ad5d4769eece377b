//! What is known of flows at a tick: what the views show.

use super::{
    class::PROTOCOLS,
    estimate::Estimate,
    flow::ratio,
    flows::{Flows, Pairing},
    lifetimes::curve::Curve,
    live_state::{LiveState, Summary},
};

/// Flows at a tick.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowSummary {
    /// The probability with which a new entry is in the sample: above 0, at most 1.
    pub sample_ratio: f64,
    /// Live flows in the sample.
    pub live_sampled: u64,
    /// Live entries inserted since attaching.
    pub live: Estimate,
    /// The same by protocol, in the order of [`super::class::Protocol::ALL`].
    pub live_by_protocol: [Estimate; PROTOCOLS],
    /// Live entries that nothing is known of, most of them from before attaching. None where the count of
    /// entries is not known.
    pub live_unknown: Option<Estimate>,
    /// How inserts and destroys have found each other.
    pub pairing: Pairing,
    /// Seconds that the lifetimes rest on.
    pub window_seconds: f64,
    /// Lifetimes by protocol, in the same order.
    pub lifetimes: [Curve; PROTOCOLS],
    /// What the live entries are doing; none without entries read again in the last seconds.
    pub state: Option<Summary>,
}

impl FlowSummary {
    /// At the time `now_ns`. `entries`: the exact count of entries in all tables. Looks at each flow: not
    /// more than once a second.
    #[must_use]
    pub fn new(flows: &Flows, state: &LiveState, now_ns: u64, entries: Option<u64>) -> Self {
        let (live_by_protocol, live) = flows.alive();
        let unknown = |entries: u64| {
            let rest = |live: f64| (entries as f64 - live).max(0.0);
            Estimate { value: rest(live.value), low: rest(live.high), high: rest(live.low) }
        };
        Self {
            sample_ratio: ratio(flows.threshold()),
            live_sampled: flows.len() as u64,
            live,
            live_by_protocol,
            live_unknown: entries.map(unknown),
            pairing: *flows.pairing(),
            window_seconds: flows.lifetimes_window_seconds(),
            lifetimes: flows.lifetimes(),
            state: state.summary(flows, now_ns),
        }
    }
}
