//! A change of severity as fields: of a log line, of JSON, of variables.

use serde_json::{Value, json};

use super::{forecast, full, json::SCHEMA_VERSION};
use crate::{
    daemon::warning::Change,
    model::{
        reading::{NetnsId, Time},
        tick::{Entries, Limit},
    },
    severity::{Severity, facts::Losses},
};

/// Its fields in the order in which they are shown; null: it cannot be told, or there is none. docs/warnings.md says what
/// each one means.
#[must_use]
pub fn fields(change: &Change) -> Vec<(&'static str, Value)> {
    let entries = match change.entries {
        Entries::Exact(entries) => Some(entries),
        Entries::Between(..) | Entries::Unavailable => None,
    };
    let limit = match change.limit {
        Limit::Entries(max) => Some(max),
        Limit::Unlimited | Limit::Unavailable => None,
    };
    let ratio = entries.zip(limit).map(|(entries, max)| entries as f64 / f64::from(max));
    let conditions: Vec<&str> =
        change.conditions.iter().map(|condition| condition.name()).collect();
    let [within_1m, within_5m, within_15m, within_1h] = match change.full_probability {
        Some(within) => within.map(forecast::rounded_down),
        None => [None; 4],
    };
    let quantiles = change.seconds_to_full;
    let quantile = |of: Option<Option<f64>>| of.flatten().and_then(forecast::rounded);
    let full = full::json(change.full.as_ref());
    vec![
        ("severity", json!(change.to.name())),
        ("previous_severity", json!(change.from.name())),
        ("previous_severity_seconds", json!(forecast::rounded(change.seconds))),
        ("netns_inode", json!(change.id.inode)),
        ("netns_cookie", json!(change.id.cookie)),
        ("netns_name", json!(change.name.as_ref().map(|name| &name.text))),
        ("netns_name_kind", json!(change.name.as_ref().map(|name| name.kind))),
        ("netns_ended", json!(change.ended)),
        ("conditions", json!(conditions.join(","))),
        ("entries", json!(entries)),
        ("entries_limit", json!(limit)),
        ("fill_ratio", json!(ratio.and_then(forecast::rounded_down))),
        ("full_since_ns", json!(full.full_since_ns)),
        ("full_seconds", json!(full.full_seconds)),
        ("full_at_start", json!(full.full_at_start)),
        ("table_full_drop_rate", json!(full.table_full_drop_rate)),
        ("table_full_drops_since_ns", json!(full.table_full_drops_since_ns)),
        ("early_drop_rate", json!(full.early_drop_rate)),
        ("seconds_to_full_p10", json!(quantile(quantiles.map(|full| full.low)))),
        ("seconds_to_full_p50", json!(quantile(quantiles.map(|full| full.median)))),
        ("seconds_to_full_p90", json!(quantile(quantiles.map(|full| full.high)))),
        ("full_probability_1m", json!(within_1m)),
        ("full_probability_5m", json!(within_5m)),
        ("full_probability_15m", json!(within_15m)),
        ("full_probability_1h", json!(within_1h)),
        ("table_full_drops", json!(change.losses.table_full_drops)),
        ("early_drops", json!(change.losses.early_drops)),
    ]
}

/// What a command and a webhook get: all of it. `node`: what this machine is
/// called, where that is known.
#[must_use]
pub fn notification(change: &Change, node: Option<&str>) -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("schema_version", json!(SCHEMA_VERSION)),
        ("kind", json!("warning")),
        ("time_ns", json!(change.time.unix_ns)),
        ("node", json!(node)),
        ("message", json!(change.message)),
    ];
    all.extend(fields(change));
    all
}

/// A test for whoever is notified: as [`notification`], of no table, with another `kind`.
#[must_use]
pub fn test(unix_ns: u64, node: Option<&str>) -> Vec<(&'static str, Value)> {
    let nothing = Change {
        time: Time { monotonic_ns: 0, unix_ns },
        id: NetnsId { cookie: None, inode: 0 },
        name: None,
        from: Severity::Ok,
        seconds: 0.0,
        to: Severity::Ok,
        conditions: vec![],
        entries: Entries::Unavailable,
        limit: Limit::Unavailable,
        full: None,
        seconds_to_full: None,
        full_probability: None,
        losses: Losses::default(),
        ended: false,
        message: "test of notifications: no table has changed".into(),
    };
    let mut all = notification(&nothing, node);
    for (key, value) in &mut all {
        if *key == "kind" {
            *value = json!("test");
        }
    }
    all
}

