//! What is said of the node and of the source.

use std::{borrow::Cow, fmt};

use prometheus_client::encoding::DescriptorEncoder;

use super::family::{Family, Sample};
use crate::{daemon::latest::Latest, model::flow::ratio, source::item::ProbedHook, view::coverage};

const BUILD: Family = Family::gauge("ctmon_build_info", "1, with the version of ctmon.");
const SOURCE: Family = Family::gauge(
    "ctmon_source_info",
    "1, with where the numbers come from (ebpf, procfs or netlink) and the running kernel.",
);
const OPENED: Family = Family::counter(
    "ctmon_source_opens",
    "How often a source was opened: with each, all counters begin anew.",
);
const SINCE: Family = Family::gauge(
    "ctmon_counting_since_timestamp_seconds",
    "Since when the counters count, in seconds since 1970 UTC: before the start where pinned programs were taken over.",
);
const MAPS: Family = Family::gauge(
    "ctmon_bpf_map_memory_bytes",
    "Memory that the maps of the kernel programs take, as the kernel accounts it.",
);
const TICKS: Family = Family::counter("ctmon_ticks", "Ticks.");
const INTERVAL: Family =
    Family::gauge("ctmon_tick_interval_seconds", "Seconds from the tick before to the last one.");
const LAST: Family = Family::gauge(
    "ctmon_last_tick_timestamp_seconds",
    "When the last tick was, in seconds since 1970 UTC.",
);
const NETNS: Family = Family::gauge(
    "ctmon_netns",
    "Network namespaces by coverage: read, counted by kernel programs only, or unread. Their sum may be too low.",
);
const BLIND_SPOTS: Family = Family::gauge(
    "ctmon_netns_blind_spots",
    "Causes that may hide further network namespaces: a container, hidepid, processes that hide theirs.",
);
const COUNTED_FILL: Family = Family::gauge(
    "ctmon_netns_counted_fill_ratio",
    "Highest fill of a table that kernel programs only count: entries by the limit that all tables have.",
);
const IDLE: Family =
    Family::gauge("ctmon_netns_idle", "Network namespaces in which nothing was counted for 10 s.");
const MISSED: Family = Family::gauge(
    "ctmon_missed_calls_max",
    "Calls in the kernel that no program may have seen, at most: 0 says that every count is exact.",
);
const EVENTS_LOST: Family = Family::counter(
    "ctmon_events_lost",
    "Flow events that found the ring buffers full. No count suffers.",
);
const EVENTS_SEEN: Family =
    Family::counter("ctmon_events_seen", "Inserts and deletes, each of which is a flow event.");
const EVENTS_RECEIVED: Family = Family::counter("ctmon_events_received", "Flow events received.");
const EVENTS_SAMPLED_OUT: Family = Family::counter(
    "ctmon_events_sampled_out",
    "Flow events that were not sent because their flow is not in the sample.",
);
const SAMPLE: Family =
    Family::gauge("ctmon_sample_ratio", "Share of the flows whose events are sent.");
const BLOCKS: Family =
    Family::gauge("ctmon_counter_blocks_taken", "Blocks of per-CPU counters that are taken.");
const BLOCKS_MAX: Family =
    Family::gauge("ctmon_counter_blocks_limit", "Blocks of per-CPU counters that there are.");
const LIMIT_CHANGES: Family = Family::counter(
    "ctmon_entries_limit_changes",
    "Changes of nf_conntrack_max since the source was opened.",
);
const PROBE: Family = Family::gauge(
    "ctmon_probe_info",
    "1 for each hook: how it is attached, and its state (attached, unsupported, not_needed, broken).",
);
const HITS: Family =
    Family::counter("ctmon_probe_hits", "Calls that a hook's programs have counted.");
const MISSES: Family = Family::counter(
    "ctmon_probe_misses",
    "Calls that a hook's programs were skipped for, at most.",
);
const RUNS: Family =
    Family::counter("ctmon_probe_runs", "Runs of a hook's programs; with --probe-stats only.");
const RUN_TIME: Family = Family::counter(
    "ctmon_probe_run_time_seconds",
    "Seconds that a hook's programs ran in all; with --probe-stats only.",
);

pub(super) const FAMILIES: [Family; 26] = [
    BUILD,
    SOURCE,
    OPENED,
    SINCE,
    MAPS,
    TICKS,
    INTERVAL,
    LAST,
    NETNS,
    BLIND_SPOTS,
    COUNTED_FILL,
    IDLE,
    MISSED,
    EVENTS_SEEN,
    EVENTS_RECEIVED,
    EVENTS_SAMPLED_OUT,
    EVENTS_LOST,
    SAMPLE,
    BLOCKS,
    BLOCKS_MAX,
    LIMIT_CHANGES,
    PROBE,
    HITS,
    MISSES,
    RUNS,
    RUN_TIME,
];

