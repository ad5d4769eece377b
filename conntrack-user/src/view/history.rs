//! The last minutes of each table in JSON: docs/serve.md says what each field means.

use serde::Serialize;

use super::json::SCHEMA_VERSION;
use crate::{
    daemon::history::{History, Point},
    model::{reading::NetnsId, tick::Limit},
};

/// The last minutes of each table.
#[derive(Debug, Serialize)]
pub struct Json {
    schema_version: u32,
    columns: [&'static str; 11],
    netns: Vec<Netns>,
}

#[derive(Debug, Serialize)]
struct Netns {
    inode: u64,
    cookie: Option<u64>,
    name: Option<String>,
    entries_limit: Option<u32>,
    unlimited: bool,
    points: Vec<Row>,
}

/// A point, in the order of [`COLUMNS`].
#[derive(Debug, Serialize)]
struct Row(
    u64,
    Option<u32>,
    Option<f32>,
    Option<f32>,
    Option<f32>,
    Option<u32>,
    Option<u32>,
    Option<f32>,
    Option<f32>,
    Option<f32>,
    Option<f32>,
);

const COLUMNS: [&str; 11] = [
    "time_ns",
    "entries",
    "insert_rate",
    "insert_rate_peak",
    "delete_rate",
    "table_full_drops",
    "early_drops",
    "seconds_to_full_p50",
    "entries_in_60s_p10",
    "entries_in_60s_p50",
    "entries_in_60s_p90",
];

/// What is younger than `since_ns`, in nanoseconds since 1970 UTC.
#[must_use]
pub fn json(history: &History, since_ns: u64) -> Json {
    let netns = history.since(since_ns).map(|(NetnsId { cookie, inode }, series, points)| Netns {
        inode,
        cookie,
        name: series.name.clone(),
        entries_limit: match series.limit {
            Some(Limit::Entries(max)) => Some(max),
            Some(Limit::Unlimited | Limit::Unavailable) | None => None,
        },
        unlimited: series.limit == Some(Limit::Unlimited),
        points: points.map(row).collect(),
    });
    Json { schema_version: SCHEMA_VERSION, columns: COLUMNS, netns: netns.collect() }
}

fn row(point: &Point) -> Row {
    let ahead = |at: usize| point.ahead.map(|ahead| ahead[at].round());
    Row(
        point.time_ns,
        point.entries,
        point.insert_rate,
        point.insert_rate_peak,
        point.delete_rate,
        point.table_full_drops,
        point.early_drops,
        // JSON has no infinity: beyond the horizon is null, as in the forecast.
        point.seconds_to_full_p50.filter(|seconds| seconds.is_finite()),
        ahead(0),
        ahead(1),
        ahead(2),
    )
}
