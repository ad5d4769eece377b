//! What becomes of a table: as JSON, as a cell of a table, and in a few lines.

use anstyle::Style;
use serde::Serialize;

use super::{
    full,
    style::{self, DIM},
    units,
};
use crate::{
    forecast::outlook::{HORIZON, IS_FULL, Outlook, Quantiles, State, SteadyState},
    model::tick::{Limit, NetnsTick},
    severity::{self, Thresholds},
};

/// Columns that a line may have, and by how many it is indented.
const WIDTH: usize = 80;
const INDENT: &str = "  ";

/// Entries a second below which a table is not growing.
const STILL: f64 = 0.05;

/// A forecast in JSON; docs/json.md says what each field means.
#[derive(Debug, Serialize)]
pub struct Json<'a> {
    state: &'static str,
    seconds_to_full: Option<Percentiles<Option<f64>>>,
    full_probability: Option<Within>,
    seconds_to_first_drop: Option<Percentiles<Option<f64>>>,
    evictable_entries: Option<u64>,
    evictable_entries_low: Option<u64>,
    evictable_entries_high: Option<u64>,
    evictable_unknown_entries: Option<u64>,
    steady_state: Option<Settled>,
    entries_in_60s: Option<Ahead>,
    timeouts_known: bool,
    reason: &'a str,
}

#[derive(Debug, Serialize)]
struct Percentiles<T> {
    p10: T,
    p50: T,
    p90: T,
}

#[derive(Debug, Serialize)]
struct Ahead {
    #[serde(rename = "p2_5")]
    least: Option<u64>,
    #[serde(flatten)]
    percentiles: Percentiles<u64>,
    #[serde(rename = "p97_5")]
    most: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Within {
    #[serde(rename = "1m")]
    one_minute: f64,
    #[serde(rename = "5m")]
    five_minutes: f64,
    #[serde(rename = "15m")]
    fifteen_minutes: f64,
    #[serde(rename = "1h")]
    one_hour: f64,
}

#[derive(Debug, Serialize)]
struct Settled {
    entries: u64,
    seconds: f64,
}

/// The forecast of a namespace's table in JSON.
#[must_use]
pub fn json(netns: &NetnsTick) -> Json<'_> {
    let outlook = &netns.outlook;
    let settled = |steady_state: SteadyState| {
        Some(Settled {
            entries: entries(steady_state.level)?,
            seconds: rounded(steady_state.seconds)?,
        })
    };
    let ahead = |of: Quantiles<f64>| {
        let (p10, p50, p90) = (entries(of.low)?, entries(of.median)?, entries(of.high)?);
        let end = |at: usize| outlook.entries_in_60s_95.and_then(|ends| entries(ends[at]));
        Some(Ahead { least: end(0), percentiles: Percentiles { p10, p50, p90 }, most: end(1) })
    };
    let evictable = netns.evictable.entries;
    Json {
        state: name(outlook.state),
        seconds_to_full: outlook.seconds_to_full.and_then(times),
        full_probability: outlook.full_probability.and_then(within),
        seconds_to_first_drop: outlook.seconds_to_first_drop.and_then(times),
        evictable_entries: evictable.and_then(|of| entries(of.value)),
        evictable_entries_low: evictable.and_then(|of| entries(of.low)),
        evictable_entries_high: evictable.and_then(|of| entries(of.high)),
        evictable_unknown_entries: netns.evictable.unknown,
        steady_state: outlook.steady_state.and_then(settled),
        entries_in_60s: outlook.entries_in_60s.and_then(ahead),
        timeouts_known: netns.timeouts_known,
        reason: &outlook.reason,
    }
}

/// The state as JSON and metrics name it.
#[must_use]
pub const fn name(state: State) -> &'static str {
    match state {
        State::Unknown => "not_enough_data",
        State::Steady => "steady",
        State::Filling => "filling",
        State::Draining => "draining",
        State::Full => "full",
    }
}

/// None where one of them is no number: a null among them says that it lies beyond the horizon.
fn times(of: Quantiles<Option<f64>>) -> Option<Percentiles<Option<f64>>> {
    let time = |time: Option<f64>| match time {
        Some(time) => rounded(time).map(Some),
        None => Some(None),
    };
    Some(Percentiles { p10: time(of.low)?, p50: time(of.median)?, p90: time(of.high)? })
}

fn within(probabilities: [f64; 4]) -> Option<Within> {
    let [one_minute, five_minutes, fifteen_minutes, one_hour] = probabilities.map(rounded_down);
    Some(Within {
        one_minute: one_minute?,
        five_minutes: five_minutes?,
        fifteen_minutes: fifteen_minutes?,
        one_hour: one_hour?,
    })
}

/// With three decimals, which no forecast has more of; none where it is no number.
pub(super) fn rounded(value: f64) -> Option<f64> {
    value.is_finite().then(|| (value * 1e3).round() / 1e3)
}

/// A share of 1 with three decimals, rounded down as [`units::percent`] is: no number looks as if a threshold were reached
/// that is not. None where it is no number.
pub(super) fn rounded_down(share: f64) -> Option<f64> {
    // 0.57 * 1000 is a little less than 570.
    share.is_finite().then(|| (share * 1e3 + 1e-9).floor() / 1e3)
}

fn entries(value: f64) -> Option<u64> {
    value.is_finite().then(|| value.round().max(0.0) as u64)
}

