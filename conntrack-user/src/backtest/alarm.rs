//! When a forecaster gives the alarm.

use super::{said::Said, truth::Truth};

/// Seconds before a fill from which on an alarm is to be given.
pub const ALARM: f64 = 600.0;
/// Ticks that a forecast must hold.
const TICKS: usize = 2;

/// What makes an alarm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// The median of the time to full is at most [`ALARM`], on two ticks.
    Median,
    /// The same, for so many seconds: `for` of a Prometheus alert.
    For(f64),
    /// The table is full to this share.
    Level(f64),
}

impl Rule {
    /// At which of the ticks the alarm is on.
    #[must_use]
    pub fn alarms(self, said: &[Said], truth: &Truth) -> Vec<bool> {
        let soon = |said: &Said| said.median().is_some_and(|seconds| seconds <= ALARM);
        let hold = match self {
            Self::Median => TICKS,
            Self::For(seconds) => truth.ticks(seconds) + 1,
            Self::Level(_) => 1,
        };
        let mut held = 0;
        let ticks = said.iter().zip(&truth.level).zip(&truth.max);
        let alarms = ticks.map(|((said, level), max)| {
            let on = match self {
                Self::Median | Self::For(_) => soon(said),
                Self::Level(share) => *level as f64 >= share * f64::from(*max),
            };
            held = if on { held + 1 } else { 0 };
            held >= hold
        });
        alarms.collect()
    }
}
