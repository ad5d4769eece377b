//! What is said of each network namespace.

use std::{borrow::Cow, fmt};

use prometheus_client::encoding::DescriptorEncoder;

use super::family::{Family, Sample};
use crate::{
    daemon::latest::Latest,
    forecast::outlook::{Quantiles, State, WITHIN_NAMES},
    model::{
        counts::{ByProtocol, Counted, Totals},
        tick::{Entries, Limit, NetnsTick},
    },
    severity::Severity,
    view::forecast,
};

/// The label of those that are counted together.
pub(super) const OTHERS: &str = "others";

/// A family of which every namespace has samples.
struct Metric<T> {
    family: Family,
    samples: fn(&T) -> Vec<Sample<'static>>,
}

/// What was counted in a namespace, or in several.
struct Counts {
    totals: Totals,
    counted: Counted,
}

impl Counts {
    /// A sample of what is counted with allocations, where they are.
    fn allocs(&self, count: u64) -> Vec<Sample<'static>> {
        if self.counted.allocs { vec![Sample::of(count)] } else { Vec::new() }
    }
}

const COUNTERS: &[Metric<Counts>] = &[
    Metric {
        family: Family::counter("ctmon_allocs", "Entries allocated."),
        samples: |of| of.allocs(of.totals.allocs),
    },
    Metric {
        family: Family::counter(
            "ctmon_allocs_failed",
            "Allocations refused: table full and nothing to evict, or no memory.",
        ),
        samples: |of| of.allocs(of.totals.allocs_failed),
    },
    Metric {
        family: Family::counter(
            "ctmon_frees",
            "Entries freed, whether they had been hashed or not.",
        ),
        samples: |of| of.allocs(of.totals.frees),
    },
    Metric {
        family: Family::counter(
            "ctmon_inserts",
            "Entries put into the table, by path and protocol.",
        ),
        samples: |of| {
            let packet = of.counted.inserts_packet.then_some(of.totals.inserts_packet);
            let ctnetlink = of.counted.inserts_ctnetlink.then_some(of.totals.inserts_ctnetlink);
            let paths = [("packet", packet), ("ctnetlink", ctnetlink)];
            let known = paths.into_iter().filter_map(|(path, counts)| Some((path, counts?)));
            known.flat_map(|(path, counts)| by_protocol(path, counts)).collect()
        },
    },
    Metric {
        family: Family::counter("ctmon_deletes", "Entries taken out of the table, by cause."),
        samples: |of| {
            let Counts { totals, counted } = of;
            let when = |known: bool, cause, value: u64| known.then_some((cause, value));
            let causes = counted.deletes && counted.causes;
            let all = [
                when(causes, "user", totals.deletes_user),
                when(
                    counted.deletes && counted.netns_exits,
                    "netns_exit",
                    totals.deletes_netns_exit,
                ),
                when(counted.deletes && counted.early_drops, "early_drop", totals.early_drops),
                when(counted.all_causes(), "kernel", totals.deletes_kernel()),
            ];
            all.into_iter().flatten().map(|(cause, n)| Sample::of(n).with("cause", cause)).collect()
        },
    },
    Metric {
        family: Family::counter(
            "ctmon_deletes_by_status",
            "Entries taken out of the table, by their final status.",
        ),
        samples: |of| {
            let by = of.totals.deletes;
            let statuses = [
                ("unreplied", by.unreplied),
                ("replied", by.replied),
                ("assured", by.assured),
                ("offloaded", by.offloaded),
            ];
            let samples =
                statuses.map(|(status, counts)| Sample::of(counts.sum()).with("status", status));
            if of.counted.deletes { samples.into() } else { Vec::new() }
        },
    },
    Metric {
        family: Family::counter(
            "ctmon_early_drops",
            "Entries evicted to make room: node_nf_conntrack_stat_early_drop, per namespace.",
        ),
        samples: |of| {
            let is_known = of.counted.deletes && of.counted.early_drops;
            if is_known { vec![Sample::of(of.totals.early_drops)] } else { Vec::new() }
        },
    },
    Metric {
        family: Family::counter(
            "ctmon_table_full_drops",
            "Packets dropped because the table was full and nothing could be evicted.",
        ),
        samples: |of| {
            let is_known = of.counted.early_drops;
            if is_known { vec![Sample::of(of.totals.table_full_drops)] } else { Vec::new() }
        },
    },
    Metric {
        family: Family::counter(
            "ctmon_insert_failed",
            "Packets dropped because their new entry could not be put into the table, by reason.",
        ),
        samples: |of| {
            let Counts { totals, counted } = of;
            let when = |known: bool, reason, value: u64| known.then_some((reason, value));
            let all = [
                when(counted.clash_outcomes, "clash", totals.failed_clash),
                when(counted.failed_inserts, "chain_too_long", totals.failed_chain_too_long),
                when(counted.failed_inserts, "dying", totals.failed_dying),
            ];
            all.into_iter().flatten().map(|(why, n)| Sample::of(n).with("reason", why)).collect()
        },
    },
    Metric {
        family: Family::counter(
            "ctmon_clashes",
            "New entries that found another one with their tuple, whether that was resolved or not.",
        ),
        samples: |of| {
            if of.counted.clashes { vec![Sample::of(of.totals.clashes)] } else { Vec::new() }
        },
    },
];

