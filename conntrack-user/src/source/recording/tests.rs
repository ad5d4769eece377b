use std::collections::HashMap;

use super::{
    reader::{Note, ReadError, Reader},
    samples::{self, ENTRY},
    writer::{Room, Writer},
    *,
};
use crate::{
    model::monitor::Monitor,
    severity::THRESHOLDS,
    source::{
        item::{Item, NetnsFlow},
        listener::Listener,
    },
    view::json::Line,
};

const KERNEL: &str = "6.12.117";

/// A recording of `items`, with a chunk's end behind each of the places in `flush`.
pub(super) fn record(items: &[Item], flush: &[usize]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), KERNEL, None).unwrap();
    for (at, item) in items.iter().enumerate() {
        assert_eq!(writer.take(item).unwrap(), Room::Left);
        if flush.contains(&at) {
            assert_eq!(writer.flush().unwrap(), Room::Left);
        }
    }
    let (bytes, size) = writer.finish().unwrap();
    assert_eq!(size, bytes.len() as u64);
    bytes
}

/// All that is in a recording, and what is to be said about it.
pub(super) fn read(bytes: &[u8]) -> Result<(Vec<Item>, Vec<Note>, u64), ReadError> {
    let mut reader = Reader::open(bytes)?;
    let mut items = Vec::new();
    while let Some(item) = reader.next_item()? {
        items.push(item);
    }
    Ok((items, reader.take_notes(), reader.chunks()))
}

/// What `watch --output json` prints.
fn json(items: &[Item]) -> Vec<String> {
    let (mut monitor, mut start) = (Monitor::new(1), None);
    let mut lines = Vec::new();
    for item in items {
        match item {
            Item::Start(new) => (monitor, start) = (Monitor::new(new.cpus), Some(new)),
            Item::Reading(Use::Settle, reading) => monitor.settle(reading),
            Item::Reading(Use::First, reading) => {
                lines.push(serde_json::to_string(&Line::start(start.unwrap())).unwrap());
                monitor.observe(reading);
            }
            Item::Reading(Use::Tick, reading) => {
                let tick = monitor.observe(reading);
                let hooks = &start.unwrap().origin.hooks;
                lines.push(serde_json::to_string(&Line::tick(&tick, hooks, &THRESHOLDS)).unwrap());
            }
            Item::Threshold(set) => {
                monitor.observe_threshold(set.threshold, set.time.monotonic_ns);
            }
            Item::Standing(standing) => monitor.resume(standing),
            Item::Notice(n) => {
                lines.push(serde_json::to_string(&Line::notice(n.time, &n.text)).unwrap());
            }
            Item::Flows(flows) => {
                flows
                    .events
                    .iter()
                    .for_each(|event| monitor.observe_event(event.netns, &event.flow));
            }
        }
    }
    lines
}

/// `items` as a recording gives them back: without addresses of the kernel. Those of entries become
/// numbers, which are left to the tests of flows.
fn without_addresses(items: &[Item]) -> Vec<Item> {
    let mut items = items.to_vec();
    for item in &mut items {
        match item {
            Item::Flows(flows) => {
                for NetnsFlow { netns, flow } in &mut flows.events {
                    (flow.entry, flow.netns_cookie) = (0, batch::cookie(*netns));
                }
            }
            Item::Reading(_, reading) => {
                for victim in &mut reading.victims {
                    let flow = &mut victim.flow;
                    (flow.entry, flow.netns_cookie) = (0, batch::cookie(victim.netns));
                }
                if let Some(batch) = &mut reading.rereads {
                    // One whose flow nobody knows is left out.
                    batch.rereads.iter_mut().for_each(|reread| reread.entry = 0);
                }
            }
            Item::Start(_) | Item::Notice(_) | Item::Threshold(_) | Item::Standing(_) => {}
        }
    }
    items
}

