//! Standard output: written whole, and whose end is no error.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use bytes::{BufMut as _, BytesMut};
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

/// Writes `text`; its styles only where they are wanted.
pub(crate) fn text(text: &str) -> Result<Reader> {
    let mut out = anstream::stdout().lock();
    finish(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
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

fn finish(outcome: io::Result<()>) -> Result<Reader> {
    match outcome {
        Ok(()) => Ok(Reader::Reading),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).context("cannot write to standard output"),
    }
}
