//! A change in a sentence for people.

use super::{Left, Watched};
use crate::{
    forecast::outlook::State,
    model::tick::{Limit, NetnsTick},
    severity::facts::Losses,
    view::{forecast, full, units},
};

/// `netns 4026531840 (host): critical: 81% full (212,345 of 262,144), full in 40 s (25 s to 70 s): tcp arrivals rose`; of a
/// full table facts, and of one without a forecast its free room and growth. `netns`: none of one in which nothing was
/// counted lately.
pub(super) fn of_change(
    left: &Left,
    watched: &Watched,
    inode: u64,
    netns: Option<&NetnsTick>,
) -> String {
    let head = head(left, watched, inode);
    if let Some(full) = netns.and_then(|netns| netns.full) {
        return format!("{head}: {}", full::with_level(&full, watched.entries, watched.limit));
    }
    // A critical table that begins to drop packets, and is not full by its level.
    let head = if left.to == left.from { head + ", and drops packets now" } else { head };
    let is_worse = left.to >= left.from;
    let mut parts: Vec<String> = fill(watched).into_iter().collect();
    let mut reason = None;
    match netns {
        None => parts.push("nothing was counted in it lately".into()),
        Some(netns) if netns.outlook.state == State::Unknown => {
            parts.extend(forecast::room(netns).filter(|_| is_worse));
            reason = Some(format!("; no forecast: {}", netns.outlook.reason));
        }
        Some(netns) => {
            parts.extend(netns.outlook.seconds_to_full.map(forecast::time_to_full));
            reason = Some(format!(": {}", netns.outlook.reason));
        }
    }
    parts.extend(losses(left.losses));
    let reason = reason.filter(|_| is_worse).unwrap_or_default();
    format!("{head}: {}{reason}", parts.join(", "))
}

/// The same of a namespace that is no more.
pub(super) fn of_end(left: &Left, watched: &Watched, inode: u64) -> String {
    let mut parts = vec!["the namespace has ended".to_owned()];
    parts.extend(losses(left.losses));
    format!("{}: {}", head(left, watched, inode), parts.join(", "))
}

/// Namespace and severity; with the severity before and its duration if the table got better.
fn head(left: &Left, watched: &Watched, inode: u64) -> String {
    let name = watched.name.as_ref().map_or_else(String::new, |name| format!(" ({})", name.text));
    let mut text = format!("netns {inode}{name}: {}", left.to.name());
    if left.to < left.from {
        text += &format!(" after {} at {}", units::time(left.seconds), left.from.name());
    }
    text
}

/// How full it is.
fn fill(watched: &Watched) -> Option<String> {
    let entries = watched.entries.at_most();
    match watched.limit {
        Limit::Entries(max) => {
            let entries = entries?;
            let ratio = units::percent(entries as f64 / f64::from(max));
            let (entries, max) = (units::grouped(entries), units::grouped(max.into()));
            Some(format!("{ratio} full ({entries} of {max})"))
        }
        Limit::Unlimited => Some("no limit".into()),
        Limit::Unavailable => None,
    }
}

/// What is known to be lost.
fn losses(losses: Losses) -> Option<String> {
    let some = |count: Option<u64>, one: &str, many: &str, what: &str| {
        let count = count.filter(|count| *count > 0)?;
        Some(format!("{} {what}", units::with_noun(&units::grouped(count), one, many)))
    };
    let dropped =
        some(losses.table_full_drops, "packet", "packets", "dropped because the table was full");
    let evicted = some(losses.early_drops, "entry", "entries", "evicted to make room");
    let parts: Vec<String> = dropped.into_iter().chain(evicted).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
