//! Facts about a full table in words and as JSON.

use serde::Serialize;

use super::{forecast::rounded, units};
use crate::model::{
    evictable::Evictable,
    full::{Full, Loss},
    tick::{Entries, Limit},
};

/// Seconds after which a time of day needs its date.
const NEEDS_DATE_SECS: f64 = 43_200.0;

/// Facts about a full table in JSON, null while it is not full; docs/json.md says what each field means.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Json {
    pub(super) full_since_ns: Option<u64>,
    pub(super) full_seconds: Option<f64>,
    pub(super) full_at_start: Option<bool>,
    pub(super) table_full_drop_rate: Option<f64>,
    pub(super) table_full_drops_since_ns: Option<u64>,
    pub(super) early_drop_rate: Option<f64>,
}

/// The facts in JSON.
#[must_use]
pub fn json(full: Option<&Full>) -> Json {
    full.map_or_else(Json::default, |full| Json {
        full_since_ns: Some(full.since.unix_ns),
        full_seconds: rounded(full.seconds),
        full_at_start: Some(full.at_start),
        table_full_drop_rate: full.table_full_drops.rate.and_then(rounded),
        table_full_drops_since_ns: full.table_full_drops.since.map(|since| since.unix_ns),
        early_drop_rate: full.early_drops.rate.and_then(rounded),
    })
}

/// How long it is full, and what it loses: `full for 41 s, drops 12 packets/s and evicts 30 entries/s`.
#[must_use]
pub fn facts(full: &Full) -> String {
    let duration = match full.seconds {
        ..1.0 => "full now".to_owned(),
        seconds if full.at_start => format!("full for at least {}", units::time(seconds)),
        seconds => format!("full for {}", units::time(seconds)),
    };
    format!("{duration}, {}", losses(full))
}

/// The facts and the level: `...: 5,000 of 5,000 entries`.
#[must_use]
pub fn with_level(full: &Full, entries: Entries, limit: Limit) -> String {
    let level = level(entries, limit).map_or_else(String::new, |level| format!(": {level}"));
    facts(full) + &level
}

/// `4,950 of 5,000 entries`; none where one of them is not available or there is no limit.
#[must_use]
pub fn level(entries: Entries, limit: Limit) -> Option<String> {
    let Limit::Entries(max) = limit else { return None };
    let entries = units::grouped(entries.at_most()?);
    Some(format!("{entries} of {} entries", units::grouped(max.into())))
}

/// When it became full, and since when it drops packets: `since 18:42:29 UTC, packets dropped since 18:43:02 UTC`.
#[must_use]
pub fn since(full: &Full) -> String {
    let at = |unix_ns: u64| {
        let text = units::clock(unix_ns);
        let text = match text.split_once(' ') {
            Some((_, time)) if full.seconds < NEEDS_DATE_SECS => time,
            _ => &text,
        };
        format!("{text} UTC")
    };
    let before = if full.at_start { " or before" } else { "" };
    let mut text = format!("full since {}{before}", at(full.since.unix_ns));
    match full.table_full_drops.since {
        None => (),
        Some(since) if since == full.since => text += ", packets dropped since then",
        Some(since) => text += &format!(", packets dropped since {}", at(since.unix_ns)),
    }
    text
}

/// What is known of evictable entries: `can be evicted: 1,630 entries (1,500 to 1,750), unknown for 3,000`; none where
/// nothing is.
#[must_use]
pub fn evictable(evictable: &Evictable) -> Option<String> {
    let unknown = evictable.unknown?;
    let grouped = units::grouped(unknown);
    let Some(entries) = evictable.entries else {
        let entries = units::with_noun(&grouped, "entry", "entries");
        return Some(format!("can be evicted: unknown for {entries}"));
    };
    let [low, value, high] = [entries.low, entries.value, entries.high].map(units::about);
    let noun = units::with_noun(&value, "entry", "entries");
    let interval = match low == value && high == value {
        true => String::new(),
        false => format!(" ({low} to {high})"),
    };
    let unknown = if unknown > 0 { format!(", unknown for {grouped}") } else { String::new() };
    Some(format!("can be evicted: {noun}{interval}{unknown}"))
}

