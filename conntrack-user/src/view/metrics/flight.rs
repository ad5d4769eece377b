//! The flight recorder.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};

use super::family::{Family, Sample};
use crate::daemon::shared::Shared;

const DUMPS: Family = Family::counter(
    "ctmon_flight_dumps",
    "Files of the last minutes that were written, or could not be (outcome written, failed).",
);
const MEMORY: Family =
    Family::gauge("ctmon_flight_memory_bytes", "Bytes of memory that the last minutes take.");
const SECONDS: Family =
    Family::gauge("ctmon_flight_seconds", "Seconds that are kept at full resolution.");

pub(super) const FAMILIES: [Family; 3] = [DUMPS, MEMORY, SECONDS];

#[derive(Debug)]
pub(super) struct Recorder(pub(super) Shared);

impl Collector for Recorder {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(flight) = self.0.flight() else { return Ok(()) };
        let (written, failed) = flight.dumps();
        let dumps = [
            Sample::of(written).with("outcome", "written"),
            Sample::of(failed).with("outcome", "failed"),
        ];
        DUMPS.write(&mut encoder, &dumps)?;
        MEMORY.write(&mut encoder, &[Sample::of(flight.bytes() as u64)])?;
        let seconds = flight.span().map(|(from, to)| {
            let ns = to.monotonic_ns.saturating_sub(from.monotonic_ns);
            Sample::of(ns as f64 / 1e9)
        });
        SECONDS.write(&mut encoder, &Vec::from_iter(seconds))
    }
}
