//! Reads a recording from its beginning, chunk by chunk, while it is written or after. Nothing in the
//! file is trusted.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    io::{self, Read},
};

use mcap::{
    records::{Record, op},
    sans_io::{LinearReadEvent, LinearReader, LinearReaderOptions},
};
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::{
    Channel, ENCODING, FORMAT_VERSION, MAX_BATCH, MAX_CHUNK, MAX_MESSAGE, MAX_RECORD, PROFILE,
    RECORD_HEAD, UsedReading, batch::Batch, known::Flows, record_head,
};
use crate::source::item::Item;

/// Why a recording cannot be read at all, or not any further.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("it is no recording of ctmon: {0}")]
    NotARecording(&'static str),
    /// It says nothing yet.
    #[error("it ends after {0} bytes, before its first chunk: there is nothing to read in it")]
    TooShort(u64),
    /// Written by a newer ctmon.
    #[error(
        "its format has the version {found}, and this ctmon reads up to version {FORMAT_VERSION}: it \
         takes the ctmon that wrote it ({by}) or a newer one"
    )]
    Version {
        /// The version in the file.
        found: String,
        /// The ctmon that wrote it.
        by: String,
    },
}

/// Something to be said about a recording that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// It has no end: it is being written, or whoever wrote it was killed.
    Unfinished,
    /// It ends in the middle of a chunk.
    Cut {
        /// Where that chunk begins, in bytes.
        at: u64,
        /// Bytes there are of it, which were left out.
        left_out: u64,
    },
    /// A chunk, or another record, is damaged and was left out.
    Damaged {
        /// Where it begins, in bytes.
        at: u64,
        /// Its bytes, as far as they are known.
        left_out: u64,
        /// What is wrong.
        why: String,
    },
    /// What is from here on could not be told apart any more.
    Lost {
        /// From where on, in bytes.
        at: u64,
        /// What is wrong.
        why: String,
    },
    /// Messages of a kind that this ctmon does not know were left out.
    Unknown {
        /// The kind.
        topic: String,
    },
    /// Events were left out, because the chunk with the inserts of their flows was.
    Dangling {
        /// How many.
        events: u64,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unfinished => f.write_str(
                "the recording has no end: it is still being written, or whoever wrote it was killed",
            ),
            Self::Cut { at, left_out } => write!(
                f,
                "the recording is cut within the chunk at byte {at}; {left_out} bytes of it were left out"
            ),
            Self::Damaged { at, left_out, why } => {
                write!(f, "the recording is damaged at byte {at} ({why}); {left_out} bytes were left out")
            }
            Self::Lost { at, why } => {
                write!(f, "the recording is damaged from byte {at} on ({why}); the rest was left out")
            }
            Self::Unknown { topic } => {
                write!(f, "what was recorded as {topic:?} is left out: this ctmon does not know it")
            }
            Self::Dangling { events } => write!(
                f,
                "{events} events were left out: their flows began in a chunk that was left out"
            ),
        }
    }
}

/// Bytes by which a file is told to be a recording.
pub const HEAD: usize = mcap::MAGIC.len();

/// Whether a file that begins so is a recording, or another file of the same container.
#[must_use]
pub fn is_recording(head: &[u8]) -> bool {
    head.starts_with(mcap::MAGIC)
}

/// A recording that is being read. It takes memory for one chunk and for the last inserts, whatever the
/// file says.
pub struct Reader<R> {
    input: R,
    offset: u64,
    about: BTreeMap<String, String>,
    chunk: Option<Chunk>,
    chunks: u64,
    known: Flows,
    notes: Vec<Note>,
    unknown: HashSet<String>,
    dangling: u64,
    ended: bool,
}

/// A chunk that is being read.
struct Chunk {
    at: u64,
    bytes: Vec<u8>,
    /// Bytes handed to the reader.
    fed: usize,
    reader: LinearReader,
    topics: HashMap<u16, Topic>,
}

/// Opcodes from here on are not given out yet, and from there on they are other programs' own.
const FIRST_UNKNOWN: u8 = op::DATA_END + 1;
const FIRST_PRIVATE: u8 = 0x80;

/// What a channel of a chunk is.
#[derive(Clone)]
enum Topic {
    Known(Channel),
    Unknown(String),
}

/// A record of the container.
enum Piece {
    Whole(u8, u64, Vec<u8>),
    Skipped,
    End,
}

