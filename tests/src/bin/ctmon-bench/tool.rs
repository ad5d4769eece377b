//! Monitors as child processes.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _},
    os::fd::AsFd as _,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use conntrack_tests::client::Metrics;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    case::{Case, Kind, SOCKET},
    usage::Usage,
};

/// Emulated machines are slow, and bpftrace compiles its script first.
const START: Duration = Duration::from_secs(90);
/// Detaching waits until every task has left the programs.
const END: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
const SCRAPE_EVERY: Duration = Duration::from_secs(1);
/// The series that tells how many ticks there were.
const TICKS: &str = "ctmon_ticks_total";

/// A running monitor, or none. Killed when this is dropped.
pub(crate) struct Tool(Option<Running>);

struct Running {
    kind: Kind,
    child: Child,
    scraper: Option<Scraper>,
    /// What it writes goes to a file, so that nobody's reading is measured with it.
    stdout: File,
    stderr: File,
}

/// What a monitor has told.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Inserts and deletes together; none without a monitor.
    pub(crate) seen: Option<u64>,
    /// Name, runs and nanoseconds of each hook's programs, where they were timed.
    pub(crate) hooks: Vec<(String, u64, u64)>,
}

impl Tool {
    /// Starts it; back when it is at work.
    pub(crate) fn start(case: &Case) -> Result<Self> {
        let Some((program, arguments)) = case.command.split_first() else {
            return Ok(Self(None));
        };
        let (stdout, stderr) = (scratch()?, scratch()?);
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(stdout.try_clone()?)
            .stderr(stderr.try_clone()?)
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let mut running = Running { kind: case.kind, child, scraper: None, stdout, stderr };
        running.wait_until_ready()?;
        running.scraper = (case.kind == Kind::Serve).then(Scraper::start);
        Ok(Self(Some(running)))
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        match &self.0 {
            Some(running) => Usage::of(running.child.id()),
            None => Ok(Usage::default()),
        }
    }

    /// Ends it, and says what it has seen.
    pub(crate) fn end(&mut self) -> Result<Seen> {
        match &mut self.0 {
            Some(running) => running.end(),
            None => Ok(Seen::default()),
        }
    }
}

