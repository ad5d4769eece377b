//! Thresholds and times of every judgement about a table. docs/warnings.md has the same table.

use super::Severity;
use crate::forecast::outlook::HORIZON;

/// Thresholds and times. A fill is entries by limit, 0 to 1; times are in seconds. The setting of `critical_fill` is
/// `warn.critical-fill`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(test, derive(serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Thresholds {
    /// Fill at or above which a table is critical, whatever the forecast.
    pub critical_fill: f64,
    /// Fill below which it is no longer critical.
    pub critical_fill_clear: f64,
    /// Fill at or above which a table is a warning, whatever the forecast.
    pub warning_fill: f64,
    /// Fill below which it is no longer a warning.
    pub warning_fill_clear: f64,
    /// The warning fill of `status`, `watch` and `doctor`: see [`Thresholds::on_demand`].
    pub on_demand_fill: f64,
    /// Time within which a likely full table is critical.
    pub critical_within_seconds: f64,
    /// Time within which a likely full table is a warning.
    pub warning_within_seconds: f64,
    /// Fill above which the longer look-ahead applies.
    pub high_fill: f64,
    /// Fill below which it no longer applies.
    pub high_fill_clear: f64,
    /// The longer look-ahead.
    pub high_within_seconds: f64,
    /// Probability at or above which a forecast counts as likely.
    pub probability: f64,
    /// Probability below which it no longer does.
    pub probability_clear: f64,
    /// Time for which a forecast must stay likely before it counts.
    pub hold_seconds: f64,
    /// Time for which fill or forecast must be low before a condition ends.
    pub quiet_seconds: f64,
    /// Time without drops and evictions before such a condition ends.
    pub quiet_after_loss_seconds: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        THRESHOLDS
    }
}

/// The defaults, and what is built into what takes no settings: the only place where they are numbers.
pub const THRESHOLDS: Thresholds = Thresholds {
    critical_fill: 0.95,
    critical_fill_clear: 0.90,
    warning_fill: 0.90,
    warning_fill_clear: 0.85,
    on_demand_fill: 0.80,
    critical_within_seconds: 300.0,
    warning_within_seconds: 900.0,
    high_fill: 0.75,
    high_fill_clear: 0.70,
    high_within_seconds: 3600.0,
    probability: 0.5,
    probability_clear: 0.2,
    hold_seconds: 2.0,
    quiet_seconds: 60.0,
    quiet_after_loss_seconds: 300.0,
};

/// Part of ctmon that judges a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// `ctmon status`, its exit code.
    Status,
    /// `ctmon watch` and `replay`: colours and JSON.
    Watch,
    /// `ctmon doctor`.
    Doctor,
    /// The page of `ctmon serve`, and its JSON.
    Page,
    /// `ctmon serve`: log, notifications, `ctmon_severity`.
    Serve,
    /// `contrib/prometheus/ctmon.rules.yml`.
    Rules,
}

impl User {
    /// Name in the documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Watch => "watch",
            Self::Doctor => "doctor",
            Self::Page => "page",
            Self::Serve => "serve",
            Self::Rules => "rules",
        }
    }
}

/// A threshold on the fill of a table, who uses it, and why it is not one for all.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Field of [`Thresholds`].
    pub name: &'static str,
    /// Its value.
    pub value: fn(&Thresholds) -> f64,
    /// Parts of ctmon that judge by it.
    pub users: &'static [User],
    /// Reason for a threshold of its own.
    pub why: &'static str,
}

use User::{Doctor, Page, Rules, Serve, Status, Watch};

/// Fill that `CtmonTableFullSoon` of the alert rules requires besides its forecast: the only number of the rules alone.
pub const RULES_LEAST_FILL: f64 = 0.5;

/// Thresholds that decide the severity of a table. Every user that judges forecasts has the same probabilities and times.
pub const TABLE: [Row; 5] = [
    Row {
        name: "critical_fill",
        value: |thresholds| thresholds.critical_fill,
        users: &[Status, Watch, Doctor, Page, Serve, Rules],
        why: "the same for all",
    },
    Row {
        name: "warning_fill",
        value: |thresholds| thresholds.warning_fill,
        users: &[Page, Serve, Rules],
        why: "wakes somebody: a table that stays at 80 % is no reason to",
    },
    Row {
        name: "on_demand_fill",
        value: |thresholds| thresholds.on_demand_fill,
        users: &[Status, Watch, Doctor],
        why: "answers whoever looks: 80 % is what monitoring plugins warn at",
    },
    Row {
        name: "high_fill",
        value: |thresholds| thresholds.high_fill,
        users: &[Watch, Page, Serve, Rules],
        why: "only together with a forecast: full within an hour",
    },
    Row {
        name: "rules_least_fill",
        value: |_| RULES_LEAST_FILL,
        users: &[Rules],
        why: "only together with a forecast: Prometheus sees one each 15 s or so, and one scrape must not alarm about a half-empty table",
    },
];

