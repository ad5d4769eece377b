//! How many entries there were before the programs counted.

use serde::{Deserialize, Serialize};

use super::reading::CountRead;

/// Reads between which nothing was counted, needed to settle.
const AGREEING_READS: u32 = 12;
/// How often the lowest of them must have been read: one alone may be a read too low by chance of
/// nothing else than damage, three are not.
const LOWEST_READS: u32 = 3;
/// Batches of reads, at different times, they must come from: a task that was pre-empted while it
/// allocated keeps an entry in flight for a time slice.
const BATCHES: u32 = 3;

/// Entries in the middle of being allocated or freed, at the most, for each CPU: one by a task and one
/// by a soft interrupt.
const IN_FLIGHT_PER_CPU: i64 = 2;

/// `count - (allocs - frees)`: constant, but for entries in flight.
///
/// The kernel counts an entry before the programs see it allocated and still counts it after they
/// have seen it freed (`atomic_inc` in `__nf_conntrack_alloc`, `atomic_dec` in
/// `nf_conntrack_free`), so every read is too high or right: the lowest is taken, once. Correcting it
/// later would hide an event that the programs missed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    state: State,
    in_flight: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum State {
    Settling { upper: Option<i64>, lowest: i64, lowest_reads: u32, agreeing: u32, batches: u32 },
    Settled(i64),
}

/// What is known of the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Nothing was read yet.
    Nothing,
    /// It lies between these, both included.
    Between(i64, i64),
    /// It is this.
    Exactly(i64),
}

impl Baseline {
    /// Nothing known yet, on a machine with `cpus` possible CPUs.
    #[must_use]
    pub fn new(cpus: u32) -> Self {
        let state = State::Settling {
            upper: None,
            lowest: i64::MAX,
            lowest_reads: 0,
            agreeing: 0,
            batches: 0,
        };
        Self { state, in_flight: IN_FLIGHT_PER_CPU * i64::from(cpus) }
    }

    /// Takes in reads made one right after the other.
    pub fn observe(&mut self, batch: &[CountRead]) {
        let State::Settling { upper, lowest, lowest_reads, agreeing, batches } = &mut self.state
        else {
            return;
        };
        let before = *agreeing;
        for read in batch {
            // Allocated by then: at least what was before. Freed by then: at most what is after.
            let bound = i64::from(read.count) - read.before.allocs as i64 + read.after.frees as i64;
            *upper = Some(upper.map_or(bound, |upper| upper.min(bound)));
            if read.agrees() {
                let value = i64::from(read.count) - read.after.net();
                *agreeing = agreeing.saturating_add(1);
                if value < *lowest {
                    (*lowest, *lowest_reads) = (value, 0);
                }
                *lowest_reads = lowest_reads.saturating_add(u32::from(value == *lowest));
            }
        }
        *batches = batches.saturating_add(u32::from(*agreeing > before));
        if *agreeing >= AGREEING_READS && *lowest_reads >= LOWEST_READS && *batches >= BATCHES {
            self.state = State::Settled(*lowest);
        }
    }

    /// What is known by now.
    #[must_use]
    pub fn known(&self) -> Known {
        match self.state {
            State::Settled(value) => Known::Exactly(value),
            State::Settling { upper: Some(upper), .. } => {
                Known::Between(upper.saturating_sub(self.in_flight), upper)
            }
            State::Settling { upper: None, .. } => Known::Nothing,
        }
    }

    /// The kernel's count less ours, when one of the reads was of a single moment: 0, or what the
    /// programs missed. An entry in flight makes a read too high, so the lowest one counts.
    #[must_use]
    pub fn count_drift(&self, batch: &[CountRead]) -> Option<i64> {
        let State::Settled(baseline) = self.state else {
            return None;
        };
        let agreeing = batch.iter().filter(|read| read.agrees());
        agreeing.map(|read| i64::from(read.count) - baseline - read.after.net()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::counts::Balance, *};

    fn balance(allocs: u64, frees: u64) -> Balance {
        Balance { allocs, frees }
    }

    fn quiet(count: u32, allocs: u64, frees: u64) -> CountRead {
        CountRead { before: balance(allocs, frees), count, after: balance(allocs, frees) }
    }

    /// `batches` times four quiet reads.
    fn settle(baseline: &mut Baseline, batches: u32, read: CountRead) {
        for _ in 0..batches {
            baseline.observe(&[read; 4]);
        }
    }

    #[test]
    fn a_quiet_table_settles_in_three_batches() {
        let mut baseline = Baseline::new(2);
        assert_eq!(baseline.known(), Known::Nothing);
        settle(&mut baseline, 2, quiet(130, 50, 20));
        assert_eq!(baseline.known(), Known::Between(96, 100));
        settle(&mut baseline, 1, quiet(131, 51, 20));
        assert_eq!(baseline.known(), Known::Exactly(100));
    }

    #[test]
    fn one_batch_is_not_enough_however_long_it_is() {
        let mut baseline = Baseline::new(1);
        baseline.observe(&[quiet(8, 0, 0); 1000]);
        assert_eq!(baseline.known(), Known::Between(6, 8));
    }

    #[test]
    fn an_entry_in_flight_makes_a_read_too_high_and_the_lowest_counts() {
        let mut baseline = Baseline::new(2);
        settle(&mut baseline, 2, quiet(101, 0, 0));
        baseline.observe(&[quiet(102, 0, 0), quiet(100, 0, 0), quiet(100, 0, 0)]);
        assert_eq!(baseline.known(), Known::Between(96, 100), "read twice only");
        baseline.observe(&[quiet(101, 0, 0), quiet(100, 0, 0)]);
        assert_eq!(baseline.known(), Known::Exactly(100));
    }

    #[test]
    fn reads_in_a_flood_bound_it() {
        let mut baseline = Baseline::new(2);
        let flood = CountRead { before: balance(50, 20), count: 140, after: balance(60, 25) };
        baseline.observe(&[flood; 100]);
        // At least 50 allocated and at most 25 freed by then.
        assert_eq!(baseline.known(), Known::Between(111, 115));
        assert_eq!(baseline.count_drift(&[flood]), None);
    }

    #[test]
    fn it_is_taken_once_and_what_is_missed_afterwards_is_drift() {
        let mut baseline = Baseline::new(2);
        settle(&mut baseline, 3, quiet(100, 0, 0));
        // 50 came and went, 3 of those that went unseen.
        settle(&mut baseline, 9, quiet(100, 50, 47));
        assert_eq!(baseline.known(), Known::Exactly(100));
        assert_eq!(baseline.count_drift(&[quiet(100, 50, 47)]), Some(-3));
        let in_flight = quiet(101, 50, 47);
        assert_eq!(baseline.count_drift(&[in_flight, quiet(100, 50, 47)]), Some(-3));
        let moving = CountRead { after: balance(51, 47), ..in_flight };
        assert_eq!(baseline.count_drift(&[moving]), None);
        assert_eq!(baseline.count_drift(&[]), None);
    }
}
