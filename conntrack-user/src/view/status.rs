//! `status`: one verdict, and what it rests on.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{coverage, forecast, full, plugin, text::Table, units};
use crate::{
    forecast::outlook::State,
    model::{
        full::{Full, Loss},
        tick::{Limit, NetnsTick, Tick},
    },
    severity::{Severity, Thresholds, range::FillRange},
    source::{NETNS_FILL, item::Origin},
};

/// Limits at which a table is reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Thresholds of the fill: `warning_fill` and `critical_fill`.
    pub thresholds: Thresholds,
    /// Ranges of the fill in place of these thresholds.
    pub ranges: Ranges,
    /// Critical when it is so likely to be full soon; none: that is not asked.
    pub full_within: Option<FullWithin>,
}

/// Ranges of the fill that raise an alert; none: the threshold counts.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ranges {
    /// For a warning.
    pub warning: Option<FillRange>,
    /// For critical.
    pub critical: Option<FillRange>,
}

impl Limits {
    /// Fills that raise a warning, and fills that are critical.
    #[must_use]
    pub fn fills(&self) -> [FillRange; 2] {
        let or = |range: Option<FillRange>, least| range.unwrap_or(FillRange::AtLeast(least));
        [
            or(self.ranges.warning, self.thresholds.warning_fill),
            or(self.ranges.critical, self.thresholds.critical_fill),
        ]
    }

    /// Severity of a fill alone: entries by limit, 0 to 1 and above.
    pub(in crate::view) fn severity_of_fill(&self, fill: f64) -> Severity {
        match self.fills().map(|range| range.alerts(fill)) {
            [_, true] => Severity::Critical,
            [true, false] => Severity::Warning,
            [false, false] => Severity::Ok,
        }
    }
}

/// That a table is full within some time, with at least some probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FullWithin {
    /// Up to [`crate::forecast::outlook::HORIZON`].
    pub seconds: f64,
    /// Above 0 and at most 1.
    pub probability: f64,
}

/// A severity and the limits it was reached by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// The worst of all tables.
    pub severity: Severity,
    /// The limits.
    pub limits: Limits,
}

/// Judges all tables of `tick`; the worst one counts. One that is only counted is judged by its fill and the limit that all
/// tables have: it may be a warning or critical, and else leaves the verdict to [`coverage::judge`]. No table at all is
/// [`Severity::Unknown`].
#[must_use]
pub fn judge(tick: &Tick, limits: Limits) -> Judged {
    let counted = coverage::counted(tick).into_iter().map(|table| table.severity(limits));
    let severity = judge_read(tick, limits).max(counted.max().unwrap_or(Severity::Ok));
    Judged { severity, limits }
}

/// The worst of the tables that are read.
fn judge_read(tick: &Tick, limits: Limits) -> Severity {
    let worst = read(tick).map(|netns| judge_one(netns, limits)).max();
    worst.unwrap_or(Severity::Unknown)
}

/// Tables that are not only counted.
fn read(tick: &Tick) -> impl Iterator<Item = &NetnsTick> {
    let coverage = tick.coverage.as_deref();
    tick.netns.iter().filter(move |netns| !coverage::is_only_counted(netns, coverage))
}

/// Judges one table.
pub(in crate::view) fn judge_one(netns: &NetnsTick, limits: Limits) -> Severity {
    if netns.full.is_some() {
        return Severity::Critical;
    }
    let fill = match (netns.fill_ratio(), netns.limit) {
        (_, Limit::Unlimited) => return Severity::Ok,
        (None, _) => Severity::Unknown,
        (Some(ratio), _) => limits.severity_of_fill(ratio),
    };
    fill.max(limits.full_within.map_or(Severity::Ok, |within| judge_forecast(netns, within)))
}

fn judge_forecast(netns: &NetnsTick, within: FullWithin) -> Severity {
    match netns.outlook.full_by(within.seconds) {
        None => Severity::Unknown,
        Some(probability) if probability >= within.probability => Severity::Critical,
        Some(_) => Severity::Ok,
    }
}

/// Whether more ticks can change nothing that is asked: each table has the forecast that it takes, or the verdict is
/// the worst already.
#[must_use]
pub fn is_decided(tick: &Tick, limits: Limits) -> bool {
    let is_forecast = |netns: &NetnsTick| {
        let is_limited = netns.limit != Limit::Unlimited;
        let forecast = limits.full_within.filter(|_| is_limited);
        forecast.is_none_or(|within| judge_forecast(netns, within) != Severity::Unknown)
    };
    judge(tick, limits).severity == Severity::Critical || read(tick).all(is_forecast)
}

