//! Commands that read any file: they end on a signal, take less than 256 MB, and send nothing but text to a terminal.

use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use conntrack_user::{
    model::{
        counts::{Counted, Totals},
        flow::{EventKind, FlowEvent, Sample, Status, Tuple},
        name::{Name, NameKind},
        reading::{CountRead, Events, NetnsId, NetnsReading, Reading, Time},
        windows::Windows,
    },
    source::{
        item::{Flows, Item, NetnsFlow, Notice, Origin, Start, Use},
        recording::writer::Writer,
    },
};

/// Bytes of memory that a command may take, whatever it reads.
const MOST_MEMORY: u64 = 256 << 20;
/// Longest time that a command may go on after a signal.
const ENDS_WITHIN: Duration = Duration::from_secs(1);
/// Time that a busy machine adds.
const SLACK: Duration = Duration::from_secs(4);

/// Outcome of a command.
struct Ended {
    status: ExitStatus,
    /// Most memory that was resident, in bytes.
    memory: u64,
    out: String,
    err: String,
}

/// Waits for a process; most memory that was resident, in bytes. Looked at all the time: what wait4(2) says counts what
/// this process had when it started the other one.
fn wait(child: &mut Child) -> Result<(ExitStatus, u64)> {
    let mut most = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, most));
        }
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        most = most.max(peak.unwrap_or(0) * 1024);
        thread::sleep(Duration::from_millis(2));
    }
}

fn start(arguments: &[&str], file: &Path, out: Stdio) -> Result<Child> {
    Command::new(env!("CARGO_BIN_EXE_ctmon"))
        .args(arguments)
        .arg(file)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start ctmon")
}

fn run(arguments: &[&str], file: &Path) -> Result<Ended> {
    let mut child = start(arguments, file, Stdio::piped())?;
    let mut out = child.stdout.take().context("no standard output")?;
    let mut err = child.stderr.take().context("no standard error")?;
    // Some write hundreds of megabytes: their beginning is enough.
    let reads = thread::spawn(move || {
        let mut text = Vec::new();
        let read = (&mut out).take(1 << 20).read_to_end(&mut text);
        std::io::copy(&mut out, &mut std::io::sink()).and(read).map(|_| text)
    });
    let errors = thread::spawn(move || {
        let mut text = Vec::new();
        err.read_to_end(&mut text).map(|_| text)
    });
    let (status, memory) = wait(&mut child)?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let joined = |thread: thread::JoinHandle<std::io::Result<Vec<u8>>>| {
        thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?.context("cannot read")
    };
    Ok(Ended { status, memory, out: text(joined(reads)?), err: text(joined(errors)?) })
}

/// The commands that read recordings.
const COMMANDS: [&[&str]; 8] = [
    &["replay", "--speed", "max"],
    &["replay", "--speed", "max", "--causes", "--flows"],
    &["replay", "--speed", "max", "--output", "json"],
    &["export", "--format", "csv"],
    &["export", "--format", "jsonl", "--what", "events"],
    &["export", "--format", "parquet"],
    &["export", "--format", "parquet", "--what", "events"],
    &["backtest"],
];

/// Reports whether `text` holds readable characters only.
fn is_clean(text: &str) -> bool {
    let is_mark = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().all(|c| c == '\n' || !c.is_control() && !is_mark(c))
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(format!("{name}.mcap"))
}

/// Runs all commands on a file, and checks what holds for any.
fn check(path: &Path, most_seconds: u64) -> Result<Vec<(Vec<&'static str>, Ended)>> {
    let mut all = vec![];
    for command in COMMANDS {
        let begun = Instant::now();
        let ended = run(command, path)?;
        let name = path.display();
        let took = begun.elapsed();
        println!("{name} {command:?}: {} MB, {took:?}, {}", ended.memory >> 20, ended.status);
        ensure!(ended.memory < MOST_MEMORY, "{name} {command:?} takes {} bytes", ended.memory);
        ensure!(took.as_secs() < most_seconds, "{name} {command:?} takes {took:?}");
        ensure!(ended.status.code().is_some_and(|code| [0, 3, 4].contains(&code)), "{command:?}");
        ensure!(is_clean(&ended.err), "{name} {command:?}: {:?}", ended.err);
        if !command.contains(&"parquet") {
            ensure!(is_clean(&ended.out), "{name} {command:?}: {:?}", ended.out);
        }
        all.push((command.to_vec(), ended));
    }
    Ok(all)
}

