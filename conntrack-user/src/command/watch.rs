//! `ctmon watch`

use std::{future::poll_fn, os::fd::OwnedFd, path::Path, task::Poll, time::Duration};

use anyhow::Result;
use conntrack_user::{
    model::{monitor::Monitor, reading::Time, tick::Tick},
    source::live::{self, Choice, Live, Purpose},
    view::{
        json::{Hook, Line},
        text::Table,
    },
};
use tokio::{
    io::unix::AsyncFd,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    kernel_release, new_monitor,
    output::{self, Json, Reader},
    settle,
    shutdown::{Release, Shutdown},
    start,
    steering::Steering,
};
use crate::cli::{Output, Watch};

/// Events taken out of the ring before others get their turn.
const DRAIN: u64 = 8192;
/// How often --wait looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long the programs are tried after the module was loaded again.
const REOPEN: Duration = Duration::from_secs(5);
/// Longest time between two looks into the ring.
const COLLECT_EVERY: Duration = Duration::from_millis(100);

pub(crate) async fn run(watch: &Watch) -> Result<u8> {
    let mut shutdown = Shutdown::listen()?;
    tokio::select! {
        () = shutdown.requested() => Ok(0),
        outcome = watch_on(watch) => outcome.map(|()| 0),
    }
}

/// Why a source is given up.
enum Next {
    /// All is written, or nobody reads it any more.
    End,
    /// The module nf_conntrack is gone, or was loaded anew.
    Reloaded,
    /// SIGUSR2: the programs are to be detached, or attached again.
    LetGo,
}

/// Follows one source after the other.
async fn watch_on(watch: &Watch) -> Result<()> {
    let release = Release::listen()?;
    if watch.wait {
        wait_for_conntrack(watch.common.procfs()).await;
    }
    if watch.debug_bpf {
        env_logger::Builder::new().filter_level(log::LevelFilter::Info).init();
    }
    let writer = Writer {
        output: watch.common.output,
        table: Table::new(watch.causes, watch.flows),
        json: Json::default(),
        hooks: vec![],
    };
    let kernel = kernel_release(watch.common.procfs());
    let mut session = Session { watch, kernel, writer, left: watch.count, release };
    let mut options = watch.options();
    let mut with_programs = false;
    loop {
        let mut live = reopen(&options, with_programs).await?;
        if live.name() != "ebpf" && options.choice != Choice::Procfs {
            anstream::eprintln!("ctmon: `ctmon doctor` tells what is missing and what to do");
        }
        let next = session.follow(&mut live).await?;
        let had_programs = live.name() == "ebpf";
        with_programs |= had_programs;
        let now = live.now();
        // Detached before anything is said: who reads it may go on.
        drop(live);
        let said = match next {
            Next::End => return Ok(()),
            Next::LetGo if had_programs => {
                options.choice = Choice::Procfs;
                "SIGUSR2: the programs are detached; a second one, or loading nf_conntrack again, \
                 attaches them"
            }
            Next::LetGo => {
                options = watch.options();
                "SIGUSR2: the programs are attached again"
            }
            Next::Reloaded => {
                options = watch.options();
                "the module nf_conntrack was unloaded, and all entries with it; counts start anew \
                 once it is loaded again"
            }
        };
        if session.writer.notice(now, said)? == Reader::Gone {
            return Ok(());
        }
        wait_for_conntrack(watch.common.procfs()).await;
    }
}