const GAUGES: &[Metric<NetnsTick>] = &[
    Metric {
        family: Family::gauge(
            "ctmon_entries_uncertainty",
            "How many fewer entries than ctmon_entries there may be: 0 once the start is counted.",
        ),
        samples: |netns| match netns.entries {
            Entries::Exact(_) => vec![Sample::of(0u64)],
            Entries::Between(low, high) => vec![Sample::of(high - low)],
            Entries::Unavailable => Vec::new(),
        },
    },
    Metric {
        family: Family::gauge(
            "ctmon_entries_limit",
            "Entries that the table may have: nf_conntrack_max. Absent while there is no limit.",
        ),
        samples: |netns| match netns.limit {
            Limit::Entries(max) => vec![Sample::of(u64::from(max))],
            Limit::Unlimited | Limit::Unavailable => Vec::new(),
        },
    },
    Metric {
        family: Family::gauge(
            "ctmon_insert_rate",
            "Entries put into the table a second, in the last tick.",
        ),
        samples: |netns| one(netns.rates.insert),
    },
    Metric {
        family: Family::gauge(
            "ctmon_insert_rate_peak",
            "Highest rate of inserts by packets within about 10 ms, a second, in the last tick.",
        ),
        samples: |netns| one(netns.insert_rate_peak()),
    },
    Metric {
        family: Family::gauge(
            "ctmon_delete_rate",
            "Entries taken out of the table a second, in the last tick.",
        ),
        samples: |netns| one(netns.rates.delete),
    },
    Metric {
        family: Family::gauge(
            "ctmon_seconds_to_full",
            "Seconds until the table is full: in a tenth, a half and nine tenths of all cases it is full by then. \
             +Inf: not within three hours, or never. Absent while the table is full.",
        ),
        samples: seconds_to_full,
    },
    Metric {
        family: Family::gauge(
            "ctmon_full_probability",
            "Probability that the table is full within 1m, 5m, 15m and 1h.",
        ),
        samples: |netns| {
            let probabilities = netns.outlook.full_probability.unwrap_or([f64::NAN; 4]);
            let all = WITHIN_NAMES.into_iter().zip(probabilities).filter(|(_, p)| p.is_finite());
            all.map(|(within, p)| Sample::of(p).with("within", within)).collect()
        },
    },
    Metric {
        family: Family::gauge(
            "ctmon_steady_state_entries",
            "Entries at which the table settles if arrivals and lifetimes stay as they are, without regard to the limit.",
        ),
        samples: |netns| one(netns.outlook.steady_state.map(|steady_state| steady_state.level)),
    },
    Metric {
        family: Family::gauge(
            "ctmon_evictable_entries",
            "Entries that the kernel can evict at the limit, estimated: those that are not assured. Absent where it is unknown \
             of all.",
        ),
        samples: |netns| one(netns.evictable.entries.map(|entries| entries.value)),
    },
    Metric {
        family: Family::gauge(
            "ctmon_evictable_unknown_entries",
            "Entries of which it is unknown whether the kernel can evict them.",
        ),
        samples: |netns| netns.evictable.unknown.map(Sample::of).into_iter().collect(),
    },
    Metric {
        family: Family::gauge(
            "ctmon_full_since_timestamp_seconds",
            "Time since which the table is full, since 1970 UTC. Absent while it is not full.",
        ),
        samples: |netns| one(netns.full.map(|full| full.since.unix_ns as f64 / 1e9)),
    },
    Metric {
        family: Family::gauge(
            "ctmon_forecast_state",
            "1 for the state of the forecast, 0 for the others.",
        ),
        samples: |netns| {
            let states =
                [State::Unknown, State::Steady, State::Filling, State::Draining, State::Full];
            let is_in = netns.outlook.state;
            let sample = |state| Sample::of(u64::from(state == is_in));
            states.map(|state| sample(state).with("state", forecast::name(state))).into()
        },
    },
    Metric {
        family: Family::gauge(
            "ctmon_count_drift",
            "The kernel's count less ours: 0 unless something was missed. Absent while the table moves.",
        ),
        samples: |netns| netns.count_drift.map(Sample::of).into_iter().collect(),
    },
    Metric {
        family: Family::gauge(
            "ctmon_unhashed_entries",
            "Entries that are allocated and not in the table. Absent while the table moves.",
        ),
        samples: |netns| netns.in_flight.unhashed.map(Sample::of).into_iter().collect(),
    },
    Metric {
        family: Family::gauge(
            "ctmon_dying_entries",
            "Entries that are deleted and not freed; below 0, deletes were missed. Absent while the table moves.",
        ),
        samples: |netns| netns.in_flight.dying.map(Sample::of).into_iter().collect(),
    },
    Metric {
        family: Family::gauge(
            "ctmon_inserts_missed",
            "Inserts that were not counted, by entries that stayed unhashed for 20 min. Absent before.",
        ),
        samples: |netns| netns.in_flight.inserts_missed.map(Sample::of).into_iter().collect(),
    },
    Metric {
        family: Family::gauge(
            "ctmon_deletes_missed",
            "Deletes that were not counted, by entries that were freed undeleted for 20 min. Absent before.",
        ),
        samples: |netns| netns.in_flight.deletes_missed.map(Sample::of).into_iter().collect(),
    },
];

