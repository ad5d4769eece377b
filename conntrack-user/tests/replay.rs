//! `ctmon replay` of a part of a recording prints what a replay of the whole does there.

use std::{
    net::Ipv4Addr,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use conntrack_user::{
    model::{
        counts::{Balance, ByProtocol, Counted, Totals},
        flow::{EventKind, FlowEvent, Sample, Status, Tuple},
        reading::{CountRead, NetnsId, NetnsReading, Reading, Time},
    },
    source::{
        item::{Flows, Item, NetnsFlow, Notice, Origin, Start, Use},
        recording::writer::Writer,
    },
};

const SECOND: u64 = 1_000_000_000;
/// 2026-11-18 12:26:40 UTC
const START_NS: u64 = 1_795_004_800 * SECOND;
const NETNS: NetnsId = NetnsId { cookie: Some(1), inode: 4_026_531_840 };

fn time(second: u64) -> Time {
    Time { monotonic_ns: (1000 + second) * SECOND, unix_ns: START_NS + second * SECOND }
}

fn start(second: u64) -> Item {
    let (kernel, source) = ("6.12.117".into(), "ebpf".into());
    let origin = Origin {
        kernel_release: kernel,
        source,
        counting_since_ns: None,
        bpf_map_memory_bytes: None,
        hooks: vec![],
        unavailable: vec![],
    };
    Item::Start(Start { time: time(second), cpus: 2, origin })
}

/// What is read at a second: a hundred inserts more each time.
fn reading(purpose: Use, second: u64) -> Item {
    let allocs = 100 * second;
    let balance = Balance { allocs, frees: 0 };
    let inserts_packet = ByProtocol { udp: allocs, ..ByProtocol::default() };
    let netns = NetnsReading {
        id: NETNS,
        name: None,
        ended: false,
        idle: false,
        totals: Some(Totals { allocs, inserts_packet, ..Totals::default() }),
        missed: false,
        counts: vec![CountRead { before: balance, count: 40 + allocs as u32, after: balance }; 6],
        max: Some(262_144),
        timeouts: None,
        in_flight: None,
        windows: None,
        kernel: None,
    };
    let reading = Reading {
        time: time(second),
        netns: vec![netns],
        idle: 0,
        gone: vec![],
        events: None,
        missed_calls_max: Some(0),
        overflow: Totals::default(),
        probes: vec![],
        victims: vec![],
        blocks: Some((1, 4096)),
        rereads: None,
        counted: Counted::ALL,
        coverage: None,
    };
    Item::Reading(purpose, Box::new(reading))
}

/// A flow is inserted half a second before a second.
fn insert(second: u64) -> Item {
    let address = Ipv4Addr::LOCALHOST.into();
    let original = Tuple {
        source: address,
        destination: address,
        source_port: second as u16,
        destination_port: 53,
        protocol: 17,
    };
    let flow = FlowEvent {
        time_ns: time(second).monotonic_ns - SECOND / 2,
        netns_cookie: 1,
        entry: 320 * second,
        kind: EventKind::InsertPacket,
        original,
        reply: original.turned(),
        status: Status(0),
        zone: 0,
        sample: Sample::EVERY,
    };
    Item::Flows(Flows { utc_offset_ns: 0, events: vec![NetnsFlow { netns: NETNS, flow }] })
}

/// Half a minute of a tick each second, and half a minute of another source, in which something is said.
fn items() -> Vec<Item> {
    let mut items = Vec::new();
    for begin in [0, 30] {
        items.extend([start(begin), reading(Use::Settle, begin), reading(Use::First, begin)]);
        for second in begin + 1..begin + 30 {
            items.extend([insert(second), reading(Use::Tick, second)]);
        }
    }
    let notice = Notice { time: time(45), text: "half past".into() };
    items.insert(items.len() - 28, Item::Notice(notice));
    items
}

fn record(file: &Path) -> Result<()> {
    let mut writer = Writer::new(std::fs::File::create(file)?, "6.12.117", None)?;
    for item in items() {
        let _ = writer.take(&item)?;
    }
    writer.finish()?;
    Ok(())
}

fn replay(file: &Path, arguments: &str) -> Result<Output> {
    Command::new(env!("CARGO_BIN_EXE_ctmon"))
        .args(["replay", "--output", "json"])
        .args(arguments.split_whitespace())
        .arg(file)
        .output()
        .context("cannot start ctmon")
}

/// The lines of a replay that succeeds.
fn lines(file: &Path, arguments: &str) -> Result<Vec<String>> {
    let ended = replay(file, arguments)?;
    ensure!(ended.status.code() == Some(0) && ended.stderr.is_empty(), "{arguments}: {ended:?}");
    Ok(String::from_utf8(ended.stdout)?.lines().map(str::to_owned).collect())
}

#[test]
fn a_part_has_the_lines_of_the_whole() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("minute.mcap");
    record(&file)?;
    let whole = lines(&file, "--speed max")?;
    // Two sources, 29 ticks of each, and the notice.
    ensure!(whole.len() == 1 + 29 + 1 + 29 + 1, "{whole:#?}");
    let (second, notice) = (30, 46);
    ensure!(whole[second].contains(r#""kind":"start""#), "{}", whole[second]);
    ensure!(whole[notice].contains("half past"), "{}", whole[notice]);
    let parts = [
        ("--from 0s --to 1h", None, 0..whole.len()),
        ("--to 10s", None, 0..10),
        // Behind the line that says of what they are.
        ("--from 10s --to 20s", Some(0), 10..20),
        ("--from 25s --to 35s", Some(0), 25..35),
        ("--from 40s", Some(second), 40..whole.len()),
        ("--from 45s --to 46s", Some(second), 45..47),
        ("--from 2026-11-18T12:27:05Z --to 2026-11-18T12:27:08Z", Some(0), 25..28),
    ];
    for (arguments, start, range) in parts {
        let expected: Vec<_> =
            start.map(|at| whole[at].clone()).into_iter().chain(whole[range].to_vec()).collect();
        let part = lines(&file, &format!("--speed max {arguments}"))?;
        ensure!(part == expected, "{arguments}: {part:#?}\ninstead of {expected:#?}");
    }
    Ok(())
}

#[test]
fn what_is_before_a_part_is_not_waited_for() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("minute.mcap");
    record(&file)?;
    let begun = Instant::now();
    ensure!(lines(&file, "--from 59s")?.len() == 2);
    ensure!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    Ok(())
}

#[test]
fn a_part_that_is_not_there_is_an_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("minute.mcap");
    record(&file)?;
    let cases = [
        ("--from 2m", "59s long: from 2026-11-18T12:26:40.000Z to 2026-11-18T12:27:39.000Z"),
        ("--from 20s --to 10s", "later than --from"),
    ];
    for (arguments, expected) in cases {
        let ended = replay(&file, arguments)?;
        let told = String::from_utf8_lossy(&ended.stderr);
        ensure!(
            ended.status.code() == Some(3) && told.contains(expected),
            "{arguments}: {ended:?}"
        );
        ensure!(ended.stdout.is_empty(), "{arguments}: {ended:?}");
    }
    Ok(())
}
