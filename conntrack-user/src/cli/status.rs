//! `ctmon status`

use std::time::Duration;

use clap::Args;
use conntrack_user::{
    forecast::outlook::HORIZON,
    severity::{THRESHOLDS, Thresholds},
    source::live,
    view::status::{FullWithin, Limits},
};

use super::{
    Output,
    source::{Common, Ring},
    values::parse_interval,
};

pub(super) const STATUS_CODES: &str = "\
Exit codes:
  0  all tables below the limits
  1  a table has reached --warn
  2  a table has reached --crit, or is as likely to be full soon as --full-within says
  3  a table could not be read or not be forecast, wrong usage, or another error

A forecast takes a while: with --full-within, status looks on until it has one of each table, some 4 s
by programs and 16 s by procfs, and at most 20 s. Without it, the forecast is mostly left open.";

/// How long status looks on for a forecast at the most.
pub(crate) const LOOK_ON: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Fill at or above which a table is a warning, in per cent [default: 80, or --crit where that is lower]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    warn: Option<f64>,
    /// Fill at or above which a table is critical, in per cent
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, default_value_t = percent(THRESHOLDS.critical_fill))]
    crit: f64,
    /// It is critical, too, when a table will be full within this time with at least this probability, 0.5 if it is
    /// left out: 10m, or 1h=0.9. Up to 3h
    #[arg(long, value_name = "TIME[=PROBABILITY]", value_parser = parse_full_within)]
    full_within: Option<FullWithin>,
    /// Time over which rates are measured, 10ms to 1h
    #[arg(long, short, value_parser = parse_interval, default_value = "1s")]
    pub(crate) interval: Duration,
}

impl Status {
    pub(crate) fn options(&self) -> live::Options {
        live::Options { idle_too: true, ..self.common.options(&Ring::default(), false, false) }
    }

    pub(crate) fn limits(&self) -> anyhow::Result<Limits> {
        let crit = self.crit;
        let warn = self.warn.unwrap_or_else(|| crit.min(percent(THRESHOLDS.on_demand_fill)));
        if warn > crit {
            anyhow::bail!(
                "--warn {warn} is above --crit {crit}: a warning comes before it is critical"
            );
        }
        // What happened within a longer time is of no use to a forecast.
        if self.full_within.is_some() && self.interval > Duration::from_secs(5) {
            anyhow::bail!("--full-within takes an --interval of 5s at the most");
        }
        let thresholds = Thresholds {
            warning_fill: warn / 100.0,
            critical_fill: crit / 100.0,
            ..THRESHOLDS.on_demand()
        };
        Ok(Limits { thresholds, full_within: self.full_within })
    }
}

/// A ratio in per cent, without the noise of binary fractions.
fn percent(ratio: f64) -> f64 {
    (ratio * 1e4).round() / 100.0
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("it must be between 0 and 100".into()),
    }
}

fn parse_full_within(text: &str) -> Result<FullWithin, String> {
    let (time, probability) = text.split_once('=').unwrap_or((text, "0.5"));
    let seconds = humantime::parse_duration(time)
        .map_err(|error| format!("{error}; write it like 10m or 1h=0.9"))?
        .as_secs_f64();
    if seconds <= 0.0 || seconds > HORIZON {
        return Err("the time must be above 0 and at most 3h: no forecast looks further".into());
    }
    match probability.parse::<f64>() {
        Ok(probability) if probability > 0.0 && probability <= 1.0 => {
            Ok(FullWithin { seconds, probability })
        }
        _ => Err("the probability must be above 0 and at most 1".into()),
    }
}
