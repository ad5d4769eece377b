//! `ctmon backtest`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{docs::page, values::parse_size};

pub(super) const BACKTEST_COLUMNS: &str = "\
Columns (means over the seeds; the line below: 95 % confidence intervals):
  LEAD   seconds from the alarm to the fill      SHARE  of the clairvoyant's
  MISS   share of fills without an alarm         FALSE  minutes of false alarm
  ETA    error of the time to full, relative; E300 to E10: so many seconds before
  CRPS   of the entries in 60 s, % of the limit  COV    how often their 80 % interval held
  COVF   the same of the time to full            DROP   error of the time to the first drop
  EVICT  of what can be evicted, % of the limit  SETT   of the level where it settles, relative
  TOLD   how often such a level was said         B1M    Brier's score of full within a minute
What a recording cannot tell is -: it has no clairvoyant, and no false alarms in its last 15 minutes.";

#[derive(Debug, Args)]
pub(crate) struct Backtest {
    #[arg(value_name = "SCENARIO.toml|RECORDING", help = format!(
        "Scenarios to try, and recordings of `ctmon record`; the content decides which it is. Of a recording each namespace with \
         10 ticks or more is tried. How scenarios are written: {}", page("backtest.md")
    ))]
    pub(crate) files: Vec<PathBuf>,
    /// Of recordings only the network namespace with this inode number
    #[arg(long, value_name = "INODE")]
    pub(crate) netns: Option<u64>,
    /// Memory for what is read of recordings and for runs at a time, written like 20M or 1G; up to three times as much is used
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "64M")]
    pub(crate) memory: u64,
    /// Besides, scenarios that are drawn from written ranges
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) drawn: u64,
    /// By which seed they are drawn
    #[arg(long, value_name = "S", default_value = "1")]
    pub(crate) draw_seed: u64,
    /// Forecasters to try, by name [default: all]
    #[arg(long = "forecaster", value_name = "NAME")]
    pub(crate) forecasters: Vec<String>,
    /// Runs of each scenario; a recording is one
    #[arg(long, value_name = "N", default_value = "30", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) seeds: u64,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t = Form::Text)]
    pub(crate) output: Form,
}

/// How to write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people
    Text,
    /// One JSON object a line
    Json,
    /// A page with plots of each scenario's first run
    Html,
}