/// The answer for people: the verdict in the first line, as monitoring plugins print it. `screen`: characters in a line;
/// none where the output is no screen.
#[must_use]
pub fn text(tick: &Tick, start: &Origin, judged: Judged, screen: Option<usize>) -> String {
    let mut out = String::new();
    let word = judged.severity.name().to_uppercase();
    let headline = full(tick).or_else(|| soonest(tick, judged.limits));
    let headline = headline.or_else(|| counted(tick, judged.limits));
    let headline = headline.unwrap_or_else(|| calm(tick, judged));
    let _ = writeln!(out, "{word}: {headline}{}", plugin::drops(tick));
    let _ = writeln!(out, "kernel {}, source {}", start.kernel_release, start.source);
    // Coverage stands below the table.
    let is_coverage = |what: &str| tick.coverage.is_some() && what.starts_with(NETNS_FILL);
    for lost in start.unavailable.iter().filter(|lost| !is_coverage(&lost.what)) {
        let _ = writeln!(out, "not available: {}\n  because {}", lost.what, lost.reason);
    }
    let mut table = Table::new(judged.limits.thresholds, true, false);
    table.set_screen(screen);
    out.push_str(&table.tick(tick));
    out.push_str(&without_forecast(tick, judged.limits));
    out
}

/// The first line where no table is full or will be soon: the fullest one, after the tables that are read where that matters.
fn calm(tick: &Tick, judged: Judged) -> String {
    let of_tables = Judged { severity: judge_read(tick, judged.limits), ..judged };
    let fullest = fullest(tick, of_tables);
    if of_tables.severity != Severity::Ok {
        return fullest;
    }
    let fills = tick.netns.iter().filter_map(NetnsTick::fill_ratio);
    let percent = fills.max_by(f64::total_cmp).map(units::percent);
    coverage::headline(tick.coverage.as_deref(), &fullest, percent.as_deref()).unwrap_or(fullest)
}

/// The worst table that is only counted in a sentence, where it is worse than all that are read.
fn counted(tick: &Tick, limits: Limits) -> Option<String> {
    let tables = coverage::counted(tick);
    let worst = tables.into_iter().rev().max_by_key(|table| table.severity(limits))?;
    let is_worst = worst.severity(limits) > judge_read(tick, limits).max(Severity::Ok);
    is_worst.then(|| worst.sentence())
}

/// Of how many tables there is no forecast, and why.
fn without_forecast(tick: &Tick, limits: Limits) -> String {
    let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
    for netns in tick.netns.iter().filter(|netns| netns.outlook.state == State::Unknown) {
        *reasons.entry(&netns.outlook.reason).or_default() += 1;
    }
    let mut out = String::new();
    for (reason, tables) in &reasons {
        let tables = if *tables == 1 { "one table" } else { &format!("{tables} tables") };
        let _ = writeln!(out, "no forecast of {tables}: {reason}");
    }
    if !reasons.is_empty() && limits.full_within.is_none() {
        out.push_str("  a forecast takes longer: `ctmon watch` and --full-within wait for it\n");
    }
    out
}

/// The full table that drops and evicts most in a sentence, and how many others are full.
fn full(tick: &Tick) -> Option<String> {
    let tables = || tick.netns.iter().filter_map(|netns| Some((netns.full?, netns)));
    let losses = |full: &Full| {
        let rate = |loss: Loss| loss.rate.unwrap_or(0.0);
        (rate(full.table_full_drops), rate(full.early_drops))
    };
    let (worst, netns) = tables().max_by(|(one, _), (other, _)| {
        let (one, other) = (losses(one), losses(other));
        one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1))
    })?;
    let text = full::with_level(&worst, netns.entries, netns.limit);
    let others = match tables().count().saturating_sub(1) {
        0 => String::new(),
        others => format!(" ({others} more full)"),
    };
    Some(format!("{text} in netns {}{others}", name(netns)))
}

/// The table that will be full too soon in a sentence; of several the most likely one.
fn soonest(tick: &Tick, limits: Limits) -> Option<String> {
    let within = limits.full_within?;
    let likely = tick.netns.iter().filter(|netns| netns.limit != Limit::Unlimited);
    let likely = likely.filter_map(|netns| Some((netns.outlook.full_by(within.seconds)?, netns)));
    let (probability, netns) = likely
        .filter(|(probability, _)| *probability >= within.probability)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    let (percent, time) = (units::percent(probability), units::time(within.seconds));
    Some(format!("{percent} likely to be full within {time} in netns {}", name(netns)))
}

fn name(netns: &NetnsTick) -> String {
    netns.name.as_ref().map_or_else(|| netns.id.inode.to_string(), |name| name.text.clone())
}

/// The fullest of the tables that decided in a sentence; with its free room and growth where somebody may have to act.
fn fullest(tick: &Tick, Judged { severity, limits }: Judged) -> String {
    let is_cause =
        |netns: &&NetnsTick| severity < Severity::Warning || judge_one(netns, limits) == severity;
    let tables = tick.netns.iter().filter(is_cause);
    let ratios = tables.filter_map(|netns| Some((netns.fill_ratio()?, netns)));
    let Some((ratio, netns)) = ratios.max_by(|(a, _), (b, _)| a.total_cmp(b)) else {
        return match tick.netns.first() {
            Some(netns) if netns.limit == Limit::Unlimited => "the tables have no limit".into(),
            Some(_) => "no table could be read".into(),
            None => "no network namespace tracks connections".into(),
        };
    };
    let room = forecast::room(netns).filter(|_| severity >= Severity::Warning);
    let parts = [full::level(netns.entries, netns.limit), room];
    let level = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
    format!("{} full in netns {}: {level}", units::percent(ratio), name(netns))
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