#[test]
fn a_recording_gives_back_what_was_told_and_the_same_json() {
    let items = samples::items();
    let bytes = record(&items, &[]);
    let (replayed, notes, _) = read(&bytes).unwrap();
    assert_eq!(notes, []);
    assert_eq!(without_addresses(&replayed), without_addresses(&items));
    assert_eq!(json(&replayed), json(&items));
    assert_eq!(json(&items).len(), 6);
    let reader = Reader::open(&bytes[..]).unwrap();
    assert_eq!((reader.about("kernel"), reader.about("format_version")), (KERNEL, "2"));
}

#[test]
fn flows_keep_their_insert_and_no_address_of_the_kernel() {
    let items = samples::items();
    let (replayed, ..) = read(&record(&items, &[])).unwrap();
    let events = |items: &[Item]| -> Vec<NetnsFlow> {
        let flows = items.iter().filter_map(|item| match item {
            Item::Flows(flows) => Some(flows.events.clone()),
            _ => None,
        });
        flows.flatten().collect()
    };
    // In the order of the inserts, as long as no other flow had the entry; one of which nothing is known has
    // a number far beyond.
    let numbers: Vec<u64> = events(&replayed).iter().map(|event| event.flow.entry).collect();
    assert_eq!(numbers, [1, 2, 0, (1 << 62) + 1, 2, 3, 4, 5, 1, 5, 4, 5, 1, 1, 3]);
    let mut entries = HashMap::new();
    for (told, replayed) in events(&items).iter().zip(events(&replayed)) {
        if known::is_insert(told.flow.kind) {
            entries.insert(told.flow.entry, replayed.flow.entry);
        } else if entries.contains_key(&told.flow.entry) {
            assert_eq!(entries[&told.flow.entry], replayed.flow.entry, "{told:?}");
        }
        assert!(replayed.flow.entry < ENTRY && replayed.flow.netns_cookie < ENTRY);
    }
    // The upper half of the kernel's addresses, in both byte orders.
    let mut unpacked = Vec::new();
    for item in &replayed {
        let mut writer = Vec::new();
        if let Item::Reading(_, reading) = item {
            ciborium::into_writer(reading, &mut writer).unwrap();
        }
        unpacked.extend(writer);
    }
    assert!(!unpacked.windows(4).any(|four| four == [0xff, 0xff, 0x88, 0x81]));
}

#[test]
fn cut_at_every_byte_every_whole_chunk_is_read() {
    let items = samples::items();
    let flush = [4, 6, 8, 11];
    let bytes = record(&items, &flush);
    let (whole, notes, chunks) = read(&bytes).unwrap();
    assert_eq!((whole.len(), notes, chunks), (items.len(), vec![], 5));
    let mut seen = Vec::new();
    for len in 0..bytes.len() {
        match read(&bytes[..len]) {
            Err(ReadError::TooShort(at)) => {
                assert_eq!(at, len as u64);
                assert!(seen.is_empty(), "{len}");
            }
            Err(error) => panic!("cut at {len}: {error}"),
            Ok((read, notes, chunks)) => {
                assert!(read[..] == whole[..read.len()], "cut at {len}");
                let expected = match chunks {
                    0 => 0,
                    5 => items.len(),
                    chunks => flush[chunks as usize - 1] + 1,
                };
                assert_eq!(read.len(), expected, "cut at {len}");
                // What was left out is what there is behind the last whole record.
                match &notes[..] {
                    [Note::Unfinished] | [] => {}
                    [Note::Cut { at, left_out }] => assert_eq!(at + left_out, len as u64),
                    other => panic!("cut at {len}: {other:?}"),
                }
                seen.push(chunks);
            }
        }
    }
    assert!(seen.is_sorted());
    seen.dedup();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
}

