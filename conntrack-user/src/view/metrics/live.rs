//! Live entries by status and TCP state, estimated from a sample that is read again: of the node, not of each namespace.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::family::{Family, Sample};
use crate::{
    daemon::latest::Latest,
    model::{
        class::Protocol,
        estimate::Estimate,
        live_state::{ProtocolState, Share, TcpState},
    },
};

/// A value and its 95 % interval: three families.
type WithInterval = [Family; 3];

const LIVE: WithInterval = [
    Family::gauge(
        "ctmon_live_entries",
        "Live entries whose insert ctmon saw, by protocol, estimated.",
    ),
    Family::gauge(
        "ctmon_live_entries_low",
        "Lower end of the 95 % interval of ctmon_live_entries.",
    ),
    Family::gauge(
        "ctmon_live_entries_high",
        "Upper end of the 95 % interval of ctmon_live_entries.",
    ),
];
const BY_STATUS: WithInterval = [
    Family::gauge(
        "ctmon_live_entries_by_status",
        "Those of ctmon_live_entries with this status, estimated from entries read in the last 5 s.",
    ),
    Family::gauge(
        "ctmon_live_entries_by_status_low",
        "Lower end of the 95 % interval of ctmon_live_entries_by_status.",
    ),
    Family::gauge(
        "ctmon_live_entries_by_status_high",
        "Upper end of the 95 % interval of ctmon_live_entries_by_status.",
    ),
];
const BY_TCP_STATE: WithInterval = [
    Family::gauge(
        "ctmon_live_entries_by_tcp_state",
        "TCP connections among ctmon_live_entries in this state, estimated from entries read in the last 5 s.",
    ),
    Family::gauge(
        "ctmon_live_entries_by_tcp_state_low",
        "Lower end of the 95 % interval of ctmon_live_entries_by_tcp_state.",
    ),
    Family::gauge(
        "ctmon_live_entries_by_tcp_state_high",
        "Upper end of the 95 % interval of ctmon_live_entries_by_tcp_state.",
    ),
];
const UNKNOWN: Family = Family::gauge(
    "ctmon_live_unknown_entries",
    "Entries in all tables of which ctmon did not see the insert: their state is unknown. Estimated.",
);
const READ: Family = Family::gauge(
    "ctmon_live_entries_read",
    "Entries read in the last 5 s, from which status and TCP state are estimated.",
);

pub(super) const FAMILIES: [Family; 11] = [
    LIVE[0],
    LIVE[1],
    LIVE[2],
    BY_STATUS[0],
    BY_STATUS[1],
    BY_STATUS[2],
    BY_TCP_STATE[0],
    BY_TCP_STATE[1],
    BY_TCP_STATE[2],
    UNKNOWN,
    READ,
];

/// Writes them all; nothing without events, and of status and state nothing where no entry could be read.
pub(super) fn write(latest: &Latest, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let Some(flows) = latest.flows() else {
        return Ok(());
    };
    let live = Protocol::ALL.into_iter().zip(flows.live_by_protocol);
    let live = live.map(|(protocol, of)| (Sample::of(0u64).with("protocol", protocol.label()), of));
    write_all(encoder, LIVE, &live.collect::<Vec<_>>())?;
    let unknown = flows.live_unknown.map(|unknown| Sample::of(unknown.value));
    UNKNOWN.write(encoder, unknown.as_slice())?;
    let protocols = || flows.state.iter().flat_map(|state| &state.protocols);
    let read: Vec<Sample<'_>> =
        protocols().map(|of| Sample::of(of.read).with("protocol", of.protocol.label())).collect();
    READ.write(encoder, &read)?;
    let by_status = protocols().flat_map(|of| {
        of.by_status.iter().map(move |share| {
            let sample = Sample::of(0u64).with("protocol", of.protocol.label());
            (sample.with("status", share.of.name()), entries(of, share))
        })
    });
    write_all(encoder, BY_STATUS, &by_status.collect::<Vec<_>>())?;
    // Numbers that no state has, and entries without one, only where there are some.
    let is_state = |share: &&Share<TcpState>| {
        share.is_found() || !matches!(share.of, TcpState::None | TcpState::Unknown)
    };
    let by_state = protocols().flat_map(|of| {
        of.by_tcp_state.iter().filter(is_state).map(move |share| {
            let state = share.of.name().to_ascii_lowercase();
            (Sample::of(0u64).with("state", state), entries(of, share))
        })
    });
    write_all(encoder, BY_TCP_STATE, &by_state.collect::<Vec<_>>())
}