/// One JSON object of fields, in their order.
#[must_use]
pub fn object(fields: &[(&str, Value)]) -> String {
    let members: Vec<String> =
        fields.iter().map(|(key, value)| format!("{}:{value}", json!(key))).collect();
    format!("{{{}}}", members.join(","))
}

/// A value as one would write it on a line of its own; none where there is none.
#[must_use]
pub fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        forecast::outlook::Quantiles,
        model::name::{Name, NameKind},
        severity::Condition,
    };

    /// A table that drops.
    fn change() -> Change {
        let full = Quantiles { low: Some(25.5), median: Some(40.0), high: None };
        Change {
            time: Time { monotonic_ns: 1, unix_ns: 2 },
            id: NetnsId { cookie: None, inode: 4_026_531_840 },
            name: Some(Name { text: "a \"b\"".into(), kind: NameKind::IpNetns }),
            from: Severity::Warning,
            seconds: 61.5,
            to: Severity::Critical,
            conditions: vec![Condition::TableFullDrops, Condition::FullSoon],
            entries: Entries::Exact(750),
            limit: Limit::Entries(1000),
            full: None,
            seconds_to_full: Some(full),
            full_probability: Some([0.9, 1.0, 1.0, 1.0]),
            losses: Losses { table_full_drops: Some(3), early_drops: None },
            ended: false,
            message: "so".into(),
        }
    }

    #[test]
    fn what_cannot_be_told_is_null_and_no_variable() {
        let fields = notification(&change(), Some("n1"));
        assert_eq!(
            object(&fields),
            "{\"schema_version\":3,\"kind\":\"warning\",\"time_ns\":2,\"node\":\"n1\",\"message\":\"so\",\
             \"severity\":\"critical\",\"previous_severity\":\"warning\",\"previous_severity_seconds\":61.5,\
             \"netns_inode\":4026531840,\"netns_cookie\":null,\"netns_name\":\"a \\\"b\\\"\",\"netns_name_kind\":\"ip_netns\",\
             \"netns_ended\":false,\"conditions\":\"table_full_drops,full_soon\",\"entries\":750,\"entries_limit\":1000,\
             \"fill_ratio\":0.75,\"full_since_ns\":null,\"full_seconds\":null,\"full_at_start\":null,\"table_full_drop_rate\":null,\
             \"table_full_drops_since_ns\":null,\"early_drop_rate\":null,\"seconds_to_full_p10\":25.5,\"seconds_to_full_p50\":40.0,\
             \"seconds_to_full_p90\":null,\"full_probability_1m\":0.9,\"full_probability_5m\":1.0,\"full_probability_15m\":1.0,\
             \"full_probability_1h\":1.0,\"table_full_drops\":3,\"early_drops\":null}"
        );
        let value = |key: &str| plain(&fields.iter().find(|(one, _)| *one == key).unwrap().1);
        assert_eq!(value("netns_name").as_deref(), Some("a \"b\""));
        assert_eq!(value("entries").as_deref(), Some("750"));
        assert_eq!(value("early_drops"), None);
    }

    #[test]
    fn a_test_is_no_warning() {
        let fields = test(2, Some("n1"));
        let value = |key: &str| plain(&fields.iter().find(|(one, _)| *one == key).unwrap().1);
        assert_eq!(value("kind").as_deref(), Some("test"));
        assert_eq!(value("severity").as_deref(), Some("ok"));
        assert_eq!((value("node").as_deref(), value("entries")), (Some("n1"), None));
        assert!(value("message").unwrap().starts_with("test of notifications"));
    }

    #[test]
    fn a_full_table_is_told_by_facts_and_no_forecast() {
        let full = crate::view::full::tests::full(12.0, 30.0);
        let change = Change {
            full: Some(full),
            seconds_to_full: None,
            full_probability: Some([1.0; 4]),
            ..change()
        };
        let fields = fields(&change);
        let value = |key: &str| plain(&fields.iter().find(|(one, _)| *one == key).unwrap().1);
        assert_eq!(value("full_since_ns").as_deref(), Some("1764000000000000000"));
        assert_eq!(value("full_seconds").as_deref(), Some("41.3"));
        assert_eq!(value("table_full_drop_rate").as_deref(), Some("12.0"));
        assert_eq!(value("early_drop_rate").as_deref(), Some("30.0"));
        assert_eq!(value("seconds_to_full_p50"), None);
    }
}
