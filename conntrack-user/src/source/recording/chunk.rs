//! Reads the messages of a chunk. Nothing is expanded before its size and its checksum were looked at.

use std::collections::HashMap;

use mcap::{
    records::{Record, op},
    sans_io::{LinearReadEvent, LinearReader, LinearReaderOptions},
};
use serde::de::DeserializeOwned;

use super::{
    Channel, ENCODING, MAX_BATCH, MAX_CHANNEL, MAX_CHANNELS, MAX_CHUNK, MAX_MESSAGE, MAX_NAME,
    RECORD_HEAD, UsedReading, batch::Batch, bounds::check, known::Flows,
};
use crate::{
    source::{clean::item as clean_item, item::Item},
    text::printable,
};

/// A chunk that is being read.
pub(super) struct Chunk {
    /// Offset in the file.
    pub(super) at: u64,
    /// Bytes that it takes in the file.
    pub(super) len: u64,
    /// An error: the reason why its content may not be read.
    content: Result<Content, String>,
}

/// Messages of a chunk.
struct Content {
    bytes: Vec<u8>,
    /// Bytes handed to the reader.
    fed: usize,
    reader: LinearReader,
    topics: HashMap<u16, Topic>,
}

/// A channel of a chunk.
enum Topic {
    Known(Channel),
    Unknown(String),
}

/// A message of a chunk.
pub(super) enum Message<'a> {
    /// An item, and how many events were left out of it.
    Item(Item, u64),
    /// Message of an unknown channel with this name.
    Unknown(&'a str),
}

/// A record, its opcode and length before it.
pub(super) fn parse(opcode: u8, bytes: &[u8]) -> Option<Record<'_>> {
    mcap::parse_record(opcode, bytes.get(RECORD_HEAD..)?).ok()
}

/// The item in a message, with text that may be shown anywhere, and how many events were left out of it.
fn item(channel: Channel, data: &[u8], known: &mut Flows) -> Result<(Item, u64), String> {
    let most = if channel == Channel::Flow { MAX_BATCH } else { MAX_MESSAGE };
    if data.len() > most {
        return Err(format!("a message of {} bytes", data.len()));
    }
    let mut item = match channel {
        Channel::Start => Item::Start(cbor(data)?),
        Channel::Notice => Item::Notice(cbor(data)?),
        Channel::Threshold => Item::Threshold(cbor(data)?),
        Channel::Standing => Item::Standing(cbor(data)?),
        Channel::Reading => {
            let UsedReading { purpose, reading } = cbor(data)?;
            Item::Reading(purpose, reading)
        }
        Channel::Flow => {
            let (flows, left_out) = cbor::<Batch>(data)?.flows(known)?;
            return Ok((Item::Flows(flows), left_out));
        }
    };
    check(&item)?;
    clean_item(&mut item);
    Ok((item, 0))
}

fn cbor<T: DeserializeOwned>(data: &[u8]) -> Result<T, String> {
    // Levels that nothing of ctmon's has; unknown fields may have some.
    const DEEPEST: usize = 32;
    ciborium::de::from_reader_with_recursion_limit(data, DEEPEST).map_err(|error| error.to_string())
}

impl Chunk {
    pub(super) fn new(at: u64, bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        let content = packed(&bytes).map(|()| Content::new(bytes));
        Self { at, len, content }
    }

    /// The next message, once the checksum of the whole chunk is right.
    pub(super) fn next_message(
        &mut self,
        known: &mut Flows,
    ) -> Result<Option<Message<'_>>, String> {
        match &mut self.content {
            Ok(content) => content.next_message(known),
            Err(why) => Err(std::mem::take(why)),
        }
    }
}

/// Checks what a chunk says of itself before anything of it is expanded.
fn packed(bytes: &[u8]) -> Result<(), String> {
    let Some(Record::Chunk { header, .. }) = parse(op::CHUNK, bytes) else {
        return Err("a chunk whose beginning cannot be read".into());
    };
    // 0 is that of nothing: ctmon writes no chunk without messages.
    if header.uncompressed_crc == 0 {
        return Err("a chunk without a checksum".into());
    }
    if header.uncompressed_size > MAX_CHUNK as u64 {
        return Err(format!("a chunk that expands to {} bytes", header.uncompressed_size));
    }
    Ok(())
}

impl Content {
    fn new(bytes: Vec<u8>) -> Self {
        let options = LinearReaderOptions::default()
            .with_skip_start_magic(true)
            .with_skip_end_magic(true)
            .with_prevalidate_chunk_crcs(true)
            .with_record_length_limit(MAX_CHUNK);
        let reader = LinearReader::new_with_options(options);
        Self { bytes, fed: 0, reader, topics: HashMap::new() }
    }

    fn next_message(&mut self, known: &mut Flows) -> Result<Option<Message<'_>>, String> {
        loop {
            let Some(event) = self.reader.next_event() else {
                return Ok(None);
            };
            match event.map_err(|error| error.to_string())? {
                LinearReadEvent::ReadRequest(need) => {
                    let rest = self.bytes.get(self.fed..).unwrap_or_default();
                    let part = &rest[..need.min(rest.len())];
                    self.reader.insert(part.len()).copy_from_slice(part);
                    self.reader.notify_read(part.len());
                    self.fed += part.len();
                }
                LinearReadEvent::Record { opcode: op::CHANNEL, data } => {
                    if data.len() > MAX_CHANNEL || self.topics.len() == MAX_CHANNELS {
                        return Err("too many channels, or too large ones".into());
                    }
                    let (id, topic) = channel(data)?;
                    self.topics.insert(id, topic);
                }
                LinearReadEvent::Record { opcode: op::MESSAGE, data } => {
                    let (head, message) =
                        data.split_at_checked(MESSAGE_HEAD).ok_or("a message without its head")?;
                    let id = head.first_chunk().copied().map_or(0, u16::from_le_bytes);
                    match self.topics.get(&id) {
                        None => return Err("a message of no channel".into()),
                        Some(Topic::Known(channel)) => {
                            let (item, left_out) = item(*channel, message, known)?;
                            return Ok(Some(Message::Item(item, left_out)));
                        }
                        // Borrowed again below, where nothing else is.
                        Some(Topic::Unknown(_)) => return self.unknown(id),
                    }
                }
                LinearReadEvent::Record { .. } => {}
            }
        }
    }

    fn unknown(&self, id: u16) -> Result<Option<Message<'_>>, String> {
        match self.topics.get(&id) {
            Some(Topic::Unknown(topic)) => Ok(Some(Message::Unknown(topic))),
            _ => Err("a message of no channel".into()),
        }
    }
}

/// A channel that a chunk declares.
fn channel(data: &[u8]) -> Result<(u16, Topic), String> {
    let record = mcap::parse_record(op::CHANNEL, data).map_err(|error| error.to_string())?;
    let Record::Channel(channel) = record else {
        return Err("a channel that cannot be read".into());
    };
    let known = Channel::ALL
        .into_iter()
        .find(|known| known.topic() == channel.topic)
        .filter(|_| channel.message_encoding == ENCODING);
    let unknown = || Topic::Unknown(printable(&channel.topic, MAX_NAME).into_owned());
    Ok((channel.id, known.map_or_else(unknown, Topic::Known)))
}

/// Bytes of a message before its data: channel, sequence, and two times.
const MESSAGE_HEAD: usize = 2 + 4 + 8 + 8;