/// Where the records of the container begin.
pub(super) fn records(bytes: &[u8]) -> Vec<(u8, usize)> {
    let mut at = mcap::MAGIC.len();
    let mut found = Vec::new();
    while let Some(head) = bytes.get(at..at + RECORD_HEAD) {
        let (opcode, len) = record_head(head);
        found.push((opcode, at));
        at += RECORD_HEAD + len as usize;
    }
    found
}

#[test]
fn one_wrong_byte_costs_its_chunk_unless_it_is_in_a_length() {
    let items = samples::items();
    let bytes = record(&items, &[4, 6, 8, 11]);
    let whole = read(&bytes).unwrap().0;
    let records = records(&bytes);
    let in_length =
        |at: usize| records.iter().any(|(_, record)| (record + 1..record + 9).contains(&at));
    for at in 0..bytes.len() {
        let mut wrong = bytes.clone();
        wrong[at] ^= 0x5a;
        let Ok((read, notes, _)) = read(&wrong) else {
            assert!(at < records[2].1, "the header is at the beginning, not at {at}");
            continue;
        };
        assert!(read == whole || !notes.is_empty(), "{at}: nothing is said");
        // Nothing that was not told, but for events whose insert is elsewhere now.
        let invented =
            read.iter().find(|item| !whole.contains(item) && !matches!(item, Item::Flows(_)));
        assert!(invented.is_none(), "{at}: {invented:?}");
        // The largest chunk has five items.
        assert!(in_length(at) || read.len() + 5 >= items.len(), "{at}: {} items", read.len());
    }
}

#[test]
fn what_is_being_written_can_be_read() {
    let items = samples::items();
    let mut file = Vec::new();
    let mut writer = Writer::new(&mut file, KERNEL, None).unwrap();
    for item in &items[..5] {
        let _ = writer.take(item).unwrap();
    }
    let _ = writer.flush().unwrap();
    let _ = writer.take(&items[5]).unwrap();
    drop(writer);
    let (read, notes, _) = read(&file).unwrap();
    assert_eq!((read, notes), (items[..5].to_vec(), vec![Note::Unfinished]));
}

#[test]
fn the_largest_size_is_kept() {
    let items = samples::items();
    let max_size = 3_000;
    let mut writer = Writer::new(Vec::new(), KERNEL, Some(max_size)).unwrap();
    let mut taken = 0;
    while writer.take(&items[taken % items.len()]).unwrap() == Room::Left {
        let _ = writer.flush().unwrap();
        taken += 1;
        assert!(taken < 1000, "it never ends");
    }
    let (bytes, size) = writer.finish().unwrap();
    assert!(size <= max_size && size > max_size / 2, "{size}");
    let (read, notes, _) = read(&bytes).unwrap();
    assert!(!read.is_empty() && notes.is_empty(), "{notes:?}");
}

#[test]
fn a_newer_version_and_other_files_are_refused() {
    let bytes = record(&samples::items(), &[]);
    let version = b"format_version\x01\0\0\0";
    let at = bytes.windows(version.len()).position(|part| part == version).unwrap();
    let mut newer = bytes;
    newer[at + version.len()] = b'9';
    let error = read(&newer).unwrap_err().to_string();
    assert!(error.contains("the version 9") && error.contains("up to version 2"), "{error}");
    assert!(error.contains(env!("CARGO_PKG_VERSION")), "{error}");

    let error = read(b"{\"schema_version\":1}").unwrap_err().to_string();
    assert!(error.contains("no recording of ctmon"), "{error}");
    let mut other = mcap::Writer::new(std::io::Cursor::new(Vec::new())).unwrap();
    other.finish().unwrap();
    let error = read(&other.into_inner().into_inner()).unwrap_err().to_string();
    assert!(error.contains("another program wrote"), "{error}");
    assert!(matches!(read(b""), Err(ReadError::TooShort(0))));
}

