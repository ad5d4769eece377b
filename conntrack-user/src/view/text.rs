//! `watch` for people: one line a namespace and tick, 80 columns wide, or as wide as long names want it.

use std::{collections::HashMap, fmt::Write as _};

use anstyle::Style;

use super::{
    causes, coverage, flow, flows, forecast, in_flight, names,
    style::{self, BAD, BOLD, DIM, PLAIN, WARNING},
    units,
};
use crate::{
    forecast::outlook::State,
    model::{
        counts::{Counted, Totals},
        coverage::Coverage,
        flow::{EventKind, ratio},
        reading::{KernelStat, NetnsId},
        tick::{Entries, Limit, NetnsTick, Tick},
    },
    severity::{Condition, Severity, Thresholds},
};

/// Lines after which the headings are repeated.
const PAGE: usize = 20;
/// Namespaces shown in a tick, at most.
const ROWS: usize = 20;

/// Columns of the table: heading and width.
pub(crate) const COLUMNS: [(&str, usize); 12] = [
    ("NETNS", 10),
    ("ENTRIES", 7),
    ("MAX", 7),
    ("FILL", 4),
    ("INS/s", 5),
    ("PEAK", 5),
    ("DEL/s", 5),
    ("NET/s", 5),
    ("DROPS", 5),
    ("EVICT", 5),
    ("FULLIN", 6),
    ("DRIFT", 5),
];

/// Widths of the column of names: at least, and at most.
const NAME_WIDTHS: [usize; 2] = [COLUMNS[0].1, 48];
/// Width of a screen where it is not known otherwise.
const SCREEN_COLUMNS: usize = 80;
/// Width of all other columns, with the spaces between.
const OTHER_COLUMNS: usize = {
    let (mut width, mut at) = (0, 1);
    while at < COLUMNS.len() {
        width += COLUMNS[at].1 + 1;
        at += 1;
    }
    width
};

/// Nanoseconds between two forecasts of a namespace in words: of one that fills or is full, and at least.
const AGAIN_NS: u64 = 10_000_000_000;
const APART_NS: u64 = 1_000_000_000;

/// What was last told of a table in words.
#[derive(Debug, Clone, Copy)]
struct Told {
    state: State,
    /// It was full, and dropped packets.
    is_dropping: bool,
    time_ns: u64,
}

impl Told {
    fn of(netns: &NetnsTick, time_ns: u64) -> Self {
        let dropped = netns.full.is_some_and(|full| full.table_full_drops.since.is_some());
        Self { state: netns.outlook.state, is_dropping: dropped, time_ns }
    }
}

/// Writes ticks, with headings every now and then.
#[derive(Debug)]
pub struct Table {
    /// Characters in a line of the screen; none where the output is no screen.
    screen: Option<usize>,
    /// Width of the column of names, since the last headings.
    name_width: usize,
    /// Coverage when it was last shown, without its numbers of entries, and the worst of the tables that are only counted.
    coverage: Option<(Coverage, Severity)>,
    thresholds: Thresholds,
    lines: usize,
    /// Whether causes are shown, and the kernel's counters of each namespace as last shown: they are
    /// shown again when they have changed.
    causes: Option<HashMap<NetnsId, KernelStat>>,
    with_flows: bool,
    /// What was last told in words of each namespace that is shown.
    told: HashMap<NetnsId, Told>,
}

impl Table {
    /// A table whose colours follow `thresholds`; with what is behind the numbers of each line (`causes`), and what is known
    /// of single flows (`flows`).
    #[must_use]
    pub fn new(thresholds: Thresholds, causes: bool, flows: bool) -> Self {
        let causes = causes.then(HashMap::new);
        Self { thresholds, causes, with_flows: flows, ..Self::default() }
    }

    /// Sets the number of characters in a line of the screen; none where the output is no screen, and nothing is cut that
    /// need not be.
    pub const fn set_screen(&mut self, columns: Option<usize>) {
        self.screen = columns;
    }

