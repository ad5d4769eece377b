//! The reader of recordings: it takes any bytes, and ends.

#![no_main]

use std::{collections::BTreeMap, io::Cursor};

use conntrack_user::source::recording::reader::Reader;
use libfuzzer_sys::fuzz_target;
use mcap::{
    WriteOptions,
    records::{MessageHeader, Metadata},
};

fn read(bytes: &[u8]) {
    if let Ok(mut reader) = Reader::open(bytes) {
        while let Ok(Some(_)) = reader.next_item() {}
        let _ = reader.take_notes();
    }
}

/// Reason why a recording in memory is written without an error.
const WRITES: &str = "memory takes every write";

/// A recording with one message: a checksum that is right is what a fuzzer does not come upon.
fn with_message(topic: &str, message: &[u8]) -> Vec<u8> {
    let options =
        WriteOptions::new().profile("ctmon").compression(None).emit_summary_records(false);
    let mut writer = options.create(Cursor::new(Vec::new())).expect(WRITES);
    let metadata = BTreeMap::from([("format_version".to_owned(), "2".to_owned())]);
    writer.write_metadata(&Metadata { name: "ctmon".into(), metadata }).expect(WRITES);
    let channel_id = writer.add_channel(0, topic, "cbor", &BTreeMap::new()).expect(WRITES);
    let header = MessageHeader { channel_id, sequence: 0, log_time: 1, publish_time: 1 };
    writer.write_to_known_channel(&header, message).expect(WRITES);
    writer.finish().expect(WRITES);
    writer.into_inner().into_inner()
}

fuzz_target!(|bytes: &[u8]| {
    read(bytes);
    if let Some((channel, message)) = bytes.split_first() {
        let topics = ["start", "reading", "flow", "notice", "threshold", "standing"];
        if let Some(topic) = topics.get(usize::from(*channel)) {
            read(&with_message(topic, message));
        }
    }
});
