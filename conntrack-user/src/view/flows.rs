//! Flows in the sample, what they stand for, and how long they live: docs/sampling.md.

use std::fmt::Write as _;

use serde::Serialize;

use super::{style::DIM, units};
use crate::model::{
    class::{EntryStatus, Protocol},
    estimate::Estimate,
    flow_summary::FlowSummary,
    flows::Pairing,
    lifetimes::curve::{Curve, EndedLifetimes, Quantile},
    live_state::{ProtocolState, Share, Summary, TcpState},
};

/// Flows as JSON.
#[derive(Debug, Serialize)]
pub struct Json {
    sample_ratio: f64,
    live_sampled: u64,
    live_estimated: Estimate,
    live_by_protocol: Vec<Live>,
    live_unknown: Option<Estimate>,
    pairing: Pairing,
    lifetimes_window_seconds: f64,
    lifetimes: Vec<Lifetimes>,
    live_state: Option<LiveState>,
}

#[derive(Debug, Serialize)]
struct Live {
    protocol: Protocol,
    estimated: Estimate,
}

#[derive(Debug, Serialize)]
struct Lifetimes {
    protocol: Protocol,
    ended_sampled: u64,
    p50_seconds: Option<Quantile>,
    p90_seconds: Option<Quantile>,
    by_final_status: Vec<Ended>,
}

#[derive(Debug, Serialize)]
struct Ended {
    status: EntryStatus,
    ended_sampled: u64,
    ended_estimated: f64,
    p50_seconds: Option<Quantile>,
    p90_seconds: Option<Quantile>,
}

#[derive(Debug, Serialize)]
struct LiveState {
    oldest_read_seconds: f64,
    reads: u64,
    gone: u64,
    seconds_per_read: Option<f64>,
    protocols: Vec<State>,
}

#[derive(Debug, Serialize)]
struct State {
    protocol: Protocol,
    read: u64,
    speaks_for: Estimate,
    by_status: Vec<Ratio<EntryStatus>>,
    by_tcp_state: Option<Vec<Ratio<TcpState>>>,
}

#[derive(Debug, Serialize)]
struct Ratio<T> {
    state: T,
    ratio: Estimate,
}

/// The summary as JSON.
#[must_use]
pub fn json(flows: &FlowSummary) -> Json {
    let live = Protocol::ALL.into_iter().zip(flows.live_by_protocol);
    Json {
        sample_ratio: flows.sample_ratio,
        live_sampled: flows.live_sampled,
        live_estimated: flows.live,
        live_by_protocol: live.map(|(protocol, estimated)| Live { protocol, estimated }).collect(),
        live_unknown: flows.live_unknown,
        pairing: flows.pairing,
        lifetimes_window_seconds: flows.window_seconds,
        lifetimes: observed(flows).map(|(protocol, curve)| lifetimes(protocol, curve)).collect(),
        live_state: flows.state.as_ref().map(live_state),
    }
}

/// Protocols of which any flow was observed.
fn observed(flows: &FlowSummary) -> impl Iterator<Item = (Protocol, &Curve)> {
    Protocol::ALL.into_iter().zip(&flows.lifetimes).filter(|(_, curve)| !curve.bins.is_empty())
}

/// None where nothing of it is known.
fn known(quantile: Quantile) -> Option<Quantile> {
    (quantile != Quantile::default()).then_some(quantile)
}

fn lifetimes(protocol: Protocol, curve: &Curve) -> Lifetimes {
    let ended = |of: &EndedLifetimes| Ended {
        status: of.status,
        ended_sampled: of.ended,
        ended_estimated: of.ended_estimated,
        p50_seconds: known(of.median),
        p90_seconds: known(of.p90),
    };
    Lifetimes {
        protocol,
        ended_sampled: curve.ended,
        p50_seconds: known(curve.median),
        p90_seconds: known(curve.p90),
        by_final_status: curve.by_status.iter().filter(|of| of.ended > 0).map(ended).collect(),
    }
}

fn live_state(summary: &Summary) -> LiveState {
    LiveState {
        oldest_read_seconds: summary.oldest_read_seconds,
        reads: summary.reads,
        gone: summary.gone,
        seconds_per_read: summary.seconds_per_read,
        protocols: summary.protocols.iter().map(state).collect(),
    }
}

fn state(of: &ProtocolState) -> State {
    fn ratios<T: Copy>(shares: &[Share<T>]) -> Vec<Ratio<T>> {
        shares.iter().map(|share| Ratio { state: share.of, ratio: share.ratio }).collect()
    }
    State {
        protocol: of.protocol,
        read: of.read,
        speaks_for: of.speaks_for,
        by_status: ratios(&of.by_status),
        by_tcp_state: (of.protocol == Protocol::Tcp).then(|| ratios(&found(&of.by_tcp_state))),
    }
}

/// Shares that a read found.
fn found<T: Copy>(shares: &[Share<T>]) -> Vec<Share<T>> {
    shares.iter().filter(|share| share.is_found()).copied().collect()
}

/// The summary as a few lines; what is not known is left out or a question mark.
#[must_use]
pub fn text(flows: &FlowSummary) -> String {
    let mut out = String::new();
    for line in lines(flows) {
        let _ = writeln!(out, "{DIM}  {line}{DIM:#}");
    }
    out
}

