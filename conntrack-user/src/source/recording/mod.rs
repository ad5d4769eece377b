//! Recordings: files that hold what a source told. docs/recording.md describes them.

mod batch;
mod bounds;
mod chunk;
pub mod encoder;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod known;
pub mod part;
pub mod reader;
pub mod writer;

use serde::{Deserialize, Serialize};

use super::item::Use;
use crate::model::reading::Reading;

/// The version of what is written here; raised when an older ctmon would misunderstand it.
pub const FORMAT_VERSION: u32 = 2;

/// The container's profile, and the name of its metadata record.
const PROFILE: &str = "ctmon";
/// How messages are encoded, as the container has it.
const ENCODING: &str = "cbor";

/// Bytes of a chunk, packed or unpacked, at the most: one message of the largest, and what is around it.
const MAX_CHUNK: usize = MAX_MESSAGE + (1 << 20);
/// Channels that a chunk declares at the most, and bytes of such a declaration.
const MAX_CHANNELS: usize = 256;
/// See [`MAX_CHANNELS`].
const MAX_CHANNEL: usize = 4096;
/// Characters of the name of a channel, and of what the beginning says, that are looked at.
const MAX_NAME: usize = 128;
/// Bytes of a message at the most: a reading of 4,096 namespaces has some 8 MB.
const MAX_MESSAGE: usize = 16 << 20;
/// Bytes of a message of events at the most, of which one can become several numbers of 64 bits.
const MAX_BATCH: usize = 4 << 20;
/// Bytes of any other record that is looked into.
const MAX_RECORD: u64 = 1 << 20;

/// Bytes of a record's opcode and length.
const RECORD_HEAD: usize = 9;

/// The opcode of a record, and how many bytes follow.
fn record_head(head: &[u8]) -> (u8, u64) {
    let mut len = [0; 8];
    let (opcode, rest) = head.split_first().unwrap_or((&0, &[]));
    for (to, from) in len.iter_mut().zip(rest) {
        *to = *from;
    }
    (*opcode, u64::from_le_bytes(len))
}

/// What a message is; the number is that of its channel in each chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channel {
    Start = 1,
    Reading = 2,
    Flow = 3,
    Notice = 4,
    Threshold = 5,
    Standing = 6,
}

impl Channel {
    const ALL: [Self; 6] =
        [Self::Start, Self::Reading, Self::Flow, Self::Notice, Self::Threshold, Self::Standing];

    const fn topic(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reading => "reading",
            Self::Flow => "flow",
            Self::Notice => "notice",
            Self::Threshold => "threshold",
            Self::Standing => "standing",
        }
    }
}

/// A message of the channel `reading`.
#[derive(Debug, Serialize, Deserialize)]
struct UsedReading<R = Box<Reading>> {
    #[serde(rename = "use")]
    purpose: Use,
    reading: R,
}

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
