//! The leak matrix: leaks of three rates after no burst, one and three, met early and late.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{record::Order, script, ticks::Tick};
use crate::workspace;

/// Rates of the leak, in connections a second, and seconds that it takes to fill what the bursts leave.
const RATES: [(u32, u32); 3] = [(3, 150), (15, 150), (100, 60)];
/// Numbers of bursts.
const BURSTS: [u32; 3] = [0, 1, 3];
/// Cells that are recorded on these kernels, too.
const MORE: [(u32, u32, bool); 3] = [(3, 0, false), (15, 1, false), (15, 3, true)];
const KERNELS: [&str; 2] = ["6.1", "newest"];

/// Seconds before the full table at which `critical` is due.
const LEAD: f64 = 60.0;
/// Seconds of a fill below which `critical` is due [`SOON`] seconds after its begin instead.
const SHORT: f64 = 75.0;
const SOON: f64 = 8.0;
/// Seconds before the full table from which on the median is judged.
const JUDGED: f64 = 100.0;
/// Error of the median that is met: a share of what is left, or seconds.
const SHARE: f64 = 0.25;
const SECONDS: f64 = 3.0;
/// Median that counts as never.
const NEVER: f64 = 3.0 * 3600.0;

/// One leak.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cell {
    rate: u32,
    bursts: u32,
    /// The recording starts when a third of the leak is over.
    late: bool,
    kernel: Option<&'static str>,
}

/// Folder of the recordings.
pub(super) fn folder() -> Result<PathBuf> {
    Ok(workspace::target()?.join("corpus-matrix"))
}

/// All cells: those on the usual kernel first.
pub(super) fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (rate, _) in RATES {
        for bursts in BURSTS {
            cells.extend([false, true].map(|late| Cell { rate, bursts, late, kernel: None }));
        }
    }
    for kernel in KERNELS {
        let more =
            MORE.map(|(rate, bursts, late)| Cell { rate, bursts, late, kernel: Some(kernel) });
        cells.extend(more);
    }
    cells
}

impl Cell {
    pub(super) fn name(&self) -> String {
        let Self { rate, bursts, late, kernel } = self;
        let attach = if *late { "late" } else { "early" };
        let kernel = kernel.map_or(String::new(), |kernel| format!("-{kernel}"));
        format!("rate-{rate}-bursts-{bursts}-{attach}{kernel}")
    }

    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.mcap", self.name()))
    }

    /// Seconds that the leak takes.
    fn seconds(&self) -> u32 {
        RATES.iter().find(|(rate, _)| *rate == self.rate).map_or(0, |(_, seconds)| *seconds)
    }

    /// Connections of all bursts: four times the leak at the lowest rate, else half as many again or two thirds.
    fn held(&self) -> u32 {
        let leaked = self.rate * self.seconds();
        match (self.bursts, self.rate) {
            (0, _) => 0,
            (_, 3) => leaked * 4,
            (_, 15) => leaked * 3 / 2,
            _ => leaked * 3 / 5,
        }
    }

    pub(super) fn order(&self) -> Result<Order> {
        let late = if self.late { self.seconds() / 3 } else { 0 };
        let variables = [
            ("RATE", self.rate),
            ("BURSTS", self.bursts),
            ("BURST", self.held() / self.bursts.max(1)),
            ("LATE", late),
            ("MAX", self.held() + self.rate * self.seconds()),
        ];
        let script = script("leak-matrix.sh", &variables)?;
        Ok(Order { name: self.name(), script, kernel: self.kernel.map(str::to_owned) })
    }

    /// Judges what the monitor said at each tick.
    pub(super) fn judge(&self, ticks: &[Tick]) -> Option<Verdict> {
        let full = ticks.iter().find(|tick| tick.entries >= tick.limit)?.time;
        let held = f64::from(self.held());
        let first = ticks.iter().find(|tick| tick.entries > held)?.time;
        let fill = if self.late { f64::from(self.seconds()) } else { full - first };
        let leak = || ticks.iter().filter(|tick| (first..full).contains(&tick.time));
        let critical = leak().rev().take_while(|tick| tick.severity == "critical").last();
        let critical = critical.map(|tick| tick.time);
        let due = if fill < SHORT { first + SOON } else { full - LEAD };
        let from = f64::max(full - JUDGED, first + SOON);
        let mut worst = 0.0_f64;
        let mut wrong = 0;
        for tick in leak().filter(|tick| tick.time >= from) {
            let left = full - tick.time;
            let off = tick.median.map_or(f64::INFINITY, |median| (median - left).abs());
            wrong += usize::from(off > f64::max(SHARE * left, SECONDS));
            worst = worst.max(off / f64::max(SHARE * left, SECONDS));
        }
        let is_never = |tick: &&Tick| {
            tick.state == "draining" || tick.median.is_none_or(|median| median > NEVER)
        };
        let never = leak().filter(|tick| tick.time >= first + SOON).filter(is_never).count();
        let in_time = critical.is_some_and(|critical| critical <= due);
        Some(Verdict {
            fill: full - first,
            lead: critical.map(|critical| full - critical),
            after: critical.map(|critical| critical - first),
            wrong,
            worst,
            never,
            met: in_time && wrong == 0 && never == 0,
            in_time,
        })
    }
}

/// What was said of a leak. Times are seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// From the first leaked entry that is recorded to the full table.
    fill: f64,
    /// From the begin of `critical` to the full table; none where it was not critical just before.
    lead: Option<f64>,
    /// From the first leaked entry that is recorded to the begin of `critical`.
    after: Option<f64>,
    /// `critical` was in time.
    in_time: bool,
    /// Ticks with a wrong median.
    wrong: usize,
    /// Largest error of a median, as a multiple of what is met.
    worst: f64,
    /// Ticks at which the table was draining, or the median was never or beyond three hours.
    never: usize,
    pub(super) met: bool,
}

impl Verdict {
    pub(super) fn text(&self) -> String {
        let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.0}"));
        let met = |met| if met { "met" } else { "NOT MET" };
        format!(
            "full after {:>3.0} s; critical {:>3} s before, {:>3} s after the first: {:7}; median wrong at {:>3} ticks, \
             worst {:>5.2} of what is met; never or draining at {:>3} ticks; {}",
            self.fill,
            seconds(self.lead),
            seconds(self.after),
            met(self.in_time),
            self.wrong,
            self.worst,
            self.never,
            met(self.met)
        )
    }
}

#[cfg(test)]
#[path = "matrix_tests.rs"]
mod tests;
