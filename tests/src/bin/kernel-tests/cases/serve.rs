//! `ctmon serve`.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use super::{
    TRACK, causes,
    modules::{MODULE, Unloaded},
};
use crate::{
    checks::Checks,
    command,
    kernel::Limit,
    netns::Netns,
    process::Process,
    runner::{Env, Place, Test},
    served::{self, Served},
    stage, wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "serve-answers-with-the-counts",
            "Metrics, status and history of the service say exactly what was sent and deleted",
            counts,
        ),
        Test::new(
            "serve-tells-the-service-manager",
            "The service says when it is ready, that it is alive, and when it ends",
            service_manager,
        ),
        Test::new(
            "serve-takes-the-programs-when-it-can",
            "Where the programs cannot be attached the service polls, tries again, and counts from then on",
            tries_again,
        ),
        Test::new(
            "serve-is-reached-while-the-table-is-full",
            "With a full table: a unix socket, a connection that is kept, and loopback without tracking are answered",
            while_full,
        ),
        Test {
            place: Place::WithoutConntrack,
            ..Test::new(
                "serve-over-a-module-that-comes-and-goes",
                "The service waits for nf_conntrack, lets it go when told, and counts anew when it is back",
                module,
            )
        },
    ]
}

const FLOWS: u32 = 300;

fn counts(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let served = Served::start(env, &[])?;
    served.settled(own)?;
    causes::send(checks, causes::udp(FLOWS.into()))?;
    let all = f64::from(FLOWS);
    wait::until("all inserts", wait::SHORT, || {
        Ok((served.metrics()?.of("ctmon_entries", own) == Some(all)).then_some(()))
    })?;
    command::flush()?;
    let metrics = wait::until("all frees", wait::SHORT, || {
        let metrics = served.metrics()?;
        let is_quiet = metrics.of("ctmon_frees_total", own) == Some(all)
            && metrics.of("ctmon_count_drift", own) == Some(0.0);
        Ok(is_quiet.then_some(metrics))
    })?;
    let series =
        |name: &str, more: &str| metrics.value(&format!("{name}{{netns=\"{own}\"{more}}}"));
    for (name, more, expected) in [
        ("ctmon_allocs_total", "", all),
        ("ctmon_inserts_total", ",path=\"packet\",protocol=\"udp\"", all),
        ("ctmon_inserts_total", ",path=\"packet\",protocol=\"tcp\"", 0.0),
        ("ctmon_deletes_total", ",cause=\"user\"", all),
        ("ctmon_deletes_total", ",cause=\"kernel\"", 0.0),
        ("ctmon_deletes_by_status_total", ",status=\"unreplied\"", all),
        ("ctmon_table_full_drops_total", "", 0.0),
        ("ctmon_entries", "", 0.0),
        ("ctmon_count_drift", "", 0.0),
    ] {
        checks.equal(&format!("{name} {more}"), series(name, more), Some(expected));
    }
    let max = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")?;
    let max: f64 = max.trim().parse()?;
    checks.equal("limit", series("ctmon_entries_limit", ""), Some(max));
    checks.equal("sources", metrics.value("ctmon_source_opens_total"), Some(1.0));
    checks.that(
        "memory and descriptors are told",
        metrics.value("process_resident_memory_bytes").is_some_and(|bytes| bytes > 1e6)
            && metrics.value("process_open_fds").is_some_and(|count| count > 3.0)
            && metrics.value("ctmon_bpf_map_memory_bytes").is_some_and(|bytes| bytes > 1e6),
        (),
    );

    let status = served.json("/api/v1/status")?;
    checks.equal("source", status["source"].as_str(), Some("ebpf"));
    let netns = status["netns"].as_array().context("no namespaces")?;
    let netns = netns.iter().find(|netns| netns["inode"].as_u64() == Some(own));
    let netns = netns.context("the namespace is not in the status")?;
    checks.equal("inserts in the status", netns["totals"]["inserts"].as_f64(), Some(all));
    let probes = served.json("/api/v1/probes")?;
    let hits = |hook: &str| {
        let probes = probes["probes"].as_array()?;
        probes.iter().find(|probe| probe["hook"] == hook)?["hits"].as_f64()
    };
    checks.that("hits of alloc", hits("alloc").is_some_and(|hits| hits >= all), &probes);

    let points = wait::until("seconds in the history", wait::SHORT, || {
        let points = history(&served, own, "")?;
        Ok((points.len() >= 3).then_some(points))
    })?;
    let [_, second, third, ..] = &points[..] else {
        bail!("{points:?} are fewer than three");
    };
    let since = format!("?since={}", time(second).context("a point without a time")?);
    let later = history(&served, own, &since)?;
    checks.equal("the first point after that", later.first().map(time), Some(time(third)));

    let open = served.ask(
        "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\nConnection: close\r\n\r\n",
    )?;
    checks.that("OpenMetrics ends as it has to", open.body.ends_with("# EOF\n"), &open.head);
    for (path, expected) in [("/nowhere", 404), ("/healthz", 200), ("/api/v1/history?x", 400)] {
        checks.equal(path, served.get(path)?.status, expected);
    }
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    Ok(())
}

