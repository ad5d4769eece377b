//! Output of `status` as monitoring plugins write it (Monitoring Plugins Development Guidelines): performance data behind
//! `|` in the first line, errors as `UNKNOWN: ...`.

use std::collections::BTreeSet;

use super::{
    coverage::{self, CountedTable},
    status::Limits,
    units,
};
use crate::model::tick::{Entries, Limit, NetnsTick, Tick};

/// Most bytes of performance data: monitoring cores cut an answer at 8 kB, and NRPE one at 4 kB or less.
const MAX_BYTES: usize = 3000;

/// Inode of the network namespace whose labels have no name, so that they stay the same on every node: the one that ctmon
/// is in, or the one that `--netns` selects.
pub type Unnamed = Option<u64>;

/// `text` with the performance data of `tick` in its first line, and without any other `|`.
#[must_use]
pub fn with_performance_data(text: &str, tick: &Tick, limits: Limits, unnamed: Unnamed) -> String {
    let text = without_pipes(text);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let (data, left_out) = performance_data(tick, limits, unnamed);
    if data.is_empty() {
        return text;
    }
    let note = match left_out {
        0 => String::new(),
        left_out => {
            format!("performance data of {left_out} tables left out, the least full ones\n")
        }
    };
    format!("{first} | {data}\n{rest}{note}")
}

/// An error in a line of standard output.
#[must_use]
pub fn unknown(error: &str) -> String {
    // An error may have several lines; the first one is what a monitoring system shows.
    let mut lines = error.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("an error without a message");
    let rest: String = lines.map(|line| format!("{line}\n")).collect();
    without_pipes(&format!("UNKNOWN: {first}\n{rest}"))
}

/// Replaces each `|`: monitoring systems take all behind it for performance data, in any line.
fn without_pipes(text: &str) -> String {
    text.replace('|', "_")
}

/// Packets that the kernel has dropped in all namespaces since each was made: `; 12 packets dropped since the start (table
/// full or clash)`. Empty where there are none, and where no namespace has the counter.
#[must_use]
pub fn drops(tick: &Tick) -> String {
    let drops: u64 = tick.netns.iter().filter_map(kernel_drops).sum();
    if drops == 0 {
        return String::new();
    }
    let packets = units::with_noun(&units::grouped(drops), "packet", "packets");
    format!("; {packets} dropped since the start (table full or clash)")
}

fn kernel_drops(netns: &NetnsTick) -> Option<u64> {
    netns.kernel.as_ref()?.drop
}

/// Numbers of one table.
struct Table<'a> {
    inode: u64,
    name: Option<&'a str>,
    entries: Option<u64>,
    limit: Limit,
    drops: Option<u64>,
}

impl<'a> Table<'a> {
    fn read(netns: &'a NetnsTick) -> Self {
        Self {
            inode: netns.id.inode,
            name: netns.name.as_ref().map(|name| name.text.as_str()),
            entries: netns.entries.at_most(),
            limit: netns.limit,
            drops: kernel_drops(netns),
        }
    }

    fn counted(table: &CountedTable<'a>) -> Self {
        Self {
            inode: table.netns.id.inode,
            name: table.netns.name.as_deref(),
            entries: Some(table.entries),
            limit: Limit::Entries(table.limit),
            drops: None,
        }
    }

    fn fill(&self) -> f64 {
        self.entries.and_then(|entries| self.limit.fill(Entries::Exact(entries))).unwrap_or(0.0)
    }
}

