//! Fuzz target of recordings.

#![allow(clippy::expect_used, reason = "a panic is how a fuzz target reports")]

use std::{collections::BTreeMap, io::Cursor};

use mcap::{
    WriteOptions,
    records::{MessageHeader, Metadata},
};

use super::{Channel, ENCODING, FORMAT_VERSION, PROFILE, reader::Reader};

/// Recordings: any bytes are read to an end, as a file, and behind the number of a channel as a message of it.
pub fn recording(bytes: &[u8]) -> bool {
    let is_file = has_items(bytes);
    let message = bytes.split_first().and_then(|(channel, message)| {
        Some((Channel::ALL.get(usize::from(*channel))?.topic(), message))
    });
    message.is_some_and(|(topic, message)| has_items(&with_message(topic, message))) || is_file
}

fn has_items(bytes: &[u8]) -> bool {
    let Ok(mut reader) = Reader::open(bytes) else { return false };
    let mut items = 0;
    while let Ok(Some(_)) = reader.next_item() {
        items += 1;
    }
    let _ = reader.take_notes();
    items > 0
}

/// Reason why a recording in memory is written without an error.
const WRITES: &str = "memory takes every write";

/// A recording with one message: a checksum that is right is what a fuzzer does not come upon.
fn with_message(topic: &str, message: &[u8]) -> Vec<u8> {
    let options =
        WriteOptions::new().profile(PROFILE).compression(None).emit_summary_records(false);
    let mut writer = options.create(Cursor::new(Vec::new())).expect(WRITES);
    let metadata = BTreeMap::from([("format_version".to_owned(), FORMAT_VERSION.to_string())]);
    writer.write_metadata(&Metadata { name: PROFILE.into(), metadata }).expect(WRITES);
    let channel_id = writer.add_channel(0, topic, ENCODING, &BTreeMap::new()).expect(WRITES);
    let header = MessageHeader { channel_id, sequence: 0, log_time: 1, publish_time: 1 };
    writer.write_to_known_channel(&header, message).expect(WRITES);
    writer.finish().expect(WRITES);
    writer.into_inner().into_inner()
}
