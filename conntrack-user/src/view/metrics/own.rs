//! What ctmon costs, under the names that all clients of Prometheus have for it.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::family::{Family, Sample};
use crate::daemon::process::Process;

const CPU: Family = Family::counter(
    "process_cpu_seconds",
    "CPU time of the serving process, in the kernel and outside.",
);
const RESIDENT: Family =
    Family::gauge("process_resident_memory_bytes", "Resident memory of the serving process.");
const DESCRIPTORS: Family =
    Family::gauge("process_open_fds", "Open file descriptors of the serving process.");
const STARTED: Family = Family::gauge(
    "process_start_time_seconds",
    "When the serving process was started, in seconds since 1970 UTC.",
);

pub(super) const FAMILIES: [Family; 4] = [CPU, RESIDENT, DESCRIPTORS, STARTED];

/// Writes them all; what cannot be read is left out.
pub(super) fn write(
    process: Option<Process>,
    started_seconds: f64,
    encoder: &mut DescriptorEncoder<'_>,
) -> fmt::Result {
    if let Some(process) = process {
        CPU.write(encoder, &[Sample::of(process.cpu_seconds)])?;
        RESIDENT.write(encoder, &[Sample::of(process.resident_bytes)])?;
        DESCRIPTORS.write(encoder, &[Sample::of(process.descriptors)])?;
    }
    STARTED.write(encoder, &[Sample::of(started_seconds)])
}