/// Opens the source. A module that is being loaded shows its files before it takes programs: where they
/// were attached before, they are tried for a while.
async fn reopen(options: &live::Options, with_programs: bool) -> Result<Live> {
    let started = Instant::now();
    loop {
        let outcome = Live::open(options);
        let falls_back = outcome.as_ref().map_or(true, |live| live.name() != "ebpf");
        let is_asked_for = with_programs && options.choice != Choice::Procfs;
        if !falls_back || !is_asked_for || started.elapsed() >= REOPEN {
            return outcome;
        }
        drop(outcome);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Returns when the module nf_conntrack is there.
async fn wait_for_conntrack(procfs: &Path) {
    let file = live::conntrack_file(procfs);
    if !file.exists() {
        anstream::eprintln!("ctmon: waiting for the module nf_conntrack");
    }
    while !file.exists() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What lasts longer than a source.
struct Session<'a> {
    watch: &'a Watch,
    kernel: String,
    writer: Writer,
    /// Ticks until the end.
    left: Option<u64>,
    release: Release,
}

impl Session<'_> {
    /// Follows one source, until it ends or another one is needed.
    async fn follow(&mut self, live: &mut Live) -> Result<Next> {
        for lost in live.lost() {
            let source = live.name();
            anstream::eprintln!(
                "ctmon: source {source}; not available: {}, because {}",
                lost.what,
                lost.why
            );
        }
        let mut debug_log = if self.watch.debug_bpf { live.debug_log()? } else { None };
        let mut monitor = new_monitor();
        settle(live, &mut monitor).await;
        if self.writer.start(live, &self.kernel)? == Reader::Gone {
            return Ok(Next::End);
        }
        let rings: Vec<_> = live.ring_fds()?.into_iter().map(register).collect::<Result<_>>()?;
        // The first tick is the first interval's end: there is no rate before it.
        monitor.observe(&live.read(Purpose::Settle));
        let mut steering = Steering::new(self.watch.wanted(), live);
        let mut ticks = interval_at(Instant::now() + self.watch.interval, self.watch.interval);
        // A tick that comes late is not made up for: its interval is in the output.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut collect = tokio::time::interval(COLLECT_EVERY);
        collect.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.left != Some(0) {
            tokio::select! {
                // The tick first: a flood of events must not put it off.
                biased;
                _ = ticks.tick() => {
                    if live.is_stale() {
                        return Ok(Next::Reloaded);
                    }
                    drain(live, &mut monitor).await;
                    let tick = monitor.observe(&live.read(Purpose::Tick));
                    if self.writer.tick(&tick)? == Reader::Gone {
                        return Ok(Next::End);
                    }
                    if let Some(log) = &mut debug_log {
                        log.flush();
                    }
                    self.left = self.left.map(|left| left - 1);
                }
                () = self.release.requested() => return Ok(Next::LetGo),
                _ = collect.tick() => {
                    live.collect();
                    drain(live, &mut monitor).await;
                    steering.steer(live, monitor.flows());
                }
                () = filling(&rings) => drain(live, &mut monitor).await,
            }
        }
        Ok(Next::End)
    }
}

/// Empties the rings, giving way to other tasks after every [`DRAIN`] events. What comes in meanwhile
/// is left for the next time, so that it ends.
async fn drain(live: &mut Live, monitor: &mut Monitor) {
    const ROUNDS: u32 = 16;
    for _ in 0..ROUNDS {
        if live.drain(DRAIN, |event| monitor.observe_event(&event)) < DRAIN {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Returns when the programs call because one of the rings fills up; never without a ring.
async fn filling(rings: &[AsyncFd<OwnedFd>]) {
    poll_fn(|context| {
        let mut called = false;
        // All of them, so that each knows whom to wake.
        for ring in rings {
            if let Poll::Ready(Ok(mut ready)) = ring.poll_read_ready(context) {
                ready.clear_ready();
                called = true;
            }
        }
        if called { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Registers the ring's descriptor with the runtime.
fn register(ring: OwnedFd) -> Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the value returned and nobody else closes it.
    Ok(unsafe { AsyncFd::register(ring) }?)
}

/// Writes in the format asked for.
struct Writer {
    output: Output,
    table: Table,
    json: Json,
    hooks: Vec<Hook>,
}

impl Writer {
    fn start(&mut self, live: &Live, kernel: &str) -> Result<Reader> {
        let start = start(live, kernel);
        let reader = match self.output {
            Output::Text => Ok(Reader::Reading),
            Output::Json => self.json.write(&Line::start(live.now(), &start)),
        };
        self.hooks = start.hooks;
        reader
    }

    fn notice(&mut self, now: Time, text: &str) -> Result<Reader> {
        match self.output {
            Output::Text => output::text(&format!("{text}\n")),
            Output::Json => self.json.write(&Line::notice(now, text)),
        }
    }

    fn tick(&mut self, tick: &Tick) -> Result<Reader> {
        if self.output == Output::Text {
            return output::text(&self.table.tick(tick));
        }
        for notice in &tick.notices {
            if self.notice(tick.time, notice)? == Reader::Gone {
                return Ok(Reader::Gone);
            }
        }
        self.json.write(&Line::tick(tick, &self.hooks))
    }
}
