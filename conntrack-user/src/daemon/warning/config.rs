//! When a table is warned of. docs/warnings.md has the same as a table.

use crate::forecast::outlook::HORIZON;

/// Thresholds and times. A fill is entries by limit, 0 to 1; all times are in seconds. The key of `critical_fill` among the
/// settings is `warn.critical-fill`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(test, derive(serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Config {
    /// Critical from this fill on, whatever is forecast. Default 0.95.
    pub critical_fill: f64,
    /// No longer below this one. Default 0.90.
    pub critical_fill_clear: f64,
    /// A warning from this fill on, whatever is forecast. Default 0.90.
    pub warning_fill: f64,
    /// No longer below this one. Default 0.85.
    pub warning_fill_clear: f64,
    /// Critical when it is probably full within this time. Default 300.
    pub critical_within_seconds: f64,
    /// A warning when it is probably full within this time. Default 900.
    pub warning_within_seconds: f64,
    /// From this fill on it is looked further ahead. Default 0.75.
    pub high_fill: f64,
    /// No longer below this one. Default 0.70.
    pub high_fill_clear: f64,
    /// A warning when it is that full and probably full within this time. Default 3600.
    pub high_within_seconds: f64,
    /// What is probable. Default 0.5.
    pub probability: f64,
    /// What is no longer probable, if it is less. Default 0.2.
    pub probability_clear: f64,
    /// For how long a forecast must say so. Default 2.
    pub hold_seconds: f64,
    /// For how long a fill or a forecast must be low again. Default 60.
    pub quiet_seconds: f64,
    /// For how long nothing must be dropped or evicted. Default 300.
    pub quiet_after_loss_seconds: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            critical_fill: 0.95,
            critical_fill_clear: 0.90,
            warning_fill: 0.90,
            warning_fill_clear: 0.85,
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
        }
    }
}

/// A value that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{key} = {value}: {expected}")]
pub struct Invalid {
    /// Of which key of the settings.
    pub key: String,
    /// The value.
    pub value: f64,
    /// What was expected instead.
    pub expected: String,
}

/// The longest time that anything has to last: a day.
const LONGEST: f64 = 86_400.0;

impl Config {
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
        assert_eq!(Config::default().check(), Ok(()));
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
            let config: Config = toml::from_str(text).unwrap();
            let error = config.check().unwrap_err();
            assert_eq!(error.to_string(), expected, "{text}");
        }
        assert!(toml::from_str::<Config>("critical_fil = 0.9").is_err());
    }
}