/// The median of the time until it is full in seconds: 0 where it is full, none where it is not expected to be.
#[must_use]
pub fn seconds_to_full(outlook: &Outlook) -> Option<f64> {
    match outlook.state {
        State::Full => Some(0.0),
        _ => outlook.seconds_to_full?.median.and_then(rounded),
    }
}

/// The same in at most six characters.
pub(super) fn cell(netns: &NetnsTick, thresholds: &Thresholds) -> (String, Style) {
    let style = style::of(severity::of_forecast(netns, thresholds));
    let text = match (seconds_to_full(&netns.outlook), netns.limit) {
        (_, Limit::Unlimited) => "never".into(),
        _ if netns.outlook.state == State::Full => "FULL".into(),
        (Some(seconds), _) => units::span(seconds),
        _ if netns.outlook.seconds_to_full.is_some() => "-".into(),
        _ => "?".into(),
    };
    (text, style)
}

/// The forecast in words and why, or the facts about a full table; each line indented and at most 80 columns wide.
#[must_use]
pub fn lines(netns: &NetnsTick, thresholds: &Thresholds) -> String {
    let outlook = &netns.outlook;
    if outlook.state == State::Unknown {
        return folded(&unknown(netns), DIM);
    }
    let style = style::of(severity::of_forecast(netns, thresholds));
    let Some(full) = &netns.full else {
        return folded(&sentence(netns), style) + &folded(&outlook.reason, DIM);
    };
    let mut below = vec![full::since(full)];
    below.extend(full::evictable(&netns.evictable));
    if outlook.reason != IS_FULL {
        below.push(outlook.reason.clone());
    }
    folded(&full::facts(full), style) + &folded(&below.join("; "), DIM)
}

/// Level, free room and growth, and why there is no forecast.
#[must_use]
pub fn unknown(netns: &NetnsTick) -> String {
    let mut parts: Vec<String> = full::level(netns.entries, netns.limit).into_iter().collect();
    parts.extend(room(netns));
    let reason = format!("no forecast: {}", netns.outlook.reason);
    if parts.is_empty() { reason } else { format!("{}; {reason}", parts.join(", ")) }
}

/// Free room and growth: `50 free, +15/s`; none where there is no limit or it is not available.
#[must_use]
pub fn room(netns: &NetnsTick) -> Option<String> {
    let Limit::Entries(max) = netns.limit else { return None };
    let free = u64::from(max).saturating_sub(netns.entries.at_most()?);
    let growth = netns.growth.map(|growth| match growth {
        STILL.. => format!(", +{}/s", units::rate(growth)),
        growth if growth <= -STILL => format!(", -{}/s", units::rate(-growth)),
        _ => ", not growing".to_owned(),
    });
    Some(format!("{} free{}", units::grouped(free), growth.unwrap_or_default()))
}

/// What becomes of it, without the reason.
fn sentence(netns: &NetnsTick) -> String {
    let outlook = &netns.outlook;
    let mut parts: Vec<String> = outlook.seconds_to_full.map(time_to_full).into_iter().collect();
    let median = outlook.seconds_to_full.and_then(|full| full.median);
    let drop = outlook.seconds_to_first_drop.and_then(|drop| drop.median);
    if let Some(drop) = drop.filter(|drop| Some(*drop) != median) {
        parts.push(format!("first packets dropped in {}", units::time(drop)));
    }
    if outlook.state == State::Filling && netns.evictable.entries.is_some() {
        parts.extend(full::evictable(&netns.evictable));
    }
    parts.extend(outlook.steady_state.and_then(|steady_state| settled(steady_state, netns.limit)));
    let state = name(outlook.state);
    if parts.is_empty() { state.into() } else { format!("{state}: {}", parts.join("; ")) }
}

/// When it is full, with the interval that holds it in eight of ten cases.
pub(crate) fn time_to_full(of: Quantiles<Option<f64>>) -> String {
    let horizon = units::time(HORIZON);
    let time = |time: Option<f64>| time.map_or_else(|| format!("beyond {horizon}"), units::time);
    match (of.low, of.median) {
        (_, Some(median)) => {
            let [low, median, high] = [of.low, Some(median), of.high].map(time);
            let is_one = low == median && high == median;
            let interval = if is_one { "" } else { &format!(" ({low} to {high})") };
            format!("full in {median}{interval}")
        }
        (Some(low), None) => {
            format!("may be full in {}, but probably not within {horizon}", units::time(low))
        }
        (None, None) => format!("not full within {horizon}"),
    }
}

/// Where it settles; none beyond the limit, where it never comes: of that the reason tells.
fn settled(SteadyState { level, seconds }: SteadyState, limit: Limit) -> Option<String> {
    let about = units::about(level);
    match limit {
        Limit::Entries(max) if level > f64::from(max) => None,
        _ if seconds < 1.0 => Some(format!("stays at about {about}")),
        _ => Some(format!("settles at {about} in {}", units::time(seconds))),
    }
}

/// `text` in lines that are not too wide.
fn folded(text: &str, style: Style) -> String {
    let mut lines = vec![String::from(INDENT)];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > INDENT.len() && line + 1 + word.chars().count() > WIDTH {
            lines.push(INDENT.repeat(2));
        }
        if let Some(line) = lines.last_mut() {
            if !line.trim_start().is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.iter().map(|line| format!("{style}{line}{style:#}\n")).collect()
}

#[cfg(test)]
#[path = "forecast_tests.rs"]
mod tests;