/// Writes them all.
pub(super) fn write(latest: &Latest, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    OPENED.write(encoder, &[Sample::of(latest.opened())])?;
    TICKS.write(encoder, &[Sample::of(latest.ticks())])?;
    let changes = latest.tick().map(|tick| Sample::of(tick.limit_changes));
    LIMIT_CHANGES.write(encoder, changes.as_slice())?;
    write_now(latest, encoder)
}

/// Writes all metrics but those that count since the start of the process.
pub(super) fn write_now(latest: &Latest, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    BUILD.write(encoder, &[Sample::of(1u64).with("version", env!("CARGO_PKG_VERSION"))])?;
    let Some(source) = latest.source() else {
        return Ok(());
    };
    let origin = &source.origin;
    let info = Sample::of(1u64).with("source", origin.source.as_str());
    SOURCE.write(encoder, &[info.with("kernel_release", origin.kernel_release.as_str())])?;
    let maybe_since = origin.counting_since_ns.map(|ns| Sample::of(ns as f64 / 1e9));
    SINCE.write(encoder, maybe_since.as_slice())?;
    MAPS.write(encoder, origin.bpf_map_memory_bytes.map(Sample::of).as_slice())?;
    let Some(tick) = latest.tick() else {
        return Ok(());
    };
    let maybe = |value: Option<Sample<'static>>| value.into_iter().collect::<Vec<_>>();
    INTERVAL.write(encoder, &maybe(tick.interval_ns.map(|ns| Sample::of(ns as f64 / 1e9))))?;
    LAST.write(encoder, &[Sample::of(tick.time.unix_ns as f64 / 1e9)])?;
    write_coverage(latest, encoder)?;
    IDLE.write(encoder, &[Sample::of(tick.idle)])?;
    MISSED.write(encoder, &maybe(tick.missed_calls_max.map(Sample::of)))?;
    if let Some(events) = tick.events {
        EVENTS_SEEN.write(encoder, &[Sample::of(events.seen)])?;
        EVENTS_RECEIVED.write(encoder, &[Sample::of(events.received)])?;
        EVENTS_SAMPLED_OUT.write(encoder, &[Sample::of(events.sampled_out)])?;
        EVENTS_LOST.write(encoder, &[Sample::of(events.lost)])?;
        SAMPLE.write(encoder, &[Sample::of(ratio(events.threshold))])?;
    }
    if let Some((taken, of)) = tick.blocks {
        BLOCKS.write(encoder, &[Sample::of(taken)])?;
        BLOCKS_MAX.write(encoder, &[Sample::of(of)])?;
    }
    let probes: Vec<ProbedHook> =
        origin.hooks.iter().map(|hook| ProbedHook::new(hook.clone(), &tick.probes)).collect();
    let infos: Vec<Sample<'_>> = probes
        .iter()
        .map(|probe| {
            let via = probe.hook.attached_via.as_deref().unwrap_or_default();
            let info = Sample::of(1u64).with("hook", probe.hook.name.as_str());
            info.with("attached_via", via).with("state", probe.hook.state.name())
        })
        .collect();
    PROBE.write(encoder, &infos)?;
    per_hook(encoder, HITS, &probes, |probe| probe.hits.map(Sample::of))?;
    per_hook(encoder, MISSES, &probes, |probe| probe.misses.map(Sample::of))?;
    per_hook(encoder, RUNS, &probes, |probe| probe.runs.map(Sample::of))?;
    per_hook(encoder, RUN_TIME, &probes, |probe| {
        probe.run_time_ns.map(|ns| Sample::of(ns as f64 / 1e9))
    })
}

fn write_coverage(latest: &Latest, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let coverage = latest.tick().and_then(|tick| tick.coverage.as_deref());
    let by = |coverage: &'static str, number: u64| Sample::of(number).with("coverage", coverage);
    let Some(coverage) = coverage else {
        return NETNS.write(encoder, &[by("read", latest.netns().count() as u64)]);
    };
    let samples =
        [by("read", coverage.read), by("counted", coverage.counted), by("unread", coverage.unread)];
    NETNS.write(encoder, &samples)?;
    let counted = coverage::counted_beside(Some(coverage), latest.netns());
    let fill = counted.first().map(|table| Sample::of(table.fill_ratio));
    COUNTED_FILL.write(encoder, fill.as_slice())?;
    BLIND_SPOTS.write(encoder, &[Sample::of(coverage.blind_spots.len() as u64)])
}

fn per_hook(
    encoder: &mut DescriptorEncoder<'_>,
    family: Family,
    probes: &[ProbedHook],
    sample: impl Fn(&ProbedHook) -> Option<Sample<'static>>,
) -> fmt::Result {
    let samples: Vec<Sample<'_>> = probes
        .iter()
        .filter_map(|probe| {
            let name: Cow<'_, str> = probe.hook.name.as_str().into();
            Some(sample(probe)?.with("hook", name.into_owned()))
        })
        .collect();
    family.write(encoder, &samples)
}