fn lines(flows: &FlowSummary) -> Vec<String> {
    let sample = if flows.sample_ratio < 1.0 {
        format!("1 flow of {}", units::short(1.0 / flows.sample_ratio))
    } else {
        "every flow".into()
    };
    let unknown = flows.live_unknown.map_or("?".into(), count);
    let mut lines = vec![format!(
        "flows: {sample} in the sample; alive {}, from before {unknown}; destroys lost {}",
        count(flows.live),
        units::short(flows.pairing.unpaired as f64)
    )];
    for (protocol, curve) in observed(flows) {
        let status = |of: &EndedLifetimes| format!("{} {}", of.status.name(), age(of.median));
        let by_status: Vec<String> =
            curve.by_status.iter().filter(|of| of.ended > 0).map(status).collect();
        let ended = if by_status.is_empty() {
            String::new()
        } else {
            format!("; median of those ended {}", by_status.join(", "))
        };
        lines.push(format!(
            "{} lifetimes: median {}, 90 % within {}{ended}",
            protocol.name(),
            age(curve.median),
            age(curve.p90)
        ));
    }
    for state in flows.state.iter().flat_map(|state| &state.protocols) {
        let by_status = state.by_status.iter().filter(|share| share.is_found());
        let statuses = by_status.map(|share| format!("{} {}", share.of.name(), ratio(share.ratio)));
        let by_state = state.by_tcp_state.iter().filter(|share| share.is_found());
        let states = by_state.map(|share| format!("{} {}", share.of.name(), ratio(share.ratio)));
        let all: Vec<String> = statuses.chain(states).collect();
        lines.push(format!("{} alive: {}", state.protocol.name(), all.join(", ")));
    }
    lines
}

/// `900 (850-960)`; without an error just the number.
fn count(of: Estimate) -> String {
    let (value, low, high) = (units::short(of.value), units::short(of.low), units::short(of.high));
    if low == high { value } else { format!("{value} ({low}-{high})") }
}

/// `70% (65-75)`
fn ratio(of: Estimate) -> String {
    let percent = |ratio: f64| format!("{:.0}", 100.0 * ratio);
    let (low, high) = (percent(of.low), percent(of.high));
    let value = units::percent(of.value);
    if low == high { value } else { format!("{value} ({low}-{high})") }
}

/// `30s (29s-31s)`; an end that is not reached yet is a question mark.
fn age(of: Quantile) -> String {
    let Some(value) = of.value else { return "not reached yet".into() };
    let end = |end: Option<f64>| end.map_or("?".into(), units::span);
    format!("{} ({}-{})", units::span(value), end(of.low), end(of.high))
}

#[cfg(test)]
pub(super) mod tests {
    use conntrack_ebpf::{EVERY_FLOW, IPS_ASSURED, IPS_SEEN_REPLY};

    use super::*;
    use crate::model::{
        flow::{Cause, EventKind, FlowEvent, Sample},
        flows::{DEFAULT_CAP, Flows},
        lifetimes::Window,
        live_state,
    };

    const SECOND: u64 = 1_000_000_000;

    /// 100 UDP flows of 30 s, unreplied, and 10 TCP flows that live on, assured; read again.
    pub(in crate::view) fn summary(entries: Option<u64>) -> FlowSummary {
        let mut flows = Flows::new(DEFAULT_CAP, Window::default(), 0);
        let event = |entry: u64, protocol, kind, time_ns| FlowEvent {
            time_ns,
            kind,
            sample: Sample { hash: entry as u32, threshold: EVERY_FLOW },
            ..FlowEvent::example(entry, protocol)
        };
        for entry in 0..10 {
            flows.observe(&event(1000 + entry, 6, EventKind::InsertPacket, 1));
        }
        for entry in 0..100 {
            flows.observe(&event(entry, 17, EventKind::InsertPacket, SECOND + entry));
        }
        for entry in 0..100 {
            let end_ns = 30 * SECOND + entry;
            flows.observe(&event(entry, 17, EventKind::Destroy(Cause::Kernel), end_ns));
        }
        let rereads = flows.choose(256, 1).into_iter().map(|choice| live_state::Reread {
            entry: choice.entry,
            inserted_ns: choice.inserted_ns,
            found: Some(live_state::Found {
                status: IPS_SEEN_REPLY | IPS_ASSURED,
                tcp_state: 3,
                timeout_seconds: 400_000,
            }),
        });
        let batch =
            live_state::Batch { time_ns: 31 * SECOND, cost_ns: None, rereads: rereads.collect() };
        let mut state = live_state::LiveState::default();
        state.observe(&batch, &mut flows);
        FlowSummary::new(&flows, &state, 31 * SECOND, entries)
    }

    #[test]
    fn what_is_known_as_lines() {
        assert_eq!(
            lines(&summary(Some(25))),
            [
                "flows: every flow in the sample; alive 10, from before 15; destroys lost 0",
                "TCP lifetimes: median not reached yet, 90 % within not reached yet",
                "UDP lifetimes: median 28s (28s-29s), 90 % within 29s (29s-29s); median of those ended \
                 unreplied 28s (28s-29s)",
                "TCP alive: assured 100%, ESTABLISHED 100%",
            ]
        );
        assert!(lines(&summary(None))[0].contains("from before ?"));
    }

    #[test]
    fn what_is_not_known_is_null() {
        let json = serde_json::to_value(json(&summary(None))).unwrap();
        assert_eq!((&json["live_unknown"], &json["sample_ratio"]), (&().into(), &1.0.into()));
        let [tcp, udp] = &json["lifetimes"].as_array().unwrap()[..] else { panic!("{json}") };
        assert_eq!((&tcp["protocol"], &tcp["p90_seconds"]), (&"tcp".into(), &().into()));
        assert_eq!((&udp["protocol"], &udp["ended_sampled"]), (&"udp".into(), &100.into()));
        assert!(udp["p50_seconds"]["value"].as_f64().is_some());
        let state = &json["live_state"];
        assert!(state["seconds_per_read"].is_null());
        assert_eq!(state["protocols"][0]["by_tcp_state"][0]["state"], "established");
        assert_eq!(json["live_by_protocol"][1]["estimated"]["high"], 0.0);
    }
}
