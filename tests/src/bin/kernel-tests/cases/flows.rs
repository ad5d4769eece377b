//! What is known of single flows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Family, Plan, Protocol};
use serde_json::Value;

use super::TRACK;
use crate::{
    checks::Checks,
    command,
    ctmon::Watch,
    netns::Netns,
    report::Tick,
    runner::{Env, Test},
    stage::{self, Running},
    wait,
};

/// Events a second that the flood is to keep to.
const BUDGET: i64 = 2000;
/// Seconds of it that are looked at, after the two in which it may take aim.
const SECONDS: usize = 6;
const AIM: usize = 2;
/// By how much a tick may be later than the machine itself is.
const LATE_MS: i64 = 50;
/// More than what the table of live flows and the life tables take, for so few flows.
const GROWTH_KIB: i64 = 6 * 1024;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "a-flood-keeps-to-the-budget",
            "A flood sends the events of a sample, close to the budget, and every flow is counted",
            flood,
        ),
        Test::new(
            "live-flows-are-told-by-state",
            "How many flows live, and what they are doing, from events and entries read again",
            live,
        ),
    ]
}

fn flood(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let budget = BUDGET.to_string();
    let mut watch = Watch::start_every(env, "1s", &["--event-budget", &budget])?;
    watch.baseline(own)?;
    let sender = |cpu| Plan { cpu: Some(cpu), ..Plan::new(Protocol::Udp, Family::Ipv4, 400_000) };
    let mut senders: Vec<Running> =
        (0..2).map(|cpu| Running::start("flood", sender(cpu), None)).collect();
    let machine = Sleeper::start();
    watch.fresh_tick()?;
    let mut ticks = Vec::new();
    let mut memory = 0;
    for number in 0..AIM + SECONDS + 1 {
        ticks.push(watch.next_tick()?);
        if number == AIM {
            memory = watch.process().memory_kib()?;
        }
    }
    let machine_late = machine.late_ms();
    let grown = watch.process().memory_kib()? - memory;
    let mut sent = 0;
    senders.iter().for_each(|sender| sender.progress().stop());
    for sender in &mut senders {
        let outcome = sender.join(checks)?;
        sent += i64::try_from(outcome.sent).context("flows")?;
    }
    let rates = per_second(&ticks, |tick| tick.events.received);
    let seen = per_second(&ticks, |tick| tick.events.seen);
    let late = ticks.windows(2).map(|pair| (pair[1].time_ns - pair[0].time_ns) / 1_000_000 - 1000);
    let late = late.max().unwrap_or(i64::MAX);
    checks.note(format!(
        "events a second: {rates:?} received of {seen:?}; ticks late by at most {late} ms, and {machine_late} ms \
         where nothing else is done; memory grew by \
         {grown} KiB from {memory}"
    ));
    // What the flood does not offer cannot be sent: on a machine that stands still, such a second says
    // nothing of the budget.
    let offered = |(_, seen): &(&i64, &i64)| **seen > BUDGET;
    let full: Vec<i64> =
        rates.iter().zip(&seen).skip(AIM).filter(offered).map(|(rate, _)| *rate).collect();
    checks.that("a flood above the budget in most seconds", full.len() * 2 > SECONDS, &seen);
    let offered: i64 = seen.iter().skip(AIM).sum();
    checks.that("and well above it", offered > 3 * BUDGET * SECONDS as i64, &seen);
    let mean = full.iter().sum::<i64>() / (full.len() as i64).max(1);
    let kept = (BUDGET * 4..=BUDGET * 6).contains(&(mean * 5));
    checks.that("the budget is kept within a fifth", kept, format!("{mean}, of {full:?}"));
    let late = late - machine_late;
    checks.that("the runtime answers a timer", late <= LATE_MS, late);
    checks.that("memory stays", grown < GROWTH_KIB, grown);

    let tick = watch.quiet()?;
    let netns = tick.netns(own).cloned().unwrap_or_default();
    checks.equal("inserts", netns.total("inserts"), Some(sent));
    checks.equal("drift", netns.drift, Some(0));
    let events = tick.events;
    let sum = [events.received, events.sampled_out, events.lost].into_iter().sum::<Option<i64>>();
    checks.equal("received, sampled out and lost", sum, events.seen);
    command::flush()?;
    let tick = watch.quiet()?;
    let flows = summary(&mut watch, |_| true)?;
    let pairing = |name: &str| flows["pairing"][name].as_i64();
    checks.equal("deletes", tick.netns(own).and_then(|n| n.total("deletes")), Some(sent));
    checks.equal("every flow is found again", pairing("unpaired"), Some(0));
    checks.equal("none was there before", pairing("destroys_before_attach"), Some(0));
    checks.equal(
        "inserts have found their destroy, or left the sample",
        pairing("paired").zip(pairing("left_sample")).map(|(paired, left)| paired + left),
        pairing("inserts"),
    );
    checks.note(format!("pairing: {}", flows["pairing"]));
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}

