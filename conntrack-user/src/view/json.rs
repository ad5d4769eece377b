//! JSON, one object a line: docs/json.md says what each field means.

use serde::Serialize;

use crate::{
    forecast::TimeToFull,
    model::{
        counts::{Counted, Totals},
        reading::{KernelStat, Time},
        tick::{Entries, Limit, NetnsTick, Tick},
    },
    source::{Lost, ebpf::plan::HookReport},
};

/// The version of what is written here; raised when a field changes its meaning or goes away.
pub const SCHEMA_VERSION: u32 = 1;

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
    Start(&'a Start<'a>),
    Notice { text: &'a str },
    Tick(TickRecord<'a>),
    Status(StatusRecord<'a>),
}

/// What is said once, before the first tick.
#[derive(Debug, Serialize)]
pub struct Start<'a> {
    /// Release of the running kernel.
    pub kernel: &'a str,
    /// `ebpf` or `procfs`.
    pub source: &'a str,
    /// How each hook is attached.
    pub hooks: Vec<Hook>,
    /// What cannot be told, and why.
    pub unavailable: &'a [Lost],
}

/// A hook.
#[derive(Debug, Serialize)]
pub struct Hook {
    hook: &'static str,
    function: &'static str,
    attached_via: Option<String>,
    reason: Option<String>,
}

impl From<&HookReport> for Hook {
    fn from(report: &HookReport) -> Self {
        Self {
            hook: report.hook.name(),
            function: report.hook.function(),
            attached_via: report.outcome.as_ref().ok().map(ToString::to_string),
            reason: report.outcome.as_ref().err().map(|error| error.reason.clone()),
        }
    }
}

#[derive(Debug, Serialize)]
struct TickRecord<'a> {
    interval_ns: Option<u64>,
    events: Option<Events>,
    missed_at_most: Option<u64>,
    netns: Vec<Netns<'a>>,
}

#[derive(Debug, Serialize)]
struct StatusRecord<'a> {
    status: &'static str,
    exit_code: u8,
    warn_percent: f64,
    crit_percent: f64,
    #[serde(flatten)]
    start: &'a Start<'a>,
    #[serde(flatten)]
    tick: TickRecord<'a>,
}

#[derive(Debug, Serialize)]
struct Events {
    received: u64,
    lost: u64,
}

#[derive(Debug, Serialize)]
struct Netns<'a> {
    inode: u64,
    cookie: Option<u64>,
    name: Option<&'a str>,
    entries: Option<u64>,
    entries_low: Option<u64>,
    entries_high: Option<u64>,
    entries_limit: Option<u32>,
    unlimited: bool,
    fill_ratio: Option<f64>,
    insert_rate: Option<f64>,
    delete_rate: Option<f64>,
    net_rate: Option<f64>,
    forecast: &'static str,
    seconds_to_full: Option<f64>,
    baseline: Option<i64>,
    drift: Option<i64>,
    tick: Option<Counts>,
    totals: Option<Counts>,
    kernel: Kernel,
}

/// [`Totals`], with their sum; what no hook counted is null.
#[derive(Debug, Serialize)]
struct Counts {
    allocs: u64,
    allocs_failed: u64,
    table_full: Option<u64>,
    inserts: Option<u64>,
    inserts_packet: Option<u64>,
    inserts_ctnetlink: Option<u64>,
    deletes: Option<u64>,
    evictions: Option<u64>,
    frees: u64,
    frees_skipped: u64,
    events_lost: u64,
}

#[derive(Debug, Serialize)]
struct Kernel {
    count: Option<u32>,
    #[serde(flatten)]
    stat: Option<KernelStat>,
}

impl<'a> Line<'a> {
    /// The first line of `watch`.
    #[must_use]
    pub const fn start(time: Time, start: &'a Start<'a>) -> Self {
        Self::new(time, Record::Start(start))
    }

    /// A sentence that is said once.
    #[must_use]
    pub const fn notice(time: Time, text: &'a str) -> Self {
        Self::new(time, Record::Notice { text })
    }

    /// A tick.
    #[must_use]
    pub fn tick(tick: &'a Tick) -> Self {
        Self::new(tick.time, Record::Tick(tick_record(tick)))
    }

    /// The answer of `status`.
    #[must_use]
    pub fn status(tick: &'a Tick, start: &'a Start<'a>, verdict: super::status::Judged) -> Self {
        let record = StatusRecord {
            status: verdict.verdict.name(),
            exit_code: verdict.verdict.exit_code(),
            warn_percent: verdict.limits.warn,
            crit_percent: verdict.limits.crit,
            start,
            tick: tick_record(tick),
        };
        Self::new(tick.time, Record::Status(record))
    }

    const fn new(time: Time, record: Record<'a>) -> Self {
        Self { schema_version: SCHEMA_VERSION, time_ns: time.unix_ns, record }
    }
}

fn tick_record(tick: &Tick) -> TickRecord<'_> {
    TickRecord {
        interval_ns: tick.interval_ns,
        events: tick.events.map(|e| Events { received: e.received, lost: e.lost }),
        missed_at_most: tick.missed_at_most,
        netns: tick.netns.iter().map(|netns| self::netns(netns, &tick.counted)).collect(),
    }
}

fn netns<'a>(netns: &'a NetnsTick, counted: &Counted) -> Netns<'a> {
    let (entries, entries_low, entries_high) = match netns.entries {
        Entries::Exact(entries) => (Some(entries), Some(entries), Some(entries)),
        Entries::Between(low, high) => (None, Some(low), Some(high)),
        Entries::Unavailable => (None, None, None),
    };
    Netns {
        inode: netns.id.inode,
        cookie: netns.id.cookie,
        name: netns.name.as_deref(),
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
        forecast: match netns.time_to_full {
            TimeToFull::Unknown => "unknown",
            TimeToFull::NotGrowing => "not_growing",
            TimeToFull::Full => "full",
            TimeToFull::Unlimited => "unlimited",
            TimeToFull::In { .. } => "filling",
        },
        seconds_to_full: match netns.time_to_full {
            TimeToFull::In { seconds } => Some(seconds),
            TimeToFull::Full => Some(0.0),
            TimeToFull::Unknown | TimeToFull::NotGrowing | TimeToFull::Unlimited => None,
        },
        baseline: netns.baseline,
        drift: netns.drift,
        tick: netns.change.map(|change| counts(&change, counted)),
        totals: netns.totals.map(|totals| counts(&totals, counted)),
        kernel: Kernel { count: netns.count, stat: netns.kernel },
    }
}

fn counts(totals: &Totals, counted: &Counted) -> Counts {
    Counts {
        allocs: totals.allocs,
        allocs_failed: totals.allocs_failed,
        table_full: counted.early_drops.then_some(totals.table_full),
        inserts: counted.all_inserts().then(|| totals.inserts()),
        inserts_packet: counted.inserts_packet.then_some(totals.inserts_packet),
        inserts_ctnetlink: counted.inserts_ctnetlink.then_some(totals.inserts_ctnetlink),
        deletes: counted.deletes.then_some(totals.deletes),
        evictions: (counted.deletes && counted.early_drops).then_some(totals.evictions),
        frees: totals.frees,
        frees_skipped: totals.frees_skipped,
        events_lost: totals.events_lost,
    }
}
