//! `status`: one verdict, and what it rests on.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{forecast, full, text::Table, units};
use crate::{
    forecast::outlook::State,
    model::{
        full::{Full, Loss},
        tick::{Limit, NetnsTick, Tick},
    },
    severity::{Severity, Thresholds},
    source::item::Origin,
};

/// Limits at which a table is reported.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Thresholds of the fill: `warning_fill` and `critical_fill`.
    pub thresholds: Thresholds,
    /// Critical when it is so likely to be full soon; none: that is not asked.
    pub full_within: Option<FullWithin>,
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

/// Judges all tables of `tick`; the worst one counts. No table at all is [`Severity::Unknown`].
#[must_use]
pub fn judge(tick: &Tick, limits: Limits) -> Judged {
    let worst = tick.netns.iter().map(|netns| judge_one(netns, limits)).max();
    Judged { severity: worst.unwrap_or(Severity::Unknown), limits }
}

/// Judges one table.
pub(super) fn judge_one(netns: &NetnsTick, limits: Limits) -> Severity {
    if netns.full.is_some() {
        return Severity::Critical;
    }
    let fill = match (netns.fill_ratio(), netns.limit) {
        (_, Limit::Unlimited) => return Severity::Ok,
        (None, _) => Severity::Unknown,
        (Some(ratio), _) => limits.thresholds.severity_of_fill(ratio),
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
    judge(tick, limits).severity == Severity::Critical || tick.netns.iter().all(is_forecast)
}

/// The answer for people: the verdict in the first line, as monitoring plugins print it.
#[must_use]
pub fn text(tick: &Tick, start: &Origin, judged: Judged) -> String {
    let mut out = String::new();
    let word = judged.severity.name().to_uppercase();
    let headline = full(tick).or_else(|| soonest(tick, judged.limits));
    let headline = headline.unwrap_or_else(|| fullest(tick, judged.severity));
    let _ = writeln!(out, "{word}: {headline}");
    let _ = writeln!(out, "kernel {}, source {}", start.kernel_release, start.source);
    for lost in &start.unavailable {
        let _ = writeln!(out, "not available: {}\n  because {}", lost.what, lost.reason);
    }
    out.push_str(&Table::new(judged.limits.thresholds, true, false).tick(tick));
    out.push_str(&without_forecast(tick, judged.limits));
    out
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

/// The fullest table in a sentence; with its free room and growth where `severity` says that somebody may have to act.
fn fullest(tick: &Tick, severity: Severity) -> String {
    let ratios = tick.netns.iter().filter_map(|netns| Some((netns.fill_ratio()?, netns)));
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
mod tests {
    use super::*;
    use crate::{
        forecast::outlook::{Outlook, Quantiles},
        model::{
            evictable::Evictable,
            name::{Name, NameKind},
            reading::NetnsId,
            tick::{Entries, Rates},
        },
        severity::THRESHOLDS,
    };

    fn tick(tables: &[(Entries, Limit)]) -> Tick {
        let netns = tables.iter().map(|(entries, limit)| NetnsTick {
            id: NetnsId { cookie: None, inode: 7 },
            name: Some(Name { text: "blue".into(), kind: NameKind::IpNetns }),
            ended: false,
            entries: *entries,
            limit: *limit,
            change: None,
            rates: Rates::default(),
            windows: None,
            totals: None,
            baseline: None,
            count_drift: None,
            outlook: Outlook::unknown(State::Unknown, "not enough is known yet"),
            full: None,
            growth: None,
            evictable: Evictable::default(),
            timeouts_known: false,
            count: None,
            kernel: None,
        });
        Tick::example(netns.collect())
    }

    #[test]
    fn the_worst_table_decides() {
        let limits = Limits { thresholds: THRESHOLDS.on_demand(), full_within: None };
        let at = |entries| (Entries::Exact(entries), Limit::Entries(1000));
        let endless = (Entries::Exact(5), Limit::Unlimited);
        let unread = (Entries::Unavailable, Limit::Entries(1000));
        let cases = [
            (vec![], Severity::Unknown, 3),
            (vec![at(799)], Severity::Ok, 0),
            (vec![at(800)], Severity::Warning, 1),
            (vec![at(949), at(0)], Severity::Warning, 1),
            (vec![at(0), at(950)], Severity::Critical, 2),
            (vec![at(1001)], Severity::Critical, 2),
            (vec![endless], Severity::Ok, 0),
            (vec![unread], Severity::Unknown, 3),
            (vec![unread, at(0)], Severity::Unknown, 3),
            (vec![unread, at(800)], Severity::Warning, 1),
        ];
        for (tables, severity, code) in cases {
            let judged = judge(&tick(&tables), limits).severity;
            assert_eq!((judged, judged.exit_code()), (severity, code), "{tables:?}");
        }
    }

    #[test]
    fn a_table_that_will_be_full_soon_is_critical() {
        let within = |seconds, probability| Limits {
            thresholds: THRESHOLDS.on_demand(),
            full_within: Some(FullWithin { seconds, probability }),
        };
        let mut tick = tick(&[(Entries::Exact(10), Limit::Entries(1000))]);
        assert_eq!(judge(&tick, within(600.0, 0.5)).severity, Severity::Unknown);
        assert!(!is_decided(&tick, within(600.0, 0.5)));
        tick.netns[0].entries = Entries::Exact(900);
        assert_eq!(judge(&tick, within(600.0, 0.5)).severity, Severity::Warning);
        assert!(!is_decided(&tick, within(600.0, 0.5)), "it may be worse");
        tick.netns[0].entries = Entries::Exact(950);
        assert!(is_decided(&tick, within(600.0, 0.5)), "it cannot be worse");
        tick.netns[0].entries = Entries::Exact(10);
        let full = Quantiles { low: Some(120.0), median: Some(600.0), high: None };
        tick.netns[0].outlook = Outlook {
            seconds_to_full: Some(full),
            full_probability: Some([0.05, 0.3, 0.6, 0.8]),
            ..Outlook::unknown(State::Filling, "arrivals rose")
        };
        let cases = [
            (within(600.0, 0.5), Severity::Critical),
            (within(599.0, 0.5), Severity::Ok),
            (within(3600.0, 0.81), Severity::Ok),
            (within(60.0, 0.01), Severity::Critical),
        ];
        for (limits, expected) in cases {
            assert_eq!(judge(&tick, limits).severity, expected, "{limits:?}");
            assert!(is_decided(&tick, limits));
        }
        let start = Origin::example();
        let text = text(&tick, &start, judge(&tick, within(600.0, 0.5)));
        let first = text.lines().next().unwrap_or_default();
        assert_eq!(first, "CRITICAL: 50% likely to be full within 10 min in netns blue");
        // Nobody forecasts what has no limit.
        tick.netns[0].limit = Limit::Unlimited;
        tick.netns[0].outlook = Outlook::unknown(State::Steady, "");
        assert_eq!(judge(&tick, within(600.0, 0.5)).severity, Severity::Ok);
    }

    #[test]
    fn tables_without_a_forecast_are_counted_by_reason() {
        let limits = Limits { thresholds: THRESHOLDS.on_demand(), full_within: None };
        let at = (Entries::Exact(5), Limit::Entries(1000));
        let mut three = tick(&[at; 3]);
        three.netns[1].outlook.reason = "it has ended".into();
        let expected = "\
no forecast of one table: it has ended
no forecast of 2 tables: not enough is known yet
  a forecast takes longer: `ctmon watch` and --full-within wait for it
";
        assert_eq!(without_forecast(&three, limits), expected);
        three.netns.iter_mut().for_each(|netns| netns.outlook.state = State::Steady);
        assert_eq!(without_forecast(&three, limits), "");
    }

    #[test]
    fn the_first_line_names_the_fullest_table() {
        let at = |entries| (Entries::Exact(entries), Limit::Entries(1000));
        let limits = Limits { thresholds: THRESHOLDS.on_demand(), full_within: None };
        let first = |tables: &[(Entries, Limit)]| {
            let tick = tick(tables);
            let start = Origin::example();
            let text = text(&tick, &start, judge(&tick, limits));
            text.lines().next().unwrap_or_default().to_owned()
        };
        assert_eq!(
            first(&[at(10), at(850)]),
            "WARNING: 85% full in netns blue: 850 of 1,000 entries, 150 free"
        );
        assert_eq!(first(&[at(10)]), "OK: 1% full in netns blue: 10 of 1,000 entries");
        assert_eq!(first(&[]), "UNKNOWN: no network namespace tracks connections");
        assert_eq!(first(&[(Entries::Exact(5), Limit::Unlimited)]), "OK: the tables have no limit");
    }

    #[test]
    fn the_first_line_of_a_full_table_has_its_facts() {
        let within = FullWithin { seconds: 600.0, probability: 0.5 };
        let limits = Limits { thresholds: THRESHOLDS.on_demand(), full_within: Some(within) };
        let at = (Entries::Exact(5000), Limit::Entries(5000));
        let mut tick = tick(&[at; 2]);
        let full = |drops, evictions| crate::view::full::tests::full(drops, evictions);
        tick.netns[0].full = Some(full(12.0, 30.0));
        let first = |tick: &Tick| {
            let judged = judge(tick, limits);
            assert_eq!(judged.severity, Severity::Critical);
            text(tick, &Origin::example(), judged).lines().next().unwrap_or_default().to_owned()
        };
        let line = "CRITICAL: full for 41 s, drops 12 packets/s and evicts 30 entries/s: 5,000 of 5,000 entries in netns blue";
        assert_eq!(first(&tick), line);
        tick.netns[1].full = Some(full(3.0, 90.0));
        assert_eq!(first(&tick), format!("{line} (1 more full)"));
        // Evictions keep it below the limit: it is critical as well.
        tick.netns.remove(0);
        tick.netns[0].entries = Entries::Exact(3900);
        assert!(is_decided(&tick, limits));
        assert!(first(&tick).contains("drops 3 packets/s and evicts 90 entries/s: 3,900 of 5,000"));
    }
}
