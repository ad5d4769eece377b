//! What really happens in a table, and, where it is simulated, the best that could be said before.

use super::{collector, law::Life, said::Said, simulator::Table};
use crate::forecast::outlook::{AHEAD, Quantiles};

/// Seconds that the clairvoyant looks ahead.
const LOOK: f64 = 3600.0;
/// Ticks that it looks ahead at the most.
const LOOK_TICKS: f64 = 6000.0;
/// A table that is below its limit for so many seconds is full a second time afterwards.
const APART: f64 = 60.0;
/// Seconds before a fill in which the lowest level of a recorded table is looked for.
const CLIMB: f64 = 900.0;
/// A recorded table begins to fill when it has come this part of the way up from there.
const BEGUN: u64 = 20;
/// The clairvoyant may waver for so many seconds.
const WAVERS: f64 = 5.0;
/// A level that changes by less than this part of itself in the second half of the look ahead has settled.
const SETTLED: f64 = 0.01;
/// Of the normal law, the 90 % quantile.
const DECILE: f64 = 1.281_551_6;

/// What happens, tick by tick.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    /// Seconds of a tick.
    pub tick: f64,
    /// Entries at each tick.
    pub level: Vec<u64>,
    /// How many there may be.
    pub max: Vec<u32>,
    /// Entries that can be evicted at the limit; none where that is not known.
    pub evictable_entries: Vec<Option<u64>>,
    /// Packets dropped for want of room since the tick before; none where that is not known.
    pub refused: Vec<Option<u64>>,
    /// Whether somebody found it full since the tick before.
    pub found_full: Vec<bool>,
    /// What the clairvoyant says; empty of a recording, of which there is none.
    pub clairvoyant: Vec<Said>,
}

/// What happens at a tick.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Moment {
    /// Entries: see [`Truth::level`].
    pub level: u64,
    /// Limit in entries: see [`Truth::max`].
    pub max: u32,
    /// Evictable entries: see [`Truth::evictable_entries`].
    pub evictable_entries: Option<u64>,
    /// Dropped packets: see [`Truth::refused`].
    pub refused: Option<u64>,
    /// Flag of a full table: see [`Truth::found_full`].
    pub found_full: bool,
    /// Forecast of the clairvoyant, if it has one: see [`Truth::clairvoyant`].
    pub clairvoyant: Option<Said>,
}

/// A time in which a table is full, but for moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// From when on the clairvoyant expected it, without a break: the change that makes it possible is done. Of a
    /// recording: since when the level was on its way up, and the limit what it is.
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

    /// Takes the last tick back.
    pub(super) fn pop(&mut self) {
        self.level.pop();
        self.max.pop();
        self.evictable_entries.pop();
        self.refused.pop();
        self.found_full.pop();
        self.clairvoyant.pop();
    }

    /// What happens at the next tick.
    pub fn push(&mut self, moment: Moment) {
        self.level.push(moment.level);
        self.max.push(moment.max);
        self.evictable_entries.push(moment.evictable_entries);
        self.refused.push(moment.refused);
        self.found_full.push(moment.found_full);
        self.clairvoyant.extend(moment.clairvoyant);
    }

    /// Whether it is known of a fill when packets are dropped for want of room.
    #[must_use]
    pub fn knows_drops(&self, fill: &Fill) -> bool {
        self.refused[fill.start..fill.end].iter().all(Option::is_some)
    }

    /// The first tick of a fill at which a packet is known to be dropped for want of room.
    #[must_use]
    pub fn first_drop(&self, fill: &Fill) -> Option<usize> {
        (fill.start..fill.end).find(|at| self.refused[*at].is_some_and(|refused| refused > 0))
    }

    /// Whether it is at its limit at a tick, or has been since the one before: what is evicted then, and what had
    /// expired, keeps it below.
    #[must_use]
    pub fn is_full(&self, at: usize) -> bool {
        self.level[at] >= u64::from(self.max[at]) || self.found_full[at]
    }

    /// So many seconds in ticks.
    #[must_use]
    pub fn ticks(&self, seconds: f64) -> usize {
        (seconds / self.tick).round() as usize
    }

    /// All fills, in the order of time.
    #[must_use]
    pub fn fills(&self) -> Vec<Fill> {
        let mut fills: Vec<Fill> = vec![];
        for at in (0..self.level.len()).filter(|at| self.is_full(*at)) {
            let ended = match fills.last_mut() {
                Some(last) if at - last.end < self.ticks(APART) => {
                    last.end = at + 1;
                    continue;
                }
                last => last.map_or(0, |last| last.end),
            };
            let is_recorded = self.clairvoyant.is_empty();
            let foreseeable =
                if is_recorded { self.rises(at, ended) } else { self.foreseeable(at) };
            fills.push(Fill { foreseeable, start: at, end: at + 1 });
        }
        fills
    }

    /// Since when a recorded level was on its way to where it is at `start`. What came before `ended` is another fill's.
    fn rises(&self, start: usize, ended: usize) -> usize {
        let earliest = ended.max(start.saturating_sub(self.ticks(CLIMB)));
        // Before the limit was set, another fill was to be foreseen, or none.
        let is_set = |at: &usize| self.max[*at] == self.max[start];
        let same = (earliest..start).rev().take_while(is_set).last().unwrap_or(start);
        let levels = &self.level[same..start];
        let Some(lowest) = levels.iter().min() else { return start };
        // Near the lowest level, noise is as large as what rises.
        let near = lowest + self.level[start].saturating_sub(*lowest) / BEGUN;
        levels.iter().rposition(|level| *level <= near).map_or(start, |at| same + at)
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

/// Knows of each entry that is there when it expires, the rates and laws of those to come, and when the garbage
/// collector comes by; not when they change. What it says is therefore the best that can be said of a table as it is.
#[derive(Debug)]
pub struct Clairvoyant<'a> {
    lives: Vec<&'a Life>,
    tick: f64,
    /// New entries at a tick by stream: what the next two were made from.
    rates: Vec<f64>,
    /// Those of them, all streams together, that have not expired so many ticks later, and their variance.
    new: Vec<(f64, f64)>,
    /// Entries of all streams that expire at each of the ticks to come.
    due: Vec<u32>,
}

