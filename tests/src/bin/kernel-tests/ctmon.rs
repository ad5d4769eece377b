//! `ctmon watch --output json`, as a witness.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{Ended, Process},
    report::{Line, Netns, Start, Tick, Victim},
    runner::Env,
    values, wait,
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
    ended: Vec<Netns>,
    inodes_twice: usize,
    victims: Vec<Vec<Victim>>,
    /// [`Env::skipped`]
    skipped: Arc<AtomicBool>,
    without_a_rate: usize,
}

/// What is wrong by what ctmon has said on standard error. By kprobe, one line says what cannot be told; so it does where
/// a hook is not on its first rung.
pub(crate) fn complaints(stderr: &str, by_kprobe: bool) -> String {
    let expected = |line: &&str| {
        line.starts_with("ctmon: source ebpf; not available:")
            && (by_kprobe && line.contains("kprobe") || line.contains("exact numbers of"))
    };
    stderr.lines().filter(|line| !expected(line)).collect::<Vec<_>>().join("\n")
}

/// Shows namespaces in which nothing happens, too.
pub(crate) const ALL: &[&str] = &["--all"];

impl Watch {
    /// Starts it in the calling thread's network namespace; back when its hooks are attached.
    pub(crate) fn start(env: &Env, arguments: &[&str]) -> Result<Self> {
        Self::start_every(env, INTERVAL, &[ALL, arguments].concat())
    }

    /// With an interval, and without idle namespaces.
    pub(crate) fn start_every(env: &Env, interval: &str, arguments: &[&str]) -> Result<Self> {
        let own = env.arguments(arguments);
        let all =
            [&["watch", "--output", "json", "--interval", interval], arguments, &own].concat();
        let process = Process::start(env, &all)?;
        let mut watch = Self {
            process,
            start: Start::default(),
            notices: Vec::new(),
            ended: Vec::new(),
            inodes_twice: 0,
            victims: Vec::new(),
            skipped: Arc::clone(&env.skipped),
            without_a_rate: 0,
        };
        match watch.next(wait::SHORT)? {
            Line::Start(_) => Ok(watch),
            other => bail!("ctmon's first line is no start record: {other:?}"),
        }
    }

    /// Its first line, or what it said when it attached again.
    pub(crate) fn started(&self) -> &Start {
        &self.start
    }

    /// Its messages so far.
    pub(crate) fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Namespaces that have ended so far, with their last totals.
    pub(crate) fn ended(&self) -> &[Netns] {
        &self.ended
    }

    /// How often a tick showed an inode number for a second namespace.
    pub(crate) fn inodes_twice(&self) -> usize {
        self.inodes_twice
    }

    /// Whether a null is all that this ctmon can say.
    pub(crate) fn cannot_tell(&self, name: &str) -> bool {
        self.start.is_by_kprobe() && values::is_beyond_kprobes(name)
    }

    /// In how many ticks so far the rate of inserts of a namespace was not known.
    pub(crate) fn ticks_without_a_rate(&self) -> usize {
        self.without_a_rate
    }

    fn keep(&mut self, line: &Line) {
        match line {
            Line::Notice(notice) => self.notices.push(notice.text.clone()),
            Line::Tick(tick) => {
                if tick.missed_calls_max.is_some_and(|missed| missed > 0) {
                    self.skipped.store(true, Ordering::Relaxed);
                }
                let inodes: BTreeSet<u64> = tick.netns.iter().map(|netns| netns.inode).collect();
                self.inodes_twice += tick.netns.len() - inodes.len();
                self.victims.extend((!tick.victims.is_empty()).then(|| tick.victims.clone()));
                let unknown = tick.netns.iter().any(|netns| netns.insert_rate.is_none());
                self.without_a_rate += usize::from(unknown);
                self.ended.extend(tick.netns.iter().filter(|netns| netns.ended).cloned());
            }
            // It says so when it attaches again.
            Line::Start(start) => self.start = start.clone(),
            Line::Other => {}
        }
    }

    /// Its next line, whatever it says.
    pub(crate) fn next(&mut self, limit: Duration) -> Result<Line> {
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

    /// Waits until it starts anew from this source.
    pub(crate) fn until_source(&mut self, source: &str) -> Result<()> {
        wait::until(&format!("a start line with the source {source}"), wait::SHORT, || {
            let line = self.next(wait::SHORT)?;
            Ok(matches!(line, Line::Start(start) if start.source == source).then_some(()))
        })
    }

    /// Waits until a message has this word in it.
    pub(crate) fn until_notice(&mut self, word: &str) -> Result<()> {
        wait::until(&format!("a notice with {word}"), wait::SHORT, || {
            if self.notices.iter().any(|text| text.contains(word)) {
                return Ok(Some(()));
            }
            self.next(wait::SHORT).map(|_| None)
        })
    }

    /// The victims since the call before, tick by tick.
    pub(crate) fn take_victims(&mut self) -> Vec<Vec<Victim>> {
        std::mem::take(&mut self.victims)
    }

    /// The running process.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
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
