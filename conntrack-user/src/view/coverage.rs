//! Coverage of network namespaces in words, in JSON, and in the verdict of `status`.

use serde::Serialize;

use super::{status::Limits, units};
use crate::{
    model::{
        coverage::{Coverage, NetnsNotRead},
        tick::{CommonLimit, Limit, NetnsTick, Tick},
    },
    severity::Severity,
};

/// A table that is only counted, with its fill by the limit that all tables have.
#[derive(Debug, Clone, Copy)]
pub struct CountedTable<'a> {
    /// Its namespace.
    pub netns: &'a NetnsNotRead,
    /// Entries by the kernel's own list, as of the last scan.
    pub entries: u64,
    /// Limit of all tables.
    pub limit: u32,
    /// Entries by limit.
    pub fill_ratio: f64,
    read_in: &'a NetnsTick,
}

impl CountedTable<'_> {
    /// Severity of its fill.
    #[must_use]
    pub fn severity(&self, limits: Limits) -> Severity {
        limits.severity_of_fill(self.fill_ratio)
    }

    /// Its fill and where the limit is from: `95% full in netns 12, which is only counted: 950 of 1,000 entries (limit: the
    /// kernel's one limit, read in netns host)`.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!(
            "{} full in netns {}, which is only counted: {} of {} entries ({})",
            units::percent(self.fill_ratio),
            name(self.netns),
            units::grouped(self.entries),
            units::grouped(self.limit.into()),
            limit_from(self.read_in)
        )
    }
}

fn limit_from(read_in: &NetnsTick) -> String {
    let name = read_in.name.as_ref();
    let name = name.map_or_else(|| read_in.id.inode.to_string(), |name| name.text.clone());
    format!("limit: the kernel's one limit, read in netns {name}")
}

/// Tables of `tick` that are only counted, the fullest first; none where their limit is not known.
#[must_use]
pub fn counted(tick: &Tick) -> Vec<CountedTable<'_>> {
    counted_beside(tick.coverage.as_deref(), &tick.netns)
}

/// Tables of `coverage` that are only counted, the fullest first; none where their limit is not known, which is that of
/// `read`.
#[must_use]
pub fn counted_beside<'a>(
    coverage: Option<&'a Coverage>,
    read: impl IntoIterator<Item = &'a NetnsTick>,
) -> Vec<CountedTable<'a>> {
    let common = CommonLimit::of(read);
    let Some(CommonLimit { limit: Limit::Entries(limit), read_in }) = common else {
        return Vec::new();
    };
    let not_read = coverage.into_iter().flat_map(|coverage| &coverage.not_read);
    let with_fill = not_read.filter_map(|netns| {
        let fill_ratio = netns.fill_ratio(Limit::Entries(limit))?;
        Some(CountedTable { netns, entries: netns.entries?, limit, fill_ratio, read_in })
    });
    let mut tables: Vec<CountedTable<'_>> = with_fill.collect();
    tables.sort_by(|a, b| b.fill_ratio.total_cmp(&a.fill_ratio));
    tables
}

/// Reports whether `netns` is one that programs count and that is not read: coverage has its numbers.
#[must_use]
pub fn is_only_counted(netns: &NetnsTick, coverage: Option<&Coverage>) -> bool {
    let is_unread = netns.count.is_none() && netns.limit == Limit::Unavailable;
    is_unread && coverage.is_some_and(|coverage| coverage.counted > 0)
}

/// Tables that are read, of all known tables: `61 of 63 tables read`; `at least` where there may be others.
#[must_use]
pub fn level(coverage: &Coverage) -> String {
    let read = units::grouped(coverage.read);
    let total = units::grouped(coverage.total());
    let tables = if total == "1" { "table" } else { "tables" };
    let at_least = if coverage.is_total_exact { "" } else { "at least " };
    format!("{read} of {at_least}{total} {tables} read")
}

/// Reasons for which the coverage of `tick` is not whole, a line each: namespaces that are not read, what may hide others,
/// stale files.
#[must_use]
pub fn lines(tick: &Tick) -> Vec<String> {
    let Some(coverage) = tick.coverage.as_deref() else { return Vec::new() };
    let common = tick.common_limit();
    let mut lines: Vec<String> =
        coverage.not_read.iter().map(|netns| not_read(netns, common)).collect();
    let listed = coverage.not_read.len() as u64;
    let more = (coverage.counted + coverage.unread).saturating_sub(listed);
    if more > 0 {
        lines.push(format!("not read: {} more", units::grouped(more)));
    }
    for spot in &coverage.blind_spots {
        lines.push(format!("may be missing: {spot}\n  {}", spot.advice()));
    }
    let stale = coverage.stale_files.iter();
    lines.extend(
        stale.map(|file| {
            format!("stale: {file} stands for no network namespace; it can be removed")
        }),
    );
    lines
}

