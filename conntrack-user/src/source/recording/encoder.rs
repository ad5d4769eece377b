//! Packs items into chunks, each whole in itself.

use std::{collections::BTreeMap, io::Cursor};

use mcap::{
    WriteOptions,
    records::{MessageHeader, Metadata, op},
};
use serde::Serialize;

pub use super::known::PLACE_BYTES;
use super::{
    Channel, ENCODING, FORMAT_VERSION, MAX_BATCH, MAX_MESSAGE, PROFILE, RECORD_HEAD, UsedReading,
    batch::{Batch, cookie},
    bounds::check,
    known::Numbers,
    record_head,
    writer::WriteError,
};
use crate::{
    model::reading::{Reading, Victim},
    source::item::{Flows, Item, Use},
};

/// How items are packed.
#[derive(Debug, Clone, Copy)]
pub struct Packing {
    /// Time after which a chunk is complete, in nanoseconds.
    pub chunk_ns: u64,
    /// Bytes, not yet packed, after which it is complete before its time.
    pub chunk_bytes: usize,
    /// Level of zstd, 1 to 22.
    pub level: u32,
    /// Entries that are remembered, at the most, so that what is told of one later is known to be of the same.
    pub entries: usize,
}

impl Packing {
    /// Of a file that is written as it goes: what is lost at the most when this process is killed is a second; more
    /// entries are remembered than a table has, but for one of the largest.
    pub const FILE: Self =
        Self { chunk_ns: 1_000_000_000, chunk_bytes: 4 << 20, level: 6, entries: 1 << 20 };
}

/// What a file has before its chunks and behind them.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Before them.
    pub head: Vec<u8>,
    /// Behind them.
    pub end: Vec<u8>,
}

impl Frame {
    /// Of a recording of a machine with this `kernel`.
    ///
    /// # Errors
    /// For want of memory.
    pub fn new(kernel: &str) -> Result<Self, WriteError> {
        let mut mcap = container(Packing::FILE.level)?;
        let metadata = [
            ("format_version", FORMAT_VERSION.to_string()),
            ("ctmon_version", env!("CARGO_PKG_VERSION").into()),
            ("kernel", kernel.into()),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
        mcap.write_metadata(&Metadata { name: PROFILE.into(), metadata }).map_err(encode)?;
        let Parts { header, body, end } = Parts::of(mcap)?;
        Ok(Self { head: [header, body].concat(), end })
    }
}

/// Takes in items and gives back chunks. It takes memory for one chunk and for the last inserts.
pub struct Encoder {
    packing: Packing,
    chunk: Option<Chunk>,
    numbers: Numbers,
    last_ns: u64,
}

/// A chunk that is being filled.
struct Chunk {
    mcap: mcap::Writer<Cursor<Vec<u8>>>,
    since_ns: u64,
    bytes: usize,
}

impl Encoder {
    /// Nothing taken in yet.
    #[must_use]
    pub fn new(packing: Packing) -> Self {
        Self { packing, chunk: None, numbers: Numbers::new(packing.entries), last_ns: 0 }
    }

    /// Takes in the next item; returns the chunk that is complete without it.
    ///
    /// # Errors
    /// [`WriteError`], but for those of a file; then the item is left out.
    pub fn take(&mut self, item: &Item) -> Result<Option<Vec<u8>>, WriteError> {
        check(item).map_err(WriteError::OutOfBounds)?;
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
            Item::Standing(standing) => {
                let last_ns = standing.time().map_or(self.last_ns, |time| time.unix_ns);
                (Channel::Standing, last_ns, cbor(standing, MAX_MESSAGE)?)
            }
        };
        self.last_ns = time_ns;
        let is_due = self.chunk.as_ref().is_some_and(|chunk| {
            // The clock may have been set back.
            time_ns.abs_diff(chunk.since_ns) >= self.packing.chunk_ns
                || chunk.bytes + data.len() > self.packing.chunk_bytes
        });
        let complete = if is_due { self.flush()? } else { None };
        let chunk = match &mut self.chunk {
            Some(chunk) => chunk,
            None => self.chunk.insert(Chunk::new(time_ns, self.packing.level)?),
        };
        chunk.push(channel, time_ns, &data)?;
        Ok(complete)
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
            for reread in &mut batch.rereads {
                // One that no flow has any more counts for what a read costs.
                reread.entry = self.numbers.alias_of(reread.entry).unwrap_or(0);
            }
        }
        cbor(&UsedReading { purpose, reading: &reading }, MAX_MESSAGE)
    }

    /// What comes from now on can be read without the chunks before.
    ///
    /// # Errors
    /// As [`Encoder::take`].
    pub fn begin_part(&mut self) -> Result<Option<Vec<u8>>, WriteError> {
        self.numbers.begin_part();
        self.flush()
    }

    /// Bytes of memory that it takes at the most, but for the tables of zstd.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.chunk.as_ref().map_or(0, |chunk| chunk.bytes) + self.numbers.bytes()
    }

    /// How long the chunk has been filled by `time_ns`, in nanoseconds; none when nothing is in it.
    #[must_use]
    pub fn pending_ns(&self, time_ns: u64) -> Option<u64> {
        self.chunk.as_ref().map(|chunk| time_ns.abs_diff(chunk.since_ns))
    }

    /// Gives back the chunk as it is now; none when nothing is in it.
    ///
    /// # Errors
    /// As [`Encoder::take`].
    pub fn flush(&mut self) -> Result<Option<Vec<u8>>, WriteError> {
        let chunk = self.chunk.take();
        chunk.map(|chunk| Ok(Parts::of(chunk.mcap)?.body)).transpose()
    }
}

impl Chunk {
    fn new(since_ns: u64, level: u32) -> Result<Self, WriteError> {
        let mut mcap = container(level)?;
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
fn container(level: u32) -> Result<mcap::Writer<Cursor<Vec<u8>>>, WriteError> {
    let options = WriteOptions::new()
        .profile(PROFILE)
        .library(concat!("ctmon ", env!("CARGO_PKG_VERSION")))
        .chunk_size(None)
        .compression_level(level)
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
