//! Entries that are allocated and not in the hash: a second law beside the drift, which rests on allocations and frees alone.
//!
//! An entry is allocated, hashed, deleted and freed, or allocated and freed. So
//! `unhashed = allocs - inserts - frees of entries never hashed` and `dying = deletes - frees of hashed entries` are never
//! below what they were when the programs were attached, and come back to it whenever nothing is in flight. An insert that
//! was missed raises the one for good, a delete that was missed lowers the other.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::bounds::{self, at_most};

use super::counts::Books;

/// Nanoseconds over which the lowest number counts, twice in a row: entries that something holds go within that time, or
/// are named.
const WINDOW_NS: u64 = 600_000_000_000;
/// Nanoseconds in which entries that were dying when the programs were attached are freed.
const FLOOR_NS: u64 = 10_000_000_000;
/// Nanoseconds after which entries in flight are said to be held by something.
const HELD_NS: u64 = 10_000_000_000;
/// Ticks over which the lowest number counts: as of the drift.
const TICKS: usize = 3;

/// Entries in flight at one moment, less those that were when the programs were attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// Allocated and not hashed.
    pub unhashed: i64,
    /// Deleted and not freed.
    pub dying: i64,
    /// Packets that wait in queues (NFQUEUE); read once a second while entries are unhashed, none otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<u64>,
}

impl InFlight {
    /// The lowest of both that two reads in a row agree on: nothing was counted between them.
    #[must_use]
    pub fn lowest(reads: &[Books]) -> Option<Self> {
        let agreeing = reads.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| Self {
            unhashed: pair[1].unhashed(),
            dying: pair[1].dying(),
            queued: None,
        });
        agreeing.reduce(|a, b| Self {
            unhashed: a.unhashed.min(b.unhashed),
            dying: a.dying.min(b.dying),
            queued: None,
        })
    }
}

/// Entries in flight as shown at a tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InFlightTick {
    /// Entries that are allocated and not hashed; none while the table moves.
    pub unhashed: Option<i64>,
    /// Entries that are deleted and not freed; below 0, deletes were missed. None while the table moves.
    pub dying: Option<i64>,
    /// Numbers that have been above 0 for 10 s.
    pub held: Held,
    /// Packets that wait in queues (NFQUEUE), each with an entry that may be unhashed; none where that is not known.
    pub queued: Option<u64>,
    /// Inserts that were missed; none before 20 min.
    pub inserts_missed: Option<u64>,
    /// Deletes that were missed; none before 20 min.
    pub deletes_missed: Option<u64>,
}

impl InFlightTick {
    /// Whether calls were missed for good.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        [self.inserts_missed, self.deletes_missed].iter().flatten().any(|missed| *missed > 0)
    }
}

/// Which entries something holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Entries that are allocated and not hashed: mostly packets in a queue (NFQUEUE) hold them.
    pub unhashed: bool,
    /// Entries that are deleted and not freed: mostly a reliable ctnetlink listener that does not read holds them.
    pub dying: bool,
}

/// Follows the entries in flight of one namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlightTracker {
    unhashed: Track,
    dying: Track,
    /// Packets in queues, as last read.
    queued: Option<u64>,
}

/// Follows one of the two numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Track {
    /// When it was first known.
    since_ns: Option<u64>,
    /// Number when nothing is in flight.
    floor: i64,
    /// The number at the last [`TICKS`] ticks.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::REMEMBERED }>")]
    recent: VecDeque<i64>,
    /// Since when it has been above its floor.
    above_ns: Option<u64>,
    window: Window,
}

/// The lowest number of the window that is now, and of the two before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Window {
    since_ns: u64,
    now: Option<i64>,
    before: [Option<i64>; 2],
}