    /// The names of `rows`, and the width of their column: as wide as the screen has room for, where they need it. It does
    /// not shrink before the next headings.
    fn names(&mut self, rows: &[&NetnsTick]) -> Vec<String> {
        let [least, most] = NAME_WIDTHS;
        let room = self.screen.map_or(most, |columns| columns.saturating_sub(OTHER_COLUMNS));
        let room = room.clamp(least, most);
        let named: Vec<(u64, Option<&str>)> = rows
            .iter()
            .map(|netns| (netns.id.inode, netns.name.as_ref().map(|name| name.text.as_str())))
            .collect();
        let names = names::fit(&named, room);
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(least);
        let is_narrower = self.name_width > room;
        if longest > self.name_width || is_narrower {
            // The columns move.
            (self.name_width, self.lines) = (longest, 0);
        }
        names
    }

    /// Reasons for which coverage is not whole, where they have changed since they were last shown. Other numbers of entries
    /// are no other reasons.
    fn coverage(&mut self, tick: &Tick) -> String {
        let Some(coverage) = &tick.coverage else { return String::new() };
        let fullest = coverage::counted(tick).first().map_or(0.0, |table| table.fill_ratio);
        let severity = self.thresholds.severity_of_fill(fullest);
        let mut shape = Coverage { read: 0, ..Coverage::clone(coverage) };
        shape.not_read.iter_mut().for_each(|netns| netns.entries = None);
        shape.not_read.sort_by_key(|netns| netns.id);
        let is_whole = coverage.is_whole() && coverage.stale_files.is_empty();
        let shown = (shape, severity);
        let before = match &self.coverage {
            None if is_whole => return String::new(),
            before => before.as_ref(),
        };
        if before == Some(&shown) {
            return String::new();
        }
        self.coverage = (!is_whole).then_some(shown);
        let mut out = format!("{WARNING}{}{WARNING:#}\n", coverage::level(coverage));
        for line in coverage::lines(tick).iter().flat_map(|line| line.lines()) {
            let _ = writeln!(out, "{WARNING}  {line}{WARNING:#}");
        }
        out
    }

    /// The lines of a tick. Styles are written out; the stream takes them away where they do not
    /// belong.
    #[must_use]
    pub fn tick(&mut self, tick: &Tick) -> String {
        let mut out = String::new();
        for notice in &tick.notices {
            let _ = writeln!(out, "{WARNING}{notice}{WARNING:#}");
        }
        if tick.netns.is_empty() {
            let text = match tick.idle {
                0 => "no network namespace tracks connections".into(),
                idle => format!("nothing is counted in {idle} network namespaces"),
            };
            let _ = writeln!(out, "{DIM}{text}{DIM:#}");
        }
        let rows = rows(tick);
        let names = self.names(&rows);
        let name_width = self.name_width;
        let at = units::clock(tick.time.unix_ns);
        if self.lines == 0 || self.lines >= PAGE {
            self.lines = 0;
            let _ = writeln!(out, "{DIM}{at} UTC{DIM:#}");
            let cells = widths(name_width).map(|(heading, width)| format!("{heading:>width$}"));
            let _ = writeln!(out, "{BOLD}{}{BOLD:#}", cells.join(" "));
        }
        let (mut shown, mut told) = (HashMap::new(), HashMap::new());
        for (netns, name) in rows.iter().zip(names) {
            let _ = writeln!(
                out,
                "{}",
                line(netns, (name, name_width), &tick.counted, &self.thresholds)
            );
            let before = self.told.get(&netns.id).copied();
            let now = Told::of(netns, tick.time.monotonic_ns);
            let is_due = is_to_be_told(netns, &self.thresholds, before, now);
            if is_due {
                let below = forecast::lines(netns, &self.thresholds);
                self.lines += below.lines().count();
                out.push_str(&below);
                told.insert(netns.id, now);
            } else if let Some(before) = before {
                told.insert(netns.id, before);
            }
            let below = in_flight::lines(&netns.in_flight);
            self.lines += below.lines().count();
            out.push_str(&below);
            if let Some(before) = &self.causes {
                let mut below = causes::change(netns, &tick.counted);
                if let Some(counters) = &netns.kernel_counters {
                    below.push_str(&causes::kernel_rates(&counters.rates));
                }
                if let Some(kernel) = netns.kernel
                    && shown.insert(netns.id, kernel).is_none()
                    && before.get(&netns.id) != Some(&kernel)
                {
                    below.push_str(&causes::kernel(&kernel));
                }
                self.lines += below.lines().count();
                out.push_str(&below);
            }
        }
        self.told = told;
        if let Some(before) = &mut self.causes {
            *before = shown;
        }
        self.lines += rows.len().max(1);
        let more = tick.netns.len() - rows.len();
        if more > 0 {
            let _ = writeln!(out, "{DIM}and {more} more that are less full{DIM:#}");
            self.lines += 1;
        }
        if let Some(overflow) = &tick.overflow {
            let text = format!(
                "in network namespaces beyond those counted apart: {} inserts, {} deletes, {} drops in \
                 all",
                units::short(overflow.inserts() as f64),
                units::short(overflow.deletes.sum() as f64),
                units::short(overflow.table_full_drops as f64)
            );
            let _ = writeln!(out, "{WARNING}{text}{WARNING:#}");
            self.lines += 1;
        }
        let flows = tick.flows.as_deref().filter(|_| self.with_flows);
        let flows = flows.map_or_else(String::new, flows::text);
        let coverage = self.coverage(tick);
        for below in [events(tick), flows, victims(tick), coverage] {
            self.lines += below.lines().count();
            out.push_str(&below);
        }
        out
    }
}

