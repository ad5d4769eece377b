//! Writes a recording, chunk by chunk, so that what is written can be read while more is, and whatever
//! becomes of the rest.

use std::io::{self, Write};

use thiserror::Error;

use super::encoder::{Encoder, Frame, Packing};
use crate::source::item::Item;

/// Why something could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The file does not take it. What was written before is whole.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Encoding or packing failed, for want of memory.
    #[error("cannot encode it: {0}")]
    Encode(String),
    /// A reader would refuse it.
    #[error("{0}: a recording takes no more")]
    OutOfBounds(String),
    /// A reader would refuse it.
    #[error("{bytes} bytes at one moment, and a recording takes {most}")]
    TooLarge {
        /// Bytes that there were.
        bytes: usize,
        /// The most that there may be.
        most: usize,
    },
}

/// Whether the recording goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Room {
    /// There is room for more.
    Left,
    /// With the next chunk the file would be larger than it may be: that chunk was left out.
    Full,
}

/// A recording that is being written. It takes memory for one chunk and for the last inserts.
pub struct Writer<W> {
    out: W,
    max_size: Option<u64>,
    written: u64,
    full: bool,
    encoder: Encoder,
    /// What comes behind the last chunk.
    end: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a recording of a machine with this `kernel` that takes `max_size` bytes at the most.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W, kernel: &str, max_size: Option<u64>) -> Result<Self, WriteError> {
        let Frame { head, end } = Frame::new(kernel)?;
        out.write_all(&head)?;
        out.flush()?;
        let written = head.len() as u64;
        let encoder = Encoder::new(Packing::FILE);
        Ok(Self { out, max_size, written, full: false, encoder, end })
    }

    /// Bytes written so far.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Takes in the next item; it is written with its chunk.
    ///
    /// # Errors
    /// [`WriteError`]; what was written before stays whole.
    pub fn take(&mut self, item: &Item) -> Result<Room, WriteError> {
        let complete = self.encoder.take(item)?;
        self.write(complete)
    }

    /// Writes the chunk as it is now.
    ///
    /// # Errors
    /// As [`Writer::take`].
    pub fn flush(&mut self) -> Result<Room, WriteError> {
        let chunk = self.encoder.flush()?;
        self.write(chunk)
    }

    fn write(&mut self, chunk: Option<Vec<u8>>) -> Result<Room, WriteError> {
        let Some(chunk) = chunk.filter(|_| !self.full) else {
            return Ok(if self.full { Room::Full } else { Room::Left });
        };
        let size = self.written + (chunk.len() + self.end.len()) as u64;
        if self.max_size.is_some_and(|most| size > most) {
            self.full = true;
            return Ok(Room::Full);
        }
        self.out.write_all(&chunk)?;
        self.out.flush()?;
        self.written += chunk.len() as u64;
        Ok(Room::Left)
    }

    /// Writes what is left and the end, and gives back the file.
    ///
    /// # Errors
    /// As [`Writer::take`].
    pub fn finish(mut self) -> Result<(W, u64), WriteError> {
        let _ = self.flush()?;
        self.out.write_all(&self.end)?;
        self.out.flush()?;
        Ok((self.out, self.written + self.end.len() as u64))
    }
}
