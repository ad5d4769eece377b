//! The second law over a long time: it stays quiet where nothing is missed, and does not where something is. On demand: an
//! hour together.

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Family, Plan, Protocol};

use super::{TRACK, namespaces::Inhabited};
use crate::{
    checks::Checks,
    command,
    ctmon::Watch,
    holders::{DeafListener, Queue},
    netns::Netns,
    process::Process,
    report::Tick,
    runner::{Env, Test},
    stage::{self, Running},
    wait,
};

/// Two windows of 10 minutes are looked at, which begin with the first tick.
const QUIET: Duration = Duration::from_secs(31 * 60);
const MISSING: Duration = Duration::from_secs(21 * 60);
/// New flows a second that come and go.
const CHURN: u32 = 200;
/// Seconds after which an entry of theirs expires.
const TIMEOUT: i64 = 5;
/// New flows a second where something is held: an idle namespace is not in every tick.
const TRICKLE: u32 = 1;
/// Packets that wait in the queue, and entries that are deleted and not freed.
const WAITING: u16 = 50;
const UNHEARD: i64 = 50;

/// Lets packets to port 9 wait in queue 7.
const QUEUE: &str = "table inet waiting {
  chain output { type filter hook output priority 1; udp dport 9 queue num 7; }
}
";

pub(super) fn tests() -> Vec<Test> {
    let on_demand = |test: Test| Test { on_demand: true, ..test };
    let tests = [
        Test::new(
            "the-second-law-stays-quiet",
            "Half an hour of churn, of packets in a queue and of a listener that does not read: no call is said to be missed",
            quiet,
        ),
        Test::new(
            "missed-calls-are-told-after-20-minutes",
            "Inserts and deletes that are left out on purpose, one in a thousand: both are told",
            missing,
        ),
    ];
    let held = Test::new(
        "held-entries-are-named",
        "Entries of packets in a queue, and entries that a listener which does not read keeps from being freed, are named",
        held,
    );
    tests.map(on_demand).into_iter().chain([held]).collect()
}

fn held(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let [queueing, unheard] = [Inhabited::new()?, Inhabited::new()?];
    let mut watch = Watch::start_every(env, "1s", &[])?;
    watch.baseline(own)?;
    // Another one for people: what is there before it is not told.
    let common = ["watch", "--source", "ebpf", "--interval", "1s"];
    let screen = Process::start(env, &[common.as_slice(), &env.arguments(&[])].concat())?;
    let mut said = screen.next_line(wait::LONG)?.context("watch ended")?;
    let _queue = queueing.netns.run(fill_a_queue)?;
    let _listener = unheard.netns.run(delete_unheard)?;
    let dying = |tick: &Tick| tick.netns(unheard.netns.inode())?.dying_entries;
    let unhashed = |tick: &Tick| tick.netns(queueing.netns.inode())?.unhashed_entries;
    wait::until("both in JSON", wait::SHORT, || {
        let tick = watch.next_tick()?;
        let is_held = unhashed(&tick) == Some(WAITING.into()) && dying(&tick) >= Some(UNHEARD);
        Ok(is_held.then_some(()))
    })?;
    let words = [
        format!(
            "{WAITING} entries are allocated and not in the table; packets in queues (NFQUEUE): {WAITING}"
        ),
        "entries are deleted and not freed: a ctnetlink listener does not read".to_owned(),
    ];
    wait::until("both in words", wait::SHORT, || {
        while let Some(line) = screen.line_here() {
            said.push_str(&line);
            said.push('\n');
        }
        Ok(words.iter().all(|words| said.contains(words)).then_some(()))
    })
    .with_context(|| said.clone())?;
    checks.equal("both watches still run", watch.process().is_running()?, true);
    Ok(())
}

/// Sends new flows in the calling thread's namespace until it is dropped.
fn send(name: &str, rate: u32) -> Result<Running> {
    stage::set_sysctl("nf_conntrack_udp_timeout", TIMEOUT)?;
    let plan = Plan { rate: Some(rate), ..Plan::new(Protocol::Udp, Family::Ipv4, u64::MAX) };
    Ok(Running::start(name, plan, None))
}

/// Lets packets wait in a queue of the calling thread's namespace.
fn fill_a_queue() -> Result<(Queue, Running)> {
    command::nft(QUEUE)?;
    let queue = Queue::bind(7)?;
    for _ in 0..WAITING {
        UdpSocket::bind("127.0.0.1:0")?.send_to(b"ctmon", "127.0.0.1:9")?;
    }
    Ok((queue, send("beside the queue", TRICKLE)?))
}

