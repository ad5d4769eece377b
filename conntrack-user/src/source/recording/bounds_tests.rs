//! Bounds on what a recording may say: below and at each it is read, above it is damage, and a writer refuses it.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    reader::{Note, ReadError, Reader},
    samples,
    tests::{read, record, with_message},
    writer::{WriteError, Writer},
    *,
};
use crate::{
    model::{
        bounds::*,
        coverage::Coverage,
        reading::{NetnsId, NetnsReading},
        windows::Windows,
    },
    source::{
        Unavailable,
        item::{Flows, Item, Notice, Threshold},
    },
    text::tests::{HOSTILE, is_clean},
};

fn encoded(message: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(message, &mut bytes).unwrap();
    bytes
}

/// Reports whether a recording with this one message is read without damage.
fn is_taken(topic: &str, message: &[u8]) -> bool {
    let (items, notes, _) = read(&with_message(topic, message)).unwrap();
    match &notes[..] {
        [] => items.len() == 1,
        [Note::Damaged { .. }] => false,
        other => panic!("{topic}: {other:?}"),
    }
}

fn id(number: usize) -> NetnsId {
    NetnsId { cookie: Some(number as u64), inode: number as u64 }
}

/// A namespace of which little is known.
fn bare(number: usize) -> NetnsReading {
    let mut netns = samples::netns(id(number), 0, 0, None);
    (netns.name, netns.totals, netns.windows, netns.kernel) = (None, None, None, None);
    netns.counts.clear();
    netns
}

/// A bound, and a reading with so many of what it bounds.
type Case = (usize, fn(usize) -> Reading);

/// Readings with `n` of something that is bounded, by the bound.
fn readings() -> [Case; 7] {
    [
        (NETNS, |n| samples::reading(1, (0..n).map(bare).collect())),
        (GONE, |n| Reading { gone: (0..n).map(id).collect(), ..samples::reading(1, vec![]) }),
        (COUNT_READS, |n| {
            let mut netns = samples::netns(id(1), 0, 0, None);
            netns.counts = vec![netns.counts[0]; n];
            samples::reading(1, vec![netns])
        }),
        (WINDOWS, |n| {
            let mut netns = bare(1);
            let counts = vec![1; n];
            netns.windows =
                Some(Windows { inserts: counts.clone(), deletes: counts, ..Windows::default() });
            samples::reading(1, vec![netns])
        }),
        (HOOKS, |n| {
            let mut reading = samples::reading(1, vec![]);
            reading.probes = vec![reading.probes[0].clone(); n];
            reading
        }),
        (SAMPLES, |n| {
            let mut reading = samples::reading(1, vec![]);
            let event = samples::flows()[0].events[0].clone();
            reading.victims =
                vec![crate::model::reading::Victim { netns: event.netns, flow: event.flow }; n];
            reading
        }),
        (SAMPLES, |n| {
            let mut reading = samples::reading(1, vec![]);
            let one = crate::model::live_state::Reread { entry: 1, inserted_ns: 1, found: None };
            reading.rereads = Some(crate::model::live_state::Batch {
                time_ns: 1,
                cost_ns: None,
                rereads: vec![one; n],
            });
            reading
        }),
    ]
}

#[test]
fn lists_of_readings_are_bounded() {
    for (place, (most, reading)) in readings().into_iter().enumerate() {
        for n in [most - 1, most, most + 1] {
            let reading = Box::new(reading(n));
            let message = encoded(&UsedReading { purpose: Use::Tick, reading: reading.clone() });
            assert_eq!(is_taken("reading", &message), n <= most, "{place}: {n} of {most}");
            let mut writer = Writer::new(Vec::new(), "6.1", None).unwrap();
            let outcome = writer.take(&Item::Reading(Use::Tick, reading));
            let is_refused = matches!(outcome, Err(WriteError::OutOfBounds(_)));
            assert_eq!(is_refused, n > most, "{place}: {n} of {most}");
        }
    }
}

#[test]
fn windows_of_all_namespaces_are_bounded_and_come_in_pairs() {
    let netns = |inserts: usize, deletes: usize| {
        let mut netns = bare(1);
        let (inserts, deletes) = (vec![1; inserts], vec![1; deletes]);
        netns.windows = Some(Windows { inserts, deletes, ..Windows::default() });
        netns
    };
    let check = |netns: Vec<NetnsReading>| reading(&samples::reading(1, netns));
    let full = WINDOWS_OF_ALL / WINDOWS;
    assert!(check(vec![netns(WINDOWS, WINDOWS); full]).is_ok());
    let mut more = vec![netns(WINDOWS, WINDOWS); full];
    more.push(netns(1, 1));
    assert!(check(more).unwrap_err().contains("windows of all namespaces"));
    assert!(check(vec![netns(2, 1)]).unwrap_err().contains("not as many"));
}