impl InFlightTracker {
    /// Takes in what was read at `now_ns`, of which `None` says nothing.
    pub fn observe(&mut self, now_ns: u64, read: Option<InFlight>) -> InFlightTick {
        let Some(read) = read else {
            return InFlightTick::default();
        };
        // What was in flight at the start is hashed some time, however late: that is nobody's miss.
        let unhashed = self.unhashed.observe(now_ns, read.unhashed, true);
        let dying = self.dying.observe(now_ns, read.dying, false);
        let held =
            Held { unhashed: self.unhashed.is_held(now_ns), dying: self.dying.is_held(now_ns) };
        // Not read at every tick, nor where all is in the table.
        self.queued = read.queued.or(self.queued).filter(|_| unhashed > 0);
        let queued = self.queued;
        let waiting = i64::try_from(queued.unwrap_or(0)).unwrap_or(i64::MAX);
        let missed = |number: i64| u64::try_from(number).unwrap_or(0);
        let inserts = self.unhashed.twice().map(|[a, b]| missed(a.min(b).saturating_sub(waiting)));
        let deletes = self.dying.twice().map(|[a, b]| missed(a.max(b).saturating_neg()));
        InFlightTick {
            unhashed: Some(unhashed),
            dying: Some(dying),
            held,
            queued,
            inserts_missed: inserts,
            deletes_missed: deletes,
        }
    }
}

impl Track {
    /// Takes in the number as it is now; returns the lowest of the last ticks above the floor. `sinks`: the floor does at
    /// any time, else at the beginning only.
    fn observe(&mut self, now_ns: u64, number: i64, sinks: bool) -> i64 {
        let age_ns = match self.since_ns {
            Some(since_ns) => now_ns.saturating_sub(since_ns),
            None => {
                // Programs are attached one after the other: under load the first numbers differ.
                (self.since_ns, self.floor) = (Some(now_ns), number);
                0
            }
        };
        if sinks || age_ns < FLOOR_NS {
            self.floor = self.floor.min(number);
        }
        if age_ns < FLOOR_NS {
            // Of calls that are missed from the start on, the first number, which is the floor, has none.
            self.window = Window { since_ns: now_ns, ..Window::default() };
        }
        self.window.observe(now_ns, number);
        self.recent.push_back(number);
        if self.recent.len() > TICKS {
            self.recent.pop_front();
        }
        let lowest = self.recent.iter().copied().min().unwrap_or(number) - self.floor;
        self.above_ns = if lowest > 0 { self.above_ns.or(Some(now_ns)) } else { None };
        lowest
    }

    fn is_held(&self, now_ns: u64) -> bool {
        self.above_ns.is_some_and(|since_ns| now_ns.saturating_sub(since_ns) >= HELD_NS)
    }

    /// The lowest numbers of the last two windows, above the floor; none where one of them is not known.
    fn twice(&self) -> Option<[i64; 2]> {
        let [first, second] = self.window.before;
        Some([first? - self.floor, second? - self.floor])
    }
}

impl Window {
    fn observe(&mut self, now_ns: u64, number: i64) {
        if now_ns.saturating_sub(self.since_ns) >= WINDOW_NS {
            // One in which nothing was known says nothing.
            let is_next = now_ns - self.since_ns < 2 * WINDOW_NS;
            self.before = [self.before[1].filter(|_| is_next), self.now.take().filter(|_| is_next)];
            self.since_ns = now_ns;
        }
        self.now = Some(self.now.map_or(number, |now| now.min(number)));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::counts::Balance, *};

    const SECOND: u64 = 1_000_000_000;

    /// The tick after `seconds` in which the numbers were as given, one a second, from `from` on.
    fn run(
        tracker: &mut InFlightTracker,
        from: u64,
        seconds: u64,
        [unhashed, dying]: [i64; 2],
        queued: Option<u64>,
    ) -> InFlightTick {
        let mut last = InFlightTick::default();
        for second in from..from + seconds {
            last = tracker.observe(second * SECOND, Some(InFlight { unhashed, dying, queued }));
        }
        last
    }

    fn books(allocs: u64, inserts: u64, deletes: u64, frees: u64, frees_unhashed: u64) -> Books {
        Books { balance: Balance { allocs, frees }, inserts, deletes, frees_unhashed }
    }

