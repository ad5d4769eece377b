//! What the commands that follow the kernel are to do.

use std::{num::NonZeroU32, time::Duration};

use conntrack_user::source::live;

/// What is followed, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// How the source is opened.
    pub(crate) options: live::Options,
    /// Time between two ticks.
    pub(crate) interval: Duration,
    /// How many events are wanted.
    pub(crate) wanted: Wanted,
    /// Ticks until the end.
    pub(crate) count: Option<u64>,
    /// Time until the end, counted from the first source.
    pub(crate) for_at_most: Option<Duration>,
    /// Whether the module nf_conntrack is waited for.
    pub(crate) wait: bool,
    /// Whether programs that the kernel does not take are tried again and again.
    pub(crate) tries_again: bool,
}

/// How many events are wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Wanted {
    /// So many a second.
    Budget(NonZeroU32),
    /// Those of flows below this threshold.
    Threshold(u32),
}
