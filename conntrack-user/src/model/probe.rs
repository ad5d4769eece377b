//! How the kernel programs do.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// A hook at a tick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Its name.
    pub hook: Cow<'static, str>,
    /// Calls that were counted; none where it is not attached, or its programs count nothing.
    pub hits: Option<u64>,
    /// Calls that were not, at most; none where the kernel does not tell.
    pub misses: Option<u64>,
    /// How often and how long its programs ran; none unless it was asked for.
    pub runs: Option<Run>,
}

/// Runs of programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// How often, all copies together.
    pub count: u64,
    /// How long in all, in nanoseconds, without the trampoline or breakpoint.
    pub time_ns: u64,
}
