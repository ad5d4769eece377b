//! What really happens in a simulated table, and the best that could be said before.

use super::{law::Life, said::Said, stream::Stream};
use crate::forecast::outlook::{AHEAD, Quantiles};

/// Seconds that the clairvoyant looks ahead.
const LOOK: f64 = 3600.0;
/// Ticks that it looks ahead at the most.
const LOOK_TICKS: f64 = 6000.0;
/// A table that is below its limit for so many seconds is full a second time afterwards.
const APART: f64 = 60.0;
/// The clairvoyant may waver for so many seconds.
const WAVERS: f64 = 5.0;
/// Of the normal law, the 90 % quantile.
const DECILE: f64 = 1.281_551_6;

/// What happens, tick by tick.
#[derive(Debug, Default)]
pub struct Truth {
    /// Seconds of a tick.
    pub tick: f64,
    /// Entries at each tick.
    pub level: Vec<u64>,
    /// How many there may be.
    pub max: Vec<u32>,
    /// What the clairvoyant says.
    pub clairvoyant: Vec<Said>,
    /// The first tick at which a packet was dropped for want of room.
    pub first_refused: Option<usize>,
}

/// A time in which a table is full, but for moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// From when on the clairvoyant expected it, without a break: the change that makes it possible is done.
    pub foreseeable: usize,
    /// The first tick at the limit.
    pub start: usize,
    /// The tick after the last.
    pub end: usize,
}

impl Truth {
    /// Of nothing yet.
    #[must_use]
    pub fn new(tick: f64) -> Self {
        Self { tick, ..Self::default() }
    }

    /// What happens at the next tick.
    pub fn push(&mut self, level: u64, max: u32, refused: u64, clairvoyant: Said) {
        if refused > 0 && self.first_refused.is_none() {
            self.first_refused = Some(self.level.len());
        }
        self.level.push(level);
        self.max.push(max);
        self.clairvoyant.push(clairvoyant);
    }

    /// Whether it is at its limit at a tick.
    #[must_use]
    pub fn is_full(&self, at: usize) -> bool {
        self.level[at] >= u64::from(self.max[at])
    }

    /// So many seconds in ticks.
    #[must_use]
    pub fn ticks(&self, seconds: f64) -> usize {
        (seconds / self.tick).round() as usize
    }

    /// All fills, in the order of time; none for a table that is full from the start.
    #[must_use]
    pub fn fills(&self) -> Vec<Fill> {
        let mut fills: Vec<Fill> = vec![];
        for at in (0..self.level.len()).filter(|at| self.is_full(*at)) {
            match fills.last_mut() {
                Some(last) if at - last.end < self.ticks(APART) => last.end = at + 1,
                _ => fills.push(Fill { foreseeable: self.foreseeable(at), start: at, end: at + 1 }),
            }
        }
        fills.retain(|fill| fill.start > 0);
        fills
    }

    fn foreseeable(&self, start: usize) -> usize {
        let mut first = start;
        for at in (0..start).rev() {
            if self.clairvoyant[at].median().is_some() && !self.is_full(at) {
                first = at;
            } else if first - at > self.ticks(WAVERS) || self.is_full(at) {
                break;
            }
        }
        first
    }
}

/// Knows of each entry that is there when it goes, and the rates and laws of those to come; not when they change.
/// What it says is therefore the best that can be said of a table as it is.
#[derive(Debug)]
pub struct Clairvoyant<'a> {
    lives: Vec<&'a Life>,
    tick: f64,
    said: Said,
}

impl<'a> Clairvoyant<'a> {
    /// For streams with such lives.
    #[must_use]
    pub fn new(lives: impl Iterator<Item = &'a Life>, tick: f64) -> Self {
        Self { lives: lives.collect(), tick, said: Said::default() }
    }

    /// How many ticks of `tick` seconds it looks ahead.
    #[must_use]
    pub fn ticks(tick: f64) -> usize {
        (LOOK / tick).min(LOOK_TICKS).ceil() as usize
    }

    /// What it says.
    #[must_use]
    pub fn said(&self) -> Said {
        self.said
    }

    /// Looks ahead from a tick on.
    pub fn look(&mut self, now: usize, streams: &[Stream<'_>], entries: u64, max: u32) {
        let known = streams.iter().zip(&self.lives).map(|(stream, life)| {
            // A tick's arrivals and their variance.
            let arrivals = stream.rate(now) * self.tick;
            (&stream.due()[now + 1..], &life.survival, arrivals, stream.plan.arrivals.dispersion)
        });
        let known: Vec<_> = known.collect();
        let (max, mut level, mut variance) = (f64::from(max), entries as f64, 0.0);
        let ahead_ticks = (AHEAD / self.tick).round() as usize;
        let mut full = Quantiles { low: None, median: None, high: None };
        let mut ahead = None;
        for step in 0..=Self::ticks(self.tick) {
            let spread = DECILE * f64::sqrt(variance);
            let seconds = Some(step as f64 * self.tick);
            let sides =
                [(&mut full.low, spread), (&mut full.median, 0.0), (&mut full.high, -spread)];
            for (quantile, side) in sides {
                if quantile.is_none() && level + side >= max {
                    *quantile = seconds;
                }
            }
            if step == ahead_ticks {
                let (low, high) = (level - spread, level + spread);
                ahead = Some(Quantiles { low, median: level, high });
            }
            if step >= ahead_ticks && full.high.is_some() {
                break;
            }
            for (due, survival, arrivals, dispersion) in &known {
                let new = arrivals * survival.get(step).copied().unwrap_or(0.0);
                level += new - f64::from(due.get(step).copied().unwrap_or(0));
                variance += new * dispersion;
            }
        }
        self.said = Said { full: Some(full), ahead };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fill_begins_at_the_limit_and_lasts_over_moments() {
        let mut truth = Truth::new(1.0);
        let sees = |seconds| {
            let at = Some(seconds);
            Said { full: Some(Quantiles { low: at, median: at, high: at }), ahead: None }
        };
        for second in 0..300 {
            let level = match second {
                50..60 | 70..80 | 200.. => 100,
                _ => 90,
            };
            let said = if (40..50).contains(&second) { sees(9.0) } else { Said::default() };
            truth.push(level, 100, u64::from(second >= 55), said);
        }
        let expected = [
            Fill { foreseeable: 40, start: 50, end: 80 },
            Fill { foreseeable: 200, start: 200, end: 300 },
        ];
        assert_eq!((truth.fills(), truth.first_refused), (expected.to_vec(), Some(55)));
    }
}
