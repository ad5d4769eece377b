//! Follows the running kernel, from one source to the next, and tells a sink what it tells.

use std::{future::poll_fn, os::fd::OwnedFd, path::Path, sync::Arc, task::Poll, time::Duration};

use anyhow::Result;
use conntrack_user::{
    model::flows::Flows,
    privilege::Ended,
    source::{
        item::{self, Item, Notice, Use},
        live::{self, Choice, Live, Purpose},
    },
};
use tokio::{
    io::unix::AsyncFd,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use super::{
    busy::Busy,
    kernel_release, lost,
    output::{self, Reader},
    settle,
    shutdown::Release,
    start,
    steering::Steering,
};
use crate::cli::Plan;

/// Events taken out of the ring before others get their turn.
const DRAIN: u64 = 8192;
/// How often --wait looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Reason for which there is no source.
const WAITING: &str = "waiting for the module nf_conntrack";
/// How long the programs are tried after the module was loaded again.
const REOPEN: Duration = Duration::from_secs(5);
/// When programs are tried again, in whose place procfs is polled; each time twice as much later, up to the second.
const TRY_AGAIN: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(600)];
/// Longest time between two looks into the ring.
const COLLECT_EVERY: Duration = Duration::from_millis(100);

/// Who wants to know what a source tells.
pub(crate) trait Sink {
    /// Takes in the next item.
    fn take(&mut self, item: &Item) -> Result<Reader>;

    /// Called ten times a second, whether there are items or not.
    fn pass_time(&mut self) -> Result<Reader> {
        Ok(Reader::Reading)
    }

    /// Called several times a second while there is no source. `reason` names what is waited for.
    fn pass_waiting(&mut self, reason: &str) {
        let _ = reason;
    }

    /// Called before what keeps the loop from turning for seconds, as attaching programs does: as long as the answer is
    /// held, whoever watches hears that ctmon is alive.
    fn busy(&self) -> Option<Busy> {
        None
    }

    /// Says something once that is no part of what the source tells.
    fn say(&mut self, text: &str) {
        output::say(text);
    }

    /// Whether the readings so far settle every baseline.
    fn is_settled(&self) -> bool;

    /// The live table of flows, where there is one.
    fn flows(&self) -> Option<&Flows>;
}

/// Why a source is given up.
enum Next {
    /// All is told, or nobody wants it any more.
    End,
    /// The module nf_conntrack is gone, or was loaded anew.
    Reloaded,
    /// SIGUSR2: the programs are to be detached, or attached again.
    LetGo,
    /// The kernel takes the programs now.
    Better(Box<Live>),
    /// The helper that had the privileges is gone, and the programs with it.
    CutOff,
}

/// Follows one source after the other.
pub(crate) async fn run(plan: &Plan, sink: &mut impl Sink) -> Result<()> {
    let release = Release::listen()?;
    let procfs = &plan.options.procfs;
    if plan.wait {
        wait_for_conntrack(procfs, sink).await?;
    }
    if plan.options.ebpf.debug_log {
        env_logger::Builder::new().filter_level(log::LevelFilter::Info).init();
    }
    let mut session = Session {
        plan,
        kernel: kernel_release(procfs),
        sink,
        left: plan.count,
        deadline: None,
        release,
        flows: item::Flows::default(),
    };
    let mut wanted = plan.options.clone();
    let mut options = wanted.clone();
    let mut with_programs = false;
    let mut better = None;
    loop {
        let mut live = match better.take() {
            Some(live) => live,
            None => reopen(&options, with_programs, session.sink).await?,
        };
        if live.name() != "ebpf" && options.choice == Choice::Auto {
            session.sink.say("`ctmon doctor` tells what is missing and what to do");
        }
        let next = session.one(&mut live, &options).await?;
        let had_programs = live.name() == "ebpf";
        with_programs |= had_programs;
        let now = live.now();
        let busy = session.sink.busy();
        // Detached before anything is said: who reads it may go on.
        match next {
            // Pinned programs stay.
            Next::End | Next::CutOff => drop(live),
            Next::Reloaded | Next::LetGo | Next::Better(_) => {
                if let Err(error) = live.let_go() {
                    output::say(format_args!("the programs may still be attached: {error:#}"));
                }
            }
        }
        drop(busy);
        let said = match next {
            Next::End => return Ok(()),
            Next::LetGo if had_programs => {
                options.choice = Choice::Procfs;
                "SIGUSR2: the programs are detached; a second one, or loading nf_conntrack again, \
                 attaches them"
            }
            Next::LetGo if options.choice == Choice::Netlink => {
                "SIGUSR2: no programs are attached; counts start anew"
            }
            Next::LetGo => {
                options = wanted.clone();
                "SIGUSR2: the programs are attached again"
            }
            Next::Reloaded => {
                options = wanted.clone();
                "the module nf_conntrack was unloaded, and all entries with it; counts start anew \
                 once it is loaded again"
            }
            Next::Better(live) => {
                better = Some(*live);
                "the kernel takes the programs now: they count from here on"
            }
            Next::CutOff => {
                wanted.access = Arc::new(Ended::new(procfs.clone()));
                options = wanted.clone();
                with_programs = false;
                "the privileged helper has ended, and the programs with it; counts start anew, \
                 without what takes privileges"
            }
        };
        let notice = Notice { time: now, text: said.into() };
        if session.sink.take(&Item::Notice(notice))? == Reader::Gone {
            return Ok(());
        }
        tokio::select! {
            () = reached(session.deadline) => return Ok(()),
            waited = wait_for_conntrack(procfs, session.sink), if better.is_none() => waited?,
            () = std::future::ready(()), if better.is_some() => {}
        }
    }
}

