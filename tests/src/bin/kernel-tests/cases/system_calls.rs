//! System calls that `ctmon serve` makes, beside those that its filters allow.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::{TRACK, causes, pin::BpfFs};
use crate::{
    checks::{Checks, Skip},
    command,
    netns::Netns,
    process::Process,
    runner::{Env, Test},
    served::{self, Served, hand_over},
    stage,
    traced::{Calls, Half, Trace},
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        // Minutes, for each call is traced.
        Test {
            on_demand: true,
            ..Test::new(
                "serve-makes-its-system-calls",
                "With all features each half makes the system calls of docs/reference/system-calls.md, or the document says why not",
                all,
            )
            .anywhere()
        },
    ]
}

/// Document of the calls that the filters allow; a test of conntrack-user compares it with them.
const DOCUMENT: &str = include_str!("../../../../../docs/reference/system-calls.md");

/// Calls that the filter refuses in an ordinary run: C libraries have another way.
const REFUSED: [&str; 1] = ["clone3"];

fn all(env: &Env, checks: &mut Checks) -> Result<()> {
    if Command::new("strace").arg("-V").output().is_err() {
        return Err(Skip("there is no strace".into()).into());
    }
    stage::prepare(TRACK)?;
    let source =
        Served::start(env, &[])?.json("/api/v1/status")?["source"].as_str().map(str::to_owned);
    let has_programs = source.as_deref() == Some("ebpf");
    let mut calls = Calls::default();
    for (name, run) in [
        ("plain", plain as fn(&Env, &mut Checks) -> Result<()>),
        ("notifying", notifying),
        ("pinning", pinning),
        ("listening", listening),
        ("without its helper", orphaned),
    ] {
        if name == "pinning" && !has_programs {
            continue;
        }
        let trace = Trace::new()?;
        run(&trace.env(env)?, checks).with_context(|| format!("the run {name}"))?;
        calls.append(trace.calls()?);
    }
    judge(checks, &calls, has_programs);
    Ok(())
}

/// A call in the document.
struct Row {
    halves: &'static [Half],
    call: &'static str,
    /// Constants in the column of arguments.
    constants: Vec<&'static str>,
    /// Reason why it may be allowed and not made.
    rare: &'static str,
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for section in DOCUMENT.split("\n## ").skip(1) {
        let halves: &[Half] = match section.split(' ').next() {
            Some("Both") => &[Half::Serving, Half::Helper],
            _ if section.starts_with("The helper") => &[Half::Helper],
            _ => &[Half::Serving],
        };
        for line in section.lines().filter(|line| line.starts_with("| `")) {
            let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
            let mut cell = || cells.next().unwrap_or_default();
            let (call, arguments, needed, rare) = (cell(), cell(), cell(), cell());
            // Those of other people's programs are theirs to choose.
            let rare =
                if rare.is_empty() && needed.contains("programs") { "programs" } else { rare };
            let constant = |word: &&str| word.contains('_') || word.starts_with("TC");
            let constants = arguments.split('`').skip(1).step_by(2).filter(constant).collect();
            rows.push(Row { halves, call: call.trim_matches('`'), constants, rare });
        }
    }
    rows
}

/// Notes what was made and refused. Without kernel programs, as outside of a VM, much is not made, which is noted alone.
fn judge(checks: &mut Checks, calls: &Calls, has_programs: bool) {
    let rows = rows();
    for row in &rows {
        for half in row.halves {
            let seen = calls.made.get(&(*half, row.call.to_owned()));
            let is_told = seen.is_some() || !row.rare.is_empty() || !has_programs;
            checks.that(&format!("{half:?} makes {}, or its reason", row.call), is_told, ());
            let arguments = seen.into_iter().flatten().map(String::as_str).collect::<BTreeSet<_>>();
            let shown: Vec<&str> =
                arguments.iter().copied().filter(|one| !one.is_empty()).collect();
            checks.note(match seen {
                Some(_) => format!("{half:?} {}: made: {}", row.call, shown.join(", ")),
                None => format!("{half:?} {}: not made: {}", row.call, row.rare),
            });
            let missing: Vec<&&str> =
                row.constants.iter().filter(|one| !arguments.contains(**one)).collect();
            if seen.is_some() && !missing.is_empty() {
                checks.note(format!("{half:?} {}: not with {missing:?}", row.call));
            }
        }
    }
    for ((half, call), arguments) in &calls.refused {
        checks.note(format!("{half:?} {call}: refused: {arguments:?}"));
        let is_known = REFUSED.contains(&call.as_str()) || *half == Half::Program;
        checks.that("no call of ctmon's own is refused", is_known, (half, call, arguments));
    }
    let programs: Vec<&str> = calls
        .made
        .keys()
        .filter(|(half, _)| *half == Half::Program)
        .map(|(_, call)| call.as_str())
        .collect();
    checks.note(format!("a program: {}", programs.join(" ")));
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is no text")
}

/// A flood of flows, all paths of HTTP, namespaces that begin and end.
fn use_it(served: &mut Served, checks: &mut Checks) -> Result<()> {
    let other = Netns::new()?;
    causes::send(checks, causes::udp(2000))?;
    for path in [
        "/metrics",
        "/healthz",
        "/",
        "/api/v1/status",
        "/api/v1/probes",
        "/api/v1/history",
        "/api/v1/flight",
        "/nowhere",
    ] {
        // A recording is no text.
        let _ = served.get(path);
    }
    let _ = served.ask(
        "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n",
    );
    served.process().signal(Signal::USR1)?;
    served.process().signal(Signal::HUP)?;
    // A look for namespaces is due after five seconds.
    thread::sleep(Duration::from_secs(6));
    drop(other);
    command::flush()?;
    thread::sleep(Duration::from_secs(6));
    served.metrics()?;
    Ok(())
}

