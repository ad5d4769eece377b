//! The alert rules against the table of thresholds.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{THRESHOLDS, Thresholds, thresholds::RULES_LEAST_FILL};
use crate::forecast::outlook::{WITHIN, WITHIN_NAMES};

const RULES: &str = include_str!("../../../contrib/prometheus/ctmon.rules.yml");

#[derive(Deserialize)]
struct File {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    alert: Option<String>,
    expr: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

fn alerts() -> BTreeMap<String, Rule> {
    let file: File = serde_saphyr::from_str(RULES).unwrap();
    let rules = file.groups.into_iter().flat_map(|group| group.rules);
    rules.filter_map(|rule| Some((rule.alert.clone()?, rule))).collect()
}

/// Name of the longest time of a forecast that is at most `seconds`.
fn within(seconds: f64) -> &'static str {
    let mut times = WITHIN.into_iter().zip(WITHIN_NAMES).rev();
    times.find(|(time, _)| *time <= seconds).unwrap().1
}

/// Rules that do not follow `thresholds`: their names, and the expression that they should have.
pub(super) fn disagreements(thresholds: &Thresholds) -> Vec<String> {
    let Thresholds { probability, critical_fill, warning_fill, high_fill, .. } = *thresholds;
    let likely = |seconds: f64, fill: f64| {
        let within = within(seconds);
        format!(
            "ctmon_full_probability{{within=\"{within}\"}} >= {probability} and ignoring (within) \
             netns:ctmon_fill:ratio > {fill} unless ignoring (within) ctmon_full_since_timestamp_seconds"
        )
    };
    let fuller = |fill: f64| format!("netns:ctmon_fill:ratio > {fill}");
    let expected = [
        ("CtmonTableAlmostFull", "critical", fuller(critical_fill)),
        (
            "CtmonCountedTableAlmostFull",
            "critical",
            format!("ctmon_netns_counted_fill_ratio > {critical_fill}"),
        ),
        ("CtmonTableHigh", "warning", fuller(warning_fill)),
        (
            "CtmonTableFullSoon",
            "critical",
            likely(thresholds.critical_within_seconds, RULES_LEAST_FILL),
        ),
        ("CtmonTableFilling", "warning", likely(thresholds.high_within_seconds, high_fill)),
    ];
    let alerts = alerts();
    let differs = |name: &str, severity: &str, expr: &str| {
        let rule = alerts.get(name);
        rule.is_none_or(|rule| {
            rule.expr != expr || rule.labels.get("severity").is_none_or(|label| label != severity)
        })
    };
    let differ = expected.iter().filter(|(name, severity, expr)| differs(name, severity, expr));
    differ.map(|(name, severity, expr)| format!("{name}: {severity} where {expr}")).collect()
}

#[test]
fn rules_have_the_thresholds_of_the_table() {
    assert_eq!(disagreements(&THRESHOLDS), Vec::<String>::new());
}

#[test]
fn a_rule_that_does_not_follow_is_named() {
    let lower = Thresholds { critical_fill: 0.55, ..THRESHOLDS };
    assert_eq!(
        disagreements(&lower),
        [
            "CtmonTableAlmostFull: critical where netns:ctmon_fill:ratio > 0.55",
            "CtmonCountedTableAlmostFull: critical where ctmon_netns_counted_fill_ratio > 0.55",
        ]
    );
}