/// Entries and drops of each table, and the number of tables for which there is no room.
fn performance_data(tick: &Tick, limits: Limits, unnamed: Unnamed) -> (String, usize) {
    let counted = coverage::counted(tick);
    let is_elsewhere =
        |netns: &&NetnsTick| !counted.iter().any(|table| table.netns.id.inode == netns.id.inode);
    let read = tick.netns.iter().filter(is_elsewhere).map(Table::read);
    let mut tables: Vec<Table<'_>> = read.chain(counted.iter().map(Table::counted)).collect();
    let is_unnamed = |table: &Table<'_>| unnamed == Some(table.inode);
    // The fullest ones matter most where there is no room for all.
    tables.sort_by(|a, b| {
        let first = is_unnamed(b).cmp(&is_unnamed(a));
        first.then(b.fill().total_cmp(&a.fill())).then(a.inode.cmp(&b.inode))
    });
    let mut taken = BTreeSet::new();
    let mut data = String::new();
    let mut shown = 0;
    for table in &tables {
        let suffix = if is_unnamed(table) { String::new() } else { suffix(table, &mut taken) };
        let one = one(table, limits, &suffix);
        if !data.is_empty() && data.len() + one.len() >= MAX_BYTES {
            break;
        }
        if !data.is_empty() {
            data.push(' ');
        }
        data.push_str(&one);
        shown += 1;
    }
    (data, tables.len() - shown)
}

/// `'entries'=850;800;950;0;1000 'drops'=3c`: `U` stands for what is not available.
fn one(table: &Table<'_>, limits: Limits, suffix: &str) -> String {
    let value =
        |value: Option<u64>| value.map_or_else(|| "U".to_owned(), |value| value.to_string());
    let entries = value(table.entries);
    let bounds = match table.limit {
        Limit::Entries(max) => {
            let [warning, critical] = limits.fills().map(|range| range.in_entries(max));
            format!("{warning};{critical};0;{max}")
        }
        Limit::Unlimited | Limit::Unavailable => ";;0;".to_owned(),
    };
    let drops = table.drops.map_or_else(|| "U".to_owned(), |drops| format!("{drops}c"));
    format!("'entries{suffix}'={entries};{bounds} 'drops{suffix}'={drops}")
}

