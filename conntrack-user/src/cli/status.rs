//! `ctmon status`

use std::time::Duration;

use clap::Args;
use conntrack_user::{
    forecast::outlook::HORIZON,
    severity::{THRESHOLDS, Thresholds, range::FillRange},
    source::live,
    view::status::{FullWithin, Limits, Ranges},
};

use super::{
    report::Report,
    source::{Common, Ring},
    unread::Unread,
    values::parse_interval,
};

pub(super) const STATUS_CODES: &str = "\
Exit codes:
  0  no table has reached a limit
  1  a table has reached --warn
  2  a table has reached --crit, or is as likely to be full soon as --full-within says
  3  a table could not be read or not be forecast, tables are known and not read (--unread), wrong usage, or another
     error

A threshold is a number, which is reached at or above it, or a range of the Monitoring Plugins Development
Guidelines: 10:80 alerts below 10 % and above 80 %, 10: below 10 %, ~:80 above 80 %, @80:95 from 80 % to 95 %.
The first line ends with performance data, in entries. An error is a line UNKNOWN: ... on standard output.

A forecast takes a while: with --full-within, status looks on until it has one of each table, some 4 s
by programs and 16 s by procfs, and at most 20 s. Without it, the forecast is mostly left open.";

/// How long status looks on for a forecast at the most.
pub(crate) const LOOK_ON: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t = Report::Text)]
    pub(crate) output: Report,
    /// Fill at or above which a table is a warning, in per cent, or a range of monitoring plugins: 10:80, 10:, ~:80,
    /// @80:95 [default: 80, or the critical fill where that is lower]
    #[arg(long, short, value_name = "PERCENT", allow_hyphen_values = true)]
    warn: Option<FillRange>,
    /// Fill at or above which a table is critical, in per cent, or a range
    #[arg(long, short, value_name = "PERCENT", allow_hyphen_values = true, default_value_t = FillRange::AtLeast(THRESHOLDS.critical_fill))]
    crit: FillRange,
    /// It is critical, too, when a table will be full within this time with at least this probability, 0.5 if it is
    /// left out: 10m, or 1h=0.9. Up to 3h
    #[arg(long, value_name = "TIME[=PROBABILITY]", value_parser = parse_full_within)]
    full_within: Option<FullWithin>,
    /// Verdict where all tables that are read are OK and others are known or may be hidden: ok, warning or unknown
    #[arg(long, value_name = "VERDICT", default_value = "unknown")]
    pub(crate) unread: Unread,
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
        let warn = self.warn.unwrap_or_else(|| {
            let least = THRESHOLDS.on_demand_fill;
            FillRange::AtLeast(crit.rising().map_or(least, |crit| crit.min(least)))
        });
        if let (FillRange::AtLeast(warning), FillRange::AtLeast(critical)) = (warn, crit)
            && warning > critical
        {
            anyhow::bail!(
                "--warn {warn} is above --crit {crit}: a warning comes before it is critical"
            );
        }
        // What happened within a longer time is of no use to a forecast.
        if self.full_within.is_some() && self.interval > Duration::from_secs(5) {
            anyhow::bail!("--full-within takes an --interval of 5s at the most");
        }
        let thresholds = Thresholds {
            warning_fill: coloured(warn),
            critical_fill: coloured(crit),
            ..THRESHOLDS.on_demand()
        };
        let is_range = |range: &FillRange| !matches!(range, FillRange::AtLeast(_));
        let ranges =
            Ranges { warning: Some(warn).filter(is_range), critical: Some(crit).filter(is_range) };
        Ok(Limits { thresholds, ranges, full_within: self.full_within })
    }
}

/// Fill from which on a table is coloured: none where only a low fill raises an alert.
fn coloured(range: FillRange) -> f64 {
    range.rising().unwrap_or(f64::INFINITY)
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