/// Container with one chunk of one message, in a channel of this name.
pub(super) fn with_message(topic: &str, message: &[u8]) -> Vec<u8> {
    let mut whole = record(&[], &[]);
    let options = mcap::WriteOptions::new().profile(PROFILE).emit_summary_records(false);
    let mut other = options.create(std::io::Cursor::new(Vec::new())).unwrap();
    let id = other.add_channel(0, topic, ENCODING, &Default::default()).unwrap();
    let header =
        mcap::records::MessageHeader { channel_id: id, sequence: 0, log_time: 1, publish_time: 1 };
    other.write_to_known_channel(&header, message).unwrap();
    other.finish().unwrap();
    let other = other.into_inner().into_inner();
    let (_, header) = record_head(&other[8..]);
    let chunk = 8 + RECORD_HEAD + header as usize;
    let (_, len) = record_head(&other[chunk..]);
    let end = whole.windows(9).rposition(|part| part[0] == mcap::records::op::DATA_END).unwrap();
    let end = whole[..end].windows(9).rposition(|part| part[..2] == [15, 4]).unwrap_or(end);
    let tail = whole.split_off(end);
    whole.extend_from_slice(&other[chunk..chunk + RECORD_HEAD + len as usize]);
    whole.extend(tail);
    whole
}

#[test]
fn what_is_not_known_is_left_out_and_said() {
    let (read, notes, _) = read(&with_message("weather", &[0x80])).unwrap();
    assert_eq!((read, notes), (vec![], vec![Note::Unknown { topic: "weather".into() }]));
}

#[test]
fn messages_that_make_no_sense_are_damage() {
    let nonsense: [(&str, &[u8]); 4] =
        [("start", &[]), ("reading", &[0xa0]), ("flow", &[0x9f; 300]), ("notice", &[0xff])];
    for (topic, message) in nonsense {
        let (read, notes, _) = read(&with_message(topic, message)).unwrap();
        assert_eq!(read, [], "{topic}");
        assert!(matches!(&notes[..], [Note::Damaged { .. }]), "{topic}: {notes:?}");
    }
}

#[test]
fn only_destroys_depend_on_a_chunk_that_is_damaged() {
    let items = samples::items();
    let bytes = record(&items, &[4, 6, 8, 11]);
    // The third chunk, in which a flow is inserted that the fifth destroys.
    let chunks =
        records(&bytes).into_iter().filter(|(opcode, _)| *opcode == mcap::records::op::CHUNK);
    let third = chunks.map(|(_, at)| at).nth(2).unwrap();
    let mut wrong = bytes;
    wrong[third + 100] ^= 1;
    let (read, notes, _) = read(&wrong).unwrap();
    assert!(matches!(notes[0], Note::Damaged { .. }), "{notes:?}");
    assert_eq!(notes[1..], [Note::Dangling { events: 1 }]);
    assert_eq!(read.iter().filter(|item| matches!(item, Item::Flows(_))).count(), 2);
}

/// Seeds of the fuzzer (docs/testing.md).
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/recording");

#[test]
#[ignore = "writes the seeds of the fuzzer's corpus anew, for a new format"]
fn seeds() {
    let items = samples::items();
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(std::path::Path::new(CORPUS).join(name), bytes).unwrap();
    };
    write("seed-whole", &record(&items, &[4, 6, 8, 11]));
    let mut numbers = known::Numbers::new(1 << 20);
    for (at, item) in items.iter().enumerate() {
        let (channel, mut message) = (item_channel(item), Vec::new());
        match item {
            Item::Start(start) => ciborium::into_writer(start, &mut message),
            Item::Notice(notice) => ciborium::into_writer(notice, &mut message),
            Item::Threshold(set) => ciborium::into_writer(set, &mut message),
            Item::Standing(standing) => ciborium::into_writer(standing, &mut message),
            Item::Reading(purpose, reading) => {
                ciborium::into_writer(&UsedReading { purpose: *purpose, reading }, &mut message)
            }
            Item::Flows(flows) => {
                ciborium::into_writer(&batch::Batch::new(flows, &mut numbers), &mut message)
            }
        }
        .unwrap();
        message.insert(0, channel as u8 - 1);
        write(&format!("seed-message-{at}"), &message);
    }
    let mut listener = Listener::default();
    items[..10].iter().for_each(|item| drop(listener.take(item)));
    let Some(Item::Standing(standing)) = listener.standing().pop() else { panic!() };
    let mut message = vec![Channel::Standing as u8 - 1];
    ciborium::into_writer(&standing, &mut message).unwrap();
    write("seed-message-standing", &message);
}