/// The points of a namespace.
pub(super) fn history(served: &Served, inode: u64, query: &str) -> Result<Vec<Value>> {
    let history = served.json(&format!("/api/v1/history{query}"))?;
    let netns = history["netns"].as_array().cloned().unwrap_or_default();
    let own = netns.into_iter().find(|netns| netns["inode"].as_u64() == Some(inode));
    Ok(own.and_then(|own| own["points"].as_array().cloned()).unwrap_or_default())
}

fn time(point: &Value) -> Option<u64> {
    point[0].as_u64()
}

fn service_manager(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(wait::SHORT))?;
    let served = Served::start_by(env, &[], |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000");
    })?;
    let mut said = Vec::new();
    let mut until = |word: &str| -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let length =
                socket.recv(&mut buffer).with_context(|| format!("no {word}: {said:?}"))?;
            let text =
                String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            let is_it = text.contains(word);
            said.push(text);
            if is_it {
                return Ok(());
            }
        }
    };
    until("READY=1")?;
    checks.equal("ready by then", served.get("/readyz")?.status, 200);
    until("STATUS=ebpf; fullest table ")?;
    until("WATCHDOG=1")?;
    until("WATCHDOG=1")?;
    let ended = served.terminate()?;
    until("STOPPING=1")?;
    checks.equal("exit code", ended.status.code(), Some(0));
    socket.set_nonblocking(true)?;
    let more = socket.recv(&mut [0; 4096]).map_err(|error| error.kind());
    checks.equal("said after the end", more, Err(ErrorKind::WouldBlock));
    Ok(())
}

fn tries_again(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    // A sysfs without BTF, at first.
    let folder = served::folder()?;
    let sysfs = folder.path().join("sys");
    fs::create_dir_all(sysfs.join("kernel"))?;
    fs::create_dir_all(sysfs.join("devices/system"))?;
    std::os::unix::fs::symlink("/sys/devices/system/cpu", sysfs.join("devices/system/cpu"))?;
    let sysfs_text = sysfs.to_str().context("a folder with a strange name")?;
    let served = Served::start(env, &["--path.sysfs", sysfs_text])?;
    let source = || {
        let status = served.json("/api/v1/status").ok()?;
        status["source"].as_str().map(str::to_owned)
    };
    checks.equal("source without BTF", source().as_deref(), Some("procfs"));
    let metrics = served.metrics()?;
    let has_inserts = metrics.0.lines().any(|line| line.starts_with("ctmon_inserts_total"));
    checks.that("no inserts out of thin air", !has_inserts, ());
    std::os::unix::fs::symlink("/sys/kernel/btf", sysfs.join("kernel/btf"))?;
    wait::until("the programs are attached", Duration::from_secs(90), || {
        // Between the two sources there is nothing to say.
        Ok((source().as_deref() == Some("ebpf")).then_some(()))
    })?;
    causes::send(checks, causes::udp(50))?;
    let own = Netns::own()?.inode();
    wait::until("inserts after that", wait::SHORT, || {
        Ok((served.metrics()?.of("ctmon_allocs_total", own) == Some(50.0)).then_some(()))
    })?;
    let opened = served.metrics()?.value("ctmon_source_opens_total");
    checks.equal("sources", opened, Some(2.0));
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    Ok(())
}

/// Entries that the table may have.
const ROOM: i64 = 50;
/// A port of its own for the test.
const PORT: u16 = 12_629;
/// A firewall that lets in what is established, as most do, and tracks.
const FIREWALL: &str = "table inet filter {
  chain input { type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname \"lo\" ct state new accept
  }
}
";

