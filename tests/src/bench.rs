//! What a measurement says, from the program in the VM to `cargo xtask bench`.

use serde::{Deserialize, Serialize};

/// A monitor in a round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Which monitor.
    pub case: String,
    /// Which round, from 0.
    pub round: u32,
    /// Flows that were opened, and flushed afterwards.
    pub flows: u64,
    /// What came out.
    pub outcome: Outcome,
}

/// What came out of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Numbers.
    Measured(Run),
    /// The monitor does not run here, and why.
    Unavailable(String),
}

/// The numbers of a measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// How long it took to open the flows.
    pub seconds: f64,
    /// How long `conntrack -F` took.
    pub flush_seconds: f64,
    /// CPU time of the monitor's process while flows were opened and shortly after, in nanoseconds.
    pub cpu_ns: u64,
    /// Its resident memory afterwards, in KiB.
    pub resident_kib: u64,
    /// Inserts and deletes that it saw, of twice as many as flows.
    pub seen: Option<u64>,
    /// What the kernel says of its programs, where it timed them.
    pub hooks: Vec<HookTime>,
}

/// The programs of a hook.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HookTime {
    /// Which hook.
    pub hook: String,
    /// Runs of its programs, each copy counted.
    pub count: u64,
    /// How long they took in all, in nanoseconds.
    pub time_ns: u64,
}