impl<'a> Clairvoyant<'a> {
    /// For streams with such lives.
    #[must_use]
    pub fn new(lives: impl Iterator<Item = &'a Life>, tick: f64) -> Self {
        let ticks = Self::ticks(tick);
        let (lives, rates) = (lives.collect(), vec![]);
        Self { lives, tick, rates, new: vec![(0.0, 0.0); ticks], due: vec![0; ticks] }
    }

    /// How many ticks of `tick` seconds it looks ahead.
    #[must_use]
    pub fn ticks(tick: f64) -> usize {
        (LOOK / tick).min(LOOK_TICKS).ceil() as usize
    }

    /// What it says at a tick.
    pub(super) fn look(&mut self, now: usize, table: &Table<'_>) -> Said {
        self.gather(now, table);
        let come = self.new[0];
        let met = collector::met(come.0, table.buckets);
        let (mut pass, wait) = table.collector.passes();
        let mut course = Course::new(table);
        let max = f64::from(table.max);
        let (ahead_ticks, ticks) = ((AHEAD / self.tick).round() as usize, self.new.len());
        let mut full = Quantiles { low: None, median: None, high: None };
        let mut ahead = None;
        let mut means =
            [Average::new(ticks / 2, wait / self.tick), Average::new(ticks, wait / self.tick)];
        for step in 0..=ticks {
            let Course { level, variance, .. } = course;
            let spread = || DECILE * f64::sqrt(variance);
            let seconds = Some(step as f64 * self.tick);
            // As `level + spread >= max`, but for a root at each step.
            let room = max - level;
            let is_near = room <= 0.0 || room * room <= 1.0001 * DECILE * DECILE * variance;
            if full.low.is_none() && is_near && level + spread() >= max {
                full.low = seconds;
            }
            if full.median.is_none() && level >= max {
                full.median = seconds;
            }
            if full.high.is_none() && level >= max && level - spread() >= max {
                full.high = seconds;
            }
            if step == ahead_ticks {
                let (low, high) = (level - spread(), level + spread());
                ahead = Some(Quantiles { low, median: level, high });
            }
            means.iter_mut().for_each(|mean| mean.add(step, level));
            if step == ticks {
                break;
            }
            let is_pass = (now + step + 1) as f64 * self.tick >= pass;
            pass += if is_pass { wait } else { 0.0 };
            let stay = if is_pass { 0.0 } else { 1.0 - met };
            course.step(come, self.new[step], self.due[step].into(), stay);
        }
        let [half, end] = means.map(|mean| mean.get());
        let steady_state = ((end - half).abs() <= SETTLED * end).then_some(end);
        Said { full: Some(full), drop: Some(full), ahead, steady_state, ..Said::default() }
    }

