//! What another monitor needs to go on where one is.

use serde::{Deserialize, Serialize};

use super::{Detail, Monitor, NetnsId, State, Time};
use crate::model::bounds::{self, at_most};

/// What a monitor has learnt of each namespace from all readings before, as far as counts, rates, limits and drift
/// follow from it. Not in it: single flows, and what forecasts have learnt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    last: Option<Time>,
    overflow_said: bool,
    /// Entries whose hash is below it are in the sample; none: no events come.
    threshold: Option<u32>,
    #[serde(deserialize_with = "at_most::<_, _, { bounds::NETNS }>")]
    netns: Vec<(NetnsId, State)>,
}

impl Standing {
    /// When the last reading was that a tick can be compared with; none before there was one.
    #[must_use]
    pub const fn time(&self) -> Option<Time> {
        self.last
    }

    /// The namespaces in it.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = NetnsId> {
        self.netns.iter().map(|(id, _)| *id)
    }
}

impl Monitor {
    /// What it has learnt.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let mut netns: Vec<_> = self.netns.iter().map(|(id, state)| (*id, state.clone())).collect();
        netns.sort_unstable_by_key(|(id, _)| *id);
        Standing {
            last: self.last,
            overflow_said: self.overflow_said,
            threshold: self.flows().map(super::Flows::threshold),
            netns,
        }
    }

    /// Goes on where another one was. To be told before anything else.
    pub fn resume(&mut self, standing: &Standing) {
        self.last = standing.last;
        self.overflow_said = standing.overflow_said;
        self.netns = standing.netns.iter().cloned().collect();
        let now_ns = self.last.map_or(0, |last| last.monotonic_ns);
        self.detail = standing.threshold.map(|threshold| {
            let mut detail = Detail::new(now_ns);
            detail.observe_threshold(threshold, now_ns);
            detail
        });
    }
}
