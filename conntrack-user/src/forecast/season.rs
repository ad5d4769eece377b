//! Arrivals that recur: a cron job, a wave of the day. What comes next is then what came after the same moment of the
//! period before.

use std::{collections::VecDeque, ops::Range};

use super::arrivals::Rate;

/// Seconds whose arrivals are taken together.
const STEP: f64 = 10.0;
/// Steps that are kept: an hour.
const KEPT: usize = 360;
/// Steps after which it is looked for a period again.
const EACH: usize = 3;
/// A period has at least so many steps.
const SHORTEST: usize = 6;
/// Rates vary by more than so many times what chance does, or there is nothing to recur.
const VARIES: f64 = 9.0;
/// The mean square of what is between a step and the one a period before it, by what it is between any two, is below
/// this. On a ramp, at a step, and while a wave has not come round it is above 1.
const LIKE: f64 = 0.2;
/// A period is the shortest whose square is so near to the least.
const NEAREST: f64 = 1.3;
/// What is off by more than so many standard deviations of chance, and this part of the range, is something new.
const CHANCE: f64 = 4.0;
const RANGE: f64 = 0.15;
/// Steps in a row that are off, until the period is given up.
const GIVEN_UP: u32 = 2;

/// The arrivals of a protocol, and the period in them.
#[derive(Debug, Clone, Default)]
pub(super) struct Season {
    /// Arrivals a second in each step, the latest last.
    steps: VecDeque<f32>,
    /// Arrivals and seconds of the step that has begun.
    begun: f64,
    seconds: f64,
    /// What recurs.
    period: Option<Period>,
    /// Steps until it is looked for one.
    wait: usize,
    /// Steps in a row that were not as a period before.
    off: u32,
}

#[derive(Debug, Clone, Copy)]
struct Period {
    /// Steps.
    length: usize,
    /// The mean square of what is between a step and the one a period before.
    square: f64,
}

/// What is to come by the period before: a rate from each time ahead to the next, in seconds.
#[derive(Debug, Clone)]
pub(super) struct Recurring {
    /// (seconds ahead, arrivals a second until then), the first from now on.
    pub(super) until: Vec<(f64, f64)>,
    /// Arrivals a second after the last of them.
    pub(super) mean: f64,
    /// Seconds after which they come again.
    pub(super) every: f64,
    /// Variance of the arrivals of a second, of those of a step that vary together.
    pub(super) variance: f64,
}

impl Recurring {
    /// The parts up to `ahead` seconds: from when to when, and arrivals a second.
    pub(super) fn parts(&self, ahead: f64) -> impl Iterator<Item = (f64, f64, f64)> {
        let last = self.until.last().map_or(0.0, |part| part.0);
        let ends = self.until.iter().copied().chain([(ahead.max(last), self.mean)]);
        let mut from = 0.0;
        let parts =
            ends.map(move |(to, rate)| (std::mem::replace(&mut from, to), to.min(ahead), rate));
        parts.take_while(|(from, to, _)| from < to)
    }
}

impl Season {
    /// Takes in what has come in the last `seconds`. `dispersion`: the variance of the arrivals of a second by their
    /// mean.
    pub(super) fn push(&mut self, inserts: f64, seconds: f64, dispersion: impl FnOnce() -> f64) {
        self.begun += inserts;
        self.seconds += seconds;
        if self.seconds < STEP - 1e-6 {
            return;
        }
        let (rate, dispersion) = (self.begun / self.seconds, dispersion());
        (self.begun, self.seconds) = (0.0, 0.0);
        if let Some(period) = self.period {
            self.off = if self.is_as(&period, rate, dispersion / STEP) { 0 } else { self.off + 1 };
            if self.off >= GIVEN_UP {
                self.period = None;
                self.wait = period.length;
            }
        }
        if self.steps.len() == KEPT {
            self.steps.pop_front();
        }
        self.steps.push_back(rate as f32);
        self.wait = self.wait.saturating_sub(1);
        if self.wait == 0 {
            self.wait = EACH;
            self.period = self.find(dispersion);
        }
    }

    /// What came is not known for a while.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What is to come, where it recurs and the rate now is as it was a period before.
    pub(super) fn ahead(&self, rate: &Rate) -> Option<Recurring> {
        let period = self.period?;
        let noise = rate.dispersion / rate.since.clamp(1.0, STEP);
        if self.off > 0 || !self.is_as(&period, rate.level, noise) {
            return None;
        }
        let first = self.steps.len() - period.length;
        let mut until = Vec::with_capacity(period.length + 1);
        let mut ahead = STEP - self.seconds;
        until.push((ahead, rate.level));
        for step in self.steps.range(first + 1..) {
            ahead += STEP;
            until.push((ahead, f64::from(*step)));
        }
        let sum: f32 = self.steps.range(first..).sum();
        let mean = f64::from(sum) / period.length as f64;
        let every = period.length as f64 * STEP;
        Some(Recurring { until, mean, every, variance: period.square * STEP })
    }