#[test]
fn columns_have_a_value_an_event_or_one() {
    let Item::Flows(flows) = samples::items().swap_remove(5) else { panic!() };
    let batch = batch::Batch::new(&flows, &mut known::Numbers::new(100));
    let whole = serde_json::to_value(&batch).unwrap();
    assert!(is_taken("flow", &encoded(&batch)));
    // As JSON has no bytes, addresses are left out: what is too long is seen before them.
    for column in ["kind", "status", "threshold", "inserts_ago", "zone", "hash", "mirrored"] {
        let mut longer = whole.clone();
        let values = longer[column].as_array_mut().unwrap();
        let first = values.first().cloned().unwrap_or(json!(0));
        values.resize(flows.events.len() + 1, first);
        let longer = with_addresses(longer);
        assert!(!is_taken("flow", &encoded(&longer)), "{column}");
    }
    assert!(is_taken("flow", &encoded(&with_addresses(whole))));
}

/// Lists of bytes as addresses have them.
fn with_addresses(batch: Value) -> ciborium::Value {
    let mut batch = ciborium::Value::serialized(&batch).unwrap();
    for (key, tuples) in batch.as_map_mut().unwrap() {
        if !matches!(key.as_text(), Some("original" | "reply")) {
            continue;
        }
        for (key, column) in tuples.as_map_mut().unwrap() {
            if !matches!(key.as_text(), Some("source" | "destination")) {
                continue;
            }
            for address in column.as_array_mut().unwrap() {
                let bytes = address.as_array().unwrap().iter();
                let bytes = bytes.map(|byte| byte.as_integer().unwrap().try_into().unwrap());
                *address = ciborium::Value::Bytes(bytes.collect());
            }
        }
    }
    batch
}

#[test]
fn events_of_a_batch_are_bounded() {
    let event = samples::flows()[0].events[0].clone();
    for n in [EVENTS - 1, EVENTS, EVENTS + 1] {
        let flows = Flows { utc_offset_ns: 0, events: vec![event.clone(); n] };
        let batch = batch::Batch::new(&flows, &mut known::Numbers::new(100));
        assert_eq!(is_taken("flow", &encoded(&batch)), n <= EVENTS, "{n}");
        let mut writer = Writer::new(Vec::new(), "6.1", None).unwrap();
        assert_eq!(writer.take(&Item::Flows(flows)).is_ok(), n <= EVENTS, "{n}");
    }
}

#[test]
fn times_and_cpus_are_bounded() {
    for (ns, expected) in [(TIME_NS - 1, true), (TIME_NS, true), (TIME_NS + 1, false)] {
        let time = crate::model::reading::Time { monotonic_ns: ns, unix_ns: ns };
        let notice = Notice { time, text: String::new() };
        assert_eq!(is_taken("notice", &encoded(&notice)), expected, "{ns}");
        let set = Threshold { time, threshold: 1 };
        assert_eq!(is_taken("threshold", &encoded(&set)), expected, "{ns}");
    }
    for (cpus, expected) in [(CPUS - 1, true), (CPUS, true), (CPUS + 1, false)] {
        let Item::Start(mut start) = samples::start() else { panic!() };
        start.cpus = cpus;
        assert_eq!(is_taken("start", &encoded(&start)), expected, "{cpus}");
    }
}

