//! High-water marks of a table over the last 75 s: no scrape misses a peak that lies between it and the one before.

use std::collections::VecDeque;

use crate::model::{tick::NetnsTick, windows::Windows};

/// Seconds that a high-water mark covers at least: 60 s between two scrapes, and a quarter of that for one that is late.
pub const WINDOW_SECS: u64 = 75;

const SECOND_NS: u64 = 1_000_000_000;

/// High-water marks of one namespace.
#[derive(Debug, Clone, Default)]
pub struct HighWater {
    entries: Maximum<u64>,
    insert_rate: Maximum<f64>,
}

/// The tick before, as far as the level between two ticks follows from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Before {
    /// Entries then.
    pub(super) entries: u64,
    /// Time of the tick, in nanoseconds since 1970 UTC.
    pub(super) unix_ns: u64,
}

impl HighWater {
    /// Takes in a tick at `now_ns` (`CLOCK_MONOTONIC`); `before`: the one before.
    pub(super) fn observe(&mut self, now_ns: u64, netns: &NetnsTick, before: Option<Before>) {
        let between = netns.windows.as_ref().zip(before);
        let between = between.and_then(|(windows, before)| highest_between(windows, before));
        self.entries.push(now_ns, netns.entries.at_most().max(between));
        self.insert_rate.push(now_ns, netns.rates.insert);
    }

    /// Lets time pass in which nothing happened; `is_idle`: that is known, and the table is as it was.
    pub(super) fn rest(&mut self, now_ns: u64, netns: &NetnsTick, is_idle: bool) {
        self.entries.push(now_ns, netns.entries.at_most().filter(|_| is_idle));
        self.insert_rate.push(now_ns, netns.rates.insert.filter(|_| is_idle).map(|_| 0.0));
    }

    /// Most entries in the window; none where they were not available.
    #[must_use]
    pub fn entries(&self) -> Option<u64> {
        self.entries.get()
    }

    /// Highest insert rate of a tick in the window, a second; none where inserts are not counted.
    #[must_use]
    pub fn insert_rate(&self) -> Option<f64> {
        self.insert_rate.get()
    }
}

/// The highest level between two ticks, at the ends of the 10 ms windows. Not above the true one, but for entries in
/// flight: of a window that began before the tick before, or less than a window's width after it (a tick reads for a while),
/// only the deletes count. None where windows are missing.
fn highest_between(windows: &Windows, before: Before) -> Option<u64> {
    let first_ns = windows.first_ns.filter(|_| windows.missed == 0 && windows.left_out == 0)?;
    let starts = (0..).map(|at| first_ns.saturating_add(at * windows.width_ns));
    let counts = windows.inserts.iter().zip(&windows.deletes).zip(starts);
    let mut level = before.entries as i64;
    let mut highest = None;
    for ((inserts, deletes), start_ns) in counts {
        level -= i64::from(*deletes);
        if start_ns >= before.unix_ns.saturating_add(windows.width_ns) {
            level += i64::from(*inserts);
        }
        highest = highest.max(Some(level));
    }
    highest.map(|level| level.max(0) as u64)
}

/// The largest value of the last [`WINDOW_SECS`], in at most as many and one places.
#[derive(Debug, Clone)]
struct Maximum<T> {
    /// Second in which a value was last seen, and the value. Values fall, so the first one is the largest.
    falling: VecDeque<(u64, T)>,
}

impl<T> Default for Maximum<T> {
    fn default() -> Self {
        Self { falling: VecDeque::new() }
    }
}

impl<T: Copy + PartialOrd> Maximum<T> {
    /// Forgets what is old; takes in a value, where there is one.
    fn push(&mut self, now_ns: u64, value: Option<T>) {
        let second = now_ns / SECOND_NS;
        while self.falling.front().is_some_and(|(at, _)| at + WINDOW_SECS < second) {
            self.falling.pop_front();
        }
        let Some(value) = value else { return };
        while self.falling.back().is_some_and(|(_, last)| *last <= value) {
            self.falling.pop_back();
        }
        // What is less within the same second would be forgotten with it.
        if self.falling.back().is_none_or(|(at, _)| *at < second) {
            self.falling.push_back((second, value));
        }
    }