impl Default for Table {
    fn default() -> Self {
        Self {
            screen: Some(SCREEN_COLUMNS),
            name_width: 0,
            coverage: None,
            thresholds: Thresholds::default(),
            lines: 0,
            causes: None,
            with_flows: false,
            told: HashMap::new(),
        }
    }
}

/// Reports whether forecast or facts are to be told in words: when the state of the table has changed, when it begins to
/// drop packets, and every now and then as long as it fills or is full. Of a table that is high and has no forecast yet,
/// level and growth are told each second. `before`: what was told last.
fn is_to_be_told(
    netns: &NetnsTick,
    thresholds: &Thresholds,
    before: Option<Told>,
    now: Told,
) -> bool {
    let is_unknown = now.state == State::Unknown;
    let severity = |fill| thresholds.severity_of_fill(fill);
    if is_unknown && netns.fill_ratio().is_none_or(|fill| severity(fill) < Severity::Warning) {
        return false;
    }
    let Some(before) = before else { return true };
    let passed_ns = now.time_ns.saturating_sub(before.time_ns);
    let is_urgent = matches!(now.state, State::Filling | State::Full);
    let is_new = now.state != before.state || (now.is_dropping && !before.is_dropping);
    ((is_new || is_unknown) && passed_ns >= APART_NS) || (is_urgent && passed_ns >= AGAIN_NS)
}

/// The namespaces that get a line: all, or the fullest and those that lose packets.
fn rows(tick: &Tick) -> Vec<&NetnsTick> {
    let mut rows: Vec<&NetnsTick> = tick.netns.iter().collect();
    if rows.len() > ROWS {
        let weight = |netns: &NetnsTick| {
            let drops =
                netns.change.map_or(0, |change| change.table_full_drops + change.early_drops);
            (drops, netns.fill_ratio().unwrap_or(0.0))
        };
        rows.sort_by(|a, b| {
            let (a, b) = (weight(a), weight(b));
            b.0.cmp(&a.0).then(b.1.total_cmp(&a.1))
        });
        rows.truncate(ROWS);
    }
    rows
}

