//! Why a forecast says what it says, in a line for people.

use super::{
    arrivals::Rate,
    coming::Coming,
    outlook::{IS_FULL, State, SteadyState},
};
use crate::model::class::Protocol;

/// A rate is another one than before when it is by this factor higher or lower.
const CHANGED: f64 = 1.3;

/// The line.
pub(super) fn text(
    state: State,
    now: f64,
    max: Option<f64>,
    coming: &Coming,
    steady_state: Option<SteadyState>,
) -> String {
    let arrivals = arrivals(coming);
    if state == State::Full {
        // Where it would settle is no matter of a full table.
        return arrivals.unwrap_or_else(|| IS_FULL.to_owned());
    }
    let mut text = arrivals.unwrap_or_else(|| "arrivals stay as they are".to_owned());
    if let Some(steady_state) = steady_state {
        let verb = if max.is_some_and(|max| steady_state.level >= max) {
            "would settle"
        } else {
            "settles"
        };
        text += &format!("; the table {verb} at {}", number(steady_state.level));
    } else if state == State::Filling {
        text += "; the table grows without an end in sight";
    }
    match max {
        Some(max) => text += &format!(", now {}, max {}", number(now), number(max)),
        None => text += &format!(", now {}, no limit", number(now)),
    }
    text
}

/// What is new of arrivals, or recurs; none where they stay as they are.
fn arrivals(coming: &Coming) -> Option<String> {
    let of_each = Protocol::ALL.into_iter().zip(&coming.rates).zip(&coming.recurring);
    let changed = of_each
        .filter_map(|((protocol, rate), recurring)| {
            let rate = rate.as_ref()?;
            Some((change(rate)?, protocol.name(), rate, recurring.as_ref()))
        })
        .max_by(|(one, ..), (other, ..)| one.abs().total_cmp(&other.abs()));
    let (by, name, rate, recurring) = changed?;
    let level = number(rate.level);
    let since = rate.since.round();
    Some(if let Some(recurring) = recurring {
        format!("{name} arrivals come and go every {} s, now {level}/s", recurring.every)
    } else if rate.slope == 0.0 {
        let verb = if by > 0.0 { "rose" } else { "fell" };
        let before = number(rate.before.unwrap_or(0.0));
        format!("{name} arrivals {verb} from {before}/s to {level}/s {since} s ago")
    } else {
        let verb = if rate.slope > 0.0 { "rise" } else { "fall" };
        let slope = number(rate.slope.abs() * 60.0);
        format!("{name} arrivals {verb} by {slope}/s each minute since {since} s, to {level}/s")
    })
}

/// By how many a second arrivals are more than they were; none where they are about the same.
fn change(rate: &Rate) -> Option<f64> {
    let before = rate.before?;
    let ratio = (rate.level + 1.0) / (before + 1.0);
    (!(1.0 / CHANGED..CHANGED).contains(&ratio)).then_some(rate.level - before)
}

/// Share of a table's entries from which on held entries are named.
const HELD_SHARE: f64 = 0.1;

/// Names entries that something holds outside of the hash, where they are many of the `entries` of a table. `unhashed`: those
/// allocated and not hashed; `dying`: those deleted and not freed; none: not held, or not known.
pub(crate) fn held(entries: u64, unhashed: Option<i64>, dying: Option<i64>) -> Option<String> {
    let least = (entries as f64 * HELD_SHARE).max(1.0);
    let many = |count: Option<i64>| count.map(|count| count as f64).filter(|count| *count >= least);
    let unhashed = many(unhashed)
        .map(|n| format!("{} entries are allocated and not in the table: packets wait", number(n)));
    let dying = many(dying).map(|n| {
        format!("{} entries are deleted and not freed: they count until they are", number(n))
    });
    let named: Vec<String> = unhashed.into_iter().chain(dying).collect();
    (!named.is_empty()).then(|| named.join("; "))
}

/// With three digits or in full.
fn number(value: f64) -> String {
    if value >= 999_500.0 {
        return format!("{:.2} M", value / 1e6);
    }
    let whole = value.round().max(0.0) as u64;
    let text = whole.to_string();
    match text.len() {
        0..=3 => text,
        len => format!("{},{}", &text[..len - 3], &text[len - 3..]),
    }
}
