//! A change of level as fields: of a log line, of JSON, of variables.

use serde_json::{Value, json};

use super::{forecast, json::SCHEMA_VERSION};
use crate::{
    daemon::warning::Change,
    model::tick::{Entries, Limit},
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
    let signs: Vec<&str> = change.signs.iter().map(|sign| sign.name()).collect();
    let [within_1m, within_5m, within_15m, within_1h] = match change.full_within {
        Some(within) => within.map(forecast::rounded),
        None => [None; 4],
    };
    let quantiles = change.full;
    let quantile = |of: Option<Option<f64>>| of.flatten().and_then(forecast::rounded);
    vec![
        ("state", json!(change.to.name())),
        ("previous_state", json!(change.from.name())),
        ("previous_state_seconds", json!(forecast::rounded(change.seconds))),
        ("netns", json!(change.id.inode)),
        ("netns_cookie", json!(change.id.cookie)),
        ("netns_name", json!(change.name.as_ref().map(|name| &name.text))),
        ("netns_name_kind", json!(change.name.as_ref().map(|name| name.kind))),
        ("netns_ended", json!(change.ended)),
        ("signs", json!(signs.join(","))),
        ("entries", json!(entries)),
        ("entries_limit", json!(limit)),
        ("fill_ratio", json!(ratio.and_then(forecast::rounded))),
        ("seconds_to_full_p10", json!(quantile(quantiles.map(|full| full.low)))),
        ("seconds_to_full_p50", json!(quantile(quantiles.map(|full| full.median)))),
        ("seconds_to_full_p90", json!(quantile(quantiles.map(|full| full.high)))),
        ("full_within_1m", json!(within_1m)),
        ("full_within_5m", json!(within_5m)),
        ("full_within_15m", json!(within_15m)),
        ("full_within_1h", json!(within_1h)),
        ("dropped", json!(change.lost.dropped)),
        ("evicted", json!(change.lost.evicted)),
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
        ("reason", json!(change.reason)),
    ];
    all.extend(fields(change));
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
        daemon::warning::{
            Level, Sign,
            change::{Change, Lost},
        },
        forecast::outlook::Quantiles,
        model::{
            name::{Name, NameKind},
            reading::{NetnsId, Time},
        },
    };

    #[test]
    fn what_cannot_be_told_is_null_and_no_variable() {
        let full = Quantiles { low: Some(25.5), median: Some(40.0), high: None };
        let change = Change {
            time: Time { monotonic_ns: 1, unix_ns: 2 },
            id: NetnsId { cookie: None, inode: 4_026_531_840 },
            name: Some(Name { text: "a \"b\"".into(), kind: NameKind::IpNetns }),
            from: Level::Warning,
            seconds: 61.5,
            to: Level::Critical,
            signs: vec![Sign::Dropped, Sign::FullSoon],
            entries: Entries::Exact(750),
            limit: Limit::Entries(1000),
            full: Some(full),
            full_within: Some([0.9, 1.0, 1.0, 1.0]),
            lost: Lost { dropped: Some(3), evicted: None },
            ended: false,
            reason: "so".into(),
        };
        let fields = notification(&change, Some("n1"));
        assert_eq!(
            object(&fields),
            "{\"schema_version\":2,\"kind\":\"warning\",\"time_ns\":2,\"node\":\"n1\",\"reason\":\"so\",\
             \"state\":\"critical\",\"previous_state\":\"warning\",\"previous_state_seconds\":61.5,\
             \"netns\":4026531840,\"netns_cookie\":null,\"netns_name\":\"a \\\"b\\\"\",\"netns_name_kind\":\"ip_netns\",\
             \"netns_ended\":false,\"signs\":\"dropped,full_soon\",\"entries\":750,\"entries_limit\":1000,\
             \"fill_ratio\":0.75,\"seconds_to_full_p10\":25.5,\"seconds_to_full_p50\":40.0,\
             \"seconds_to_full_p90\":null,\"full_within_1m\":0.9,\"full_within_5m\":1.0,\"full_within_15m\":1.0,\
             \"full_within_1h\":1.0,\"dropped\":3,\"evicted\":null}"
        );
        let value = |key: &str| plain(&fields.iter().find(|(one, _)| *one == key).unwrap().1);
        assert_eq!(value("netns_name").as_deref(), Some("a \"b\""));
        assert_eq!(value("entries").as_deref(), Some("750"));
        assert_eq!(value("evicted"), None);
    }
}
