//! JSON, one object a line: docs/json.md says what each field means.

use serde::Serialize;

use crate::{
    model::{
        counts::{ByProtocol, ByStatus, Counted, Totals},
        flow::ratio,
        name::NameKind,
        reading::{self, KernelStat, Time},
        tick::{Entries, Limit, NetnsTick, Tick},
        windows,
    },
    severity::{self, Severity, Thresholds, range::FillRange},
    source::item::{Hook, Origin, ProbedHook, Start},
    view::{
        coverage,
        flow::{self, Direction},
        flows, forecast, full, in_flight,
    },
};

/// The version of what is written here; raised when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 3;

/// A line.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    schema_version: u32,
    time_ns: u64,
    #[serde(flatten)]
    record: Record<'a>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Record<'a> {
    Start(&'a Origin),
    Notice { text: &'a str },
    Tick(TickRecord<'a>),
    Status(StatusRecord<'a>),
    Node(NodeRecord<'a>),
    Probes { probes: Vec<ProbedHook> },
}

/// A tuple that was refused or evicted.
#[derive(Debug, Serialize)]
struct Victim {
    kind: &'static str,
    monotonic_ns: u64,
    netns_cookie: Option<u64>,
    netns_inode: u64,
    zone: u16,
    protocol: u8,
    original: Direction,
}

#[derive(Debug, Serialize)]
struct TickRecord<'a> {
    interval_ns: Option<u64>,
    events: Option<Events>,
    missed_calls_max: Option<u64>,
    netns: Vec<Netns<'a>>,
    netns_idle: u64,
    netns_coverage: Option<coverage::Json<'a>>,
    netns_overflow: Option<Counts>,
    victims: Vec<Victim>,
    probes: Vec<ProbedHook>,
    counter_blocks: Option<Blocks>,
    flows: Option<flows::Json>,
}

#[derive(Debug, Serialize)]
struct StatusRecord<'a> {
    severity: Severity,
    exit_code: u8,
    warning_fill: Option<f64>,
    critical_fill: Option<f64>,
    warning_range: Option<String>,
    critical_range: Option<String>,
    full_within_seconds: Option<f64>,
    full_within_probability: Option<f64>,
    #[serde(flatten)]
    start: &'a Origin,
    #[serde(flatten)]
    tick: TickRecord<'a>,
}

#[derive(Debug, Serialize)]
struct NodeRecord<'a> {
    #[serde(flatten)]
    start: &'a Origin,
    #[serde(flatten)]
    tick: TickRecord<'a>,
}

/// Blocks of per-CPU counters.
#[derive(Debug, Serialize)]
struct Blocks {
    taken: u64,
    limit: u64,
}

#[derive(Debug, Serialize)]
struct Events {
    seen: u64,
    received: u64,
    sampled_out: u64,
    lost: u64,
    sample_ratio: f64,
}

impl From<reading::Events> for Events {
    fn from(events: reading::Events) -> Self {
        Self {
            seen: events.seen,
            received: events.received,
            sampled_out: events.sampled_out,
            lost: events.lost,
            sample_ratio: ratio(events.threshold),
        }
    }
}

/// What was counted within a tick.
#[derive(Debug, Serialize)]
struct Windows<'a> {
    #[serde(flatten)]
    windows: &'a windows::Windows,
    insert_rate_peak: Option<f64>,
    delete_rate_peak: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Netns<'a> {
    inode: u64,
    cookie: Option<u64>,
    name: Option<&'a str>,
    name_kind: Option<NameKind>,
    ended: bool,
    severity: Option<Severity>,
    entries: Option<u64>,
    entries_low: Option<u64>,
    entries_high: Option<u64>,
    entries_limit: Option<u32>,
    unlimited: bool,
    fill_ratio: Option<f64>,
    insert_rate: Option<f64>,
    delete_rate: Option<f64>,
    net_rate: Option<f64>,
    #[serde(flatten)]
    full: full::Json,
    windows: Option<Windows<'a>>,
    forecast: forecast::Json<'a>,
    seconds_to_full_p50: Option<f64>,
    baseline: Option<i64>,
    count_drift: Option<i64>,
    #[serde(flatten)]
    in_flight: in_flight::Json,
    tick: Option<Counts>,
    totals: Option<Counts>,
    kernel: Kernel,
}

/// [`Totals`], with their sums; what nobody counted is null.
#[derive(Debug, Serialize)]
struct Counts {
    allocs: Option<u64>,
    allocs_failed: Option<u64>,
    table_full_drops: Option<u64>,
    inserts: Option<u64>,
    inserts_packet: Option<u64>,
    inserts_ctnetlink: Option<u64>,
    inserts_by_protocol: Option<ByProtocol>,
    deletes: Option<u64>,
    deletes_by_cause: ByCause,
    deletes_by_status: Option<ByStatus>,
    early_drops: Option<u64>,
    clashes: Option<u64>,
    clashes_resolved: Option<u64>,
    insert_failed: ByReason,
    frees: Option<u64>,
    events_sampled_out: u64,
    events_lost: u64,
}

#[derive(Debug, Serialize)]
struct ByCause {
    user: Option<u64>,
    netns_exit: Option<u64>,
    early_drop: Option<u64>,
    kernel: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ByReason {
    clash: Option<u64>,
    chain_too_long: Option<u64>,
    dying: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Kernel {
    count: Option<u32>,
    #[serde(flatten)]
    stat: Option<KernelStat>,
    rates: Option<KernelStat<f64>>,
}

impl<'a> Line<'a> {
    /// The first line of `watch`.
    #[must_use]
    pub const fn start(start: &'a Start) -> Self {
        Self::new(start.time, Record::Start(&start.origin))
    }

    /// A sentence that is said once.
    #[must_use]
    pub const fn notice(time: Time, text: &'a str) -> Self {
        Self::new(time, Record::Notice { text })
    }

    /// A tick.
    #[must_use]
    pub fn tick(tick: &'a Tick, hooks: &'a [Hook], thresholds: &Thresholds) -> Self {
        let severity = |netns: &NetnsTick| Some(severity::of_tick(netns, tick, thresholds));
        Self::new(tick.time, Record::Tick(tick_record(tick, &tick.netns, hooks, severity)))
    }

    /// Fields of a tick that are of all its namespaces together.
    #[must_use]
    pub(super) fn tick_head(tick: &'a Tick) -> Self {
        Self::new(tick.time, Record::Tick(tick_record(tick, &[], &[], |_| None)))
    }

    /// The answer of `status`.
    #[must_use]
    pub fn status(tick: &'a Tick, start: &'a Origin, judged: super::status::Judged) -> Self {
        let limits = judged.limits;
        let severity = |netns: &NetnsTick| Some(super::status::judge_one(netns, limits));
        let least = |range: Option<FillRange>, fill| range.is_none().then_some(fill);
        let record = StatusRecord {
            severity: judged.severity,
            exit_code: judged.severity.exit_code(),
            warning_fill: least(limits.ranges.warning, limits.thresholds.warning_fill),
            critical_fill: least(limits.ranges.critical, limits.thresholds.critical_fill),
            warning_range: limits.ranges.warning.map(|range| range.to_string()),
            critical_range: limits.ranges.critical.map(|range| range.to_string()),
            full_within_seconds: limits.full_within.map(|within| within.seconds),
            full_within_probability: limits.full_within.map(|within| within.probability),
            start,
            tick: tick_record(tick, &tick.netns, &start.hooks, severity),
        };
        Self::new(tick.time, Record::Status(record))
    }

    /// The node as it was told last, with the source. `severity` of each table: that of its warnings; none where it is not
    /// watched.
    #[must_use]
    pub fn node(
        tick: &'a Tick,
        start: &'a Origin,
        severity: impl Fn(&NetnsTick) -> Option<Severity>,
    ) -> Self {
        let record =
            NodeRecord { start, tick: tick_record(tick, &tick.netns, &start.hooks, severity) };
        Self::new(tick.time, Record::Node(record))
    }

    /// The hooks, and how their programs do.
    #[must_use]
    pub fn probes(tick: &'a Tick, start: &'a Origin) -> Self {
        Self::new(tick.time, Record::Probes { probes: probes(tick, &start.hooks) })
    }

    const fn new(time: Time, record: Record<'a>) -> Self {
        Self { schema_version: SCHEMA_VERSION, time_ns: time.unix_ns, record }
    }
}

/// Fields of a tick that are of one namespace.
pub(super) fn netns_of<'a>(
    tick: &Tick,
    one: &'a NetnsTick,
    severity: Option<Severity>,
) -> impl Serialize + use<'a> {
    netns(one, &tick.counted.of(one.kernel.is_some()), severity)
}

fn tick_record<'a>(
    tick: &'a Tick,
    all: &'a [NetnsTick],
    hooks: &'a [Hook],
    severity: impl Fn(&NetnsTick) -> Option<Severity>,
) -> TickRecord<'a> {
    TickRecord {
        interval_ns: tick.interval_ns,
        events: tick.events.map(Events::from),
        missed_calls_max: tick.missed_calls_max,
        netns: all
            .iter()
            .map(|one| netns(one, &tick.counted.of(one.kernel.is_some()), severity(one)))
            .collect(),
        netns_idle: tick.idle,
        netns_coverage: coverage::json(tick),
        netns_overflow: tick.overflow.map(|overflow| counts(&overflow, &tick.counted.of(false))),
        victims: tick.victims.iter().map(victim).collect(),
        probes: probes(tick, hooks),
        counter_blocks: tick.blocks.map(|(taken, limit)| Blocks { taken, limit }),
        flows: tick.flows.as_deref().map(flows::json),
    }
}