impl<R: Read> Reader<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// When it is no recording, or of a newer version.
    pub fn open(mut input: R) -> Result<Self, ReadError> {
        let mut magic = Vec::new();
        (&mut input).take(mcap::MAGIC.len() as u64).read_to_end(&mut magic)?;
        if !mcap::MAGIC.starts_with(&magic) {
            return Err(ReadError::NotARecording("it does not begin as an MCAP file does"));
        }
        let mut reader = Self {
            input,
            offset: magic.len() as u64,
            about: BTreeMap::new(),
            chunk: None,
            chunks: 0,
            known: Flows::default(),
            notes: Vec::new(),
            unknown: HashSet::new(),
            dangling: 0,
            ended: false,
        };
        let too_short = |reader: &Self| ReadError::TooShort(reader.offset);
        let Piece::Whole(opcode, _, header) = reader.piece()? else {
            return Err(too_short(&reader));
        };
        match parse(opcode, &header) {
            Some(Record::Header(header)) if header.profile == PROFILE => {}
            _ => return Err(ReadError::NotARecording("another program wrote this MCAP file")),
        }
        let Piece::Whole(opcode, _, metadata) = reader.piece()? else {
            return Err(too_short(&reader));
        };
        match parse(opcode, &metadata) {
            Some(Record::Metadata(metadata)) if metadata.name == PROFILE => {
                reader.about = metadata.metadata;
            }
            _ => return Err(ReadError::NotARecording("it does not say its version")),
        }
        let found = reader.about("format_version");
        if !found.parse::<u32>().is_ok_and(|version| (1..=FORMAT_VERSION).contains(&version)) {
            let (found, by) = (found.to_owned(), reader.about("ctmon_version").to_owned());
            return Err(ReadError::Version { found, by });
        }
        Ok(reader)
    }

    /// What its beginning says: `format_version`, `ctmon_version`, `kernel`; empty where it does not.
    #[must_use]
    pub fn about(&self, key: &str) -> &str {
        self.about.get(key).map_or("", String::as_str)
    }

    /// The next item; none at the end.
    ///
    /// # Errors
    /// When the file cannot be read. What is cut or damaged is no error: see [`Reader::take_notes`].
    pub fn next_item(&mut self) -> Result<Option<Item>, ReadError> {
        loop {
            if let Some(chunk) = &mut self.chunk {
                match chunk.next_message() {
                    Ok(Some((Topic::Known(channel), data))) => {
                        let (item, left_out) = match item(channel, &data, &mut self.known) {
                            Ok(item) => item,
                            Err(why) => {
                                self.damaged(&why);
                                continue;
                            }
                        };
                        self.dangling += left_out;
                        return Ok(Some(item));
                    }
                    Ok(Some((Topic::Unknown(topic), _))) => {
                        if self.unknown.len() < 16 && self.unknown.insert(topic.clone()) {
                            self.notes.push(Note::Unknown { topic });
                        }
                    }
                    Ok(None) => self.chunk = None,
                    Err(why) => self.damaged(&why),
                }
                continue;
            }
            if self.ended {
                return Ok(None);
            }
            match self.piece()? {
                Piece::Whole(op::CHUNK, at, bytes) => {
                    self.chunks += 1;
                    self.chunk = Some(Chunk::new(at, bytes));
                }
                Piece::Whole(op::DATA_END, ..) | Piece::End => self.end(),
                Piece::Whole(..) | Piece::Skipped => {}
            }
        }
    }

    /// What is to be said so far: what was left out, and why.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// Chunks that were whole, so far.
    #[must_use]
    pub const fn chunks(&self) -> u64 {
        self.chunks
    }

    fn end(&mut self) {
        self.ended = true;
        if self.dangling > 0 {
            self.notes.push(Note::Dangling { events: self.dangling });
        }
    }

    /// Leaves out the rest of the chunk.
    fn damaged(&mut self, why: &str) {
        let Some(chunk) = self.chunk.take() else { return };
        self.chunks -= 1;
        let (at, left_out) = (chunk.at, chunk.bytes.len() as u64);
        self.note(Note::Damaged { at, left_out, why: why.into() });
    }

    /// Keeps what is to be said of a place; many would say little more than the first ones.
    fn note(&mut self, note: Note) {
        const MOST: usize = 100;
        if self.notes.len() < MOST {
            self.notes.push(note);
        }
    }

    /// The next record of the container, with where it begins.
    fn piece(&mut self) -> Result<Piece, ReadError> {
        let at = self.offset;
        let mut bytes = Vec::new();
        if self.read(RECORD_HEAD as u64, &mut bytes)? < RECORD_HEAD {
            self.notes.push(match bytes.len() as u64 {
                0 => Note::Unfinished,
                left_out => Note::Cut { at, left_out },
            });
            return Ok(Piece::End);
        }
        let (opcode, len) = record_head(&bytes);
        let most = match opcode {
            op::CHUNK => MAX_CHUNK as u64,
            _ => MAX_RECORD,
        };
        if opcode == 0 || opcode == op::CHUNK && len > most {
            let why = format!("a record of the kind {opcode} with {len} bytes");
            self.notes.push(Note::Lost { at, why });
            return Ok(Piece::End);
        }
        let read = if len > most {
            let read = io::copy(&mut (&mut self.input).take(len), &mut io::sink())?;
            self.offset = self.offset.saturating_add(read);
            read
        } else {
            self.read(len, &mut bytes)? as u64
        };
        if read < len {
            self.notes.push(Note::Cut { at, left_out: self.offset - at });
            return Ok(Piece::End);
        }
        if (FIRST_UNKNOWN..FIRST_PRIVATE).contains(&opcode) {
            let (left_out, why) =
                (self.offset - at, format!("a record of the unknown kind {opcode}"));
            self.note(Note::Damaged { at, left_out, why });
        }
        Ok(if len > most { Piece::Skipped } else { Piece::Whole(opcode, at, bytes) })
    }

    /// Reads up to `len` bytes behind those in `bytes`; how many there were. Takes memory for what is
    /// there, not for what is promised.
    fn read(&mut self, len: u64, bytes: &mut Vec<u8>) -> io::Result<usize> {
        let read = (&mut self.input).take(len).read_to_end(bytes)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// A record, its opcode and length before it.
fn parse(opcode: u8, bytes: &[u8]) -> Option<Record<'_>> {
    mcap::parse_record(opcode, bytes.get(RECORD_HEAD..)?).ok()
}

