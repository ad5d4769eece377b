//! What a source tells, in the order in which it does: the model needs nothing else, so whatever tells
//! the same again leads to the same answers.

use serde::{Deserialize, Serialize};

use super::{
    Lost,
    ebpf::plan::{HookReport, State},
};
use crate::model::{
    flow::FlowEvent,
    reading::{NetnsId, Reading, Time},
};

/// One thing that a source tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// It was opened: the model begins anew.
    Start(Start),
    /// What was read.
    Reading(Use, Box<Reading>),
    /// What came through the ring buffer since the item before.
    Flows(Flows),
    /// Something that is said once.
    Notice(Notice),
}

/// What a reading is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// For the baselines only; before the first one of the other kinds.
    Settle,
    /// It is what the first tick is compared with, and not shown itself.
    First,
    /// A tick.
    Tick,
}

/// A source that was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// When.
    pub time: Time,
    /// CPUs of the machine.
    pub cpus: u32,
    /// What it is.
    pub origin: Origin,
}

/// What a source is, and what it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Release of the running kernel.
    pub kernel: String,
    /// `ebpf` or `procfs`.
    pub source: String,
    /// How each hook is attached.
    pub hooks: Vec<Hook>,
    /// What cannot be told, and why.
    pub unavailable: Vec<Lost>,
}

/// How a hook is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Its name.
    pub hook: String,
    /// The kernel's function.
    pub function: String,
    /// How it stands.
    pub state: State,
    /// The way it is attached, in words.
    pub attached_via: Option<String>,
    /// Why it is not.
    pub reason: Option<String>,
}

impl From<&HookReport> for Hook {
    fn from(report: &HookReport) -> Self {
        Self {
            hook: report.hook.name().into(),
            function: report.hook.function().into(),
            state: report.state(),
            attached_via: report.outcome.as_ref().ok().map(ToString::to_string),
            reason: report.outcome.as_ref().err().map(|error| error.reason.clone()),
        }
    }
}

/// Events of flows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flows {
    /// What to add to an event's time for nanoseconds since 1970 UTC, as it was then.
    pub utc_offset_ns: i64,
    /// The events, as they came out of the ring buffer.
    pub events: Vec<NetnsFlow>,
}

/// An event, and its namespace as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetnsFlow {
    /// The namespace; inode 0 where it is not known any more.
    pub netns: NetnsId,
    /// The event.
    pub flow: FlowEvent,
}

impl Flows {
    /// The time of `flow` in nanoseconds since 1970 UTC.
    #[must_use]
    pub const fn unix_ns(&self, flow: &FlowEvent) -> u64 {
        flow.time_ns.saturating_add_signed(self.utc_offset_ns)
    }
}

/// Something that is said once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// When.
    pub time: Time,
    /// A sentence.
    pub text: String,
}