    fn get(&self) -> Option<T> {
        self.falling.front().map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tick::{Entries, Rates};

    fn tick(entries: u64, insert: Option<f64>) -> NetnsTick {
        let rates = Rates { insert, ..Rates::default() };
        NetnsTick { rates, ..NetnsTick::example(7, entries, 20_000) }
    }

    #[test]
    fn a_peak_of_two_seconds_is_seen_by_a_scrape_a_minute_later_and_forgotten_then() {
        let mut high = HighWater::default();
        for second in 1..=200u64 {
            let peak = (10..12).contains(&second);
            let one = if peak { tick(15_000, Some(7_500.0)) } else { tick(20, Some(0.5)) };
            high.observe(second * SECOND_NS, &one, None);
            let seen = (high.entries(), high.insert_rate());
            match second {
                10..=86 => assert_eq!(seen, (Some(15_000), Some(7_500.0)), "{second}"),
                _ => assert_eq!(seen, (Some(20), Some(0.5)), "{second}"),
            }
        }
    }

    #[test]
    fn memory_is_bounded_however_short_ticks_are() {
        let mut high = HighWater::default();
        for tick_number in 0..30_000u64 {
            let falling = tick(1_000_000 - tick_number, Some(1e6 - tick_number as f64));
            high.observe(tick_number * SECOND_NS / 100, &falling, None);
        }
        let places = WINDOW_SECS as usize + 1;
        assert!(high.entries.falling.len() <= places, "{}", high.entries.falling.len());
        // At least the last 75 s: the value of then is still known.
        let then = 1_000_000 - (29_999 - WINDOW_SECS * 100);
        assert!(high.entries().unwrap() >= then, "{:?} {then}", high.entries());
    }

    #[test]
    fn an_idle_table_keeps_its_level_and_what_is_unavailable_is_none() {
        let mut high = HighWater::default();
        high.observe(SECOND_NS, &tick(900, Some(30.0)), None);
        for second in 2..=200 {
            high.rest(second * SECOND_NS, &tick(400, Some(3.0)), true);
        }
        assert_eq!((high.entries(), high.insert_rate()), (Some(400), Some(0.0)));
        let mut unknown = HighWater::default();
        let unread = NetnsTick { entries: Entries::Unavailable, ..tick(0, None) };
        unknown.observe(SECOND_NS, &unread, None);
        unknown.rest(2 * SECOND_NS, &tick(5, None), false);
        assert_eq!((unknown.entries(), unknown.insert_rate()), (None, None));
    }

    #[test]
    fn what_comes_and_goes_within_a_tick_is_seen_by_its_windows() {
        let before = Before { entries: 100, unix_ns: 1_000 };
        let windows = |first_ns, inserts: &[u32], deletes: &[u32]| Windows {
            width_ns: 10,
            number: inserts.len() as u64,
            first_ns: Some(first_ns),
            inserts: inserts.into(),
            deletes: deletes.into(),
            ..Windows::default()
        };
        let burst = windows(1_010, &[5_000, 10_000, 0], &[0, 0, 15_000]);
        assert_eq!(highest_between(&burst, before), Some(15_100));
        // The first two windows began before the tick before or right after: their inserts may be in the 100 already.
        let early = windows(995, &[50, 40, 10, 0], &[20, 0, 0, 10]);
        assert_eq!(highest_between(&early, before), Some(90));
        let missing = Windows { missed: 1, ..burst.clone() };
        assert_eq!(highest_between(&missing, before), None);
        let mut high = HighWater::default();
        let netns = NetnsTick { windows: Some(burst), ..tick(100, Some(15_000.0)) };
        high.observe(SECOND_NS, &netns, Some(before));
        assert_eq!(high.entries(), Some(15_100));
    }
}