impl Running {
    fn wait_until_ready(&mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once ({status}): {}", self.complaint()?);
            }
            let is_ready = match self.kind {
                Kind::Nothing => true,
                // Its first tick comes after it has settled.
                Kind::Ctmon { .. } => self.output()?.lines().count() >= 2,
                Kind::Serve => Metrics::scrape(Path::new(SOCKET))
                    .is_ok_and(|metrics| metrics.value(TICKS) >= Some(1.0)),
                // It says nothing; it is at work once it waits for messages.
                Kind::Conntrack => began.elapsed() > Duration::from_secs(1),
                Kind::Bpftrace => self.output()?.contains("ready"),
            };
            if is_ready {
                return Ok(());
            }
            if began.elapsed() > START {
                bail!("it is not ready after {} s: {}", START.as_secs(), self.complaint()?);
            }
            thread::sleep(POLL);
        }
    }

    fn end(&mut self) -> Result<Seen> {
        if matches!(self.kind, Kind::Ctmon { .. }) {
            // Its next tick has everything.
            let before = self.output()?.lines().count();
            let began = Instant::now();
            while self.output()?.lines().count() < before + 2 && began.elapsed() < START {
                thread::sleep(POLL);
            }
        }
        let metrics = match self.kind {
            Kind::Serve => Some(at_the_next_tick()?),
            _ => None,
        };
        self.scraper = None;
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::INT)?;
        }
        let began = Instant::now();
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > END {
                bail!("it does not end");
            }
            thread::sleep(POLL);
        }
        match self.kind {
            Kind::Nothing => Ok(Seen::default()),
            Kind::Ctmon { events } => ctmon(&self.output()?, events),
            Kind::Serve => Ok(Seen { seen: metrics.as_ref().and_then(events), hooks: Vec::new() }),
            Kind::Conntrack => conntrack(&self.stdout),
            Kind::Bpftrace => bpftrace(&self.output()?),
        }
    }

    fn output(&self) -> Result<String> {
        read(&self.stdout)
    }

    fn complaint(&self) -> Result<String> {
        let text = read(&self.stderr)?;
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Ok(lines.get(..lines.len().min(3)).unwrap_or_default().join("; "))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for metrics each second, until it is dropped.
struct Scraper {
    /// Never sent on: closed at the end.
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scraper {
    fn start() -> Self {
        let (end, ended) = channel::<()>();
        let thread = thread::spawn(move || {
            while ended.recv_timeout(SCRAPE_EVERY) == Err(RecvTimeoutError::Timeout) {
                // Whether it answers is seen at the end.
                let _ = Metrics::scrape(Path::new(SOCKET));
            }
        });
        Self { end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.end = None;
        // It does not panic, and if it did nothing would be measured less.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What `ctmon serve` tells once a tick has begun from now on: that has everything.
fn at_the_next_tick() -> Result<Metrics> {
    let scrape = || Metrics::scrape(Path::new(SOCKET));
    let before = scrape()?.value(TICKS).unwrap_or_default();
    let began = Instant::now();
    loop {
        let metrics = scrape()?;
        if metrics.value(TICKS) >= Some(before + 2.0) || began.elapsed() >= START {
            return Ok(metrics);
        }
        thread::sleep(POLL);
    }
}

/// What the budget leaves out is counted, so it is not missed.
fn events(metrics: &Metrics) -> Option<u64> {
    let number = |name| metrics.value(name).map(|number| number as u64);
    let received = number("ctmon_events_received_total")?;
    Some(received + number("ctmon_events_sampled_out_total")?)
}

/// A file without a name, in memory.
fn scratch() -> Result<File> {
    let fd = rustix::fs::memfd_create("ctmon-bench", rustix::fs::MemfdFlags::CLOEXEC)?;
    // Each write goes to the end, wherever a reader has moved the position that both share.
    rustix::fs::fcntl_setfl(fd.as_fd(), rustix::fs::OFlags::APPEND)?;
    Ok(fd.into())
}

fn read(file: &File) -> Result<String> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What the last tick has.
fn ctmon(output: &str, events: bool) -> Result<Seen> {
    let mut lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let tick = lines.rfind(|line| line["kind"] == "tick").context("there was no tick")?;
    let seen = if events {
        // What the budget leaves out is counted, so it is not missed.
        let events = &tick["events"];
        let number = |name: &str| events[name].as_u64();
        number("received").zip(number("sampled_out")).map(|(sent, left_out)| sent + left_out)
    } else {
        let totals = tick["netns"].as_array().into_iter().flatten().map(|netns| &netns["totals"]);
        let both = |totals: &Value| Some(totals["inserts"].as_u64()? + totals["deletes"].as_u64()?);
        totals.map(both).sum()
    };
    let hook = |probe: &Value| {
        let number = |name: &str| probe[name].as_u64();
        Some((probe["hook"].as_str()?.to_owned(), number("runs")?, number("run_time_ns")?))
    };
    let hooks = tick["probes"].as_array().into_iter().flatten().filter_map(hook).collect();
    Ok(Seen { seen, hooks })
}

/// A line an event.
fn conntrack(output: &File) -> Result<Seen> {
    let mut file = output.try_clone()?;
    file.rewind()?;
    let mut seen = 0;
    for line in BufReader::new(file).lines() {
        let line = line?;
        seen += u64::from(line.contains("[NEW]") || line.contains("[DESTROY]"));
    }
    Ok(Seen { seen: Some(seen), hooks: Vec::new() })
}

/// `@insert: 30000`
fn bpftrace(output: &str) -> Result<Seen> {
    let count = |name: &str| {
        let line = output.lines().find_map(|line| line.strip_prefix(&format!("@{name}: ")));
        line.and_then(|number| number.trim().parse::<u64>().ok())
            .with_context(|| format!("bpftrace did not print @{name}"))
    };
    Ok(Seen { seen: Some(count("insert")? + count("delete")?), hooks: Vec::new() })
}
