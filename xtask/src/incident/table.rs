//! An incident in Markdown.

use std::fmt::Write as _;

use super::{
    SCRAPE,
    record::{CRITICAL, Points, Record, said},
};
use crate::bench::numbers::grouped;

/// Seconds before the table is full.
const BEFORE: [u32; 8] = [300, 240, 180, 120, 90, 60, 45, 30];

/// What was said when, and which alerts fired.
pub(super) fn text(record: &Record) -> String {
    let mut text = format!(
        "Kernel {} in a VM; a scrape every {SCRAPE} s; the VM never stood still for more than {:.0} s.\n\n",
        record.kernel,
        record.gap()
    );
    let Some(full) = record.full() else {
        return text + "The table was never full.\n";
    };
    let _ = writeln!(
        text,
        "Full ({} entries) {} after the beginning.\n",
        grouped(record.limit),
        clock(full)
    );
    text += &errors(record, full);
    text.push('\n');
    text += &alerts(record, full);
    text
}

/// At some scrapes before it was full: how long it took, and what was said, with the error.
fn errors(record: &Record, full: f64) -> String {
    let mut text = "| at | full in | ctmon: 50 % (10 % to 90 %) | error |".to_owned();
    for (range, _) in &record.lines {
        let _ = write!(text, " `predict_linear`, {range} | error |");
    }
    let _ = write!(text, "\n|---|---|---|---|{}\n", "---|---|".repeat(record.lines.len()));
    let mut last = None;
    for before in BEFORE {
        let Some((at, median)) =
            said(&record.forecast.median, full - f64::from(before), f64::from(SCRAPE))
        else {
            continue;
        };
        if last.replace(at) == Some(at) {
            continue;
        }
        let left = full - at;
        let of = |points: &Points| said(points, at + 0.5, 1.0).map(|(_, value)| value);
        let quantile = |points| of(points).map_or("unknown".to_owned(), seconds);
        let (low, high) = (quantile(&record.forecast.low), quantile(&record.forecast.high));
        let said = seconds(median);
        let _ = write!(
            text,
            "| {} | {left:.0} s | {said} ({low} to {high}) | {} |",
            clock(at),
            error(median, left)
        );
        for (_, points) in &record.lines {
            let _ = match of(points) {
                Some(said) => write!(text, " {} | {} |", seconds(said), error(said, left)),
                None => write!(text, " nothing | |"),
            };
        }
        text.push('\n');
    }
    text
}

/// When each fired.
fn alerts(record: &Record, full: f64) -> String {
    let mut text = "| warning or alert | from | to | |\n|---|---|---|---|\n".to_owned();
    let own = [1.0, CRITICAL].map(|level| record.warned(level));
    for alert in own.iter().chain(&record.alerts) {
        for (began, ended) in &alert.firing {
            let lead = match full - began {
                lead if lead <= 0.0 => format!("{:.0} s after it was full", -lead),
                _ if *ended < full => "over before it was full".to_owned(),
                lead => format!("{lead:.0} s before it was full"),
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {lead} |",
                alert.name,
                clock(*began),
                clock(*ended)
            );
        }
    }
    text
}

/// `4:05`
fn clock(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    format!("{}:{:02}", whole / 60, whole % 60)
}

fn seconds(said: Option<f64>) -> String {
    said.map_or("never".to_owned(), |said| format!("{said:.0} s"))
}

fn error(said: Option<f64>, left: f64) -> String {
    said.map_or("-".to_owned(), |said| format!("{:+.0} s", said - left))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incident::record::tests::example;

    #[test]
    fn errors_and_leads_are_of_the_moment_at_which_it_was_full() {
        let text = text(&example());
        for line in [
            "Full (1,000 entries) 1:40 after the beginning.",
            "| at | full in | ctmon: 50 % (10 % to 90 %) | error | `predict_linear`, 5m | error | `predict_linear`, 1m | error |",
            "| 0:00 | 100 s | 110 s (50 s to 200 s) | +10 s | never | - | 90 s | -10 s |",
            "| 1:00 | 40 s | 44 s (20 s to 80 s) | +4 s | 200 s | +160 s | 36 s | -4 s |",
            "| `ctmon_severity >= 2` | 1:00 | 1:59 | 40 s before it was full |",
            "| `CtmonTableFullSoon` | 1:15 | 1:45 | 25 s before it was full |",
            "| `CtmonPacketsDropped` | 1:45 | 1:45 | 5 s after it was full |",
        ] {
            assert!(text.lines().any(|there| there == line), "{line}\n{text}");
        }
        // No scrape is told twice, and none that was not.
        assert_eq!(text.matches("\n| 0:").count() + text.matches("\n| 1:").count(), 4, "{text}");
    }

    #[test]
    fn what_was_never_full_has_no_table() {
        let mut record = example();
        record.entries.truncate(50);
        assert!(text(&record).ends_with("The table was never full.\n"));
    }
}
