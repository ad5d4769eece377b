//! High-water marks of each network namespace.

use std::{borrow::Cow, fmt};

use prometheus_client::encoding::DescriptorEncoder;

use super::{
    family::{Family, Sample},
    netns::{labelled, one},
};
use crate::daemon::{high_water::HighWater, latest::Latest};

const ENTRIES: Family = Family::gauge(
    "ctmon_entries_high_water",
    "Most entries in the table over the last 75 s, between two ticks too where programs count.",
);
const INSERT_RATE: Family = Family::gauge(
    "ctmon_insert_rate_high_water",
    "Highest rate of inserts in a tick over the last 75 s, a second.",
);

pub(super) const FAMILIES: [Family; 2] = [ENTRIES, INSERT_RATE];

/// Writes them all; of a namespace that has ended, too.
pub(super) fn write(latest: &Latest, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let marks: Vec<(Cow<'_, str>, &HighWater)> = latest
        .apart()
        .filter_map(|netns| Some((netns.id.inode.to_string().into(), latest.high_water(netns.id)?)))
        .collect();
    let entries = |marks: &HighWater| marks.entries().map(Sample::of).into_iter().collect();
    let rate = |marks: &HighWater| one(marks.insert_rate());
    let samples: [fn(&HighWater) -> Vec<Sample<'static>>; 2] = [entries, rate];
    for (family, samples) in FAMILIES.iter().zip(samples) {
        let all: Vec<Sample<'_>> =
            marks.iter().flat_map(|(label, marks)| labelled(samples(marks), label)).collect();
        family.write(encoder, &all)?;
    }
    Ok(())
}