/// What there is to know of the events: that some are missing, wanted or not.
fn events(tick: &Tick) -> String {
    let mut out = String::new();
    let changes = tick.netns.iter().filter_map(|netns| netns.change);
    let lost: u64 = changes.map(|change| change.events_lost).sum();
    if lost > 0 {
        let lost = units::short(lost as f64);
        let _ = writeln!(
            out,
            "{BAD}  {lost} events lost: the ring buffers were full; no count suffers{BAD:#}"
        );
    }
    let ratio = tick.events.map_or(1.0, |events| ratio(events.threshold));
    if ratio < 1.0 {
        let one_in = 1.0 / ratio;
        let decimals = usize::from(one_in < 9.95);
        let _ = writeln!(
            out,
            "{DIM}  events of 1 flow in {one_in:.decimals$}; counts are of all{DIM:#}"
        );
    }
    out
}

/// The last tuple of which a packet was dropped and the last that was evicted in the tick.
fn victims(tick: &Tick) -> String {
    let mut out = String::new();
    for kind in [EventKind::TableFullDrop, EventKind::EarlyDrop] {
        if let Some(last) = tick.victims.iter().rev().find(|victim| victim.flow.kind == kind) {
            let what = if kind == EventKind::EarlyDrop { "evicted" } else { "dropped" };
            let protocol = flow::protocol(last.flow.original.protocol);
            let tuple = flow::tuple(&last.flow.original);
            let _ = writeln!(out, "{DIM}  last {what}: {protocol} {tuple}{DIM:#}");
        }
    }
    out
}

/// [`COLUMNS`], with that of names so wide.
fn widths(name_width: usize) -> [(&'static str, usize); COLUMNS.len()] {
    let mut columns = COLUMNS;
    columns[0].1 = name_width;
    columns
}

/// `name`: as shown, and the width of its column.
fn line(
    netns: &NetnsTick,
    name: (String, usize),
    counted: &Counted,
    thresholds: &Thresholds,
) -> String {
    let fill = netns.fill_ratio();
    let fill_style = fill.map_or(PLAIN, |ratio| style::of(thresholds.severity_of_fill(ratio)));
    let rate = |rate: Option<f64>| rate.map_or("?".into(), units::short);
    // Losses of the tick; above 0 in the colour of their condition.
    let losses = |is_counted: bool, condition: Condition, of: fn(&Totals) -> u64| match netns
        .change
        .as_ref()
        .filter(|_| is_counted)
        .map(of)
    {
        Some(0) => ("0".into(), PLAIN),
        Some(count) => (units::short(count as f64), style::of(condition.severity())),
        None => ("?".into(), PLAIN),
    };
    let count_drift = match netns.count_drift {
        None => ("~".into(), DIM),
        Some(0) => ("0".into(), PLAIN),
        Some(count_drift) => (units::signed(count_drift as f64), BAD),
    };
    let count_drift = if netns.totals.is_none() { ("?".into(), PLAIN) } else { count_drift };
    let cells: [(String, Style); COLUMNS.len()] = [
        (name.0, PLAIN),
        (entries(netns.entries), fill_style),
        (limit(netns.limit), PLAIN),
        (fill.map_or("-".into(), units::percent), fill_style),
        (rate(netns.rates.insert), PLAIN),
        (rate(netns.insert_rate_peak()), PLAIN),
        (rate(netns.rates.delete), PLAIN),
        (netns.rates.net.map_or("?".into(), units::signed), PLAIN),
        losses(counted.early_drops, Condition::TableFullDrops, |change| change.table_full_drops),
        losses(counted.early_drops && counted.deletes, Condition::EarlyDrops, |change| {
            change.early_drops
        }),
        forecast::cell(netns, thresholds),
        count_drift,
    ];
    let padded = cells.iter().zip(widths(name.1)).map(|((text, style), (_, width))| {
        // Padded inside the style: its characters take no room on the screen.
        format!("{style}{text:>width$}{style:#}")
    });
    padded.collect::<Vec<_>>().join(" ")
}

fn entries(entries: Entries) -> String {
    match entries {
        Entries::Exact(entries) => entries.to_string(),
        Entries::Between(_, high) => format!("<={high}"),
        Entries::Unavailable => "?".into(),
    }
}

fn limit(limit: Limit) -> String {
    match limit {
        Limit::Entries(max) => max.to_string(),
        Limit::Unlimited => "none".into(),
        Limit::Unavailable => "?".into(),
    }
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