/// A thread that only sleeps: how late a timer is on this machine at the least, which stands still now and
/// then where it is emulated.
struct Sleeper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Sleeper {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            const NAP: Duration = Duration::from_millis(10);
            let mut most = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                thread::sleep(NAP);
                most = most.max(began.elapsed() - NAP);
            }
            most
        });
        Self { stop, thread }
    }

    fn late_ms(self) -> i64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_or(0, |late| late.as_millis() as i64)
    }
}

/// By how much a number grew from each tick to the next, a second.
fn per_second(ticks: &[Tick], number: impl Fn(&Tick) -> Option<i64>) -> Vec<i64> {
    let rate = |pair: &[Tick]| {
        let change = number(&pair[1])? - number(&pair[0])?;
        Some((change as f64 * 1e9 / (pair[1].time_ns - pair[0].time_ns) as f64) as i64)
    };
    ticks.windows(2).filter_map(rate).collect()
}

/// The next summary of flows for which `holds`.
fn summary(watch: &mut Watch, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = Value::Null;
    let found = wait::until("a summary of flows", wait::SHORT, || {
        let tick = watch.next_tick()?;
        if !tick.flows.is_null() {
            last = tick.flows;
        }
        Ok((!last.is_null() && holds(&last)).then(|| last.clone()))
    });
    found.with_context(|| format!("the last one: {last}"))
}

fn live(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let mut watch = Watch::start_every(env, "200ms", &["--netns", "self"])?;
    watch.baseline(own)?;
    let plan = |protocol, flows| Plan::new(protocol, Family::Ipv4, flows);
    let tcp = Plan { hold: true, ..plan(Protocol::Tcp, 60) };
    let mut tcp = Running::start("tcp", tcp, None);
    let tcp_flows = tcp.join(checks)?;
    Running::start("udp", plan(Protocol::Udp, 90), None).join(checks)?;
    let of = |flows: &Value, protocol: &str| {
        let all = flows["live_state"]["protocols"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["protocol"] == protocol).unwrap_or_default()
    };
    let share = |protocol: &Value, list: &str, state: &str| {
        let all = protocol[list].as_array().cloned().unwrap_or_default();
        let one = all.iter().find(|one| one["state"] == state);
        one.and_then(|one| one["ratio"]["value"].as_f64())
    };
    let flows = summary(&mut watch, |flows| {
        of(flows, "tcp")["read"].as_i64() >= Some(60)
            && of(flows, "udp")["read"].as_i64() >= Some(90)
    })?;
    checks.note(format!("{flows}"));
    let [tcp, udp] = ["tcp", "udp"].map(|protocol| of(&flows, protocol));
    checks.equal("TCP assured", share(&tcp, "by_status", "assured"), Some(1.0));
    checks.equal("TCP established", share(&tcp, "by_tcp_state", "established"), Some(1.0));
    checks.equal("UDP unreplied", share(&udp, "by_status", "unreplied"), Some(1.0));
    checks.equal("live flows", flows["live_estimated"]["value"].as_f64(), Some(150.0));
    checks.equal("all of them known", flows["live_estimated"]["low"].as_f64(), Some(150.0));
    command::flush()?;
    let flows = summary(&mut watch, |flows| flows["live_sampled"] == 0)?;
    checks.equal("pairs", flows["pairing"]["paired"].as_i64(), Some(150));
    // Only now: what a closed connection sends would make an entry anew.
    drop(tcp_flows);
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}
