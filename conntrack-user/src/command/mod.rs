//! One file a subcommand: thin shells around the source, the model and the views.

pub(crate) mod backtest;
mod busy;
mod create;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod export;
pub(crate) mod follow;
pub(crate) mod output;
pub(crate) mod probe;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod room;
pub(crate) mod serve;
mod show;
pub(crate) mod shutdown;
pub(crate) mod status;
pub(crate) mod steering;
pub(crate) mod watch;

use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use conntrack_user::{
    file,
    model::reading::Reading,
    source::{
        Unavailable, clean,
        item::{Hook, Origin, Start},
        live::{Live, Purpose},
    },
};

/// How long the baseline may take at the start; after that it settles from tick to tick.
const SETTLE: Duration = Duration::from_millis(500);
/// Between two reads for it: long enough for a pre-empted task to go on.
const SETTLE_STEP: Duration = Duration::from_millis(10);

/// Reads until every baseline is settled, as `take` says, or for [`SETTLE`] at the most.
async fn settle(live: &mut Live, mut take: impl FnMut(Reading) -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    while !take(live.read(Purpose::Settle))? && started.elapsed() < SETTLE {
        tokio::time::sleep(SETTLE_STEP).await;
    }
    Ok(())
}

/// What is said of what the source cannot tell.
fn lost(live: &Live) -> impl Iterator<Item = String> {
    let source = live.name();
    live.lost().iter().map(move |Unavailable { what, reason }| {
        format!("source {source}; not available: {what}, because {reason}")
    })
}

/// What is said once about the source.
fn start(live: &Live, kernel: &str) -> Start {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut start = Start {
        time: live.now(),
        cpus: cpus as u32,
        origin: Origin {
            kernel_release: kernel.into(),
            source: live.name().into(),
            counting_since_ns: live.counting_since_ns(),
            bpf_map_memory_bytes: live.bpf_map_memory_bytes(),
            hooks: live.hooks().iter().map(Hook::from).collect(),
            unavailable: live.lost().to_vec(),
        },
    };
    clean::start(&mut start);
    start
}

/// Nanoseconds since 1970 UTC.
fn now_ns() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos() as u64)
}

/// Release of the running kernel.
fn kernel_release(procfs: &std::path::Path) -> String {
    let path = procfs.join("sys/kernel/osrelease");
    file::read_text(&path, file::KERNEL)
        .map_or_else(|_| "unknown".into(), |text| text.trim().into())
}
