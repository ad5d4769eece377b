//! `ctmon watch --output json`, as a witness.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{Ended, Process},
    report::{Line, Netns, Start, Tick},
    runner::Env,
    wait,
};

/// The interval of every `ctmon watch` here.
pub(crate) const INTERVAL: &str = "100ms";

/// Ticks without a change after which nothing more is to come. The drift is shown as the lowest of three
/// ticks.
const ALIKE: u32 = 4;

/// A running `ctmon watch`.
#[derive(Debug)]
pub(crate) struct Watch {
    process: Process,
    start: Start,
    notices: Vec<String>,
}

impl Watch {
    /// Starts it in the calling thread's network namespace; back when its hooks are attached.
    pub(crate) fn start(env: &Env, arguments: &[&str]) -> Result<Self> {
        let fault = env.fault_arguments();
        let fault: Vec<&str> = fault.iter().map(String::as_str).collect();
        let all =
            [&["watch", "--output", "json", "--interval", INTERVAL], arguments, fault.as_slice()]
                .concat();
        let process = Process::start(env, &all)?;
        let mut watch = Self { process, start: Start::default(), notices: Vec::new() };
        match watch.next(wait::SHORT)? {
            Line::Start(start) => watch.start = start,
            other => bail!("ctmon's first line is no start record: {other:?}"),
        }
        Ok(watch)
    }

    /// Its first line.
    pub(crate) fn started(&self) -> &Start {
        &self.start
    }

    /// Its messages so far.
    pub(crate) fn notices(&self) -> &[String] {
        &self.notices
    }

    fn keep(&mut self, line: &Line) {
        if let Line::Notice(notice) = line {
            self.notices.push(notice.text.clone());
        }
    }

    fn next(&mut self, limit: Duration) -> Result<Line> {
        let text = self.process.next_line(limit)?;
        let text = text.with_context(|| format!("ctmon ended early; {}", self.process.said()))?;
        let line = Line::parse(&text)?;
        self.keep(&line);
        Ok(line)
    }

    /// The next tick. It may have waited in the pipe for a while.
    pub(crate) fn next_tick(&mut self) -> Result<Tick> {
        loop {
            if let Line::Tick(tick) = self.next(wait::SHORT)? {
                return Ok(tick);
            }
        }
    }

    /// A tick all of whose numbers were read after this call.
    pub(crate) fn fresh_tick(&mut self) -> Result<Tick> {
        while let Some(text) = self.process.line_here() {
            let line = Line::parse(&text)?;
            self.keep(&line);
        }
        // The first one may have been half read when this was called.
        self.next_tick()?;
        self.next_tick()
    }

    /// Waits until the namespace has a baseline, which holds for good.
    pub(crate) fn baseline(&mut self, inode: u64) -> Result<Tick> {
        let mut last = None;
        let found = wait::until("a tick with a baseline", wait::SHORT, || {
            let tick = self.next_tick()?;
            let settled = tick.netns(inode).is_some_and(|netns| netns.baseline.is_some());
            last = tick.netns(inode).cloned();
            Ok(settled.then_some(tick))
        });
        found.with_context(|| format!("netns {inode}, as last seen: {last:?}"))
    }

    /// Waits until [`ALIKE`] ticks in a row, all from after this call, show the same.
    pub(crate) fn quiet(&mut self) -> Result<Tick> {
        let mut before = self.fresh_tick()?;
        let mut alike = 1;
        wait::until("ticks with the same counts", wait::LONG, || {
            let tick = self.next_tick()?;
            alike = if tick.moving() == before.moving() { alike + 1 } else { 1 };
            before = tick.clone();
            Ok((alike == ALIKE).then_some(tick))
        })
    }

    /// Waits until the namespace is quiet.
    pub(crate) fn quiet_netns(&mut self, inode: u64) -> Result<Netns> {
        let tick = self.quiet()?;
        tick.netns(inode)
            .cloned()
            .with_context(|| format!("the tick does not show the netns {inode}: {tick:?}"))
    }

    /// The child process; the lines it prints from now on are the caller's.
    pub(crate) fn into_process(self) -> Process {
        self.process
    }

    /// Ends it with SIGTERM.
    pub(crate) fn terminate(self) -> Result<Ended> {
        self.process.end_by(rustix::process::Signal::TERM)
    }
}