#[test]
fn files_of_an_attacker_cost_little() -> Result<()> {
    for name in ["topic", "bomb4", "batch_insert", "esc", "ver"] {
        for (command, ended) in check(&file(name), 20)? {
            if ["bomb4", "batch_insert"].contains(&name) && command[0] != "backtest" {
                ensure!(ended.status.code() == Some(4), "{name} {command:?}: {}", ended.status);
                ensure!(ended.err.contains("damaged at byte"), "{name}: {}", ended.err);
            }
        }
    }
    Ok(())
}

fn time(tick: u64) -> Time {
    let ns = 1_000_000_000 * tick;
    Time { monotonic_ns: ns, unix_ns: 1_795_004_800_000_000_000 + ns }
}

/// A namespace with all that a reading can say.
fn netns(number: u64, tick: u64, windows: usize) -> NetnsReading {
    let balance = conntrack_user::model::counts::Balance { allocs: 9 * tick, frees: 0 };
    NetnsReading {
        id: NetnsId { cookie: Some(number), inode: number },
        name: Some(Name { text: "x".repeat(255), kind: NameKind::Pod }),
        ended: false,
        idle: false,
        totals: Some(Totals { allocs: 9 * tick, ..Totals::default() }),
        missed: false,
        counts: vec![CountRead { before: balance, count: 9, after: balance }; 4],
        max: Some(65_536),
        timeouts: None,
        in_flight: None,
        windows: Some(Windows {
            width_ns: 10_000_000,
            number: windows as u64,
            first_ns: Some(1),
            inserts: vec![1; windows],
            deletes: vec![1; windows],
            ..Windows::default()
        }),
        kernel: Some(Default::default()),
    }
}

/// Readings and events that are as large as they may be, several times, each of other namespaces and flows.
fn largest(path: &Path) -> Result<()> {
    let origin = Origin {
        kernel_release: "6.12.1".into(),
        source: "ebpf".into(),
        counting_since_ns: None,
        bpf_map_memory_bytes: None,
        hooks: vec![],
        unavailable: vec![],
    };
    let mut items = vec![Item::Start(Start { time: time(0), cpus: 8192, origin })];
    for tick in 0..6 {
        let all = (0..8192).map(|number| netns(number, tick, 30)).collect();
        let reading = Reading {
            time: time(tick),
            netns: all,
            idle: 0,
            gone: vec![],
            events: Some(Events {
                seen: 1,
                received: 1,
                sampled_out: 0,
                lost: 0,
                threshold: u32::MAX,
            }),
            missed_calls_max: Some(0),
            overflow: Totals::default(),
            probes: vec![],
            victims: vec![],
            blocks: Some((1, 4096)),
            rereads: None,
            counted: Counted::ALL,
            coverage: None,
        };
        let purpose = if tick == 0 { Use::First } else { Use::Tick };
        items.push(Item::Reading(purpose, Box::new(reading)));
        let event = |number: u64| {
            let address = |bits: u64| std::net::Ipv6Addr::from(u128::from(bits)).into();
            let original = Tuple {
                source: address(number),
                destination: address(number + 7),
                source_port: number as u16,
                destination_port: 53,
                protocol: 17,
            };
            let flow = FlowEvent {
                time_ns: time(tick).monotonic_ns,
                netns_cookie: number % 8192,
                entry: number + 1,
                kind: EventKind::InsertPacket,
                original,
                reply: Tuple { source_port: 1, ..original },
                status: Status(0),
                zone: 0,
                sample: Sample::EVERY,
            };
            let netns = NetnsId { cookie: Some(number % 8192), inode: number % 8192 };
            NetnsFlow { netns, flow }
        };
        for batch in 0..6 {
            let events = (0..20_000).map(|place| event((tick * 6 + batch) * 20_000 + place));
            items.push(Item::Flows(Flows { utc_offset_ns: 0, events: events.collect() }));
        }
    }
    let mut writer = Writer::new(fs::File::create(path)?, "6.12.1", None)?;
    for item in &items {
        let _ = writer.take(item)?;
    }
    writer.finish()?;
    Ok(())
}

