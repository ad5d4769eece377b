//! Reads a recording from its beginning, chunk by chunk, while it is written or after. Nothing in the
//! file is trusted.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    io::{self, Read},
};

use mcap::records::{Record, op};
use thiserror::Error;

use super::{
    FORMAT_VERSION, MAX_CHUNK, MAX_NAME, MAX_RECORD, PROFILE, RECORD_HEAD,
    chunk::{Chunk, Message, parse},
    known::Flows,
    record_head,
};
use crate::{
    model::{
        bounds::NETNS,
        reading::{NetnsId, NetnsReading},
    },
    source::item::Item,
    text::clean,
};

/// Why a recording cannot be read at all, or not any further.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error(transparent)]
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
    /// Places that are damaged besides those of the other notes.
    Further {
        /// Number of places.
        places: u64,
    },
}

impl Note {
    /// Reports whether something that was recorded is missing.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Cut { .. }
            | Self::Damaged { .. }
            | Self::Lost { .. }
            | Self::Dangling { .. }
            | Self::Further { .. } => true,
            Self::Unfinished | Self::Unknown { .. } => false,
        }
    }
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
            Self::Further { places } => {
                write!(f, "the recording is damaged at {places} more places, which were left out too")
            }
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
    /// Damaged places without a note of their own.
    further: u64,
    unknown: HashSet<String>,
    followed: Followed,
    dangling: u64,
    ended: bool,
}

/// The namespaces that whoever takes in the items remembers.
#[derive(Default)]
struct Followed(HashSet<NetnsId>);

impl Followed {
    /// Takes in the next item.
    ///
    /// # Errors
    /// More namespaces than are followed at once.
    fn take(&mut self, item: &Item) -> Result<(), String> {
        match item {
            Item::Start(_) => self.0.clear(),
            Item::Standing(standing) => self.0 = standing.namespaces().collect(),
            Item::Reading(_, reading) => {
                let lasts = |netns: &&NetnsReading| !netns.ended;
                let alive = reading.netns.iter().filter(lasts).map(|netns| netns.id);
                let new = alive.filter(|id| !self.0.contains(id)).count();
                if self.0.len() + new > NETNS {
                    return Err(format!("more than {NETNS} network namespaces at once"));
                }
                self.0.extend(reading.netns.iter().map(|netns| netns.id));
                let ended = reading.netns.iter().filter(|netns| netns.ended).map(|netns| netns.id);
                for id in ended.chain(reading.gone.iter().copied()) {
                    self.0.remove(&id);
                }
            }
            Item::Flows(_) | Item::Threshold(_) | Item::Notice(_) => {}
        }
        Ok(())
    }
}

/// Opcodes from here on are not given out yet, and from there on they are other programs' own.
const FIRST_UNKNOWN: u8 = op::DATA_END + 1;
const FIRST_PRIVATE: u8 = 0x80;

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
            further: 0,
            unknown: HashSet::new(),
            followed: Followed::default(),
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
                reader.about.values_mut().for_each(|value| clean(value, MAX_NAME));
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
                match chunk.next_message(&mut self.known) {
                    Ok(Some(Message::Item(item, left_out))) => {
                        if let Err(why) = self.followed.take(&item) {
                            self.damaged(&why);
                            continue;
                        }
                        self.dangling += left_out;
                        return Ok(Some(item));
                    }
                    Ok(Some(Message::Unknown(topic))) => {
                        if self.unknown.len() < 16 && !self.unknown.contains(topic) {
                            self.unknown.insert(topic.to_owned());
                            self.notes.push(Note::Unknown { topic: topic.to_owned() });
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
        let mut notes = std::mem::take(&mut self.notes);
        let places = std::mem::take(&mut self.further);
        notes.extend((places > 0).then_some(Note::Further { places }));
        notes
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
        let (at, left_out) = (chunk.at, chunk.len);
        self.note(Note::Damaged { at, left_out, why: why.into() });
    }

    /// Keeps what is to be said of a place; many would say little more than the first ones.
    fn note(&mut self, note: Note) {
        const MOST: usize = 100;
        if self.notes.len() < MOST {
            self.notes.push(note);
        } else {
            self.further += 1;
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
