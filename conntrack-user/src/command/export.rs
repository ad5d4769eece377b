//! `ctmon export`

use std::io::{self, BufWriter, IsTerminal as _, Write};

use anyhow::{Context as _, Result, bail};
use conntrack_user::{
    source::{item::Item, listener::Listener},
    text,
    view::export::{EVENTS, Format, TICKS, Table},
};

use super::{create, output, replay};
use crate::cli::{Export, What};

pub(crate) fn run(export: &Export) -> Result<u8> {
    let mut recording = replay::open(&export.file)?;
    let out: Box<dyn Write + Send> = match &export.to {
        Some(path) => Box::new(BufWriter::new(create::open(path, export.force)?)),
        None if export.format == Format::Parquet && io::stdout().is_terminal() => {
            bail!("Parquet is nothing for a terminal: name a file by --to, or send it into a pipe")
        }
        None => Box::new(io::stdout()),
    };
    let columns = match export.what {
        What::Ticks => TICKS,
        What::Events => EVENTS,
    };
    let mut table = Table::new(export.format, columns, out).context("cannot write the table")?;
    let mut listener = Listener::default();
    while let Some(item) = recording.next_item().with_context(|| {
        format!("cannot read the recording {} any further", text::path(&export.file))
    })? {
        let outcome = match (&item, export.what) {
            (Item::Flows(flows), What::Events) => table.flows(flows),
            // Of rows of events nothing is asked of the model.
            (_, What::Events) => Ok(()),
            (_, What::Ticks) => listener.take(&item).map_or(Ok(()), |tick| table.tick(&tick)),
        };
        if let Err(error) = outcome {
            return if is_closed_pipe(&error) { Ok(0) } else { Err(error) };
        }
    }
    match table.finish() {
        Err(error) if !is_closed_pipe(&error) => {
            return Err(error.context("cannot write the table"));
        }
        _ => {}
    }
    Ok(output::notes(&export.file, &recording.take_notes()))
}

/// Whoever reads has seen enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let is_closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| match cause.downcast_ref::<csv::Error>().map(csv::Error::kind) {
        Some(csv::ErrorKind::Io(error)) => is_closed(error),
        _ => match cause.downcast_ref::<serde_json::Error>() {
            Some(error) => error.io_error_kind() == Some(io::ErrorKind::BrokenPipe),
            None => cause.downcast_ref::<io::Error>().is_some_and(is_closed),
        },
    })
}
