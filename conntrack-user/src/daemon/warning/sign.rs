//! What a table is warned of.

use super::{
    change::Level,
    config::Config,
    facts::Facts,
    hysteresis::{Says, Timing},
};

/// One thing that a table is warned of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// Packets are dropped because the table is full and nothing could be evicted.
    Dropped,
    /// It is fuller than [`Config::critical_fill`].
    AlmostFull,
    /// It is probably full within [`Config::critical_within_seconds`].
    FullSoon,
    /// Entries are evicted to make room for new ones.
    Evicted,
    /// It is fuller than [`Config::warning_fill`].
    High,
    /// It is probably full within [`Config::warning_within_seconds`].
    FullLater,
    /// It is fuller than [`Config::high_fill`] and probably full within [`Config::high_within_seconds`].
    HighAndFilling,
}

impl Sign {
    /// All of them, the worst first.
    pub const ALL: [Self; 7] = [
        Self::Dropped,
        Self::AlmostFull,
        Self::FullSoon,
        Self::Evicted,
        Self::High,
        Self::FullLater,
        Self::HighAndFilling,
    ];

    /// Its name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dropped => "dropped",
            Self::AlmostFull => "almost_full",
            Self::FullSoon => "full_soon",
            Self::Evicted => "evicted",
            Self::High => "high",
            Self::FullLater => "full_later",
            Self::HighAndFilling => "high_and_filling",
        }
    }

    /// What a table is on that has it.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::Dropped | Self::AlmostFull | Self::FullSoon => Level::Critical,
            Self::Evicted | Self::High | Self::FullLater | Self::HighAndFilling => Level::Warning,
        }
    }

    /// What a tick says of it.
    pub(super) fn says(self, facts: &Facts, config: &Config) -> Says {
        let likely = |within: f64| match facts.full_by(within) {
            None => Says::Unknown,
            Some(probability) if probability >= config.probability => Says::Raise,
            Some(probability) if probability >= config.probability_clear => Says::Stay,
            Some(_) => Says::Clear,
        };
        let fuller = |raise, clear| match facts.fill {
            None => Says::Unknown,
            Some((low, _)) if low >= raise => Says::Raise,
            Some((_, high)) if high < clear => Says::Clear,
            Some(_) => Says::Stay,
        };
        let counted = |events: Option<u64>| match events {
            None => Says::Unknown,
            Some(0) => Says::Clear,
            Some(_) => Says::Raise,
        };
        match self {
            Self::Dropped => counted(facts.lost.dropped),
            Self::AlmostFull => fuller(config.critical_fill, config.critical_fill_clear),
            Self::FullSoon => likely(config.critical_within_seconds),
            Self::Evicted => counted(facts.lost.evicted),
            Self::High => fuller(config.warning_fill, config.warning_fill_clear),
            Self::FullLater => likely(config.warning_within_seconds),
            Self::HighAndFilling => both(
                fuller(config.high_fill, config.high_fill_clear),
                likely(config.high_within_seconds),
            ),
        }
    }

    pub(super) fn timing(self, config: &Config) -> Timing {
        let ns = |seconds: f64| (seconds * 1e9) as u64;
        let is_forecast = matches!(self, Self::FullSoon | Self::FullLater | Self::HighAndFilling);
        let is_loss = matches!(self, Self::Dropped | Self::Evicted);
        let quiet = if is_loss { config.quiet_after_loss_seconds } else { config.quiet_seconds };
        Timing {
            hold_ns: if is_forecast { ns(config.hold_seconds) } else { 0 },
            quiet_ns: ns(quiet),
        }
    }
}

/// It takes both to raise, one to clear.
fn both(one: Says, other: Says) -> Says {
    match (one, other) {
        (Says::Clear, _) | (_, Says::Clear) => Says::Clear,
        (Says::Unknown, _) | (_, Says::Unknown) => Says::Unknown,
        (Says::Raise, Says::Raise) => Says::Raise,
        _ => Says::Stay,
    }
}
