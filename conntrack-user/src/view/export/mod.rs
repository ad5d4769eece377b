//! Recordings as tables: a row for each namespace and tick, or for each event. The columns are called as
//! in the JSON, the names of objects within objects joined by a dot.

mod columns;
mod parquet;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    io::{self, Write},
};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

pub use columns::{Column, EVENTS, Kind, TICKS};

use super::{
    flow,
    json::{self, Line},
};
use crate::{
    model::tick::Tick,
    severity::{self, THRESHOLDS},
    source::item::Flows,
};

/// Formats of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Comma-separated values, with a line of names; what is not available is empty
    Csv,
    /// One JSON object a line; what is not available is null
    Jsonl,
    /// Apache Parquet, compressed; what is not available is null
    Parquet,
}

/// Writes a table, row by row. It takes memory for some thousand rows.
pub struct Table<W: Write + Send> {
    columns: &'static [Column],
    writer: Writer<W>,
}

enum Writer<W: Write + Send> {
    Csv(Box<csv::Writer<W>>),
    Jsonl(io::BufWriter<W>),
    Parquet(parquet::Writer<W>),
}

impl<W: Write + Send> Table<W> {
    /// Begins a table with these columns: [`TICKS`] or [`EVENTS`].
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(format: Format, columns: &'static [Column], out: W) -> Result<Self> {
        let writer = match format {
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(columns.iter().map(|column| column.name))?;
                Writer::Csv(Box::new(writer))
            }
            Format::Jsonl => Writer::Jsonl(io::BufWriter::new(out)),
            Format::Parquet => Writer::Parquet(parquet::Writer::new(columns, out)?),
        };
        Ok(Self { columns, writer })
    }

    /// Writes the rows of a tick, one a namespace.
    ///
    /// # Errors
    /// Those of writing.
    pub fn tick(&mut self, tick: &Tick) -> Result<()> {
        let head = value(&Line::tick_head(tick))?;
        let thresholds = THRESHOLDS.on_demand();
        tick.netns.iter().try_for_each(|netns| {
            let severity = severity::of_tick(netns, tick, &thresholds);
            let row = value(&json::netns_of(tick, netns, Some(severity)))?;
            self.row(&[&head, &row])
        })
    }

    /// Writes the rows of events.
    ///
    /// # Errors
    /// Those of writing.
    pub fn flows(&mut self, flows: &Flows) -> Result<()> {
        for event in &flows.events {
            let flow = &event.flow;
            let about = serde_json::json!({
                "time_ns": flows.unix_ns(flow),
                // A replay has the flow's number and one in its place: 0 is none.
                "flow": flow.entry.checked_sub(1),
                "sample_ratio": flow.sample.ratio(),
            });
            let json = value(&flow::json(flow, event.netns))?;
            self.row(&[&about, &json])?;
        }
        Ok(())
    }

    /// Writes a row of what is in the objects.
    fn row(&mut self, objects: &[&Value]) -> Result<()> {
        const NULL: &Value = &Value::Null;
        let cell = |column: &Column| {
            let mut found = objects.iter().filter_map(|object| {
                column.name.split('.').try_fold(*object, |object, key| object.get(key))
            });
            found.next().unwrap_or(NULL)
        };
        let cells = self.columns.iter().map(|column| (column, cell(column)));
        match &mut self.writer {
            Writer::Csv(writer) => {
                for (_, cell) in cells {
                    match cell {
                        Value::Null => writer.write_field("")?,
                        Value::String(text) => writer.write_field(&*inert(text))?,
                        other => writer.write_field(other.to_string())?,
                    }
                }
                writer.write_record(None::<&[u8]>)?;
            }
            Writer::Jsonl(writer) => {
                let row: serde_json::Map<String, Value> =
                    cells.map(|(column, cell)| (column.name.to_owned(), cell.clone())).collect();
                serde_json::to_writer(&mut *writer, &row)?;
                writer.write_all(b"\n")?;
            }
            Writer::Parquet(writer) => writer.row(cells.map(|(_, cell)| cell))?,
        }
        Ok(())
    }

    /// Writes what is left, and the end.
    ///
    /// # Errors
    /// Those of writing.
    pub fn finish(self) -> Result<()> {
        match self.writer {
            Writer::Csv(mut writer) => writer.flush()?,
            Writer::Jsonl(mut writer) => writer.flush()?,
            Writer::Parquet(writer) => writer.finish()?,
        }
        Ok(())
    }
}

/// Text as a spreadsheet takes it for text: behind an apostrophe, where it would begin a formula.
fn inert(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@']) { format!("'{text}").into() } else { text.into() }
}

fn value(of: &impl Serialize) -> Result<Value> {
    serde_json::to_value(of).context("cannot write JSON")
}