    #[test]
    fn reads_tell_what_is_in_flight_where_two_agree() {
        // Of 10 allocated, 7 were hashed and 1 was freed without; of 5 deleted, 4 were freed.
        let one = books(10, 7, 5, 5, 1);
        let other = books(11, 7, 5, 5, 1);
        assert_eq!(
            InFlight::lowest(&[one, one]),
            Some(InFlight { unhashed: 2, dying: 1, queued: None })
        );
        assert_eq!(InFlight::lowest(&[one, other]), None);
        let hashed = books(11, 10, 5, 6, 1);
        let lowest = Some(InFlight { unhashed: 0, dying: 0, queued: None });
        assert_eq!(InFlight::lowest(&[one, one, other, hashed, hashed]), lowest);
    }

    #[test]
    fn what_was_in_flight_at_the_start_is_no_miss() {
        let mut tracker = InFlightTracker::default();
        run(&mut tracker, 0, 9, [3, 2], None);
        let tick = run(&mut tracker, 9, 40 * 60, [-4, -1], None);
        assert_eq!((tick.unhashed, tick.dying), (Some(0), Some(0)));
        assert_eq!((tick.inserts_missed, tick.deletes_missed), (Some(0), Some(0)));
        assert_eq!(tick.held, Held::default());
    }

    #[test]
    fn missed_inserts_and_deletes_show_at_once_and_are_said_when_they_stay() {
        let mut tracker = InFlightTracker::default();
        run(&mut tracker, 0, 120, [0, 0], None);
        let tick = run(&mut tracker, 120, 20, [5, -2], None);
        assert_eq!((tick.unhashed, tick.dying), (Some(5), Some(-2)));
        assert_eq!((tick.inserts_missed, tick.deletes_missed), (None, None));
        let tick = run(&mut tracker, 140, 35 * 60, [5, -2], None);
        assert_eq!((tick.inserts_missed, tick.deletes_missed), (Some(5), Some(2)));
    }

    #[test]
    fn calls_missed_from_the_start_are_said_after_the_second_window() {
        let mut tracker = InFlightTracker::default();
        let mut last = InFlightTick::default();
        for second in 0..=1211_u64 {
            // One in 5 s.
            let missed = (second / 5) as i64;
            let read = InFlight { unhashed: missed, dying: -missed, queued: None };
            last = tracker.observe(second * SECOND, Some(read));
        }
        assert_eq!(last.inserts_missed, Some(1));
        assert!(last.deletes_missed.is_some_and(|missed| (100..=242).contains(&missed)));
    }

    #[test]
    fn packets_in_a_queue_are_named_and_nothing_is_missed() {
        let mut tracker = InFlightTracker::default();
        run(&mut tracker, 0, 120, [0, 0], None);
        let tick = run(&mut tracker, 120, 9, [40, 0], Some(40));
        assert!(!tick.held.unhashed);
        let tick = run(&mut tracker, 129, 40 * 60, [40, 0], Some(40));
        assert!(tick.held.unhashed && !tick.held.dying);
        assert_eq!((tick.unhashed, tick.inserts_missed), (Some(40), Some(0)));
        let tick = run(&mut tracker, 3000, 10, [0, 0], Some(0));
        assert_eq!((tick.unhashed, tick.held), (Some(0), Held::default()));
    }

    #[test]
    fn deleted_entries_that_somebody_holds_are_named_and_nothing_is_missed() {
        let mut tracker = InFlightTracker::default();
        run(&mut tracker, 0, 120, [0, 0], None);
        let tick = run(&mut tracker, 120, 40 * 60, [0, 900], None);
        assert!(tick.held.dying);
        assert_eq!((tick.dying, tick.deletes_missed), (Some(900), Some(0)));
    }

    #[test]
    fn a_window_in_which_the_table_never_stood_still_says_nothing() {
        let mut tracker = InFlightTracker::default();
        run(&mut tracker, 0, 25 * 60, [0, 0], None);
        assert_eq!(tracker.observe(2000 * SECOND, None), InFlightTick::default());
        let tick = run(&mut tracker, 4000, 5, [1, 0], None);
        assert_eq!(tick.inserts_missed, None);
    }
}
