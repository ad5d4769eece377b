//! What is done to the source between ticks: how many events it sends, and which live entries it reads again.

use conntrack_user::{
    model::{
        flows::{DEFAULT_CAP, Flows},
        live_state::READS_PER_SECOND,
        sampling::{Controller, Load},
    },
    source::{ebpf::monotonic_ns, item::Threshold, live::Live},
};

use crate::cli::Wanted;

/// Between two reads of live entries.
const REREAD_NS: u64 = 1_000_000_000;

/// Steers a source.
pub(crate) struct Steering {
    /// None: the threshold stays.
    controller: Option<Controller>,
    reread_ns: u64,
}

impl Steering {
    /// Begins.
    ///
    /// With it what is to be told of the threshold.
    pub(crate) fn new(wanted: Wanted, live: &mut Live) -> (Self, Option<Threshold>) {
        let mut set = None;
        let controller = match wanted {
            Wanted::Budget(budget) => Some(Controller::new(budget)),
            Wanted::Threshold(threshold) => {
                set = live.set_threshold(threshold);
                None
            }
        };
        (Self { controller, reread_ns: monotonic_ns() }, set)
    }

    /// Called about ten times a second, with the live table where there is one. Returns what is to be told of
    /// the threshold: no event may come while one is in force that lasts for a moment only.
    #[must_use]
    pub(crate) fn steer(&mut self, live: &mut Live, flows: Option<&Flows>) -> Option<Threshold> {
        let mut set = None;
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
            set = live.set_threshold(controller.observe(&load));
        }
        if let Some(flows) = flows.filter(|_| time_ns - self.reread_ns >= REREAD_NS) {
            self.reread_ns = time_ns;
            live.reread(&flows.choose(READS_PER_SECOND, time_ns));
        }
        set
    }
}
