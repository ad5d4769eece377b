//! What `ctmon serve` does with what its source tells, in real time: model, warnings, history, flight recorder, scrapes.
//! Each load has a process of its own, so that its memory is its own, too.

use std::{
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use conntrack_ebpf::bench::{ENTRIES, ROUNDS};
use conntrack_user::{
    daemon::{
        alerts::Alerts,
        feed::Feed,
        flight::{Flight, ring::Limits},
        latest::Latest,
        log::{self, Logger},
        shared::Shared,
        warning::Warnings,
    },
    http::Counters,
    severity::THRESHOLDS,
    source::ebpf::bench::Bench,
    view::metrics::{Format, Metrics},
};
use serde::Serialize;

use crate::{Record, node::Node, usage};

/// What the serving half has to do.
struct Load {
    name: &'static str,
    /// A second.
    events: u32,
    busy: u32,
    idle: u32,
    ticks_a_second: u32,
    is_recorded: bool,
    is_scraped: bool,
}

const fn load(name: &'static str, events: u32) -> Load {
    Load { name, events, busy: 1, idle: 0, ticks_a_second: 1, is_recorded: true, is_scraped: true }
}

/// All of them.
const LOADS: [Load; 9] = [
    load("100,000 events/s", 100_000),
    Load { is_recorded: false, ..load("100,000 events/s, without flight recorder", 100_000) },
    Load { is_scraped: false, ..load("100,000 events/s, not scraped", 100_000) },
    load("10,000 events/s, the default budget", 10_000),
    Load { busy: 0, idle: 1, ..load("idle, 1 namespace", 0) },
    Load { busy: 0, idle: 16, ..load("idle, 16 namespaces", 0) },
    Load { busy: 0, idle: 2_000, ..load("idle, 2,000 namespaces", 0) },
    Load { busy: 2_000, ..load("2,000 namespaces count", 0) },
    Load { busy: 2_000, ticks_a_second: 10, ..load("2,000 namespaces count, 10 ticks/s", 0) },
];

/// How often each is measured, one after the other and then again, for how long, and how long it goes on before.
const ROUNDS_OF_ALL: usize = 3;
const MEASURED: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(3);

/// Between two looks at what is due.
const STEP: Duration = Duration::from_millis(20);
/// The ring is drained when it is half full, and after that time.
const HALF_FULL: u64 = 8_192;
const COLLECT_EVERY: Duration = Duration::from_millis(100);
const SCRAPE_EVERY: Duration = Duration::from_secs(5);
/// As `ctmon serve` has it by default.
pub(crate) const METRICS_NETNS: usize = 128;
pub(crate) const FLIGHT: Limits = Limits { bytes: 16_000_000, ns: 600_000_000_000 };

/// What was measured of a load.
#[derive(Default, Serialize)]
pub(crate) struct Serving {
    load: &'static str,
    seconds: f64,
    events: Part,
    ticks: Part,
    scrapes: Part,
    resident_kib: u64,
}

/// How often something was done, and the CPU time that it took.
#[derive(Default, Serialize)]
struct Part {
    count: u64,
    cpu_ns: u64,
}

/// Measures all loads, each in a process of its own, and hands each of their lines to `say`.
pub(crate) fn measure_all(mut say: impl FnMut(&str)) -> Result<()> {
    let own = std::env::current_exe().context("this program has no path")?;
    for _ in 0..ROUNDS_OF_ALL {
        for load in &LOADS {
            let output = Command::new(&own).arg(load.name).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{}: {}: {said}", load.name, output.status);
            say(String::from_utf8(output.stdout)?.trim_end());
        }
    }
    Ok(())
}

/// Measures the load with this name.
pub(crate) fn measure(name: &str) -> Result<Record> {
    let load = LOADS.iter().find(|load| load.name == name);
    let load = load.with_context(|| format!("there is no load {name:?}"))?;
    let mut run = Run::new(load)?;
    run.go_on(WARM_UP)?;
    run.measured = Serving { load: load.name, ..Serving::default() };
    run.go_on(MEASURED)?;
    Ok(Record::Serving(Serving { resident_kib: usage::resident_kib()?, ..run.measured }))
}

/// A load that is carried.
struct Run<'a> {
    load: &'a Load,
    bench: Option<Bench>,
    node: Node,
    feed: Feed,
    metrics: Metrics,
    /// Flows that have begun, and those that have ended.
    flows: [u64; 2],
    /// Events in the ring.
    waiting: u64,
    began: Instant,
    ticked: u32,
    scraped: u32,
    drained: Instant,
    measured: Serving,
}

