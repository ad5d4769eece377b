use std::collections::BTreeSet;

use ::parquet::{
    file::{reader::FileReader as _, serialized_reader::SerializedFileReader},
    record::Field,
};

use super::*;
use crate::{
    model::monitor::Monitor,
    severity::THRESHOLDS,
    source::{
        item::{Item, Use},
        recording::samples,
    },
};

/// What the samples give as a table.
fn table(format: Format, columns: &'static [Column]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut table = Table::new(format, columns, &mut out).unwrap();
    let mut monitor = Monitor::new(2);
    for item in samples::items() {
        match item {
            Item::Reading(Use::Tick, reading) => {
                let tick = monitor.observe(&reading);
                if columns == TICKS {
                    table.tick(&tick).unwrap();
                }
            }
            Item::Reading(_, reading) => monitor.settle(&reading),
            Item::Flows(flows) if columns == EVENTS => table.flows(&flows).unwrap(),
            _ => {}
        }
    }
    table.finish().unwrap();
    out
}

fn jsonl(columns: &'static [Column]) -> Vec<Value> {
    let text = String::from_utf8(table(Format::Jsonl, columns)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The paths of all values that are neither objects nor arrays.
fn paths(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let dot = if prefix.is_empty() { "" } else { "." };
                paths(value, &format!("{prefix}{dot}{key}"), found);
            }
        }
        Value::Array(_) | Value::Null => {}
        _ => {
            found.insert(prefix.to_owned());
        }
    }
}

#[test]
fn every_number_of_a_tick_and_of_an_event_has_a_column() {
    let mut found = BTreeSet::new();
    let mut monitor = Monitor::new(2);
    for item in samples::items() {
        match item {
            Item::Reading(_, reading) => {
                let tick = monitor.observe(&reading);
                let line = value(&Line::tick(&tick, &[], &THRESHOLDS)).unwrap();
                paths(&line, "", &mut found);
                for netns in line["netns"].as_array().unwrap() {
                    paths(netns, "", &mut found);
                }
            }
            Item::Flows(flows) => {
                for event in &flows.events {
                    let json = value(&flow::json(&event.flow, event.netns)).unwrap();
                    paths(&json, "", &mut found);
                }
            }
            _ => {}
        }
    }
    // What is the same in all rows, and what belongs to no namespace.
    found.retain(|path| {
        !["schema_version", "kind"].contains(&path.as_str())
            && !["netns_overflow.", "counter_blocks."].iter().any(|other| path.starts_with(other))
    });
    let columns: BTreeSet<String> =
        TICKS.iter().chain(EVENTS).map(|column| column.name.to_owned()).collect();
    assert_eq!(found.difference(&columns).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(TICKS.iter().map(|c| c.name).collect::<BTreeSet<_>>().len(), TICKS.len());
}

#[test]
fn what_cannot_be_told_is_null_or_empty_and_never_0() {
    let rows = jsonl(TICKS);
    assert_eq!(rows.len(), 4);
    // Of the namespace that ended: no limit, no name.
    let ended = rows.iter().find(|row| row["ended"] == true).unwrap();
    for column in ["entries_limit", "name", "cookie", "count_drift", "kernel.count", "tick.clashes"]
    {
        assert_eq!(ended[column], Value::Null, "{column}");
    }
    assert_eq!(ended["totals.allocs"], 9);
    assert_eq!(ended["time_ns"], samples::START_NS + 2 * samples::STEP);
    let polled = rows.last().unwrap();
    assert_eq!((&polled["totals.allocs"], &polled["unlimited"]), (&Value::Null, &true.into()));

    let text = String::from_utf8(table(Format::Csv, TICKS)).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let names: Vec<String> = reader.headers().unwrap().iter().map(Into::into).collect();
    assert!(names.iter().zip(TICKS).all(|(name, column)| name == column.name));
    for (record, row) in reader.records().zip(&rows) {
        for (cell, name) in record.unwrap().iter().zip(&names) {
            match &row[name] {
                Value::Null => assert_eq!(cell, "", "{name}"),
                Value::String(text) => assert_eq!(cell, text, "{name}"),
                other => assert_eq!(cell, other.to_string(), "{name}"),
            }
        }
    }
}

#[test]
fn an_event_has_utc_and_the_number_of_its_flow() {
    let rows = jsonl(EVENTS);
    assert_eq!(rows.len(), 15);
    assert_eq!(rows[0]["time_ns"], samples::START_NS + 1_000);
    assert_eq!((&rows[0]["event"], &rows[0]["sample_ratio"]), (&"insert".into(), &1.0.into()));
    assert_eq!(rows[0]["original.source"], "10.0.0.1");
    let dropped = rows.iter().find(|row| row["event"] == "table_full_drop").unwrap();
    assert_eq!(dropped["flow"], Value::Null);
    assert!(rows.iter().any(|row| row["sample_ratio"] == 0.5));
}

#[test]
fn parquet_reads_back_as_the_same_values() {
    for columns in [TICKS, EVENTS] {
        let bytes = bytes::Bytes::from(table(Format::Parquet, columns));
        let reader = SerializedFileReader::new(bytes).unwrap();
        let expected = jsonl(columns);
        assert_eq!(reader.metadata().file_metadata().num_rows(), expected.len() as i64);
        for (row, expected) in reader.get_row_iter(None).unwrap().zip(&expected) {
            for (name, field) in row.unwrap().get_column_iter() {
                let value = match field {
                    Field::Null => Value::Null,
                    Field::Bool(flag) => (*flag).into(),
                    Field::Long(number) => (*number).into(),
                    Field::ULong(number) => (*number).into(),
                    Field::Double(number) => (*number).into(),
                    Field::Str(text) => text.as_str().into(),
                    other => panic!("{name}: {other:?}"),
                };
                let expected = match columns.iter().find(|column| column.name == name).unwrap().kind
                {
                    Kind::Float => expected[name].as_f64().map_or(Value::Null, Into::into),
                    _ => expected[name].clone(),
                };
                assert_eq!(value, expected, "{name}");
            }
        }
    }
}

#[test]
fn text_that_would_be_a_formula_is_text() {
    for text in ["=1+1", "+1", "-1", "@SUM(A1)"] {
        assert_eq!(inert(text), format!("'{text}"));
    }
    for text in ["", "web-1", "::1", "a=b", "'=1"] {
        assert_eq!(inert(text), text);
    }
    let mut out = Vec::new();
    let mut table = Table::new(Format::Csv, TICKS, &mut out).unwrap();
    let mut monitor = Monitor::new(2);
    let mut netns = samples::netns(samples::INIT, 0, 0, Some(9));
    netns.name.as_mut().unwrap().text = "=HYPERLINK(1)".into();
    table.tick(&monitor.observe(&samples::reading(0, vec![netns]))).unwrap();
    table.finish().unwrap();
    assert!(String::from_utf8(out).unwrap().contains(",'=HYPERLINK(1),"));
}