fn probes(tick: &Tick, hooks: &[Hook]) -> Vec<ProbedHook> {
    hooks.iter().map(|hook| ProbedHook::new(hook.clone(), &tick.probes)).collect()
}

fn victim(victim: &reading::Victim) -> Victim {
    let reading::Victim { netns, flow } = victim;
    Victim {
        kind: flow::name(flow.kind).0,
        monotonic_ns: flow.time_ns,
        netns_cookie: netns.cookie,
        netns_inode: netns.inode,
        zone: flow.zone,
        protocol: flow.original.protocol,
        original: (&flow.original).into(),
    }
}

fn netns<'a>(netns: &'a NetnsTick, counted: &Counted, severity: Option<Severity>) -> Netns<'a> {
    let (entries, entries_low, entries_high) = match netns.entries {
        Entries::Exact(entries) => (Some(entries), Some(entries), Some(entries)),
        Entries::Between(low, high) => (None, Some(low), Some(high)),
        Entries::Unavailable => (None, None, None),
    };
    Netns {
        inode: netns.id.inode,
        cookie: netns.id.cookie,
        name: netns.name.as_ref().map(|name| name.text.as_str()),
        name_kind: netns.name.as_ref().map(|name| name.kind),
        ended: netns.ended,
        severity,
        entries,
        entries_low,
        entries_high,
        entries_limit: match netns.limit {
            Limit::Entries(max) => Some(max),
            Limit::Unlimited | Limit::Unavailable => None,
        },
        unlimited: netns.limit == Limit::Unlimited,
        fill_ratio: netns.fill_ratio(),
        insert_rate: netns.rates.insert,
        delete_rate: netns.rates.delete,
        net_rate: netns.rates.net,
        full: full::json(netns.full.as_ref()),
        windows: netns.windows.as_ref().map(|windows| Windows {
            windows,
            insert_rate_peak: windows.insert_rate_peak(),
            delete_rate_peak: windows.delete_rate_peak(),
        }),
        forecast: forecast::json(netns),
        seconds_to_full_p50: forecast::seconds_to_full(&netns.outlook),
        baseline: netns.baseline,
        count_drift: netns.count_drift,
        in_flight: in_flight::json(&netns.in_flight),
        tick: netns.change.map(|change| counts(&change, counted)),
        totals: netns.totals.map(|totals| counts(&totals, counted)),
        kernel: Kernel {
            count: netns.count,
            stat: netns.kernel,
            rates: netns.kernel_counters.map(|counters| counters.rates),
        },
    }
}