    /// Adds up the streams.
    fn gather(&mut self, now: usize, table: &Table<'_>) {
        let streams = &table.streams;
        self.due.fill(0);
        for stream in streams {
            let due = &stream.due()[now + 1..];
            self.due.iter_mut().zip(due).for_each(|(sum, due)| *sum += due);
        }
        let rates: Vec<f64> = streams.iter().map(|stream| stream.rate(now) * self.tick).collect();
        if rates == self.rates {
            return;
        }
        self.new.fill((0.0, 0.0));
        for ((stream, life), rate) in streams.iter().zip(&self.lives).zip(&rates) {
            let dispersion = stream.plan.arrivals.dispersion;
            for (new, survival) in self.new.iter_mut().zip(&life.survival) {
                new.0 += rate * survival;
                new.1 += rate * survival * dispersion;
            }
        }
        self.rates = rates;
    }
}

/// A level on its way.
#[derive(Debug, Clone, Copy)]
struct Course {
    level: f64,
    /// Of those of the level that have come since: they alone are not certain.
    variance: f64,
    /// Of the level, those that have expired.
    expired: f64,
    expired_variance: f64,
    /// The share of those that expire that is not met at once.
    waits: f64,
}

impl Course {
    fn new(table: &Table<'_>) -> Self {
        let expired = table.streams.iter().map(|stream| stream.expired as f64).sum();
        let (level, waits) = (table.entries() as f64, 1.0 - table.met_at_once);
        Self { level, variance: 0.0, expired, expired_variance: 0.0, waits }
    }

    /// A tick, in which some `come`, of all that came there are `new` more that have not expired, `due` expire of
    /// those from before, and a share of all that have expired `stay`. Of the former two with their variance.
    fn step(&mut self, come: (f64, f64), new: (f64, f64), due: f64, stay: f64) {
        let waits = self.waits;
        let pass = |expired: &mut f64, come: f64, expire: f64| {
            let all = *expired + waits * expire;
            *expired = stay * all;
            come - (1.0 - waits) * expire - (1.0 - stay) * all
        };
        self.level += pass(&mut self.expired, come.0, due + come.0 - new.0);
        self.variance += pass(&mut self.expired_variance, come.1, come.1 - new.1);
    }
}

/// The mean of a level over the last ticks before some tick.
#[derive(Debug, Clone, Copy)]
struct Average {
    from: usize,
    to: usize,
    sum: f64,
}

impl Average {
    fn new(to: usize, ticks: f64) -> Self {
        Self { from: to.saturating_sub(ticks.round().max(1.0) as usize), to, sum: 0.0 }
    }

    fn add(&mut self, at: usize, level: f64) {
        if at > self.from && at <= self.to {
            self.sum += level;
        }
    }

    fn get(self) -> f64 {
        self.sum / (self.to - self.from).max(1) as f64
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
            let full = Some(Quantiles { low: at, median: at, high: at });
            Said { full, ..Said::default() }
        };
        for second in 0..300 {
            let level = match second {
                50..60 | 70..80 | 200.. => 100,
                _ => 90,
            };
            let said = if (40..50).contains(&second) { sees(9.0) } else { Said::default() };
            let (refused, clairvoyant) = (Some(u64::from(second == 55)), Some(said));
            truth.push(Moment { level, max: 100, refused, clairvoyant, ..Moment::default() });
        }
        let expected = [
            Fill { foreseeable: 40, start: 50, end: 80 },
            Fill { foreseeable: 200, start: 200, end: 300 },
        ];
        assert_eq!(truth.fills(), expected);
        assert_eq!(expected.map(|fill| truth.first_drop(&fill)), [Some(55), None]);
    }

    /// A recorded table with these levels, and a limit of `max` that is 100 from `since` on.
    fn recorded(levels: &[u64], max: u32, since: usize) -> Truth {
        let mut truth = Truth::new(1.0);
        for (at, level) in levels.iter().enumerate() {
            let max = if at < since { max } else { 100 };
            truth.push(Moment { level: *level, max, ..Moment::default() });
        }
        truth
    }

    #[test]
    fn a_recorded_fill_begins_with_the_climb_or_with_the_limit() {
        // Noise about 20, then 4 more a second: up to 24 it is near the lowest.
        let mut levels: Vec<u64> = (0..50).map(|at| 20 + at % 3).collect();
        levels.extend((1..=20).map(|at| 20 + 4 * at));
        levels.extend([100; 10]);
        let foreseeable = |truth: &Truth| {
            truth.fills().iter().map(|fill| (fill.foreseeable, fill.start)).collect::<Vec<_>>()
        };
        assert_eq!(foreseeable(&recorded(&levels, 100, 0)), [(50, 69)]);
        assert_eq!(foreseeable(&recorded(&levels, 200, 60)), [(60, 69)]);
        // Lowered onto the level: nobody could know.
        assert_eq!(foreseeable(&recorded(&[100; 20], 200, 10)), [(10, 10)]);
        let truth = recorded(&levels, 100, 0);
        assert!(!truth.knows_drops(&truth.fills()[0]));
    }
}