#[test]
#[ignore = "minutes: cargo test --release -p conntrack-user --test any_file -- --ignored --nocapture"]
fn the_largest_that_is_read_takes_no_more() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("largest.mcap");
    largest(&path)?;
    for (command, ended) in check(&path, 600)? {
        let expected = if command[0] == "backtest" { 3 } else { 0 };
        ensure!(
            ended.status.code() == Some(expected),
            "{command:?}: {} {}",
            ended.status,
            ended.err
        );
    }
    Ok(())
}

/// A container with one chunk of one message, and a checksum that is right.
fn with_message(topic: &str, message: &[u8]) -> Result<Vec<u8>> {
    let options = mcap::WriteOptions::new().profile("ctmon").emit_summary_records(false);
    let mut writer = options.create(Cursor::new(Vec::new()))?;
    let metadata = BTreeMap::from([("format_version".to_owned(), "2".to_owned())]);
    writer.write_metadata(&mcap::records::Metadata { name: "ctmon".into(), metadata })?;
    let channel_id = writer.add_channel(0, topic, "cbor", &BTreeMap::new())?;
    let header =
        mcap::records::MessageHeader { channel_id, sequence: 0, log_time: 1, publish_time: 1 };
    writer.write_to_known_channel(&header, message)?;
    writer.finish()?;
    Ok(writer.into_inner().into_inner())
}

#[test]
fn messages_of_many_small_values_take_no_more() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // 15 million values of a byte each, where a list, a text, a map and something unknown are.
    let many = vec![0x01u8; 15 << 20];
    let list = |key: &str| {
        let mut message = vec![0xa1, 0x60 + key.len() as u8];
        message.extend(key.as_bytes());
        message.push(0x9f);
        message.extend(&many);
        message.push(0xff);
        message
    };
    for (place, (topic, key)) in [
        ("flow", "time_ns"),
        ("flow", "kind"),
        ("standing", "netns"),
        ("reading", "later"),
        ("notice", "text"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = folder.path().join(format!("{place}.mcap"));
        fs::write(&path, with_message(topic, &list(key))?)?;
        for command in [COMMANDS[0], COMMANDS[3]] {
            let ended = run(command, &path)?;
            println!("{topic} {key} {command:?}: {} MB", ended.memory >> 20);
            ensure!(ended.memory < MOST_MEMORY, "{topic} {key}: {} bytes", ended.memory);
            ensure!(ended.status.code() == Some(4), "{topic} {key}: {}", ended.status);
        }
    }
    Ok(())
}

#[test]
fn what_has_no_end_is_refused_by_backtest() -> Result<()> {
    let ended = run(&["backtest"], Path::new("/dev/zero"))?;
    ensure!(ended.status.code() == Some(3) && ended.memory < 64 << 20, "{}", ended.err);
    ensure!(ended.err.contains("too large for a scenario"), "{}", ended.err);
    Ok(())
}

/// Sends a signal to a command that is busy or waits, and checks that it ends in time.
fn ends_by(signal: i32, arguments: &[&str], file: &Path) -> Result<()> {
    // Nobody reads what it writes: it waits for that, too.
    let mut child = start(arguments, file, Stdio::piped())?;
    let _out = child.stdout.take();
    thread::sleep(Duration::from_millis(700));
    let begun = Instant::now();
    // SAFETY: takes no memory of ours; the child was not waited for, so its number is its own.
    ensure!(unsafe { libc::kill(child.id().cast_signed(), signal) } == 0, "it has ended already");
    let (status, _) = wait(&mut child)?;
    let took = begun.elapsed();
    println!("{arguments:?} {}: {took:?} {status}", file.display());
    ensure!(took < ENDS_WITHIN + SLACK, "{arguments:?} {}: {took:?}", file.display());
    Ok(())
}