#[test]
fn namespaces_that_are_followed_at_once_are_bounded() {
    let reading = |purpose, netns: std::ops::Range<usize>, gone: std::ops::Range<usize>| {
        let netns = netns.map(bare).collect();
        let gone = gone.map(id).collect();
        samples::item(purpose, Reading { gone, ..samples::reading(1, netns) })
    };
    let items = |more: usize, gone: usize| {
        let first = reading(Use::First, 0..NETNS, 0..gone);
        vec![samples::start(), first, reading(Use::Tick, NETNS..NETNS + more, 0..0)]
    };
    for (more, gone, expected) in [(0, 0, 3), (1, 0, 2), (1, 1, 3), (8, 7, 2), (NETNS, NETNS, 3)] {
        let bytes = record(&items(more, gone), &[0, 1]);
        let (read, notes, _) = read(&bytes).unwrap();
        assert_eq!(read.len(), expected, "{more} more, {gone} gone: {notes:?}");
        assert_eq!(notes.is_empty(), expected == 3, "{notes:?}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| {
        let deep = (0..levels).fold(ciborium::Value::Null, |deep, _| vec![deep].into());
        let Ok(mut notice) =
            ciborium::Value::serialized(&Notice { time: samples::time(1), text: String::new() })
        else {
            panic!()
        };
        notice.as_map_mut().unwrap().push(("later".into(), deep));
        encoded(&notice)
    };
    assert!(is_taken("notice", &nested(20)));
    assert!(!is_taken("notice", &nested(40)));
}

#[test]
fn messages_are_bounded() {
    for (len, expected) in [(MAX_MESSAGE - 1, true), (MAX_MESSAGE, true), (MAX_MESSAGE + 1, false)]
    {
        let empty = Notice { time: samples::time(1), text: "x".repeat(70_000) };
        let more = len - encoded(&empty).len();
        let notice = Notice { text: "x".repeat(70_000 + more), ..empty };
        let message = encoded(&notice);
        assert_eq!(message.len(), len);
        assert_eq!(is_taken("notice", &message), expected, "{len}");
    }
}

/// A recording whose one chunk was changed.
fn with_chunk(change: impl Fn(&mut [u8])) -> Result<(Vec<Item>, Vec<Note>, u64), ReadError> {
    let mut bytes = record(&samples::items(), &[]);
    let chunk = tests::records(&bytes);
    let chunk = chunk.iter().find(|(opcode, _)| *opcode == mcap::records::op::CHUNK).unwrap().1;
    // Behind the record's head: two times, then the size it expands to, and the checksum.
    change(&mut bytes[chunk + RECORD_HEAD + 16..]);
    read(&bytes)
}

#[test]
fn a_chunk_says_how_large_it_is_and_has_a_checksum() {
    assert_eq!(with_chunk(|_| {}).unwrap().1, []);
    let why = |change: &dyn Fn(&mut [u8])| {
        let (items, notes, chunks) = with_chunk(change).unwrap();
        assert_eq!((items.len(), chunks), (0, 0));
        let [Note::Damaged { why, .. }] = &notes[..] else { panic!("{notes:?}") };
        why.clone()
    };
    let size = |size: u64| move |chunk: &mut [u8]| chunk[..8].copy_from_slice(&size.to_le_bytes());
    let above = why(&size(MAX_CHUNK as u64 + 1));
    assert!(above.contains("expands to 17825793 bytes"), "{above}");
    let at = why(&size(MAX_CHUNK as u64));
    assert!(!at.contains("expands to"), "{at}");
    let unchecked = why(&|chunk: &mut [u8]| chunk[8..12].fill(0));
    assert_eq!(unchecked, "a chunk without a checksum");
}

#[test]
fn channels_and_their_names_are_bounded() {
    let long = "weather\x1b[31m".repeat(100);
    let (_, notes, _) = read(&with_message(&long, &[0x80])).unwrap();
    let [Note::Unknown { topic }] = &notes[..] else { panic!("{notes:?}") };
    assert!(topic.len() == MAX_NAME && is_clean(topic), "{topic:?}");
    for (len, expected) in [(MAX_CHANNEL - 30, true), (MAX_CHANNEL, false)] {
        let (_, notes, _) = read(&with_message(&"x".repeat(len), &[0x80])).unwrap();
        assert_eq!(matches!(notes[..], [Note::Unknown { .. }]), expected, "{len}: {notes:?}");
    }
}

#[test]
fn damage_beyond_the_places_that_are_listed_is_counted() {
    for (damaged, further) in [(99, None), (100, None), (101, Some(1)), (250, Some(150))] {
        let items: Vec<Item> = (0..damaged).map(|_| samples::start()).collect();
        let mut bytes = record(&items, &(0..damaged).collect::<Vec<_>>());
        for (opcode, at) in tests::records(&bytes) {
            if opcode == mcap::records::op::CHUNK {
                bytes[at + RECORD_HEAD + 24] ^= 1;
            }
        }
        let (_, notes, _) = read(&bytes).unwrap();
        assert!(notes.iter().all(Note::is_damage));
        let counted = notes.last().and_then(|note| match note {
            Note::Further { places } => Some(*places),
            _ => None,
        });
        assert_eq!((counted, notes.len()), (further, damaged.min(100) + further.iter().count()));
    }
}

#[test]
fn text_is_clean_where_it_is_read() {
    let Item::Start(mut start) = samples::start() else { panic!() };
    let hostile = || HOSTILE.to_owned();
    (start.origin.kernel_release, start.origin.source) = (hostile(), hostile());
    for hook in &mut start.origin.hooks {
        (hook.name, hook.function) = (hostile(), hostile());
        hook.attached_via = Some(hostile());
        (hook.reason, hook.not_exact) = (Some(hostile()), Some(hostile()));
    }
    start.origin.unavailable = vec![Unavailable { what: hostile(), reason: hostile() }];
    let mut netns = samples::netns(id(1), 0, 0, None);
    netns.name.as_mut().unwrap().text = HOSTILE.repeat(100);
    let mut reading = samples::reading(1, vec![netns]);
    reading.probes[0].hook = hostile().into();
    let coverage = Coverage { stale_files: vec![hostile()], ..Coverage::default() };
    reading.coverage = Some(Arc::new(coverage));
    let notice = Notice { time: samples::time(2), text: HOSTILE.repeat(1000) };
    let items = vec![Item::Start(start), samples::item(Use::Tick, reading), Item::Notice(notice)];
    let mut writer = Writer::new(Vec::new(), HOSTILE, None).unwrap();
    for item in &items {
        let _ = writer.take(item).unwrap();
    }
    let bytes = writer.finish().unwrap().0;
    let mut reader = Reader::open(&bytes[..]).unwrap();
    assert!(is_clean(reader.about("kernel")) && reader.about("kernel").starts_with("a?[31m"));
    let mut seen = 0;
    while let Some(item) = reader.next_item().unwrap() {
        // Debug output would escape what is not clean.
        let shown = format!("{item:?}");
        assert!(
            !shown.contains("\\u{") && !shown.contains("\\n") && !shown.contains("\\0"),
            "{shown}"
        );
        assert!(shown.len() < 10_000);
        seen += 1;
    }
    assert_eq!(seen, items.len());
}