/// A namespace that is not read, and why; its fill by the limit of all tables, where both are known.
fn not_read(netns: &NetnsNotRead, common: Option<CommonLimit<'_>>) -> String {
    let numbers = match netns.entries {
        Some(entries) => {
            format!(", {}", units::with_noun(&units::grouped(entries), "entry", "entries"))
        }
        None => String::new(),
    };
    let word = if netns.is_counted { "only counted" } else { "not read" };
    let line = format!("{word}: {}{numbers}: {}", name(netns), netns.reason);
    let fill = common.and_then(|common| Some((common, netns.fill_ratio(common.limit)?)));
    match fill {
        Some((common, ratio)) => {
            format!("{line}\n  {} full ({})", units::percent(ratio), limit_from(common.read_in))
        }
        None => line,
    }
}

fn name(netns: &NetnsNotRead) -> String {
    let inode = netns.id.inode;
    match &netns.name {
        Some(name) => format!("{name} ({inode})"),
        None if inode == 0 => "a network namespace".into(),
        None => inode.to_string(),
    }
}

/// The verdict on tables of which the worst that is read is `severity`: an OK is `unread` where tables are known that are
/// not read, or where others may be hidden.
#[must_use]
pub fn judge(severity: Severity, coverage: Option<&Coverage>, unread: Severity) -> Severity {
    let is_whole = coverage.is_none_or(Coverage::is_whole);
    if severity == Severity::Ok && !is_whole { unread } else { severity }
}

/// The first line of `status` on tables none of which is in danger: how many are read, and the fullest one. `fullest`:
/// its sentence, and its fill in per cent where that is known. None: there is nothing to say of coverage.
#[must_use]
pub fn headline(
    coverage: Option<&Coverage>,
    fullest: &str,
    percent: Option<&str>,
) -> Option<String> {
    let coverage = coverage.filter(|coverage| !coverage.is_whole() || coverage.total() > 1)?;
    let level = level(coverage);
    let rest = match percent {
        Some(percent) => format!("fullest {percent}"),
        None => fullest.to_owned(),
    };
    let is_container = coverage.blind_spots.iter().any(|spot| spot.name() == "pid_namespace");
    let hint = if is_container { " (only this container's: see --pid=host)" } else { "" };
    Some(format!("{level}{hint}, {rest}"))
}

/// Coverage in JSON.
#[derive(Debug, Serialize)]
pub struct Json<'a> {
    read: u64,
    counted: u64,
    unread: u64,
    is_total_exact: bool,
    not_read: Vec<JsonNetns<'a>>,
    blind_spots: Vec<JsonBlindSpot>,
    stale_files: &'a [String],
}

#[derive(Debug, Serialize)]
struct JsonNetns<'a> {
    inode: Option<u64>,
    cookie: Option<u64>,
    name: Option<&'a str>,
    is_counted: bool,
    entries: Option<u64>,
    entries_limit: Option<u32>,
    fill_ratio: Option<f64>,
    reason: String,
}

#[derive(Debug, Serialize)]
struct JsonBlindSpot {
    kind: &'static str,
    text: String,
    advice: &'static str,
}