    /// Whether the rate of the step that has begun is what it was a period before, give or take a step.
    fn is_as(&self, period: &Period, rate: f64, noise: f64) -> bool {
        let before = self.steps.len() - period.length;
        let (low, high) = self.range(before.saturating_sub(1)..(before + 2).min(self.steps.len()));
        let (least, most) = self.range(before..self.steps.len());
        let more = RANGE * (most - least) + CHANCE * (noise * (high + 1.0)).sqrt();
        (low - more..=high + more).contains(&rate)
    }

    /// The least and the highest rate of some steps.
    fn range(&self, steps: Range<usize>) -> (f64, f64) {
        let (low, high) = self
            .steps
            .range(steps)
            .fold((f32::INFINITY, 0.0_f32), |(low, high), step| (low.min(*step), high.max(*step)));
        (low.into(), high.into())
    }

    /// The shortest period that explains the latest steps, where there is one.
    fn find(&self, dispersion: f64) -> Option<Period> {
        let steps: Vec<f32> = self.steps.iter().copied().collect();
        // Sums of the steps, and of their squares, from each one on.
        let mut sums = vec![(0.0, 0.0); steps.len() + 1];
        for (at, step) in steps.iter().map(|step| f64::from(*step)).enumerate().rev() {
            let (sum, squares) = sums[at + 1];
            sums[at] = (sum + step, squares + step * step);
        }
        let is_period = |period: &Period| {
            let number = 2 * period.length;
            let (sum, squares) = sums[steps.len() - number];
            let mean = sum / number as f64;
            let variance = squares / number as f64 - mean * mean;
            let chance = dispersion * mean / STEP;
            let most = LIKE * 2.0 * variance + 2.0 * chance;
            variance > VARIES * chance && period.square < most
        };
        let lengths = SHORTEST..=steps.len() / 2;
        let likely: Vec<Period> =
            lengths.map(|length| Period::of(&steps, length)).filter(is_period).collect();
        let least = likely.iter().map(|period| period.square).fold(f64::INFINITY, f64::min);
        likely.into_iter().find(|period| period.square <= NEAREST * least)
    }
}

impl Period {
    /// The last `length` steps against as many before them.
    fn of(steps: &[f32], length: usize) -> Self {
        let (rest, after) = steps.split_at(steps.len() - length);
        let before = &rest[rest.len() - length..];
        let squares: f32 = before.iter().zip(after).map(|(one, other)| (one - other).powi(2)).sum();
        Self { length, square: f64::from(squares) / length as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After so many seconds with these arrivals.
    fn season(rate: impl Fn(u32) -> f64, seconds: u32) -> Season {
        let mut season = Season::default();
        (0..seconds).for_each(|second| season.push(rate(second), 1.0, || 1.0));
        season
    }

    /// A job opens connections for a minute, every four.
    fn cron(second: u32) -> f64 {
        if second % 240 < 60 { 1100.0 } else { 100.0 }
    }

    fn now(level: f64, since: f64) -> Rate {
        Rate { level, since, dispersion: 1.0, ..Rate::default() }
    }

    #[test]
    fn what_recurs_ends_as_it_did_before() {
        // For 20 s it goes on again.
        let season = season(cron, 2 * 240 + 20);
        let recurring = season.ahead(&now(1100.0, 20.0)).expect("a period");
        let rate_in = |seconds: f64| recurring.parts(1e4).find(|part| part.1 > seconds).unwrap().2;
        assert_eq!(
            [5.0, 35.0, 45.0, 200.0, 225.0].map(rate_in),
            [1100.0, 1100.0, 100.0, 100.0, 1100.0]
        );
        assert!((recurring.mean - 350.0).abs() < 1.0, "{recurring:?}");
        let parts: f64 = recurring.parts(90.0).map(|(from, to, rate)| rate * (to - from)).sum();
        assert_eq!(parts, 40.0 * 1100.0 + 50.0 * 100.0);
    }

    #[test]
    fn what_comes_at_another_time_or_goes_on_is_something_new() {
        let at_another = season(cron, 2 * 240 + 120);
        assert!(at_another.ahead(&now(100.0, 60.0)).is_some());
        assert!(at_another.ahead(&now(1100.0, 3.0)).is_none());
        // Twenty seconds longer than before.
        let longer =
            season(|second| if second > 480 { 1100.0 } else { cron(second) }, 2 * 240 + 80);
        assert!(longer.ahead(&now(1100.0, 80.0)).is_none());
    }

    #[test]
    fn a_rate_that_stays_a_step_and_a_ramp_have_no_period() {
        let rates: [fn(u32) -> f64; 4] = [
            |_| 1000.0,
            |second| if second < 900 { 100.0 } else { 1100.0 },
            |second| f64::from(second),
            |second| if (900..960).contains(&second) { 1100.0 } else { 100.0 },
        ];
        for (at, rate) in rates.into_iter().enumerate() {
            for seconds in (300..3600).step_by(100) {
                let season = season(rate, seconds);
                let recurring = season.ahead(&now(rate(seconds - 1), 10.0));
                assert!(recurring.is_none(), "{at} after {seconds} s: {season:?}");
            }
        }
    }
}