/// A value that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{key} = {value}: {expected}")]
pub struct Invalid {
    /// Of which key of the settings.
    pub key: String,
    /// The value.
    pub value: f64,
    /// Values that are allowed.
    pub expected: String,
}

/// The longest time that anything has to last: a day.
const LONGEST: f64 = 86_400.0;

impl Thresholds {
    /// Thresholds of `status`, `watch` and `doctor`: a lower fill is a warning there, because it wakes nobody.
    #[must_use]
    pub const fn on_demand(self) -> Self {
        Self { warning_fill: self.on_demand_fill, ..self }
    }

    /// Judges a fill alone: entries by limit, 0 to 1 and above.
    #[must_use]
    pub fn severity_of_fill(&self, ratio: f64) -> Severity {
        if ratio >= self.critical_fill {
            Severity::Critical
        } else if ratio >= self.warning_fill {
            Severity::Warning
        } else {
            Severity::Ok
        }
    }

    /// Says which value makes no sense.
    ///
    /// # Errors
    ///
    /// The first one.
    pub fn check(&self) -> Result<(), Invalid> {
        let shares = [
            ("warn.critical-fill", self.critical_fill, self.critical_fill_clear),
            ("warn.warning-fill", self.warning_fill, self.warning_fill_clear),
            ("warn.high-fill", self.high_fill, self.high_fill_clear),
            ("warn.probability", self.probability, self.probability_clear),
        ];
        for (key, raise, clear) in shares {
            if !(raise > 0.0 && raise <= 1.0) {
                return Err(invalid(key, raise, "more than 0 and at most 1".into()));
            }
            if !(clear > 0.0 && clear <= raise) {
                let expected = format!("more than 0 and at most {key}, which is {raise}");
                return Err(invalid(&format!("{key}-clear"), clear, expected));
            }
        }
        let ahead = [
            ("warn.critical-within", self.critical_within_seconds),
            ("warn.warning-within", self.warning_within_seconds),
            ("warn.high-within", self.high_within_seconds),
        ];
        for (key, seconds) in ahead {
            if !(seconds > 0.0 && seconds <= HORIZON) {
                let expected =
                    format!("more than 0 and at most {HORIZON}, how far a forecast looks");
                return Err(invalid(key, seconds, expected));
            }
        }
        let spans = [
            ("warn.hold", self.hold_seconds),
            ("warn.quiet", self.quiet_seconds),
            ("warn.quiet-after-loss", self.quiet_after_loss_seconds),
        ];
        for (key, seconds) in spans {
            if !(0.0..=LONGEST).contains(&seconds) {
                return Err(invalid(key, seconds, format!("0 to {LONGEST}")));
            }
        }
        Ok(())
    }
}

fn invalid(key: &str, value: f64, expected: String) -> Invalid {
    Invalid { key: key.to_owned(), value, expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_make_no_sense_are_named() {
        assert_eq!(THRESHOLDS.check(), Ok(()));
        let cases = [
            ("critical_fill = 95", "warn.critical-fill = 95: more than 0 and at most 1"),
            (
                "high_fill_clear = 0.8",
                "warn.high-fill-clear = 0.8: more than 0 and at most warn.high-fill, which is 0.75",
            ),
            (
                "high_within_seconds = 1e6",
                "warn.high-within = 1000000: more than 0 and at most 10800, how far a forecast looks",
            ),
            ("probability = nan", "warn.probability = NaN: more than 0 and at most 1"),
            ("quiet_seconds = -1", "warn.quiet = -1: 0 to 86400"),
        ];
        for (text, expected) in cases {
            let config: Thresholds = toml::from_str(text).unwrap();
            let error = config.check().unwrap_err();
            assert_eq!(error.to_string(), expected, "{text}");
        }
        assert!(toml::from_str::<Thresholds>("critical_fil = 0.9").is_err());
    }
}