/// Entries in a state: a share of the entries that the reads stand for. The interval is at least as wide as its 95 %.
fn entries<T>(of: &ProtocolState, share: &Share<T>) -> Estimate {
    let (ratio, all) = (share.ratio, of.speaks_for);
    Estimate {
        value: ratio.value * all.value,
        low: ratio.low * all.low,
        high: ratio.high * all.high,
    }
}

/// Writes value and interval of each, with the labels of its sample.
fn write_all(
    encoder: &mut DescriptorEncoder<'_>,
    families: WithInterval,
    all: &[(Sample<'_>, Estimate)],
) -> fmt::Result {
    let parts: [fn(&Estimate) -> f64; 3] = [|of| of.value, |of| of.low, |of| of.high];
    for (family, part) in families.iter().zip(parts) {
        let sample = |(sample, of): &(Sample<'_>, Estimate)| {
            let labels = sample.labels.clone();
            let labels = labels.into_iter().map(|(name, value)| (name, value.into_owned().into()));
            Sample { labels: labels.collect(), value: part(of).into() }
        };
        family.write(encoder, &all.iter().map(sample).collect::<Vec<_>>())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::super::{Format, Metrics};
    use super::*;
    use crate::{daemon::shared::Shared, model::tick::Tick, view::flows::tests::summary};

    fn values(text: &str) -> BTreeMap<&str, f64> {
        let samples = text.lines().filter(|line| line.starts_with("ctmon_live_"));
        samples
            .map(|line| line.rsplit_once(' ').unwrap())
            .map(|(n, v)| (n, v.parse().unwrap()))
            .collect()
    }

    #[test]
    fn states_come_with_their_interval_and_stay_between_summaries() {
        let mut latest = Latest::new(1);
        let flows = Some(Box::new(summary(Some(25))));
        latest.take(Tick { flows, ..Tick::example(vec![]) });
        // The next tick is within the same second.
        latest.take(Tick::example(vec![]));
        let text = Metrics::new(Shared::new(latest, None), Arc::default());
        let text = text.text(Format::Prometheus).unwrap();
        let values = values(&text);
        for (name, value) in [
            ("ctmon_live_entries{protocol=\"tcp\"}", 10.0),
            ("ctmon_live_entries_by_status{protocol=\"tcp\",status=\"assured\"}", 10.0),
            ("ctmon_live_entries_by_status{protocol=\"tcp\",status=\"unreplied\"}", 0.0),
            ("ctmon_live_entries_by_tcp_state{state=\"established\"}", 10.0),
            ("ctmon_live_entries_by_tcp_state_low{state=\"established\"}", 10.0),
            ("ctmon_live_entries_by_tcp_state_high{state=\"time_wait\"}", 0.0),
            ("ctmon_live_entries_read{protocol=\"tcp\"}", 10.0),
            ("ctmon_live_unknown_entries", 15.0),
        ] {
            assert_eq!(values.get(name), Some(&value), "{name}: {values:#?}");
        }
        // 4 protocols; 4 statuses and 9 states of the one that was read.
        assert_eq!(values.len(), 3 * (4 + 4 + 9) + 2);
        assert!(!text.contains("state=\"none\""));
    }

    #[test]
    fn without_events_there_are_none() {
        let mut latest = Latest::new(1);
        latest.take(Tick::example(vec![]));
        let text = Metrics::new(Shared::new(latest, None), Arc::default());
        assert!(!text.text(Format::Prometheus).unwrap().contains("ctmon_live_"));
    }
}