fn end(served: Served, checks: &mut Checks) -> Result<()> {
    let ended = served.terminate()?;
    checks.equal("exit code", ended.status.code(), Some(0));
    super::expect_no_panic(checks, "serve", &ended.stderr);
    Ok(())
}

/// A full disk, and a client over TCP that leaves in the middle of its request.
fn plain(env: &Env, checks: &mut Checks) -> Result<()> {
    let folder = served::folder()?;
    let flight = text(folder.path())?;
    command::run("mount", &["-t", "tmpfs", "-o", "size=32k", "tmpfs", flight])?;
    let _mounted = Unmounted(flight);
    hand_over(folder.path())?;
    let file = served::folder()?;
    let settings = file.path().join("ctmon.toml");
    fs::write(&settings, "warn.quiet = \"1s\"\n")?;
    let mut served = Served::start_by(
        env,
        &[
            "--config",
            text(&settings)?,
            "--flight-dir",
            flight,
            "--probe-stats",
            "--listen",
            "127.0.0.1:12620",
        ],
        |_| (),
    )?;
    served.until_ready()?;
    let mut client = TcpStream::connect("127.0.0.1:12620").context("cannot connect")?;
    client.write_all(b"GET /metrics HTTP/1.1\r\n")?;
    use_it(&mut served, checks)?;
    // Bytes that nothing compresses fill the disk.
    fs::write(folder.path().join("full"), vec![0; 32 << 10]).err();
    served.process().signal(Signal::USR1)?;
    thread::sleep(Duration::from_secs(2));
    drop(client);
    end(served, checks)
}

struct Unmounted<'a>(&'a str);

impl Drop for Unmounted<'_> {
    fn drop(&mut self) {
        if let Err(error) = command::run("umount", &[self.0]) {
            eprintln!("kernel-tests: {error:#}");
        }
    }
}

/// A command and a webhook are told that a table fills, over a name and an address.
fn notifying(env: &Env, checks: &mut Checks) -> Result<()> {
    let hook = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("--notify.webhook=http://localhost:{}/", hook.local_addr()?.port());
    thread::spawn(move || {
        for stream in hook.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let folder = served::folder()?;
    let settings = folder.path().join("ctmon.toml");
    // Nothing has so few entries.
    fs::write(&settings, "warn.warning-fill = 0.0002\nwarn.warning-fill-clear = 0.0001\n")?;
    let told = folder.path().join("told");
    // Once more after a time-out.
    let script = "cat >>\"$0\"; sleep 30";
    let command = ["/bin/sh", "-c", script, text(&told)?];
    let command = command.map(|word| format!("--notify.command={word}"));
    let flight = served::folder()?;
    let mut arguments = vec![
        "--config",
        text(&settings)?,
        "--flight-dir",
        text(flight.path())?,
        "--flight-files",
        "1",
        "--notify.command-writes",
        text(folder.path())?,
        &url,
    ];
    arguments.extend(command.iter().map(String::as_str));
    let mut served = Served::start(env, &arguments)?;
    use_it(&mut served, checks)?;
    wait::until("what the command was told", wait::SHORT, || {
        Ok(fs::read(&told).is_ok_and(|bytes| !bytes.is_empty()).then_some(()))
    })
    .with_context(|| served.said())?;
    // It is given up after ten seconds.
    thread::sleep(Duration::from_secs(11));
    end(served, checks)
}

/// Programs are pinned, taken over by the next one, and removed.
fn pinning(env: &Env, checks: &mut Checks) -> Result<()> {
    let mounted = BpfFs::mount()?;
    let pins = mounted.pins()?;
    for signal in [Signal::TERM, Signal::USR2] {
        let mut served = Served::start(env, &["--pin", &pins])?;
        thread::sleep(Duration::from_secs(1));
        if signal == Signal::USR2 {
            served.process().signal(signal)?;
            thread::sleep(Duration::from_secs(2));
        }
        end(served, checks)?;
    }
    // Whatever is left of it.
    let unpinned = Process::start(env, &["serve", "--pin", &pins, "--check"])?;
    unpinned.end(wait::SHORT)?;
    Ok(())
}

/// Events of ctnetlink in several namespaces.
fn listening(env: &Env, checks: &mut Checks) -> Result<()> {
    let mut served = Served::start(env, &["--source", "netlink"])?;
    use_it(&mut served, checks)?;
    end(served, checks)
}

/// The child that is no strace.
fn helper(serving: Pid) -> Result<Pid> {
    let id = serving.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
    let is_helper = |id: &&str| {
        let name = fs::read_to_string(format!("/proc/{id}/comm"));
        name.is_ok_and(|name| name.trim() == "ctmon-helper")
    };
    let helper = children.split_whitespace().find(is_helper);
    helper.and_then(|id| Pid::from_raw(id.parse().ok()?)).context("no helper")
}

/// The helper is killed; the serving half goes on by polling.
fn orphaned(env: &Env, checks: &mut Checks) -> Result<()> {
    let mut served = Served::start(env, &[])?;
    kill_process(helper(served.process().id()?)?, Signal::KILL)?;
    thread::sleep(Duration::from_secs(2));
    checks.equal("it answers", served.get("/healthz")?.status, 200);
    end(served, checks)
}
