//! A change in a sentence for people.

use super::{Left, Watched};
use crate::{
    forecast::outlook::Outlook,
    model::tick::Limit,
    severity::facts::Losses,
    view::{forecast, units},
};

/// `netns 4026531840 (host): critical: 81% full (212,345 of 262,144), full in 40 s (25 s to 70 s): tcp arrivals rose`.
/// `outlook`: none of one in which nothing was counted lately.
pub(super) fn of_change(
    left: &Left,
    watched: &Watched,
    inode: u64,
    outlook: Option<&Outlook>,
) -> String {
    let mut parts: Vec<String> = fill(watched).into_iter().collect();
    let when = outlook.and_then(|outlook| outlook.seconds_to_full).map(forecast::full);
    match outlook {
        None => parts.push("nothing was counted in it lately".into()),
        Some(_) => parts.extend(when),
    }
    parts.extend(losses(left.losses));
    let mut text = format!("{}: {}", head(left, watched, inode), parts.join(", "));
    if left.to >= left.from
        && let Some(outlook) = outlook
    {
        text += &format!(": {}", outlook.reason);
    }
    text
}

/// The same of a namespace that is no more.
pub(super) fn of_end(left: &Left, watched: &Watched, inode: u64) -> String {
    let mut parts = vec!["the namespace has ended".to_owned()];
    parts.extend(losses(left.losses));
    format!("{}: {}", head(left, watched, inode), parts.join(", "))
}

/// Namespace and severity; with the severity before and its duration if the table got better, with a note if it got worse
/// within the same severity.
fn head(left: &Left, watched: &Watched, inode: u64) -> String {
    let name = watched.name.as_ref().map_or_else(String::new, |name| format!(" ({})", name.text));
    let mut text = format!("netns {inode}{name}: {}", left.to.name());
    if left.to < left.from {
        text += &format!(" after {} at {}", units::time(left.seconds), left.from.name());
    } else if left.to == left.from {
        text += ", and drops packets now";
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
