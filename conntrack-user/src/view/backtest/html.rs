//! Scores as a page that needs nothing else, with plots.

use std::fmt::Write as _;

use super::{plot, summary::groups};
use crate::{
    backtest::{
        estimate::{Estimate, over},
        registry::CLAIRVOYANT,
        score::{self, Metric},
        trial::{Judged, Outcome},
    },
    text::one_line,
};

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ctmon backtest</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { --ink: #1c2126; --dim: #68737d; --paper: #fff; --line: #d9dee2; --level: #1461a8; --fan: #e08a1e; --bad: #c5362b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8eb; --dim: #93a0aa; --paper: #14181c; --line: #323a41; --level: #6db3f2; --fan: #f0a94a; --bad: #ef6a5f; }
}
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 960px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin: 2.2em 0 .2em }
p { margin: .3em 0; color: var(--dim) }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: 12.5px; font-variant-numeric: tabular-nums; margin: .6em 0 }
th, td { text-align: right; padding: .15em .45em; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left }
th { font-weight: 600 } td small { display: block; color: var(--dim); font-size: 10px }
svg { width: 100%; height: auto; margin-top: .5em } svg text { font: 10.5px system-ui, sans-serif; fill: var(--dim) }
polyline { fill: none } .level { stroke: var(--level); stroke-width: 1.6 } .max { stroke: var(--bad); stroke-width: 1.2; stroke-dasharray: 5 3 }
.median { stroke: var(--fan); stroke-width: 1 } .fan { fill: var(--fan); opacity: .28 } .grid { stroke: var(--line) }
.alarm { fill: var(--fan) } .full { fill: var(--bad); opacity: .13 }
</style></head><body>
<h1>ctmon backtest</h1>
"#;

/// The page.
#[must_use]
pub fn page(outcomes: &[Outcome]) -> String {
    let mut out = HEAD.to_owned();
    legend(&mut out);
    for (name, members) in groups(outcomes) {
        let _ = write!(out, "<h2>{}</h2>", escape(&name));
        if let [outcome] = members[..] {
            let text = format!("{}. {}", outcome.case.title(), outcome.case.imitates());
            let _ = write!(out, "<p>{}</p>", escape(&text));
            let is_real = |judged: &Judged| judged.name != CLAIRVOYANT;
            let fan = outcome.forecasters.iter().position(is_real).unwrap_or(0);
            if let Some(trace) = &outcome.first {
                let who = outcome.forecasters.get(fan).map_or(CLAIRVOYANT, |judged| judged.name);
                out.push_str(&plot::svg(trace, &outcome.forecasters, fan));
                let _ = write!(out, "<p>Fan: what {who} said 60 s before.</p>");
            }
        }
        table(&mut out, &members);
    }
    out.push_str("</body></html>\n");
    out
}

fn legend(out: &mut String) {
    out.push_str(
        "<p>Plots show the first seed, or what was recorded: the level (blue), the limit (dashed), the forecast of N(t+60) by its \
         10, 50 and 90 % quantiles (orange), when the table is full (red), and each forecaster's alarms as bars. \
         Tables: means over the seeds, and their 95 % confidence intervals. LEAD: seconds from the alarm to the \
         fill. SHARE: of the clairvoyant's lead. MISS: share of fills without an alarm. FALSE: minutes of false \
         alarm. E300 to E10, E1/2: relative error of the time to full so many seconds before, and half way; ETA: \
         their mean; 10 is never. PINB, CRPS: of N(t+60), per cent of the limit. COV, COVF: how often the 80 % \
         intervals of N(t+60) and of the time to full held. DROP: error of the time to the first dropped packet. \
         EVICT: of the entries that can be evicted, per cent of the limit. SETT, TOLD: relative error of the level \
         where it settles, and how often one was said. B1M to B60M: Brier's score of full within so many minutes.</p>\n",
    );
}

fn table(out: &mut String, members: &[&Outcome]) {
    out.push_str("<div class=\"wide\"><table><tr><th></th>");
    for metric in &score::ALL {
        let _ = write!(out, "<th>{}</th>", metric.heading);
    }
    out.push_str("</tr>");
    let names = members.first().map(|outcome| outcome.forecasters.iter());
    for (at, judged) in names.into_iter().flatten().enumerate() {
        let _ = write!(out, "<tr><td>{}</td>", judged.name);
        for (place, metric) in score::ALL.iter().enumerate() {
            let _ = write!(out, "<td>{}</td>", cell(over(members, at, place), metric));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>\n");
}

fn cell(estimate: Option<Estimate>, metric: &Metric) -> String {
    let Some(estimate) = estimate else { return "–".into() };
    let number = |value: f64| format!("{value:.*}", metric.decimals);
    let within = estimate.within.map(|within| format!("<small>±{}</small>", number(within)));
    number(estimate.mean) + &within.unwrap_or_default()
}

fn escape(text: &str) -> String {
    one_line(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
