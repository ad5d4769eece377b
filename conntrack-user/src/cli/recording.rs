//! Reading a recording: `ctmon replay` and `ctmon export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use conntrack_user::view::export::Format;

use super::Output;

pub(super) const REPLAY_ENDS: &str = "\
Ends with exit code 0 also where the recording is cut or damaged: standard error says where, and
how many bytes were left out; 3 when it is no recording, of a newer format, or on another error.";

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
    /// Where to; standard output by default
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Overwrite an existing file
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
