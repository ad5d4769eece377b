//! Counts within a tick: by windows of about 10 ms.

use serde::{Deserialize, Serialize};

use super::bounds::{self, at_most};

/// What was counted in one namespace since the tick before, window by window. A window is a whole number of
/// jiffies; one that is going on is left to the next tick.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// Length of a window in nanoseconds.
    pub width_ns: u64,
    /// Windows since the tick before.
    pub number: u64,
    /// Windows among them that nobody can tell any more: they were read too late.
    pub missed: u64,
    /// When the first one in `inserts` and `deletes` began, in nanoseconds since 1970 UTC; none where
    /// nothing was counted.
    pub first_ns: Option<u64>,
    /// Inserts by packets in each window, from the first to the last in which anything was counted.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::WINDOWS }>")]
    pub inserts: Vec<u32>,
    /// Deletes in the same windows.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::WINDOWS }>")]
    pub deletes: Vec<u32>,
    /// Windows that were left out at the front of the two lists, because there were too many; the peaks
    /// know them.
    pub left_out: u64,
    /// Most inserts in one window.
    #[serde(alias = "peak_inserts")]
    pub inserts_peak: u32,
    /// Most deletes in one window.
    #[serde(alias = "peak_deletes")]
    pub deletes_peak: u32,
}

impl Windows {
    /// The highest rate of inserts in one window, a second.
    #[must_use]
    pub fn insert_rate_peak(&self) -> Option<f64> {
        self.per_second(self.inserts_peak)
    }

    /// The highest rate of deletes in one window, a second.
    #[must_use]
    pub fn delete_rate_peak(&self) -> Option<f64> {
        self.per_second(self.deletes_peak)
    }

    /// None where no window has ended, or one of them is not known: it may have been the peak.
    fn per_second(&self, count: u32) -> Option<f64> {
        let is_known = self.number > 0 && self.missed == 0 && self.width_ns > 0;
        is_known.then(|| f64::from(count) * 1e9 / self.width_ns as f64)
    }
}

/// Windows that pile up until the tick.
#[derive(Debug, Clone, Default)]
pub struct Pile {
    counts: Windows,
    /// When the last window ends, on the source's clock.
    end_ns: u64,
}

/// Windows kept of a tick: half a minute of them.
const KEPT: usize = 3_000;

impl Pile {
    /// Adds the next window, of `width_ns`, which began at `start_ns`.
    pub fn push(&mut self, start_ns: u64, width_ns: u64, inserts: u32, deletes: u32) {
        let counts = &mut self.counts;
        counts.width_ns = width_ns;
        counts.number += 1;
        counts.inserts_peak = counts.inserts_peak.max(inserts);
        counts.deletes_peak = counts.deletes_peak.max(deletes);
        self.end_ns = start_ns + width_ns;
        if counts.inserts.is_empty() && inserts == 0 && deletes == 0 {
            return;
        }
        counts.inserts.push(inserts);
        counts.deletes.push(deletes);
        // Some at a time, so that each costs little.
        if counts.inserts.len() == 2 * KEPT {
            counts.inserts.drain(..KEPT);
            counts.deletes.drain(..KEPT);
            counts.left_out += KEPT as u64;
        }
    }

    /// Leaves out windows that were not read in time.
    pub fn miss(&mut self, number: u64) {
        // A gap in the lists cannot be told from windows without counts: what was before it goes.
        self.counts.left_out += self.counts.inserts.len() as u64;
        self.counts.inserts.clear();
        self.counts.deletes.clear();
        self.counts.number += number;
        self.counts.missed += number;
    }

    /// All since the last call. `unix_ns`: what to add to the source's clock for nanoseconds since 1970.
    pub fn take(&mut self, unix_ns: i64) -> Windows {
        let mut counts = std::mem::take(&mut self.counts);
        // From the last window on, by which the first one is dated.
        let mut end = self.end_ns.saturating_add_signed(unix_ns);
        let is_quiet = |counts: &Windows| {
            counts.inserts.last() == Some(&0) && counts.deletes.last() == Some(&0)
        };
        while is_quiet(&counts) {
            counts.inserts.pop();
            counts.deletes.pop();
            end = end.saturating_sub(counts.width_ns);
        }
        let length = counts.inserts.len() as u64 * counts.width_ns;
        counts.first_ns = (length > 0).then(|| end.saturating_sub(length));
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: u64 = 8_000_000;

    fn pile(counts: &[(u32, u32)]) -> Pile {
        let mut pile = Pile::default();
        for (index, (inserts, deletes)) in counts.iter().enumerate() {
            pile.push(1_000_000 + index as u64 * WIDTH, WIDTH, *inserts, *deletes);
        }
        pile
    }

    #[test]
    fn the_lists_go_from_the_first_count_to_the_last() {
        let windows = pile(&[(0, 0), (0, 0), (3, 0), (0, 0), (5, 1), (0, 2), (0, 0)]).take(500);
        let expected = Windows {
            width_ns: WIDTH,
            number: 7,
            first_ns: Some(1_000_000 + 2 * WIDTH + 500),
            inserts: vec![3, 0, 5, 0],
            deletes: vec![0, 0, 1, 2],
            inserts_peak: 5,
            deletes_peak: 2,
            ..Windows::default()
        };
        assert_eq!(windows, expected);
        assert_eq!(windows.insert_rate_peak(), Some(625.0));
    }

    #[test]
    fn nothing_counted_is_a_peak_of_0_and_no_window_is_none() {
        let windows = pile(&[(0, 0); 3]).take(0);
        assert_eq!((windows.first_ns, windows.insert_rate_peak()), (None, Some(0.0)));
        assert_eq!(Pile::default().take(0).insert_rate_peak(), None);
    }

    #[test]
    fn what_was_missed_may_have_been_the_peak() {
        let mut pile = pile(&[(9, 0), (1, 0)]);
        pile.miss(4);
        pile.push(1_000_000 + 6 * WIDTH, WIDTH, 2, 0);
        let windows = pile.take(0);
        assert_eq!((windows.number, windows.missed, windows.left_out), (7, 4, 2));
        assert_eq!((windows.inserts, windows.first_ns), (vec![2], Some(1_000_000 + 6 * WIDTH)));
        assert_eq!(windows.inserts_peak, 9);
        let again = Windows { missed: 4, number: 7, width_ns: WIDTH, ..Windows::default() };
        assert_eq!(again.insert_rate_peak(), None);
    }

    #[test]
    fn a_long_tick_keeps_its_end() {
        let mut pile = pile(&vec![(1, 1); 10_000]);
        let windows = pile.take(0);
        let end = 1_000_000 + 10_000 * WIDTH;
        assert_eq!(windows.left_out + windows.inserts.len() as u64, 10_000);
        assert_eq!(windows.first_ns, Some(end - windows.inserts.len() as u64 * WIDTH));
        assert!((KEPT..2 * KEPT).contains(&windows.inserts.len()));
        assert_eq!(windows.number, 10_000);
    }
}
