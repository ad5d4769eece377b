//! `ctmon watch`

use std::{os::fd::OwnedFd, path::Path, time::Duration};

use anyhow::Result;
use conntrack_user::{
    model::tick::Tick,
    source::live::{self, Live},
    view::{json::Line, text::Table},
};
use tokio::{
    io::unix::AsyncFd,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    kernel_release, new_monitor,
    output::{self, Json, Reader},
    settle,
    shutdown::Shutdown,
    start,
};
use crate::cli::{Output, Watch};

/// Events taken out of the ring before others get their turn.
const DRAIN: u64 = 8192;
/// How often --wait looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Longest time between two looks into the ring.
const COLLECT_EVERY: Duration = Duration::from_millis(100);

pub(crate) async fn run(watch: &Watch) -> Result<u8> {
    let mut shutdown = Shutdown::listen()?;
    if watch.wait {
        tokio::select! {
            () = shutdown.requested() => return Ok(0),
            () = wait_for_conntrack(watch.common.procfs()) => {}
        }
    }
    let mut live = Live::open(&watch.options())?;
    tokio::select! {
        () = shutdown.requested() => Ok(0),
        outcome = follow(&mut live, watch) => outcome.map(|()| 0),
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

async fn follow(live: &mut Live, watch: &Watch) -> Result<()> {
    for lost in live.lost() {
        let source = live.name();
        anstream::eprintln!(
            "ctmon: source {source}; not available: {}, because {}",
            lost.what,
            lost.why
        );
    }
    let mut debug_log = if watch.debug_bpf {
        env_logger::Builder::new().filter_level(log::LevelFilter::Info).init();
        live.debug_log()?
    } else {
        None
    };
    let mut monitor = new_monitor();
    settle(live, &mut monitor).await;

    let kernel = kernel_release(watch.common.procfs());
    let mut writer =
        Writer { output: watch.common.output, table: Table::default(), json: Json::default() };
    if writer.start(live, &kernel)? == Reader::Gone {
        return Ok(());
    }
    let ring = live.ring_fd()?.map(register).transpose()?;
    // The first tick is the first interval's end: there is no rate before it.
    monitor.observe(&live.read());
    let mut ticks = interval_at(Instant::now() + watch.interval, watch.interval);
    // A tick that comes late is not made up for: its interval is in the output.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut collect = tokio::time::interval(COLLECT_EVERY);
    collect.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut left = watch.count;
    while left != Some(0) {
        tokio::select! {
            // The tick first: a flood of events must not put it off.
            biased;
            _ = ticks.tick() => {
                drain(live).await;
                let tick = monitor.observe(&live.read());
                if writer.tick(&tick)? == Reader::Gone {
                    return Ok(());
                }
                if let Some(log) = &mut debug_log {
                    log.flush();
                }
                left = left.map(|left| left - 1);
            }
            _ = collect.tick() => drain(live).await,
            () = filling(ring.as_ref()) => drain(live).await,
        }
    }
    Ok(())
}

/// Empties the ring, giving way to other tasks after every [`DRAIN`] events. What comes in meanwhile
/// is left for the next time, so that it ends.
async fn drain(live: &mut Live) {
    const ROUNDS: u32 = 16;
    for _ in 0..ROUNDS {
        if live.drain(DRAIN, |_| {}) < DRAIN {
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Returns when the programs call because the ring fills up; never without a ring.
async fn filling(ring: Option<&AsyncFd<OwnedFd>>) {
    let Some(ring) = ring else {
        return std::future::pending().await;
    };
    if let Ok(mut ready) = ring.readable().await {
        ready.clear_ready();
    }
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
}

impl Writer {
    fn start(&mut self, live: &Live, kernel: &str) -> Result<Reader> {
        match self.output {
            Output::Text => Ok(Reader::Reading),
            Output::Json => self.json.write(&Line::start(live.now(), &start(live, kernel))),
        }
    }

    fn tick(&mut self, tick: &Tick) -> Result<Reader> {
        if self.output == Output::Text {
            return output::text(&self.table.tick(tick));
        }
        for notice in &tick.notices {
            if self.json.write(&Line::notice(tick.time, notice))? == Reader::Gone {
                return Ok(Reader::Gone);
            }
        }
        self.json.write(&Line::tick(tick))
    }
}
