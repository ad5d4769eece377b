//! What the serving half takes under loads, on this host.

use serde::Deserialize;

use super::{
    numbers::{Spread, grouped},
    table::{markdown, row},
};

/// A load, carried once.
#[derive(Deserialize)]
pub(super) struct Serving {
    load: String,
    seconds: f64,
    events: Part,
    ticks: Part,
    scrapes: Part,
    resident_kib: u64,
}

/// How often something was done, and the CPU time that it took.
#[derive(Deserialize)]
struct Part {
    count: u64,
    cpu_ns: u64,
}

impl Part {
    /// Of one time; none where it was never done.
    fn ns(&self) -> Option<f64> {
        (self.count > 0).then(|| self.cpu_ns as f64 / self.count as f64)
    }
}

/// What a part of it takes of a tick.
#[derive(Deserialize)]
pub(super) struct Tick {
    netns: u32,
    part: String,
    us: Vec<f64>,
}

const LEGEND: &str = "\
The serving half of `ctmon serve` in real time, each load in a process of its own: what the source tells is taken into
model, warnings, history and flight recorder (16 MB, ten minutes), one tick a second unless said otherwise, and the metrics of
128 namespaces are written each five seconds. Events are real ones, out of the ring, of flows that live for a second; readings
are made up, as many entries come as go. What it takes to read counters and procfs and to answer by HTTP is not in it: that is
in the VM's row of `ctmon serve`. Idle namespaces are looked at once a minute each. Resident memory is that after 13 s, when
the last minutes are not full yet.
";

const TICKS: &str = "\
What each part takes, in us of CPU time, by the number of namespaces in which something was counted since the tick before: the
median of a dozen ticks, one a second.
";

/// A table of parts by namespaces; nothing of none.
pub(super) fn describe_ticks(all: &[&Tick]) -> String {
    let (mut parts, mut columns): (Vec<&str>, Vec<u32>) = (Vec::new(), Vec::new());
    for one in all {
        if !parts.contains(&one.part.as_str()) {
            parts.push(&one.part);
        }
        if !columns.contains(&one.netns) {
            columns.push(one.netns);
        }
    }
    if parts.is_empty() {
        return String::new();
    }
    let head = columns.iter().map(|netns| grouped(f64::from(*netns)));
    let mut rows: Vec<Vec<String>> = vec![["part".to_owned()].into_iter().chain(head).collect()];
    rows.extend(parts.into_iter().map(|part| {
        let cell = |netns: &u32| {
            let found = all.iter().find(|one| one.part == part && one.netns == *netns);
            let spread = found.and_then(|one| Spread::of(one.us.iter().copied()));
            spread.map_or_else(|| "-".to_owned(), |spread| grouped(spread.median))
        };
        [part.to_owned()].into_iter().chain(columns.iter().map(cell)).collect()
    }));
    format!("\n{TICKS}\n{}", markdown(&rows))
}

/// A table of all; nothing of none.
pub(super) fn describe(all: &[&Serving]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for one in all.iter().filter(|one| one.seconds > 0.0) {
        if !names.contains(&one.load.as_str()) {
            names.push(&one.load);
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let mut rows = vec![row([
        "load",
        "CPU, % of a processor",
        "an event, ns",
        "a tick, us",
        "a scrape, us",
        "resident, MiB",
    ])];
    for name in names {
        let runs = || all.iter().filter(|one| one.load == name);
        let median = |of: &dyn Fn(&Serving) -> Option<f64>, digits: usize| {
            let spread = Spread::of(runs().filter_map(|one| of(one)));
            spread.map_or_else(|| "-".to_owned(), |spread| format!("{:.digits$}", spread.median))
        };
        let percent = Spread::of(runs().map(|one| {
            let all = one.events.cpu_ns + one.ticks.cpu_ns + one.scrapes.cpu_ns;
            all as f64 / 1e9 / one.seconds * 100.0
        }));
        rows.push(vec![
            name.to_owned(),
            percent.map_or_else(|| "-".to_owned(), |percent| percent.text(2)),
            median(&|one| one.events.ns(), 0),
            median(&|one| Some(one.ticks.ns()? / 1e3), 0),
            median(&|one| Some(one.scrapes.ns()? / 1e3), 0),
            median(&|one| Some(one.resident_kib as f64 / 1024.0), 1),
        ]);
    }
    format!("\n{LEGEND}\n{}", markdown(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_done_has_no_time() {
        let run = |cpu_ns| Serving {
            load: "idle".into(),
            seconds: 10.0,
            events: Part { count: 0, cpu_ns: 0 },
            ticks: Part { count: 10, cpu_ns },
            scrapes: Part { count: 2, cpu_ns: 0 },
            resident_kib: 2048,
        };
        let text = describe(&[&run(1_000_000), &run(3_000_000), &run(2_000_000)]);
        let line = text.lines().last().unwrap_or_default();
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        assert_eq!(cells, ["", "idle", "0.02 (0.01 to 0.03)", "-", "200", "0", "2.0", ""]);
        assert_eq!(describe(&[]), "");
    }

    #[test]
    fn parts_are_rows_and_namespaces_are_columns() {
        let tick = |netns, part: &str, us| Tick { netns, part: part.into(), us: vec![us] };
        let all = [tick(1, "model", 100.0), tick(2000, "model", 14_301.0), tick(1, "history", 2.0)];
        let text = describe_ticks(&all.each_ref());
        let lines: Vec<&str> = text.lines().rev().take(4).collect();
        assert!(lines[3].starts_with("| part    | 1   | 2,000"), "{text}");
        assert!(lines[1].starts_with("| model   | 100 | 14,301"), "{text}");
        assert!(lines[0].starts_with("| history | 2   | -"), "{text}");
    }
}
