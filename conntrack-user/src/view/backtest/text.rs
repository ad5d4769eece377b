//! Scores as a table.

use std::fmt::Write as _;

use anstyle::Style;

use super::summary::groups;
use crate::backtest::{
    estimate::{Estimate, over},
    score::{self, place},
    trial::Outcome,
};

pub(super) const BOLD: Style = Style::new().bold();
pub(super) const DIM: Style = Style::new().dimmed();

/// What is shown, in this order: of alarms and times to full.
const COLUMNS: &[&str] = &[
    "lead_s",
    "lead_share",
    "missed",
    "false_min",
    "eta_300s",
    "eta_120s",
    "eta_60s",
    "eta_30s",
    "eta_10s",
    "eta_half",
    "eta",
    "crps_60s",
    "covers_60s",
    "covers_full",
];
/// Below that, of what else was said, by those who said any of it.
const MORE: &[&str] = &[
    "drop",
    "evictable_entries",
    "steady_state",
    "steady_state_told",
    "brier_60s",
    "brier_300s",
    "brier_900s",
    "brier_3600s",
];
/// Widths of the forecaster's name and of a number.
const NAME: usize = 18;
const WIDTH: usize = 5;

/// Blocks of lines for each scenario, and for all of them where there are several.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    for (name, members) in groups(outcomes) {
        let fills = over(&members, 0, place("fills")).map_or(0.0, |fills| fills.mean);
        let _ = writeln!(out, "{BOLD}{name}: {fills:.1} fills{BOLD:#}");
        let heading = out.len();
        for columns in [COLUMNS, MORE] {
            block(&mut out, columns, &members);
        }
        if out.len() == heading {
            out.push_str("nothing in it can be judged: no fill, and less than a minute\n");
        }
    }
    out
}

/// A line for each forecaster that has a number in any of the columns; of none, nothing.
fn block(out: &mut String, columns: &[&str], members: &[&Outcome]) {
    let mut rows = String::new();
    let names = members.first().map(|outcome| outcome.forecasters.iter());
    for (at, judged) in names.into_iter().flatten().enumerate() {
        row(&mut rows, judged.name, columns, |metric| over(members, at, metric));
    }
    if !rows.is_empty() {
        let heading = |name: &&str| format!("{:>WIDTH$}", score::ALL[place(name)].heading);
        let headings: Vec<String> = columns.iter().map(heading).collect();
        let _ = writeln!(out, "{DIM}{:NAME$}{}{DIM:#}", "", headings.join(" "));
        out.push_str(&rows);
    }
}

fn row(out: &mut String, name: &str, columns: &[&str], of: impl Fn(usize) -> Option<Estimate>) {
    let cells = |number: fn(&Estimate) -> Option<f64>, sign: &str| {
        let mut is_any = false;
        let cell = |name: &&str| {
            let metric = place(name);
            let value = of(metric).as_ref().and_then(number);
            is_any |= value.is_some();
            let text = value.map(|value| format!("{sign}{value:.*}", score::ALL[metric].decimals));
            format!("{:>WIDTH$}", text.unwrap_or_else(|| "-".into()))
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        is_any.then(|| cells.join(" "))
    };
    if let Some(means) = cells(|estimate| Some(estimate.mean), "") {
        let _ = writeln!(out, "{name:NAME$}{means}");
    }
    if let Some(within) = cells(|estimate| estimate.within, "±") {
        let _ = writeln!(out, "{DIM}{:NAME$}{within}{DIM:#}", "");
    }
}