const ENTRIES: Family = Family::gauge(
    "ctmon_entries",
    "Entries in the table; while ctmon_entries_uncertainty is above 0, at most so many.",
);
const INFO: Family =
    Family::gauge("ctmon_netns_info", "1, with the name of the namespace, where one is known.");
const SEVERITY: Family = Family::gauge(
    "ctmon_severity",
    "Severity of the table: 0 ok, 1 warning, 2 critical; for netns=\"others\" the worst.",
);
const AGGREGATED: Family = Family::gauge(
    "ctmon_netns_aggregated",
    "Network namespaces without series of their own: netns=\"others\" is all of them.",
);

pub(super) fn one(value: Option<f64>) -> Vec<Sample<'static>> {
    value.filter(|value| value.is_finite()).map(Sample::of).into_iter().collect()
}

fn by_protocol(path: &'static str, counts: ByProtocol) -> Vec<Sample<'static>> {
    let ByProtocol { tcp, udp, icmp, other } = counts;
    let all = [("tcp", tcp), ("udp", udp), ("icmp", icmp), ("other", other)];
    all.map(|(protocol, n)| Sample::of(n).with("path", path).with("protocol", protocol)).into()
}

fn seconds_to_full(netns: &NetnsTick) -> Vec<Sample<'static>> {
    let times = match (netns.limit, netns.outlook.state, netns.outlook.seconds_to_full) {
        (Limit::Unavailable, ..) => None,
        (Limit::Unlimited, ..) => Some([f64::INFINITY; 3]),
        // It is full: that is no forecast.
        (_, State::Full, _) => None,
        (_, _, full) => full.map(|Quantiles { low, median, high }| {
            [low, median, high].map(|time| time.unwrap_or(f64::INFINITY))
        }),
    };
    let quantiles = ["0.1", "0.5", "0.9"].into_iter().zip(times.unwrap_or([f64::NAN; 3]));
    let known = quantiles.filter(|(_, time)| !time.is_nan());
    known.map(|(quantile, time)| Sample::of(time).with("quantile", quantile)).collect()
}