fn counts(totals: &Totals, counted: &Counted) -> Counts {
    let early_drops = (counted.deletes && counted.early_drops).then_some(totals.early_drops);
    Counts {
        allocs: counted.allocs.then_some(totals.allocs),
        allocs_failed: counted.allocs.then_some(totals.allocs_failed),
        table_full_drops: counted.early_drops.then_some(totals.table_full_drops),
        inserts: counted.all_inserts().then(|| totals.inserts()),
        inserts_packet: counted.inserts_packet.then(|| totals.inserts_packet.sum()),
        inserts_ctnetlink: counted.inserts_ctnetlink.then(|| totals.inserts_ctnetlink.sum()),
        inserts_by_protocol: counted
            .all_inserts()
            .then(|| totals.inserts_packet.zip(&totals.inserts_ctnetlink, |a, b| a + b)),
        deletes: counted.deletes.then(|| totals.deletes.sum()),
        deletes_by_cause: ByCause {
            user: counted.causes.then_some(totals.deletes_user),
            netns_exit: (counted.deletes && counted.netns_exits)
                .then_some(totals.deletes_netns_exit),
            early_drop: early_drops,
            kernel: counted.all_causes().then(|| totals.deletes_kernel()),
        },
        deletes_by_status: counted.deletes.then_some(totals.deletes),
        early_drops,
        clashes: counted.clashes.then_some(totals.clashes),
        clashes_resolved: counted.clash_outcomes.then_some(totals.clashes_resolved),
        insert_failed: ByReason {
            clash: counted.clash_outcomes.then_some(totals.failed_clash),
            chain_too_long: counted.failed_inserts.then_some(totals.failed_chain_too_long),
            dying: counted.failed_inserts.then_some(totals.failed_dying),
        },
        frees: counted.allocs.then_some(totals.frees),
        events_sampled_out: totals.events_sampled_out,
        events_lost: totals.events_lost,
    }
}
