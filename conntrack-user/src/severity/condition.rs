//! Conditions of a table that make it a warning or critical.

use super::{Severity, Thresholds, facts::Facts};

/// A condition of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Packets are dropped because the table is full and nothing could be evicted.
    TableFullDrops,
    /// The table is full: it refuses new entries, or makes room by eviction.
    Full,
    /// Fill at or above [`Thresholds::critical_fill`].
    AlmostFull,
    /// Likely to be full within [`Thresholds::critical_within_seconds`].
    FullSoon,
    /// Entries are evicted to make room for new ones.
    EarlyDrops,
    /// Fill at or above [`Thresholds::warning_fill`].
    High,
    /// Likely to be full within [`Thresholds::warning_within_seconds`].
    FullLater,
    /// Fill at or above [`Thresholds::high_fill`], and likely to be full within [`Thresholds::high_within_seconds`].
    HighAndFilling,
}

impl Condition {
    /// All of them, the worst first.
    pub const ALL: [Self; 8] = [
        Self::TableFullDrops,
        Self::Full,
        Self::AlmostFull,
        Self::FullSoon,
        Self::EarlyDrops,
        Self::High,
        Self::FullLater,
        Self::HighAndFilling,
    ];

    /// Name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TableFullDrops => "table_full_drops",
            Self::Full => "full",
            Self::AlmostFull => "almost_full",
            Self::FullSoon => "full_soon",
            Self::EarlyDrops => "early_drops",
            Self::High => "high",
            Self::FullLater => "full_later",
            Self::HighAndFilling => "high_and_filling",
        }
    }

    /// Severity of a table in this condition.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::TableFullDrops | Self::Full | Self::AlmostFull | Self::FullSoon => {
                Severity::Critical
            }
            Self::EarlyDrops | Self::High | Self::FullLater | Self::HighAndFilling => {
                Severity::Warning
            }
        }
    }

    /// Reports whether the condition needs a forecast.
    #[must_use]
    pub const fn is_forecast(self) -> bool {
        matches!(self, Self::FullSoon | Self::FullLater | Self::HighAndFilling)
    }

    /// Verdict of one tick.
    #[must_use]
    pub fn verdict(self, facts: &Facts, thresholds: &Thresholds) -> Verdict {
        let likely = |within: f64| match facts.full_by(within) {
            // Nothing is forecast of a full table: what was raised before it was full stays so.
            _ if facts.is_full == Some(true) => Verdict::Stay,
            None => Verdict::Unknown,
            Some(probability) if probability >= thresholds.probability => Verdict::Raise,
            Some(probability) if probability >= thresholds.probability_clear => Verdict::Stay,
            Some(_) => Verdict::Clear,
        };
        let fuller = |raise, clear| match facts.fill {
            None => Verdict::Unknown,
            Some((low, _)) if low >= raise => Verdict::Raise,
            Some((_, high)) if high < clear => Verdict::Clear,
            Some(_) => Verdict::Stay,
        };
        let counted = |events: Option<u64>| match events {
            None => Verdict::Unknown,
            Some(0) => Verdict::Clear,
            Some(_) => Verdict::Raise,
        };
        match self {
            Self::TableFullDrops => counted(facts.losses.table_full_drops),
            Self::Full => match facts.is_full {
                None => Verdict::Unknown,
                Some(true) => Verdict::Raise,
                Some(false) => Verdict::Clear,
            },
            Self::AlmostFull => fuller(thresholds.critical_fill, thresholds.critical_fill_clear),
            Self::FullSoon => likely(thresholds.critical_within_seconds),
            Self::EarlyDrops => counted(facts.losses.early_drops),
            Self::High => fuller(thresholds.warning_fill, thresholds.warning_fill_clear),
            Self::FullLater => likely(thresholds.warning_within_seconds),
            Self::HighAndFilling => both(
                fuller(thresholds.high_fill, thresholds.high_fill_clear),
                likely(thresholds.high_within_seconds),
            ),
        }
    }

    /// Times for which ticks must agree.
    #[must_use]
    pub fn timing(self, thresholds: &Thresholds) -> Timing {
        let ns = |seconds: f64| (seconds * 1e9) as u64;
        let is_loss = matches!(self, Self::TableFullDrops | Self::EarlyDrops);
        let quiet =
            if is_loss { thresholds.quiet_after_loss_seconds } else { thresholds.quiet_seconds };
        Timing {
            hold_ns: if self.is_forecast() { ns(thresholds.hold_seconds) } else { 0 },
            quiet_ns: ns(quiet),
        }
    }
}

/// Verdict of one tick about a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The condition holds.
    Raise,
    /// Between the thresholds: the condition stays as it is.
    Stay,
    /// The condition does not hold.
    Clear,
    /// Not available.
    Unknown,
}

/// Times for which ticks must agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Nanoseconds until it is raised; 0: at once.
    pub hold_ns: u64,
    /// Nanoseconds until it is cleared.
    pub quiet_ns: u64,
}

/// Joins two verdicts: it takes both to raise, one to clear.
fn both(one: Verdict, other: Verdict) -> Verdict {
    match (one, other) {
        (Verdict::Clear, _) | (_, Verdict::Clear) => Verdict::Clear,
        (Verdict::Unknown, _) | (_, Verdict::Unknown) => Verdict::Unknown,
        (Verdict::Raise, Verdict::Raise) => Verdict::Raise,
        _ => Verdict::Stay,
    }
}