/// A name that is safe in a label and that no other table has.
fn suffix(table: &Table<'_>, taken: &mut BTreeSet<String>) -> String {
    let inode = table.inode;
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-./:".contains(c) { c } else { '_' };
    let name = table.name.map(|name| name.chars().map(plain).collect::<String>());
    let mut suffix = name.map_or_else(|| format!("_{inode}"), |name| format!("_{name}"));
    if !taken.insert(suffix.clone()) {
        suffix = format!("{suffix}_{inode}");
        taken.insert(suffix.clone());
    }
    suffix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            name::{Name, NameKind},
            reading::KernelStat,
        },
        severity::{THRESHOLDS, range::FillRange},
        view::status::Ranges,
    };

    fn table(inode: u64, entries: u64, name: &str) -> NetnsTick {
        let mut netns = NetnsTick::example(inode, entries, 1000);
        netns.name = Some(Name { text: name.into(), kind: NameKind::IpNetns });
        netns.kernel = Some(KernelStat { drop: Some(0), ..KernelStat::default() });
        netns
    }

    fn limits() -> Limits {
        Limits { thresholds: THRESHOLDS.on_demand(), ranges: Ranges::default(), full_within: None }
    }

    #[test]
    fn the_graph_of_a_plugin_has_entries_thresholds_and_limit() {
        let tick = Tick::example(vec![table(7, 850, "host")]);
        let text = with_performance_data("WARNING: 85% full\nmore\n", &tick, limits(), Some(7));
        let expected = "WARNING: 85% full | 'entries'=850;800;950;0;1000 'drops'=0c\nmore\n";
        assert_eq!(text, expected);
        let range = |text: &str| Some(text.parse::<FillRange>().unwrap());
        let ranges = Ranges { warning: range("10:80"), critical: range("@95:100") };
        let limits = Limits { ranges, ..limits() };
        let (data, _) = performance_data(&tick, limits, Some(7));
        assert_eq!(data, "'entries'=850;100:800;@950:1000;0;1000 'drops'=0c");
    }

    #[test]
    fn a_table_that_is_only_counted_has_entries_and_no_drops() {
        let mut tick = Tick::example(vec![table(7, 200, "host")]);
        let coverage = crate::source::recording::samples::coverage();
        tick.coverage = Some(std::sync::Arc::new(coverage));
        let (data, _) = performance_data(&tick, limits(), Some(7));
        let expected =
            "'entries'=200;800;950;0;1000 'drops'=0c 'entries_12'=900;800;950;0;1000 'drops_12'=U";
        assert_eq!(data, expected);
        // Programs count in it: it is one table all the same.
        let other = NetnsTick { entries: Entries::Unavailable, kernel: None, ..table(12, 0, "x") };
        tick.netns.push(NetnsTick { limit: Limit::Unavailable, ..other });
        assert_eq!(performance_data(&tick, limits(), Some(7)).0, expected);
    }

    #[test]
    fn what_is_not_available_is_u_and_no_0() {
        let mut netns = table(7, 0, "host");
        (netns.entries, netns.kernel) = (Entries::Unavailable, None);
        let (data, _) = performance_data(&Tick::example(vec![netns.clone()]), limits(), Some(7));
        assert_eq!(data, "'entries'=U;800;950;0;1000 'drops'=U");
        netns.limit = Limit::Unlimited;
        let (data, _) = performance_data(&Tick::example(vec![netns]), limits(), Some(7));
        assert_eq!(data, "'entries'=U;;;0; 'drops'=U");
    }

    #[test]
    fn no_name_breaks_the_performance_data() {
        let names = ["a|b", "a=b", "a'b", "a b", "ns/pod-1", "é", "a_b"];
        let netns = names.iter().zip(10..).map(|(name, inode)| table(inode, 5, name));
        let tick = Tick::example(netns.collect());
        let text = "OK: 0% full in netns a|b: 5 of 1,000 entries\n a|b\n";
        let text = with_performance_data(text, &tick, limits(), None);
        assert_eq!(text.matches('|').count(), 1, "{text}");
        let (_, data) = text.lines().next().unwrap().split_once(" | ").unwrap();
        let labels: Vec<&str> = data.split(' ').map(|one| one.split_once('=').unwrap().0).collect();
        let entries: Vec<&&str> = labels.iter().filter(|one| one.contains("entries")).collect();
        let expected = [
            "'entries_a_b'",
            "'entries_a_b_11'",
            "'entries_a_b_12'",
            "'entries_a_b_13'",
            "'entries_ns/pod-1'",
            "'entries__'",
            "'entries_a_b_16'",
        ];
        assert_eq!(entries, expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn many_tables_keep_to_the_room_there_is_and_say_so() {
        let tables = (0..2000).map(|at| table(100 + at, at % 1000, &format!("pod-{at}")));
        let tick = Tick::example(tables.chain([table(7, 3, "host")]).collect());
        let text = with_performance_data("OK: fine\n", &tick, limits(), Some(7));
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("OK: fine | 'entries'=3;"), "{first}");
        assert!(first.contains("'entries_pod-999'=999;") && first.len() < 3200, "{first}");
        assert!(text.ends_with("tables left out, the least full ones\n"), "{text}");
    }

    #[test]
    fn drops_are_told_where_there_are_some() {
        let mut tick = Tick::example(vec![table(7, 5, "a"), table(8, 5, "b")]);
        assert_eq!(drops(&tick), "");
        tick.netns[1].kernel.as_mut().unwrap().drop = Some(1234);
        assert_eq!(drops(&tick), "; 1,234 packets dropped since the start (table full or clash)");
        tick.netns[0].kernel = None;
        tick.netns[1].kernel.as_mut().unwrap().drop = Some(1);
        assert_eq!(drops(&tick), "; 1 packet dropped since the start (table full or clash)");
    }

    #[test]
    fn an_error_is_unknown_in_the_first_line() {
        assert_eq!(
            unknown("invalid value 'a|b' for '--crit'\n\nFor more information, try '--help'.\n"),
            "UNKNOWN: invalid value 'a_b' for '--crit'\nFor more information, try '--help'.\n"
        );
        assert_eq!(unknown(""), "UNKNOWN: an error without a message\n");
    }
}
