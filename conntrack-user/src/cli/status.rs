//! `ctmon status`

use std::time::Duration;

use clap::Args;
use conntrack_user::{source::live, view::status::Limits};

use super::{
    Output,
    source::{Common, Ring},
    values::parse_interval,
};

pub(super) const STATUS_CODES: &str = "\
Exit codes:
  0  all tables below the limits
  1  a table has reached --warn
  2  a table has reached --crit
  3  a table could not be read, wrong usage, or another error";

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Fill from which it is a warning, in per cent [default: 80, or --crit where that is lower]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    warn: Option<f64>,
    /// Fill from which it is critical, in per cent
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, default_value = "95")]
    crit: f64,
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
        let warn = self.warn.unwrap_or_else(|| crit.min(80.0));
        if warn > crit {
            anyhow::bail!(
                "--warn {warn} is above --crit {crit}: a warning comes before it is critical"
            );
        }
        Ok(Limits { warn, crit })
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("it must be between 0 and 100".into()),
    }
}
