//! Plan of a command that follows the kernel: source, interval, events and end.

use std::{num::NonZeroU32, time::Duration};

use conntrack_user::source::live;

/// Source, interval, events and end of a command that follows the kernel.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Options for opening the source.
    pub(crate) options: live::Options,
    /// Time between two ticks.
    pub(crate) interval: Duration,
    /// Events to receive.
    pub(crate) wanted: Wanted,
    /// Ticks until the end.
    pub(crate) count: Option<u64>,
    /// Time until the end, counted from the first source.
    pub(crate) for_at_most: Option<Duration>,
    /// Set to wait for the module nf_conntrack.
    pub(crate) wait: bool,
    /// Set to try refused programs again and again.
    pub(crate) tries_again: bool,
}

/// Events to receive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Wanted {
    /// So many a second.
    Budget(NonZeroU32),
    /// Events of the flows whose hash is below this threshold.
    Threshold(u32),
}
