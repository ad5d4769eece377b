//! Bounds on what one item may say. Reader and writer have the same ones, so that what is written can be read.

use crate::{
    model::bounds::{self, CPUS, EVENTS},
    source::item::Item,
};

/// Checks an item against the bounds of a recording.
///
/// # Errors
/// The bound that is not kept.
pub(super) fn check(item: &Item) -> Result<(), String> {
    match item {
        Item::Start(start) if start.cpus > CPUS => {
            Err(format!("{} CPUs, more than {CPUS}", start.cpus))
        }
        Item::Start(start) => bounds::time(start.time),
        Item::Notice(notice) => bounds::time(notice.time),
        Item::Threshold(set) => bounds::time(set.time),
        Item::Reading(_, reading) => bounds::reading(reading),
        Item::Standing(standing) => bounds::standing(standing),
        Item::Flows(flows) if flows.events.len() > EVENTS => {
            Err(format!("{} events at once, more than {EVENTS}", flows.events.len()))
        }
        Item::Flows(_) => Ok(()),
    }
}