/// All families, for whoever documents them.
pub(super) fn families() -> impl Iterator<Item = Family> {
    let counters = COUNTERS.iter().map(|metric| metric.family);
    let gauges = GAUGES.iter().map(|metric| metric.family);
    [ENTRIES, INFO, AGGREGATED, SEVERITY].into_iter().chain(counters).chain(gauges)
}

/// `samples` of the namespace with this label.
pub(super) fn labelled<'a>(
    samples: Vec<Sample<'static>>,
    label: &'a Cow<'a, str>,
) -> impl Iterator<Item = Sample<'a>> {
    samples.into_iter().map(|mut sample: Sample<'a>| {
        sample.labels.insert(0, ("netns", label.clone()));
        sample
    })
}

/// Writes them all.
pub(super) fn write(latest: &Latest, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let Some(tick) = latest.tick() else {
        return Ok(());
    };
    let apart: Vec<(Cow<'_, str>, &NetnsTick)> =
        latest.apart().map(|netns| (netns.id.inode.to_string().into(), netns)).collect();
    let live = || apart.iter().filter(|(_, netns)| !netns.ended);
    let others = latest.others();

    let entries =
        |netns: &NetnsTick| netns.entries.at_most().map(Sample::of).into_iter().collect::<Vec<_>>();
    let mut samples: Vec<Sample<'_>> =
        live().flat_map(|(label, netns)| labelled(entries(netns), label)).collect();
    samples.extend(others.map(|others| Sample::of(others.entries).with("netns", OTHERS)));
    ENTRIES.write(encoder, &samples)?;
    let infos: Vec<Sample<'_>> = live()
        .filter_map(|(label, netns)| {
            let name = netns.name.as_ref()?;
            let info = Sample::of(1u64).with("netns", label.clone());
            Some(info.with("name", name.text.as_str()).with("name_kind", name.kind.label()))
        })
        .collect();
    INFO.write(encoder, &infos)?;
    let not_apart = others.map(|others| Sample::of(others.netns));
    AGGREGATED.write(encoder, not_apart.as_slice())?;

    let severity = |netns: &NetnsTick| latest.told().severities.get(&netns.id.inode);
    let state = |severity: &Severity| Sample::of(u64::from(severity.exit_code()));
    let mut states: Vec<Sample<'_>> = live()
        .filter_map(|(label, netns)| Some(state(severity(netns)?).with("netns", label.clone())))
        .collect();
    let worst = latest.not_apart().filter_map(severity).max();
    states.extend(worst.map(|severity| state(severity).with("netns", OTHERS)));
    SEVERITY.write(encoder, &states)?;

    let mut counts: Vec<(Cow<'_, str>, Counts)> = apart
        .iter()
        .filter_map(|(label, netns)| {
            let counted = tick.counted.of(netns.kernel.is_some());
            Some((label.clone(), Counts { totals: netns.totals?, counted }))
        })
        .collect();
    let has_totals = !counts.is_empty();
    counts.extend(others.filter(|_| has_totals).map(|others| {
        (OTHERS.into(), Counts { totals: others.totals, counted: tick.counted.of(false) })
    }));
    for metric in COUNTERS {
        let samples: Vec<Sample<'_>> =
            counts.iter().flat_map(|(label, of)| labelled((metric.samples)(of), label)).collect();
        metric.family.write(encoder, &samples)?;
    }
    for metric in GAUGES {
        let samples: Vec<Sample<'_>> =
            live().flat_map(|(label, netns)| labelled((metric.samples)(netns), label)).collect();
        metric.family.write(encoder, &samples)?;
    }
    Ok(())
}
