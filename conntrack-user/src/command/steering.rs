//! What is done to the source between ticks: how many events it sends, and which live entries it reads again.

use std::num::NonZeroU32;

use conntrack_user::{
    model::{
        flows::{DEFAULT_CAP, Flows},
        live_state::READS_PER_SECOND,
        sampling::{Controller, Load},
    },
    source::{ebpf::monotonic_ns, live::Live},
};

/// Between two reads of live entries.
const REREAD_NS: u64 = 1_000_000_000;

/// How many events are wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Wanted {
    /// So many a second.
    Budget(NonZeroU32),
    /// Those of flows below this threshold.
    Threshold(u32),
}

/// Steers a source.
pub(crate) struct Steering {
    /// None: the threshold stays.
    controller: Option<Controller>,
    reread_ns: u64,
}

impl Steering {
    /// Begins.
    pub(crate) fn new(wanted: Wanted, live: &mut Live) -> Self {
        let controller = match wanted {
            Wanted::Budget(budget) => Some(Controller::new(budget)),
            Wanted::Threshold(threshold) => {
                live.set_threshold(threshold);
                None
            }
        };
        Self { controller, reread_ns: monotonic_ns() }
    }

    /// Called about ten times a second, with the live table where there is one.
    pub(crate) fn steer(&mut self, live: &mut Live, flows: Option<&Flows>) {
        let time_ns = monotonic_ns();
        if let (Some(controller), Some(events)) = (&mut self.controller, live.events_so_far()) {
            let load = Load {
                time_ns,
                events: events.seen,
                sampled_out: events.sampled_out,
                lost: events.lost,
                // What the table of flows holds says enough.
                entries: None,
                flows: flows.map_or(0, Flows::len),
                flows_cap: flows.map_or(DEFAULT_CAP, Flows::cap),
            };
            live.set_threshold(controller.observe(&load));
        }
        if let Some(flows) = flows.filter(|_| time_ns - self.reread_ns >= REREAD_NS) {
            self.reread_ns = time_ns;
            live.reread(&flows.choose(READS_PER_SECOND, time_ns));
        }
    }
}
