//! What a source tells, in the order in which it does: the model needs nothing else, so whatever tells
//! the same again leads to the same answers.

use serde::{Deserialize, Serialize};

use super::{
    Unavailable,
    ebpf::plan::{HookReport, State},
};
use crate::model::{
    bounds::{self, at_most},
    flow::FlowEvent,
    monitor::Standing,
    probe::Probe,
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
    /// Events are sent of other flows from now on.
    Threshold(Threshold),
    /// Something that is said once.
    Notice(Notice),
    /// What the model had when a recording began that does not begin with its source.
    Standing(Box<Standing>),
}

impl Item {
    /// When it was; none for events, each of which has its own time.
    #[must_use]
    pub fn time(&self) -> Option<Time> {
        match self {
            Self::Start(start) => Some(start.time),
            Self::Reading(_, reading) => Some(reading.time),
            Self::Threshold(threshold) => Some(threshold.time),
            Self::Notice(notice) => Some(notice.time),
            Self::Standing(standing) => standing.time(),
            Self::Flows(_) => None,
        }
    }
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
    #[serde(alias = "kernel")]
    pub kernel_release: String,
    /// `ebpf` or `procfs`.
    pub source: String,
    /// Since when everything is counted, in nanoseconds since 1970 UTC; none where nothing is. Before the source was
    /// opened where it went on with programs that were pinned.
    #[serde(default)]
    pub counting_since_ns: Option<u64>,
    /// Bytes of memory that the kernel programs' maps take, as the kernel accounts it; none where that is not known.
    #[serde(default, alias = "map_memory_bytes")]
    pub bpf_map_memory_bytes: Option<u64>,
    /// How each hook is attached.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::HOOKS }>")]
    pub hooks: Vec<Hook>,
    /// Numbers that are not available, with their reasons.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::HOOKS }>")]
    pub unavailable: Vec<Unavailable>,
}

#[cfg(test)]
impl Origin {
    /// Programs of which nothing else is known.
    pub(crate) fn example() -> Self {
        Self {
            kernel_release: "6.12.1".into(),
            source: "ebpf".into(),
            counting_since_ns: None,
            bpf_map_memory_bytes: None,
            hooks: vec![],
            unavailable: vec![],
        }
    }
}

/// How a hook is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Its name.
    #[serde(rename = "hook")]
    pub name: String,
    /// The kernel's function.
    pub function: String,
    /// How it stands.
    pub state: State,
    /// The way it is attached, in words.
    pub attached_via: Option<String>,
    /// Why it is not.
    pub reason: Option<String>,
    /// What is counted wrong although it is attached; none: nothing is.
    #[serde(default)]
    pub not_exact: Option<String>,
}

impl From<&HookReport> for Hook {
    fn from(report: &HookReport) -> Self {
        Self {
            name: report.hook.name().into(),
            function: report.function(),
            state: report.state(),
            attached_via: report.outcome.as_ref().ok().map(ToString::to_string),
            reason: report.outcome.as_ref().err().map(|error| error.reason.clone()),
            not_exact: report.not_exact.clone(),
        }
    }
}

/// A hook, and how its programs do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbedHook {
    /// How it is attached.
    #[serde(flatten)]
    pub hook: Hook,
    /// Calls that were counted; none where it is not attached, or its programs count nothing.
    pub hits: Option<u64>,
    /// Calls that were not, at most; none where the kernel does not tell.
    pub misses: Option<u64>,
    /// How often its programs ran; none unless it was asked for.
    pub runs: Option<u64>,
    /// How long in all, in nanoseconds.
    pub run_time_ns: Option<u64>,
}

impl ProbedHook {
    /// `hook`, with what is said of it among `probes`.
    #[must_use]
    pub fn new(hook: Hook, probes: &[Probe]) -> Self {
        let probe = probes.iter().find(|probe| probe.hook == hook.name);
        let runs = probe.and_then(|probe| probe.runs);
        Self {
            hook,
            hits: probe.and_then(|probe| probe.hits),
            misses: probe.and_then(|probe| probe.misses),
            runs: runs.map(|runs| runs.count),
            run_time_ns: runs.map(|runs| runs.time_ns),
        }
    }
}

/// A threshold that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Threshold {
    /// When; just before.
    pub time: Time,
    /// Entries whose hash is below it are in the sample.
    pub threshold: u32,
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