/// The rules of docs/http.md, and the rule that accepts what they leave untracked, for [`PORT`].
fn untracked() -> Result<String> {
    let document = include_str!("../../../../../docs/http.md");
    let (_, from) = document.split_once("```nft\n").context("no rules in docs/http.md")?;
    let (rules, _) = from.split_once("```").context("no end of the rules")?;
    Ok(rules.replace("12620", &PORT.to_string()))
}

/// Asks for /healthz on a connection; none: there is no answer.
fn answer(stream: &mut TcpStream) -> Option<String> {
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut buffer = [0; 2048];
    let length = stream.read(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(buffer.get(..length)?).into_owned())
}

fn while_full(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    command::nft(FIREWALL)?;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], PORT));
    let listen = format!("127.0.0.1:{PORT}");
    // One listens at the unix socket, the other one at the port of loopback.
    let served = Served::start(env, &[])?;
    let other = Process::start(env, &["serve", "--source", "procfs", "--listen", &listen])?;
    let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(2));
    let mut kept = wait::until("a connection", wait::SHORT, || Ok(connect().ok()))?;
    let is_ok =
        |answer: Option<String>| answer.is_some_and(|text| text.starts_with("HTTP/1.1 200"));
    checks.that("answered before", is_ok(answer(&mut kept)), ());

    let _max = Limit::max(&env.init, ROOM)?;
    stage::fill_for_good(ROOM)?;
    checks.that("a new tracked connection fails", connect().is_err(), ());
    checks.equal("over the unix socket", served.get("/healthz")?.status, 200);
    checks.that("metrics, too", served.metrics()?.0.contains("ctmon_entries{"), ());
    checks.that("on the connection that is kept", is_ok(answer(&mut kept)), ());

    command::nft(&untracked()?)?;
    let mut fresh = connect().context("without tracking")?;
    checks.that("a new connection without tracking", is_ok(answer(&mut fresh)), ());
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    checks.equal("exit code of the other", other.end_by(Signal::TERM)?.status.code(), Some(0));
    Ok(())
}

fn module(env: &Env, checks: &mut Checks) -> Result<()> {
    let mut unloaded = Unloaded::new()?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(wait::SHORT))?;
    let mut heard = String::new();
    let mut until = |word: &str| -> Result<()> {
        let mut buffer = [0; 4096];
        while !heard.contains(word) {
            let length =
                manager.recv(&mut buffer).with_context(|| format!("no {word}: {heard}"))?;
            heard += &String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            heard.push('\n');
        }
        heard.clear();
        Ok(())
    };
    let mut served = env.init.run(|| {
        Served::start_by(env, &[], |command| {
            command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000");
        })
    })?;
    until("READY=1\nSTATUS=waiting for the module nf_conntrack")?;
    until("WATCHDOG=1")?;
    until("WATCHDOG=1")?;
    let answer = wait::until("an answer", wait::SHORT, || Ok(served.get("/readyz").ok()))?;
    checks.equal("readiness without nf_conntrack", answer.status, 503);
    checks.equal("health without it", served.get("/healthz")?.status, 200);
    unloaded.put_back()?;
    served.until_ready()?;
    until("STATUS=ebpf; ")?;
    let source = served.json("/api/v1/status")?["source"].as_str().map(str::to_owned);
    checks.equal("source once it is loaded", source.as_deref(), Some("ebpf"));
    served.process().signal(Signal::USR2)?;
    wait::until("nf_conntrack unloaded", wait::SHORT, || unloaded.try_remove(MODULE))?;
    wait::until("not ready any more", wait::SHORT, || {
        Ok((served.get("/readyz")?.status == 503).then_some(()))
    })?;
    until("STATUS=waiting for the module nf_conntrack")?;
    until("WATCHDOG=1")?;
    until("WATCHDOG=1")?;
    unloaded.put_back()?;
    wait::until("programs again", wait::SHORT, || {
        let opened = served.metrics()?.value("ctmon_source_opens_total");
        let ready = served.get("/readyz")?.status == 200;
        Ok((opened >= Some(3.0) && ready).then_some(()))
    })?;
    checks.equal("exit code", served.terminate()?.status.code(), Some(0));
    Ok(())
}