impl<'a> Run<'a> {
    fn new(load: &'a Load) -> Result<Self> {
        let bench = (load.events > 0).then(|| Bench::new(true)).transpose()?;
        let mut node = Node::new(load.busy, load.idle, load.ticks_a_second);
        let flight = load.is_recorded.then(|| Flight::new(FLIGHT));
        let shared = Shared::new(Latest::new(METRICS_NETNS), flight);
        let logger = Logger::open(log::Format::Text)?;
        let alerts = Alerts::new(Warnings::new(THRESHOLDS), vec![], logger.clone(), None);
        let mut feed = Feed::new(shared.clone(), logger, alerts);
        for item in node.begin() {
            let _ = feed.take(&item);
        }
        let now = Instant::now();
        Ok(Self {
            load,
            bench,
            node,
            feed,
            metrics: Metrics::new(shared, Arc::new(Counters::default())),
            flows: [0; 2],
            waiting: 0,
            began: now,
            ticked: 0,
            scraped: 0,
            drained: now,
            measured: Serving::default(),
        })
    }

    fn go_on(&mut self, time: Duration) -> Result<()> {
        let from = Instant::now();
        while from.elapsed() < time {
            self.send()?;
            if self.drained.elapsed() >= COLLECT_EVERY {
                self.drain()?;
            }
            if self.is_due(Duration::from_secs(1) / self.load.ticks_a_second, self.ticked) {
                self.ticked += 1;
                let tick = self.node.tick();
                let (feed, ticks) = (&mut self.feed, &mut self.measured.ticks);
                ticks.time(|| Ok(u64::from(feed.take(&tick))))?;
            }
            if self.load.is_scraped && self.is_due(SCRAPE_EVERY, self.scraped) {
                self.scraped += 1;
                let (metrics, scrapes) = (&self.metrics, &mut self.measured.scrapes);
                scrapes.time(|| Ok(u64::from(!metrics.text(Format::Prometheus)?.is_empty())))?;
            }
            thread::sleep(STEP);
        }
        self.measured.seconds = from.elapsed().as_secs_f64();
        Ok(())
    }

    /// Whether what comes every so often and came so many times is to come.
    fn is_due(&self, every: Duration, times: u32) -> bool {
        self.began.elapsed() >= every * (times + 1)
    }

    /// Sends what is due by now: flows that begin and, a second later, end. That is the kernel's part, and not measured.
    /// Whoever was kept waiting is woken by a ring that is half full, as `ctmon serve` is.
    fn send(&mut self) -> Result<()> {
        let a_second = u64::from(self.load.events / 2);
        let due = (self.began.elapsed().as_secs_f64() * a_second as f64) as u64;
        for (which, due) in [due, due.saturating_sub(a_second)].into_iter().enumerate() {
            while self.flows[which] + u64::from(ROUNDS) <= due {
                let Some(bench) = &mut self.bench else { return Ok(()) };
                let first = self.flows[which] % u64::from(ENTRIES);
                let sent = bench.send(first, which == 1)?;
                ensure!(sent == ROUNDS, "the ring took {sent} of {ROUNDS} events");
                self.flows[which] += u64::from(ROUNDS);
                self.waiting += u64::from(ROUNDS);
                if self.waiting >= HALF_FULL {
                    self.drain()?;
                }
            }
        }
        Ok(())
    }

    /// Takes the events out and in.
    fn drain(&mut self) -> Result<()> {
        self.drained = Instant::now();
        let Some(bench) = &mut self.bench else { return Ok(()) };
        let (node, feed) = (&mut self.node, &mut self.feed);
        let waiting = std::mem::take(&mut self.waiting);
        self.measured.events.time(|| {
            let mut events = Vec::new();
            let drained = bench.drain(u64::MAX, |event| events.push(event));
            ensure!(
                drained.received == waiting && drained.malformed == 0,
                "{drained:?} of {waiting}"
            );
            let _ = feed.take(&node.flows(events));
            Ok(drained.received)
        })
    }
}

impl Part {
    /// Does something, which says how often.
    fn time(&mut self, work: impl FnOnce() -> Result<u64>) -> Result<()> {
        let before = usage::cpu_time()?;
        let count = work()?;
        let time = usage::cpu_time()?.saturating_sub(before);
        self.cpu_ns += u64::try_from(time.as_nanos())?;
        self.count += count;
        Ok(())
    }
}