/// The coverage of `tick` as JSON; none where it has none.
#[must_use]
pub fn json(tick: &Tick) -> Option<Json<'_>> {
    let coverage = tick.coverage.as_deref()?;
    let limit = tick.common_limit().map_or(Limit::Unavailable, |common| common.limit);
    let entries_limit = match limit {
        Limit::Entries(limit) => Some(limit),
        Limit::Unlimited | Limit::Unavailable => None,
    };
    let not_read = coverage.not_read.iter().map(|one| JsonNetns {
        inode: Some(one.id.inode).filter(|inode| *inode != 0),
        cookie: one.id.cookie,
        name: one.name.as_deref(),
        is_counted: one.is_counted,
        entries: one.entries,
        entries_limit: entries_limit.filter(|_| one.is_counted),
        fill_ratio: one.fill_ratio(limit),
        reason: one.reason.to_string(),
    });
    let blind_spots = coverage.blind_spots.iter().map(|spot| JsonBlindSpot {
        kind: spot.name(),
        text: spot.to_string(),
        advice: spot.advice(),
    });
    Some(Json {
        read: coverage.read,
        counted: coverage.counted,
        unread: coverage.unread,
        is_total_exact: coverage.is_total_exact,
        not_read: not_read.collect(),
        blind_spots: blind_spots.collect(),
        stale_files: &coverage.stale_files,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::coverage::BlindSpot, severity::THRESHOLDS, source::recording::samples,
        view::status::Ranges,
    };

    fn with(coverage: Coverage, netns: Vec<NetnsTick>) -> Tick {
        Tick { coverage: Some(Arc::new(coverage)), ..Tick::example(netns) }
    }

    #[test]
    fn a_counted_table_is_judged_by_the_limit_of_all() {
        let limits = Limits {
            thresholds: THRESHOLDS.on_demand(),
            ranges: Ranges::default(),
            full_within: None,
        };
        let read = |max| NetnsTick::example(7, 200, max);
        let tick = with(samples::coverage(), vec![read(1000)]);
        let tables = counted(&tick);
        assert_eq!(tables.len(), 1);
        assert_eq!(tables[0].severity(limits), Severity::Warning);
        let expected = "90% full in netns 12, which is only counted: 900 of 1,000 entries \
                        (limit: the kernel's one limit, read in netns 7)";
        assert_eq!(tables[0].sentence(), expected);
        let json = serde_json::to_value(json(&tick)).unwrap();
        let [refused, one, hidden] = [0, 1, 2].map(|at| &json["not_read"][at]);
        assert_eq!((&one["entries_limit"], &one["fill_ratio"]), (&1000.into(), &0.9.into()));
        for other in [refused, hidden] {
            assert!(other["fill_ratio"].is_null() && other["entries_limit"].is_null(), "{other}");
        }
        // At the limit, without one, and where namespaces have one each.
        let full = with(samples::coverage(), vec![read(900)]);
        assert_eq!(counted(&full)[0].severity(limits), Severity::Critical);
        assert!(counted(&with(samples::coverage(), vec![read(0)])).is_empty());
        assert!(counted(&with(samples::coverage(), vec![read(1000), read(500)])).is_empty());
        assert!(counted(&Tick::example(vec![read(1000)])).is_empty());
    }

    #[test]
    fn tables_read_of_those_known() {
        let of = |read, unread, is_total_exact| {
            level(&Coverage { read, unread, is_total_exact, ..Coverage::default() })
        };
        assert_eq!(of(61, 2, true), "61 of 63 tables read");
        assert_eq!(of(1, 0, false), "1 of at least 1 table read");
        assert_eq!(of(1000, 500, false), "1,000 of at least 1,500 tables read");
    }

    #[test]
    fn each_namespace_that_is_not_read_has_a_line() {
        let mut coverage = samples::coverage();
        coverage.unread += 5;
        let netns = NetnsTick::example(7, 430, 1000);
        let tick = with(coverage, vec![netns]);
        let expected = [
            "not read: ingress_sbox (11): entering it takes CAP_SYS_ADMIN",
            "only counted: 12, 900 entries: no process and no file leads to it\n  \
             90% full (limit: the kernel's one limit, read in netns 7)",
            "not read: a network namespace: its processes hide it from who may not trace them (CAP_SYS_PTRACE)",
            "not read: 5 more",
            "may be missing: ctmon sees only the processes of its own container (PID namespace)\n  \
             --pid=host (Docker, Podman) or hostPID: true (Kubernetes) shows those of the node",
        ];
        let lines = lines(&tick);
        assert_eq!(lines[..5], expected);
        assert_eq!(lines.len(), 9);
        assert_eq!(
            lines[8],
            "stale: /run/netns/old stands for no network namespace; it can be removed"
        );
    }

    #[test]
    fn an_ok_is_none_where_tables_are_not_read() {
        use Severity::{Critical, Ok, Unknown, Warning};
        let whole = Coverage { read: 2, ..Coverage::default() };
        let unread = Coverage { unread: 1, ..whole.clone() };
        let blind = Coverage { blind_spots: vec![BlindSpot::PidNamespace], ..whole.clone() };
        for (severity, coverage, wanted, expected) in [
            (Ok, None, Unknown, Ok),
            (Ok, Some(&whole), Unknown, Ok),
            (Ok, Some(&unread), Unknown, Unknown),
            (Ok, Some(&unread), Warning, Warning),
            (Ok, Some(&unread), Ok, Ok),
            (Ok, Some(&blind), Unknown, Unknown),
            (Warning, Some(&unread), Unknown, Warning),
            (Critical, Some(&unread), Ok, Critical),
        ] {
            assert_eq!(judge(severity, coverage, wanted), expected, "{severity:?} {coverage:?}");
        }
    }

    #[test]
    fn the_headline_counts_tables() {
        let text = "43% full in netns blue: 430 of 1,000 entries";
        let line = |coverage: &Coverage| headline(Some(coverage), text, Some("43%"));
        assert_eq!(headline(None, text, Some("43%")), None);
        let one = Coverage { read: 1, ..Coverage::default() };
        assert_eq!(line(&one), None);
        let all = Coverage { read: 61, unread: 2, is_total_exact: true, ..Coverage::default() };
        assert_eq!(line(&all).unwrap(), "61 of 63 tables read, fullest 43%");
        let container = Coverage { blind_spots: vec![BlindSpot::PidNamespace], ..one };
        let expected =
            "1 of at least 1 table read (only this container's: see --pid=host), fullest 43%";
        assert_eq!(line(&container).unwrap(), expected);
    }
}
