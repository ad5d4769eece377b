//! Writes a recording, chunk by chunk: each is whole in itself, so that what is written can be read
//! while more is, and whatever becomes of the rest.

use std::{
    collections::BTreeMap,
    io::{self, Cursor, Write},
};

use mcap::{
    WriteOptions,
    records::{MessageHeader, Metadata, op},
};
use serde::Serialize;
use thiserror::Error;

use super::{
    Channel, ENCODING, FORMAT_VERSION, MAX_BATCH, MAX_MESSAGE, PROFILE, RECORD_HEAD, UsedReading,
    batch::{Batch, cookie},
    known::Numbers,
    record_head,
};
use crate::{
    model::reading::{Reading, Victim},
    source::item::{Flows, Item, Use},
};

/// Time after which a chunk is written: what is lost at the most when this process is killed.
const CHUNK_NS: u64 = 1_000_000_000;
/// Bytes, not yet packed, after which it is written before its time.
const CHUNK_BYTES: usize = 4 << 20;
/// Level of zstd.
const LEVEL: u32 = 6;

/// Why something could not be written.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The file does not take it. What was written before is whole.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Encoding or packing failed, for want of memory.
    #[error("cannot encode it: {0}")]
    Encode(String),
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
    chunk: Option<Chunk>,
    numbers: Numbers,
    last_ns: u64,
    /// What comes behind the last chunk.
    end: Vec<u8>,
}

/// A chunk that is being filled.
struct Chunk {
    mcap: mcap::Writer<Cursor<Vec<u8>>>,
    since_ns: u64,
    bytes: usize,
}

impl<W: Write> Writer<W> {
    /// Begins a recording of a machine with this `kernel` that takes `max_size` bytes at the most.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W, kernel: &str, max_size: Option<u64>) -> Result<Self, WriteError> {
        let mut mcap = container()?;
        let metadata = [
            ("format_version", FORMAT_VERSION.to_string()),
            ("ctmon_version", env!("CARGO_PKG_VERSION").into()),
            ("kernel", kernel.into()),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
        mcap.write_metadata(&Metadata { name: PROFILE.into(), metadata }).map_err(encode)?;
        let Parts { header, body, end } = Parts::of(mcap)?;
        let head = [header, body].concat();
        out.write_all(&head)?;
        out.flush()?;
        Ok(Self {
            out,
            max_size,
            written: head.len() as u64,
            full: false,
            chunk: None,
            numbers: Numbers::default(),
            last_ns: 0,
            end,
        })
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
        let (channel, time_ns, data) = match item {
            Item::Start(start) => (Channel::Start, start.time.unix_ns, cbor(start, MAX_MESSAGE)?),
            Item::Reading(purpose, reading) => {
                (Channel::Reading, reading.time.unix_ns, self.reading(*purpose, reading)?)
            }
            Item::Flows(flows) => {
                let last =
                    flows.events.last().map_or(self.last_ns, |event| flows.unix_ns(&event.flow));
                (Channel::Flow, last, self.flows(flows)?)
            }
            Item::Threshold(set) => (Channel::Threshold, set.time.unix_ns, cbor(set, MAX_MESSAGE)?),
            Item::Notice(notice) => {
                (Channel::Notice, notice.time.unix_ns, cbor(notice, MAX_MESSAGE)?)
            }
        };
        self.last_ns = time_ns;
        let is_due = self.chunk.as_ref().is_some_and(|chunk| {
            // The clock may have been set back.
            time_ns.abs_diff(chunk.since_ns) >= CHUNK_NS || chunk.bytes + data.len() > CHUNK_BYTES
        });
        let room = if is_due { self.flush()? } else { self.room() };
        if self.full {
            return Ok(room);
        }
        let chunk = match &mut self.chunk {
            Some(chunk) => chunk,
            None => self.chunk.insert(Chunk::new(time_ns)?),
        };
        chunk.push(channel, time_ns, &data)?;
        Ok(room)
    }

    fn flows(&mut self, flows: &Flows) -> Result<Vec<u8>, WriteError> {
        cbor(&Batch::new(flows, &mut self.numbers), MAX_BATCH)
    }

