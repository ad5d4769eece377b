//! One file a subcommand: thin shells around the source, the model and the views.

pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod output;
pub(crate) mod shutdown;
pub(crate) mod status;
pub(crate) mod steering;
pub(crate) mod watch;

use std::time::{Duration, Instant};

use conntrack_user::{
    forecast::growth::Growth,
    model::monitor::Monitor,
    source::live::{Live, Purpose},
    view::json::{Hook, Start},
};

/// How long the baseline may take at the start; after that it settles from tick to tick.
const SETTLE: Duration = Duration::from_millis(500);
/// Between two reads for it: long enough for a pre-empted task to go on.
const SETTLE_STEP: Duration = Duration::from_millis(10);

/// A model for this machine.
fn new_monitor() -> Monitor {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Monitor::new(cpus as u32, || Box::new(Growth::default()))
}

/// Reads until the baseline of every namespace is settled, or for [`SETTLE`] at the most.
async fn settle(live: &mut Live, monitor: &mut Monitor) {
    let started = Instant::now();
    loop {
        monitor.settle(&live.read(Purpose::Settle));
        if monitor.is_settled() || started.elapsed() >= SETTLE {
            return;
        }
        tokio::time::sleep(SETTLE_STEP).await;
    }
}

/// What is said once about the source.
fn start<'a>(live: &'a Live, kernel: &'a str) -> Start<'a> {
    Start {
        kernel,
        source: live.name(),
        hooks: live.hooks().iter().map(Hook::from).collect(),
        unavailable: live.lost(),
    }
}

/// Release of the running kernel.
fn kernel_release(procfs: &std::path::Path) -> String {
    let path = procfs.join("sys/kernel/osrelease");
    std::fs::read_to_string(path).map_or_else(|_| "unknown".into(), |text| text.trim().into())
}
