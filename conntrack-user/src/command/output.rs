//! Standard output: written whole, and whose end is no error.

use std::{
    fmt,
    io::{self, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, BytesMut};
use conntrack_user::{
    source::recording::reader::Note,
    text::{self, lines},
    view::plugin,
};
use serde::Serialize;

/// Whether whoever reads is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Reader {
    /// It is.
    Reading,
    /// It has closed the pipe.
    Gone,
}

impl Reader {
    /// Whether both are there.
    pub(crate) fn and(self, other: Self) -> Self {
        if self == Self::Gone { self } else { other }
    }
}

/// Says something on standard error, as a line that begins with `ctmon: `, or several. Nothing in it commands a terminal. On a
/// full disk nothing is said: the exit code stays what it is.
pub(crate) fn say(message: impl fmt::Display) {
    let _ = writeln!(anstream::stderr(), "ctmon: {}", lines(&message));
}

/// Exit code for a recording of which something is missing: it is cut, or damaged.
const INCOMPLETE: u8 = 4;

/// Prints the notes on the recording `path`; returns the exit code that follows from them.
pub(crate) fn notes(path: &Path, notes: &[Note]) -> u8 {
    for note in notes {
        say(format_args!("{}: {note}", text::path(path)));
    }
    if notes.iter().any(Note::is_damage) { INCOMPLETE } else { 0 }
}

/// Writes `text`; its styles only where they are wanted.
pub(crate) fn text(text: &str) -> Result<Reader> {
    let mut out = anstream::stdout().lock();
    finish(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Writes an error as monitoring plugins do: they are read on standard output.
pub(crate) fn unknown(error: &str) -> io::Result<()> {
    let error = error.strip_prefix("error: ").unwrap_or(error);
    let mut out = anstream::stdout().lock();
    out.write_all(plugin::unknown(&lines(&error)).as_bytes()).and_then(|()| out.flush())
}

/// Writes lines of JSON, all from one buffer: a tick allocates nothing for it.
#[derive(Debug, Default)]
pub(crate) struct Json {
    line: BytesMut,
}

impl Json {
    /// Writes `value` as one line.
    pub(crate) fn write(&mut self, value: &impl Serialize) -> Result<Reader> {
        self.line.clear();
        serde_json::to_writer((&mut self.line).writer(), value).context("cannot write JSON")?;
        self.line.put_u8(b'\n');
        let mut out = io::stdout().lock();
        finish(out.write_all(&self.line).and_then(|()| out.flush()))
    }
}

/// Characters in a line of the terminal that standard output is; none where it is none.
pub(crate) fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

fn finish(outcome: io::Result<()>) -> Result<Reader> {
    match outcome {
        Ok(()) => Ok(Reader::Reading),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}