const fn item_channel(item: &Item) -> Channel {
    match item {
        Item::Start(_) => Channel::Start,
        Item::Reading(..) => Channel::Reading,
        Item::Flows(_) => Channel::Flow,
        Item::Notice(_) => Channel::Notice,
        Item::Threshold(_) => Channel::Threshold,
        Item::Standing(_) => Channel::Standing,
    }
}

#[test]
#[ignore = "a measurement: cargo test --release -p conntrack-user ten_minutes -- --ignored --nocapture"]
fn ten_minutes_at_1000_flows_a_second() {
    use std::time::Instant;
    for (name, threshold) in [("all flows", u32::MAX), ("half of 2,000 flows/s", 1 << 31)] {
        let items = samples::ten_minutes(threshold);
        let begun = Instant::now();
        let bytes = record(&items, &[]);
        let written = begun.elapsed();
        let only = |wanted: fn(&Item) -> bool| {
            let some: Vec<Item> = items.iter().filter(|item| wanted(item)).cloned().collect();
            record(&some, &[]).len()
        };
        let flows = only(|item| matches!(item, Item::Flows(_)));
        let readings = only(|item| !matches!(item, Item::Flows(_)));
        let begun = Instant::now();
        let (replayed, notes, _) = read(&bytes).unwrap();
        let lines = json(&replayed);
        let took = begun.elapsed();
        assert_eq!(notes, []);
        assert!(lines == json(&items));
        let size = bytes.len();
        println!(
            "{name}: {size} bytes ({flows} of events, {readings} of readings), written in {written:?}, \
             replayed as JSON in {took:?}, {:.0} times as fast as recorded",
            600.0 / took.as_secs_f64()
        );
        assert!(size < 20_000_000 && took.as_secs_f64() < 6.0);
    }
}

#[test]
#[ignore = "a measurement, as the one above"]
fn columns_against_rows() {
    // Rows: the events one by one, the addresses of the kernel replaced by the flows' numbers.
    let items = samples::ten_minutes(u32::MAX);
    let (mut rows, mut packed) = (Vec::new(), 0);
    let mut numbers = HashMap::new();
    let flush = |rows: &mut Vec<u8>| {
        let options = mcap::WriteOptions::new().profile(PROFILE).emit_summary_records(false);
        let options = options.compression_level(6).compression_threads(0);
        let mut mcap = options.create(std::io::Cursor::new(Vec::new())).unwrap();
        let id = mcap.add_channel(0, "row", ENCODING, &Default::default()).unwrap();
        let header = mcap::records::MessageHeader {
            channel_id: id,
            sequence: 0,
            log_time: 1,
            publish_time: 1,
        };
        mcap.write_to_known_channel(&header, rows).unwrap();
        mcap.finish().unwrap();
        rows.clear();
        mcap.into_inner().into_inner().len()
    };
    let mut batches = 0;
    for item in items {
        let Item::Flows(flows) = item else { continue };
        for event in flows.events {
            let next = numbers.len() as u64;
            let number = *numbers.entry(event.flow.entry).or_insert(next);
            ciborium::into_writer(&(number, &event.netns, &event.flow), &mut rows).unwrap();
        }
        batches += 1;
        if batches % 10 == 0 {
            packed += flush(&mut rows);
        }
    }
    println!("rows: {packed} bytes");
}