fn losses(full: &Full) -> String {
    let some = |loss: Loss, verb: &str, one: &str, many: &str| match loss.rate {
        Some(rate) if rate > 0.0 => {
            Some(format!("{verb} {}", units::with_noun(&units::rate(rate), one, many)))
        }
        None if loss.since.is_some() => Some(format!("{verb} {}", many.trim_end_matches("/s"))),
        _ => None,
    };
    let drops = some(full.table_full_drops, "drops", "packet/s", "packets/s");
    let evictions = some(full.early_drops, "evicts", "entry/s", "entries/s");
    let is_zero = |loss: Loss| loss.rate == Some(0.0);
    match (drops, evictions) {
        (Some(drops), Some(evictions)) => format!("{drops} and {evictions}"),
        (Some(drops), None) if is_zero(full.early_drops) => format!("{drops}, evicts nothing"),
        (None, Some(evictions)) if is_zero(full.table_full_drops) => {
            format!("{evictions}, drops nothing")
        }
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) if is_zero(full.table_full_drops) => "nothing dropped or evicted".to_owned(),
        (None, None) => "drops and evictions are not counted".to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{estimate::Estimate, reading::Time};

    const SECOND: u64 = 1_000_000_000;

    pub(crate) fn loss(rate: f64) -> Loss {
        let since = Time { monotonic_ns: 30 * SECOND, unix_ns: 1_764_000_030 * SECOND };
        Loss { rate: Some(rate), since: (rate > 0.0).then_some(since) }
    }

    /// Full for 41 s.
    pub(crate) fn full(drops: f64, evictions: f64) -> Full {
        Full {
            since: Time { monotonic_ns: 0, unix_ns: 1_764_000_000 * SECOND },
            seconds: 41.3,
            at_start: false,
            table_full_drops: loss(drops),
            early_drops: loss(evictions),
        }
    }

    #[test]
    fn a_sentence_says_how_long_and_what_is_lost() {
        let none = Loss::default();
        let begun = Loss { rate: None, ..loss(1.0) };
        let cases = [
            (full(12.0, 30.0), "full for 41 s, drops 12 packets/s and evicts 30 entries/s"),
            (full(1.0, 0.25), "full for 41 s, drops 1 packet/s and evicts 0.2 entries/s"),
            (full(1234.0, 0.0), "full for 41 s, drops 1.2k packets/s, evicts nothing"),
            (full(0.0, 30.4), "full for 41 s, evicts 30 entries/s, drops nothing"),
            (full(0.0, 0.0), "full for 41 s, nothing dropped or evicted"),
            (
                Full { table_full_drops: none, ..full(0.0, 3.0) },
                "full for 41 s, evicts 3 entries/s",
            ),
            (
                Full { table_full_drops: none, early_drops: none, ..full(0.0, 0.0) },
                "full for 41 s, drops and evictions are not counted",
            ),
            (
                Full { table_full_drops: begun, seconds: 0.0, at_start: true, ..full(0.0, 0.0) },
                "full now, drops packets, evicts nothing",
            ),
            (
                Full { at_start: true, ..full(12.0, 30.0) },
                "full for at least 41 s, drops 12 packets/s and evicts 30 entries/s",
            ),
        ];
        for (full, expected) in cases {
            assert_eq!(facts(&full), expected);
        }
        let level = with_level(&full(12.0, 30.0), Entries::Exact(5000), Limit::Entries(5000));
        assert_eq!(
            level,
            "full for 41 s, drops 12 packets/s and evicts 30 entries/s: 5,000 of 5,000 entries"
        );
    }

    #[test]
    fn times_of_day_have_their_date_when_they_need_it() {
        let one = full(12.0, 0.0);
        assert_eq!(since(&one), "full since 16:00:00 UTC, packets dropped since 16:00:30 UTC");
        assert_eq!(since(&full(0.0, 3.0)), "full since 16:00:00 UTC");
        let at_once = Loss { since: Some(one.since), ..loss(12.0) };
        let at_once = Full { table_full_drops: at_once, ..one };
        assert_eq!(since(&at_once), "full since 16:00:00 UTC, packets dropped since then");
        let long = Full { seconds: 90_000.0, at_start: true, ..full(0.0, 0.0) };
        assert_eq!(since(&long), "full since 2025-11-24 16:00:00 UTC or before");
    }

    #[test]
    fn unknown_is_said_to_be_unknown() {
        let text = |entries, unknown| evictable(&Evictable { entries, unknown });
        let some = Estimate { value: 1630.0, low: 1502.0, high: 1748.0 };
        assert_eq!(text(None, None), None);
        let cases = [
            ((None, 3000), "can be evicted: unknown for 3,000 entries"),
            ((None, 1), "can be evicted: unknown for 1 entry"),
            ((Some(some), 0), "can be evicted: 1,630 entries (1,500 to 1,750)"),
            (
                (Some(some), 3000),
                "can be evicted: 1,630 entries (1,500 to 1,750), unknown for 3,000",
            ),
            ((Some(Estimate::exact(0.0)), 0), "can be evicted: 0 entries"),
            ((Some(Estimate::exact(1.0)), 0), "can be evicted: 1 entry"),
        ];
        for ((entries, unknown), expected) in cases {
            assert_eq!(text(entries, Some(unknown)).as_deref(), Some(expected));
        }
    }

    #[test]
    fn json_is_null_while_it_is_not_full() {
        let nothing = serde_json::to_value(json(None)).unwrap();
        assert!(nothing.as_object().unwrap().values().all(serde_json::Value::is_null));
        let expected = serde_json::json!({
            "full_since_ns": 1_764_000_000_000_000_000_u64,
            "full_seconds": 41.3,
            "full_at_start": false,
            "table_full_drop_rate": 12.0,
            "table_full_drops_since_ns": 1_764_000_030_000_000_000_u64,
            "early_drop_rate": 0.0,
        });
        assert_eq!(serde_json::to_value(json(Some(&full(12.0, 0.0)))).unwrap(), expected);
    }
}