#[test]
fn every_command_ends_when_it_is_asked_to() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let silent = folder.path().join("silent");
    // SAFETY: the path ends with a null, and is valid for the call.
    let made = unsafe {
        libc::mkfifo(std::ffi::CString::new(silent.as_os_str().as_encoded_bytes())?.as_ptr(), 0o600)
    };
    ensure!(made == 0, "mkfifo: {}", std::io::Error::last_os_error());
    // A writer has it open and writes nothing.
    let _writer = fs::OpenOptions::new().read(true).write(true).open(&silent)?;
    let long = folder.path().join("long.mcap");
    largest(&long)?;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        ends_by(signal, &["replay", "--speed", "max", "--output", "json"], &long)?;
        ends_by(signal, &["export", "--format", "jsonl"], &long)?;
        for arguments in [&["replay"][..], &["export", "--format", "csv"], &["backtest"]] {
            ends_by(signal, arguments, &silent)?;
        }
    }
    Ok(())
}

#[test]
fn names_of_files_and_errors_of_parsers_are_clean() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let name = "a\x1b[2J\u{202e}\u{9b}\nctmon: all is well";
    let missing = folder.path().join(name);
    for command in [COMMANDS[0], COMMANDS[3], &["backtest"]] {
        let ended = run(command, &missing)?;
        ensure!(ended.status.code() == Some(3) && is_clean(&ended.err), "{:?}", ended.err);
        ensure!(ended.err.lines().count() == 1, "{:?}", ended.err);
    }
    let scenario = folder.path().join("x.toml");
    fs::write(&scenario, "seconds = \"\x1b[31m\u{202e}\u{2028}\"\n")?;
    let ended = run(&["backtest"], &scenario)?;
    ensure!(ended.status.code() == Some(3) && is_clean(&ended.err), "{:?}", ended.err);
    Ok(())
}

#[test]
fn a_script_sees_that_a_recording_is_cut_or_damaged() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("r.mcap");
    let mut writer = Writer::new(Vec::new(), "6.12.1", None)?;
    for tick in 0..20 {
        let notice = Notice { time: time(10 * tick), text: "x".into() };
        let _ = writer.take(&Item::Notice(notice))?;
    }
    let (whole, _) = writer.finish()?;
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 0x55;
    let half = whole[..whole.len() / 2].to_vec();
    // Without its end it may still be written.
    let unfinished = whole[..whole.len() - 50].to_vec();
    let cases = [
        ("whole", whole, 0),
        ("unfinished", unfinished, 0),
        ("cut", half, 4),
        ("damaged", damaged, 4),
    ];
    for (name, bytes, expected) in cases {
        fs::write(&path, bytes)?;
        for command in [COMMANDS[0], COMMANDS[2], COMMANDS[3], COMMANDS[6]] {
            let ended = run(command, &path)?;
            ensure!(
                ended.status.code() == Some(expected),
                "{name} {command:?}: {} {}",
                ended.status,
                ended.err
            );
        }
    }
    Ok(())
}

#[test]
fn the_script_that_renames_json_refuses_in_one_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("old.jsonl");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/schema-2-to-3.py");
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let number = "1".repeat(5000);
    for (text, why) in [
        (&b"\xff\n"[..], "no JSON"),
        (b"{", "no JSON"),
        (b"[]", "no JSON object"),
        (number.as_bytes(), "no JSON"),
        (deep.as_bytes(), "nested too deep"),
        (br#"{"schema_version":"\n\u001b"}"#, r#"schema_version is "\n\u001b", not 2"#),
        (br#"{"schema_version":2,"kind":{}}"#, "another type"),
        (br#"{"schema_version":2,"kind":"tick","signs":3}"#, "another type"),
    ] {
        fs::write(&path, text)?;
        let mut command = Command::new("python3");
        command.arg(script).stdin(fs::File::open(&path)?);
        let ended = match command.output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                println!("skipped: there is no python3");
                return Ok(());
            }
            ended => ended?,
        };
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.code() == Some(1), "{why}: {} {said}", ended.status);
        ensure!(said.lines().count() == 1 && said.contains(why), "{why}: {said}");
    }
    Ok(())
}
