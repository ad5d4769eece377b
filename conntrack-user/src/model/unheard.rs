//! Entries of which no event tells, where events are all that is known.

use serde::{Deserialize, Serialize};

use super::reading::CountRead;

/// `count - (inserts - deletes)`, as heard: entries that were there before anybody listened.
///
/// The kernel sends the end of such an entry only if it was made while somebody listened (`nf_conntrack_events` is 2, the
/// default from 5.19 on, `nf_ct_ecache_ext_add`), so the number may sink as they end unheard, and never rises: it is the
/// lowest one that was read. An entry in the middle of being made or freed makes a read too high for a moment, and nothing
/// makes it too low. When events were lost it is taken anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unheard {
    lowest: Option<i64>,
    /// Once events were lost it may be below 0: deletes that nobody heard of.
    has_missed: bool,
}

impl Unheard {
    /// Takes in reads made one right after the other. `missed`: events were lost since those before.
    pub fn observe(&mut self, batch: &[CountRead], missed: bool) {
        if missed {
            // When, before or after these reads, is not known.
            *self = Self { lowest: None, has_missed: true };
        } else if let Some(now) = lowest(batch) {
            self.lowest = Some(self.lowest.map_or(now, |before| before.min(now)));
        }
    }

    /// How many there are by now, at most; none before there was a read during which nothing happened.
    #[must_use]
    pub fn known(&self) -> Option<i64> {
        let floor = if self.has_missed { i64::MIN } else { 0 };
        self.lowest.map(|lowest| lowest.max(floor))
    }

    /// The kernel's count less what was heard and what is left from before, when one of the reads was of a single moment:
    /// above 0, inserts were missed; below, deletes. Deletes missed while entries from before are left do not show.
    #[must_use]
    pub fn count_drift(&self, batch: &[CountRead]) -> Option<i64> {
        Some(lowest(batch)?.saturating_sub(self.known()?))
    }
}

/// The lowest of the reads during which nothing was heard.
fn lowest(batch: &[CountRead]) -> Option<i64> {
    let agreeing = batch.iter().filter(|read| read.agrees());
    agreeing.map(|read| i64::from(read.count) - read.after.net()).min()
}

#[cfg(test)]
mod tests {
    use super::{super::counts::Balance, *};

    fn quiet(count: u32, allocs: u64, frees: u64) -> CountRead {
        let balance = Balance { allocs, frees };
        CountRead { before: balance, count, after: balance }
    }

    /// What is left from before, and the drift.
    fn observe(unheard: &mut Unheard, reads: &[CountRead]) -> (Option<i64>, Option<i64>) {
        unheard.observe(reads, false);
        (unheard.known(), unheard.count_drift(reads))
    }

    #[test]
    fn entries_from_before_end_unheard() {
        let mut unheard = Unheard::default();
        assert_eq!(observe(&mut unheard, &[]), (None, None));
        // 50 from before, 500 come; 20 of those from before go; all others go and are heard.
        assert_eq!(observe(&mut unheard, &[quiet(50, 0, 0)]), (Some(50), Some(0)));
        assert_eq!(observe(&mut unheard, &[quiet(550, 500, 0)]), (Some(50), Some(0)));
        assert_eq!(observe(&mut unheard, &[quiet(530, 500, 0)]), (Some(30), Some(0)));
        assert_eq!(observe(&mut unheard, &[quiet(0, 500, 500)]), (Some(0), Some(0)));
    }

    #[test]
    fn entries_from_before_whose_end_is_heard_stay_in_the_sum() {
        let mut unheard = Unheard::default();
        assert_eq!(observe(&mut unheard, &[quiet(50, 0, 0)]), (Some(50), Some(0)));
        assert_eq!(observe(&mut unheard, &[quiet(0, 0, 50)]), (Some(50), Some(0)));
    }

    #[test]
    fn an_insert_that_was_missed_is_drift_and_so_is_a_delete_when_nothing_is_left() {
        let mut unheard = Unheard::default();
        observe(&mut unheard, &[quiet(0, 0, 0)]);
        assert_eq!(observe(&mut unheard, &[quiet(10, 7, 0)]), (Some(0), Some(3)));
        let mut unheard = Unheard::default();
        observe(&mut unheard, &[quiet(0, 0, 0)]);
        assert_eq!(observe(&mut unheard, &[quiet(10, 15, 2)]), (Some(0), Some(-3)));
    }

    #[test]
    fn an_entry_in_flight_is_none_and_a_moving_table_says_nothing() {
        let mut unheard = Unheard::default();
        let moving = CountRead { after: Balance { allocs: 1, frees: 0 }, ..quiet(5, 0, 0) };
        assert_eq!(observe(&mut unheard, &[moving]), (None, None));
        assert_eq!(observe(&mut unheard, &[quiet(6, 0, 0), quiet(5, 0, 0)]), (Some(5), Some(0)));
    }

    #[test]
    fn after_a_loss_it_is_right_again() {
        let mut unheard = Unheard::default();
        observe(&mut unheard, &[quiet(0, 0, 0)]);
        // 500 came and 6 were heard.
        unheard.observe(&[quiet(500, 6, 0)], true);
        assert_eq!((unheard.known(), unheard.count_drift(&[quiet(500, 6, 0)])), (None, None));
        assert_eq!(observe(&mut unheard, &[quiet(500, 6, 0)]), (Some(494), Some(0)));
        // They go; 10 of them are heard.
        unheard.observe(&[quiet(0, 6, 10)], true);
        assert_eq!(observe(&mut unheard, &[quiet(0, 6, 10)]), (Some(4), Some(0)));
        unheard.observe(&[quiet(0, 16, 10)], true);
        assert_eq!(observe(&mut unheard, &[quiet(0, 16, 10)]), (Some(-6), Some(0)));
        assert_eq!(observe(&mut unheard, &[quiet(3, 19, 10)]), (Some(-6), Some(0)));
    }
}
