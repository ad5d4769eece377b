//! Scores as a table.

use std::fmt::Write as _;

use anstyle::Style;

use super::{
    place,
    summary::{groups, over},
};
use crate::backtest::{
    score,
    trial::{Estimate, Outcome},
};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// What is shown, in this order.
const COLUMNS: [&str; 14] = [
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
/// Widths of the forecaster's name and of a number.
const NAME: usize = 18;
const WIDTH: usize = 5;

/// A block of lines for each scenario, and one for all of them where there are several.
#[must_use]
pub fn table(outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    for (name, members) in groups(outcomes) {
        let fills = over(&members, 0, place("fills")).map_or(0.0, |fills| fills.mean);
        head(&mut out, &format!("{name}: {fills:.1} fills"));
        let names = members.first().map(|outcome| outcome.forecasters.iter());
        for (at, judged) in names.into_iter().flatten().enumerate() {
            row(&mut out, judged.name, |metric| over(&members, at, metric));
        }
    }
    out
}

fn head(out: &mut String, title: &str) {
    let headings = COLUMNS.map(|name| format!("{:>WIDTH$}", score::ALL[place(name)].heading));
    let _ = writeln!(out, "{BOLD}{title}{BOLD:#}");
    let _ = writeln!(out, "{DIM}{:NAME$}{}{DIM:#}", "", headings.join(" "));
}

fn row(out: &mut String, name: &str, of: impl Fn(usize) -> Option<Estimate>) {
    let cells = |number: fn(&Estimate) -> Option<f64>, sign: &str| {
        let cell = |name: &str| {
            let metric = place(name);
            let text = of(metric)
                .as_ref()
                .and_then(number)
                .map(|value| format!("{sign}{value:.*}", score::ALL[metric].decimals));
            format!("{:>WIDTH$}", text.unwrap_or_else(|| "-".into()))
        };
        COLUMNS.map(cell).join(" ")
    };
    let _ = writeln!(out, "{name:NAME$}{}", cells(|estimate| Some(estimate.mean), ""));
    let within = cells(|estimate| estimate.within, "±");
    if within.contains('±') {
        let _ = writeln!(out, "{DIM}{:NAME$}{within}{DIM:#}", "");
    }
}
