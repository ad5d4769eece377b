//! Reading a recording: `ctmon replay` and `ctmon export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use conntrack_user::{source::recording::part::Moment, view::export::Format};

use super::Output;

pub(super) const REPLAY_ENDS: &str = "\
Ends with exit code 0 when all was read, also of a recording that is still being written; 4 when it is
cut or damaged: standard error says where, and how many bytes were left out; 3 when it is no
recording, of a newer format, or on another error.";

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// A recording; -: standard input
    pub(crate) file: PathBuf,
    /// How many times as fast as it was recorded; max: without waiting
    #[arg(long, value_parser = parse_speed, default_value = "1")]
    pub(crate) speed: Speed,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// As `ctmon watch --causes`
    #[arg(long)]
    pub(crate) causes: bool,
    /// As `ctmon watch --flows`
    #[arg(long)]
    pub(crate) flows: bool,
    /// Show it from this moment on, so long after its start (30s, 1m30s) or in UTC (2026-11-25T04:30:00Z).
    /// What comes before is taken in without waiting, so that the numbers are those of the whole
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) from: Option<Moment>,
    /// End before this moment, written like that of --from
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) to: Option<Moment>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// A recording; -: standard input
    pub(crate) file: PathBuf,
    /// Format of the table
    #[arg(long, value_enum)]
    pub(crate) format: Format,
    /// What the rows are
    #[arg(long, value_enum, default_value_t = What::Ticks)]
    pub(crate) what: What,
    /// Output file, made with mode 0600; standard output by default
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Replace an existing file, but no symbolic link
    #[arg(long, requires = "to")]
    pub(crate) force: bool,
}

/// What the rows of an exported table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// A namespace at a tick
    Ticks,
    /// A flow event
    Events,
}

/// How fast a recording is replayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    /// So many times as fast as it was recorded.
    Times(f64),
    /// Without waiting.
    Max,
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Speed::Max),
        Ok(times) if times > 0.0 && times.is_finite() => Ok(Speed::Times(times)),
        _ => Err("it must be a number above 0, or max".into()),
    }
}

fn parse_moment(text: &str) -> Result<Moment, String> {
    let offset = humantime::parse_duration(text).map(Moment::Offset);
    offset.or_else(|_| humantime::parse_rfc3339_weak(text).map(Moment::At)).map_err(|_| {
        "it is written like 30s or 1m30s, counted from the start, or like 2026-11-25T04:30:00Z"
            .into()
    })
}