fn item(channel: Channel, data: &[u8], known: &mut Flows) -> Result<(Item, u64), String> {
    let most = if channel == Channel::Flow { MAX_BATCH } else { MAX_MESSAGE };
    if data.len() > most {
        return Err(format!("a message of {} bytes", data.len()));
    }
    Ok(match channel {
        Channel::Start => (Item::Start(cbor(data)?), 0),
        Channel::Notice => (Item::Notice(cbor(data)?), 0),
        Channel::Threshold => (Item::Threshold(cbor(data)?), 0),
        Channel::Standing => (Item::Standing(cbor(data)?), 0),
        Channel::Reading => {
            let UsedReading { purpose, reading } = cbor(data)?;
            (Item::Reading(purpose, reading), 0)
        }
        Channel::Flow => {
            let (flows, left_out) = cbor::<Batch>(data)?.flows(known)?;
            (Item::Flows(flows), left_out)
        }
    })
}

fn cbor<T: DeserializeOwned>(data: &[u8]) -> Result<T, String> {
    ciborium::from_reader(data).map_err(|error| error.to_string())
}

impl Chunk {
    fn new(at: u64, bytes: Vec<u8>) -> Self {
        let options = LinearReaderOptions::default()
            .with_skip_start_magic(true)
            .with_skip_end_magic(true)
            .with_prevalidate_chunk_crcs(true)
            .with_record_length_limit(MAX_CHUNK);
        let reader = LinearReader::new_with_options(options);
        Self { at, bytes, fed: 0, reader, topics: HashMap::new() }
    }

    /// The next message, once the checksum of the whole chunk is right.
    fn next_message(&mut self) -> Result<Option<(Topic, Vec<u8>)>, String> {
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
                LinearReadEvent::Record { opcode, data } => {
                    match mcap::parse_record(opcode, data).map_err(|error| error.to_string())? {
                        Record::Channel(channel) => {
                            let known = Channel::ALL
                                .into_iter()
                                .find(|known| known.topic() == channel.topic)
                                .filter(|_| channel.message_encoding == ENCODING);
                            let topic = known.map_or(Topic::Unknown(channel.topic), Topic::Known);
                            self.topics.insert(channel.id, topic);
                        }
                        Record::Message { header, .. } => {
                            let topic = self.topics.get(&header.channel_id).cloned();
                            let topic = topic.ok_or("a message of no channel")?;
                            let data = data.get(MESSAGE_HEAD..).unwrap_or_default();
                            return Ok(Some((topic, data.to_vec())));
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

/// Bytes of a message before its data: channel, sequence, and two times.
const MESSAGE_HEAD: usize = 2 + 4 + 8 + 8;