/// Opens the source. A module that is being loaded shows its files before it takes programs: where they
/// were attached before, they are tried for a while.
async fn reopen(
    options: &live::Options,
    with_programs: bool,
    sink: &mut impl Sink,
) -> Result<Live> {
    let started = Instant::now();
    loop {
        let busy = sink.busy();
        let outcome = Live::open(options);
        drop(busy);
        let falls_back = outcome.as_ref().map_or(true, |live| live.name() != "ebpf");
        let is_asked_for = with_programs && options.choice != Choice::Procfs;
        if !falls_back || !is_asked_for || started.elapsed() >= REOPEN {
            return outcome;
        }
        drop(outcome);
        sink.pass_waiting("attaching the programs again");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Returns when the module nf_conntrack is there.
///
/// # Errors
/// procfs does not show whether it is: waiting would have no end.
async fn wait_for_conntrack(procfs: &Path, sink: &mut impl Sink) -> Result<()> {
    let file = live::conntrack_file(procfs);
    live::require_sysctls(procfs)?;
    if !file.exists() {
        sink.say(WAITING);
    }
    while !file.exists() {
        sink.pass_waiting(WAITING);
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// What lasts longer than a source.
struct Session<'a, S> {
    plan: &'a Plan,
    kernel: String,
    sink: &'a mut S,
    /// Ticks until the end.
    left: Option<u64>,
    /// When it ends, counted from the first source.
    deadline: Option<Instant>,
    release: Release,
    /// Events on their way to the sink.
    flows: item::Flows,
}

impl<S: Sink> Session<'_, S> {
    /// Follows one source, until it ends or another one is needed.
    async fn one(&mut self, live: &mut Live, options: &live::Options) -> Result<Next> {
        for text in lost(live) {
            self.sink.say(&text);
        }
        let mut debug_log = if self.plan.options.ebpf.debug_log { live.debug_log()? } else { None };
        let _ = self.sink.take(&Item::Start(start(live, &self.kernel)))?;
        let busy = self.sink.busy();
        settle(live, |reading| {
            let _ = self.sink.take(&Item::Reading(Use::Settle, Box::new(reading)))?;
            Ok(self.sink.is_settled())
        })
        .await?;
        drop(busy);
        let rings: Vec<_> = live.ring_fds()?.into_iter().map(register).collect::<Result<_>>()?;
        let gathering = live.gathering();
        let (mut steering, set) = Steering::new(self.plan.wanted, live);
        if let Some(set) = set {
            let _ = self.sink.take(&Item::Threshold(set))?;
        }
        // The first tick is the first interval's end: there is no rate before it.
        let reading = live.read(Purpose::Settle);
        if self.sink.take(&Item::Reading(Use::First, Box::new(reading)))? == Reader::Gone {
            return Ok(Next::End);
        }
        let now = Instant::now();
        if self.deadline.is_none() {
            self.deadline = self.plan.for_at_most.map(|time| now + time);
        }
        let mut ticks = interval_at(now + self.plan.interval, self.plan.interval);
        // A tick that comes late is not made up for: its interval is in the output.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let falls_back = live.name() != "ebpf" && options.choice == Choice::Auto;
        let tries_again = falls_back && self.plan.tries_again;
        let [mut wait, longest] = TRY_AGAIN;
        let mut try_again = now + wait;
        let mut collect = tokio::time::interval(COLLECT_EVERY);
        collect.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.left != Some(0) {
            tokio::select! {
                // The tick first: a flood of events must not put it off.
                biased;
                _ = ticks.tick() => {
                    if live.is_cut_off() {
                        return Ok(Next::CutOff);
                    }
                    if live.is_stale() {
                        return Ok(Next::Reloaded);
                    }
                    self.drain(live).await?;
                    let reading = live.read(Purpose::Tick);
                    if self.sink.take(&Item::Reading(Use::Tick, Box::new(reading)))? == Reader::Gone {
                        return Ok(Next::End);
                    }
                    if let Some(log) = &mut debug_log {
                        log.flush();
                    }
                    self.left = self.left.map(|left| left - 1);
                }
                () = self.release.requested() => return Ok(Next::LetGo),
                () = sleep_until(try_again), if tries_again => {
                    let programs = live::Options { choice: Choice::Ebpf, ..options.clone() };
                    let _busy = self.sink.busy();
                    // Why not was said when the source was opened.
                    if let Ok(better) = Live::open(&programs) {
                        return Ok(Next::Better(Box::new(better)));
                    }
                    wait = (2 * wait).min(longest);
                    try_again = Instant::now() + wait;
                }
                () = reached(self.deadline) => return Ok(Next::End),
                _ = collect.tick() => {
                    self.drain(live).await?;
                    // Last, so that the counts are those of the time at which the source is steered.
                    live.collect();
                    if let Some(set) = steering.steer(live, self.sink.flows()) {
                        let _ = self.sink.take(&Item::Threshold(set))?;
                    }
                    if self.sink.pass_time()? == Reader::Gone {
                        return Ok(Next::End);
                    }
                }
                () = filling(&rings, gathering) => self.drain(live).await?,
            }
        }
        Ok(Next::End)
    }

    /// Takes out what waits, giving way to other tasks after every [`DRAIN`] events. What comes in meanwhile
    /// is left for the next time, so that it ends.
    async fn drain(&mut self, live: &mut Live) -> Result<()> {
        const ROUNDS: u32 = 16;
        for _ in 0..ROUNDS {
            let drained = live.drain_into(DRAIN, &mut self.flows);
            if !self.flows.events.is_empty() {
                let flows = Item::Flows(std::mem::take(&mut self.flows));
                // One that wants no more says so at the next reading.
                let _ = self.sink.take(&flows)?;
                // Its memory serves the next ones.
                if let Item::Flows(flows) = flows {
                    self.flows = flows;
                }
            }
            if drained < DRAIN {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}

/// Returns then; never without a time.
async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Returns when the source calls because one of the rings fills up, and as long after that as more is waited for; never
/// without a ring.
async fn filling(rings: &[AsyncFd<OwnedFd>], gathering: Duration) {
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
    if !gathering.is_zero() {
        tokio::time::sleep(gathering).await;
    }
}

/// Registers the ring's descriptor with the runtime.
fn register(ring: OwnedFd) -> Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by the value returned and nobody else closes it.
    Ok(unsafe { AsyncFd::register(ring) }?)
}

impl<A: Sink, B: Sink> Sink for (A, Option<B>) {
    fn take(&mut self, item: &Item) -> Result<Reader> {
        let first = self.0.take(item)?;
        let second = self.1.as_mut().map_or(Ok(Reader::Reading), |second| second.take(item))?;
        Ok(first.and(second))
    }

    fn pass_time(&mut self) -> Result<Reader> {
        let first = self.0.pass_time()?;
        let second = self.1.as_mut().map_or(Ok(Reader::Reading), Sink::pass_time)?;
        Ok(first.and(second))
    }

    fn is_settled(&self) -> bool {
        self.0.is_settled() && self.1.as_ref().is_none_or(Sink::is_settled)
    }

    fn busy(&self) -> Option<Busy> {
        self.0.busy()
    }

    fn flows(&self) -> Option<&Flows> {
        self.0.flows()
    }
}