    /// A reading without addresses of the kernel.
    fn reading(&self, purpose: Use, reading: &Reading) -> Result<Vec<u8>, WriteError> {
        if reading.victims.is_empty() && reading.rereads.is_none() {
            return cbor(&UsedReading { purpose, reading }, MAX_MESSAGE);
        }
        let mut reading = reading.clone();
        for Victim { netns, flow } in &mut reading.victims {
            flow.netns_cookie = cookie(*netns);
            flow.entry = 0;
        }
        if let Some(batch) = &mut reading.rereads {
            // One that no flow has any more says nothing to the model either.
            batch.rereads.retain_mut(|reread| match self.numbers.alias_of(reread.entry) {
                Some(alias) => {
                    reread.entry = alias;
                    true
                }
                None => false,
            });
        }
        cbor(&UsedReading { purpose, reading: &reading }, MAX_MESSAGE)
    }

    const fn room(&self) -> Room {
        if self.full { Room::Full } else { Room::Left }
    }

    /// Writes the chunk as it is now.
    ///
    /// # Errors
    /// As [`Writer::take`].
    pub fn flush(&mut self) -> Result<Room, WriteError> {
        let Some(chunk) = self.chunk.take() else {
            return Ok(self.room());
        };
        let body = Parts::of(chunk.mcap)?.body;
        let size = self.written + (body.len() + self.end.len()) as u64;
        if self.max_size.is_some_and(|most| size > most) {
            self.full = true;
            return Ok(Room::Full);
        }
        self.out.write_all(&body)?;
        self.out.flush()?;
        self.written += body.len() as u64;
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

impl Chunk {
    fn new(since_ns: u64) -> Result<Self, WriteError> {
        let mut mcap = container()?;
        for channel in Channel::ALL {
            let (id, topic) = (channel as u16, channel.topic());
            mcap.add_channel_with_id(id, 0, topic, ENCODING, &BTreeMap::new()).map_err(encode)?;
        }
        Ok(Self { mcap, since_ns, bytes: 0 })
    }

    fn push(&mut self, channel: Channel, time_ns: u64, data: &[u8]) -> Result<(), WriteError> {
        self.bytes += data.len();
        let header = MessageHeader {
            channel_id: channel as u16,
            sequence: 0,
            log_time: time_ns,
            publish_time: time_ns,
        };
        self.mcap.write_to_known_channel(&header, data).map_err(encode)
    }
}

/// An empty container in memory. The crate's writer keeps an index entry a chunk until the end and takes
/// back what it has written of a chunk; so each chunk gets a container of its own, and only the chunk
/// goes into the file.
fn container() -> Result<mcap::Writer<Cursor<Vec<u8>>>, WriteError> {
    let options = WriteOptions::new()
        .profile(PROFILE)
        .library(concat!("ctmon ", env!("CARGO_PKG_VERSION")))
        .chunk_size(None)
        .compression_level(LEVEL)
        .compression_threads(0)
        .emit_message_indexes(false)
        .emit_summary_records(false)
        .emit_summary_offsets(false)
        .calculate_data_section_crc(false);
    options.create(Cursor::new(Vec::new())).map_err(encode)
}

/// The parts of a container.
struct Parts {
    /// Magic bytes and header.
    header: Vec<u8>,
    /// What was put into it.
    body: Vec<u8>,
    /// The end of the data, the footer and magic bytes.
    end: Vec<u8>,
}

impl Parts {
    fn of(mut mcap: mcap::Writer<Cursor<Vec<u8>>>) -> Result<Self, WriteError> {
        mcap.finish().map_err(encode)?;
        let mut bytes = mcap.into_inner().into_inner();
        let mut at = mcap::MAGIC.len();
        let mut header = None;
        while let Some(head) = bytes.get(at..at + RECORD_HEAD) {
            let (opcode, len) = record_head(head);
            if opcode == op::DATA_END {
                let end = bytes.split_off(at);
                let body = bytes.split_off(header.unwrap_or(at));
                return Ok(Self { header: bytes, body, end });
            }
            at += RECORD_HEAD + len as usize;
            header.get_or_insert(at);
        }
        Err(WriteError::Encode("the container has no end".into()))
    }
}

fn cbor(value: &impl Serialize, most: usize) -> Result<Vec<u8>, WriteError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).map_err(encode)?;
    if bytes.len() > most {
        return Err(WriteError::TooLarge { bytes: bytes.len(), most });
    }
    Ok(bytes)
}

fn encode(error: impl ToString) -> WriteError {
    WriteError::Encode(error.to_string())
}