/// Deletes entries of which a listener of the calling thread's namespace does not hear.
fn delete_unheard() -> Result<(DeafListener, Running)> {
    stage::set_sysctl("nf_conntrack_events", 1)?;
    let listener = DeafListener::start()?;
    for _ in 0..4 * UNHEARD {
        UdpSocket::bind("127.0.0.1:0")?.send_to(b"ctmon", "127.0.0.1:9")?;
    }
    command::flush()?;
    Ok((listener, send("beside the listener", TRICKLE)?))
}

fn quiet(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let [queueing, unheard] = [Inhabited::new()?, Inhabited::new()?];
    let mut watch = Watch::start_every(env, "1s", &[])?;
    watch.baseline(own)?;
    let churn = send("churn", CHURN)?;
    let (queue, beside_queue) = queueing.netns.run(fill_a_queue)?;
    let (listener, beside_listener) = unheard.netns.run(delete_unheard)?;

    let until = Instant::now() + QUIET;
    let flusher = thread::spawn(move || -> Result<()> {
        while Instant::now() < until {
            thread::sleep(Duration::from_secs(60));
            command::flush()?;
        }
        Ok(())
    });
    let mut last = watch.next_tick()?;
    let mut wrong = Vec::new();
    while Instant::now() < until {
        last = watch.next_tick()?;
        wrong.extend(last.netns.iter().filter(|netns| netns.says_missed()).cloned());
        wrong.truncate(5);
    }
    checks.equal("namespaces of which calls are said to be missed", wrong.len(), 0);
    checks.that("the first of them", wrong.is_empty(), wrong.first());
    let held = |inode: u64, last: &Tick| last.netns(inode).cloned().context("not in the last tick");
    for (what, inode) in
        [("churn", own), ("queue", queueing.netns.inode()), ("listener", unheard.netns.inode())]
    {
        let netns = held(inode, &last)?;
        checks.note(format!(
            "{what}: {:?} unhashed, {:?} in queues, {:?} dying, {:?} inserts, {:?} deletes",
            netns.unhashed_entries,
            netns.queued_packets,
            netns.dying_entries,
            netns.total("inserts"),
            netns.total("deletes")
        ));
        checks.equal(&format!("{what}: inserts_missed"), netns.inserts_missed, Some(0));
        checks.equal(&format!("{what}: deletes_missed"), netns.deletes_missed, Some(0));
    }
    let queue_netns = held(queueing.netns.inode(), &last)?;
    checks.equal("unhashed entries", queue_netns.unhashed_entries, Some(WAITING.into()));
    checks.equal("packets in queues", queue_netns.queued_packets, Some(WAITING.into()));
    let dying = held(unheard.netns.inode(), &last)?.dying_entries;
    checks.that("dying entries", dying.is_some_and(|dying| dying >= UNHEARD), dying);
    drop((queue, listener, beside_queue, beside_listener, churn));
    flusher.join().map_err(|_| anyhow::anyhow!("the thread that deletes entries panicked"))??;
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}

fn missing(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let faults = ["--fault-skip-inserts", "1000", "--fault-skip-deletes", "1000"];
    let mut watch = Watch::start_every(env, "1s", &faults)?;
    watch.baseline(own)?;
    let mut churn = send("churn", CHURN)?;
    let until = Instant::now() + MISSING;
    while Instant::now() < until {
        watch.next_tick()?;
    }
    churn.progress().stop();
    let sent = i64::try_from(churn.join(checks)?.sent).context("flows")?;
    command::flush()?;
    let netns = watch.quiet_netns(own)?;
    let inserts = netns.total("inserts").context("inserts")?;
    let deletes = netns.total("deletes").context("deletes")?;
    checks.note(format!("{sent} sent, {inserts} inserts, {deletes} deletes"));
    for (what, told, counted) in [
        ("inserts_missed", netns.inserts_missed, inserts),
        ("deletes_missed", netns.deletes_missed, deletes),
    ] {
        // Told are those of the first window at the least.
        let missed = sent - counted;
        let is_told = told.is_some_and(|told| told > 0 && told <= missed);
        checks.that(&format!("{what}, of {missed} that were"), is_told, told);
    }
    checks.equal("count_drift", netns.count_drift, Some(0));
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}
