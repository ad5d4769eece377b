//! How many entries the kernel can evict: estimated from entries that were read again.

use crate::{
    forecast::snapshot::Live,
    model::{
        class::{EntryStatus, STATUSES},
        estimate::{Estimate, unseen, wilson},
    },
};

/// Entries that the kernel can evict at the limit: those that are neither assured nor offloaded (`early_drop_list`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evictable {
    /// Among the entries whose insert was seen, with the 95 % interval; none where too few of them were read again.
    pub entries: Option<Estimate>,
    /// Entries of which it is unknown: those from before ctmon, and all where too few were read again. None where the
    /// number of entries is not available.
    pub unknown: Option<u64>,
}

impl Evictable {
    /// Of a table with so many `entries`. `live`: what those whose insert was seen are doing. `unseen_max`: entries whose
    /// insert was not seen, at most; none: not known.
    #[must_use]
    pub fn of(entries: Option<u64>, live: Option<&Live>, unseen_max: Option<u64>) -> Self {
        let Some(entries) = entries else { return Self::default() };
        let sum = |of: &[f64]| of.iter().sum::<f64>();
        let by_status: [f64; STATUSES] = live.map_or([0.0; STATUSES], |live| {
            std::array::from_fn(|at| live.entries.get(at).map_or(0.0, |of| sum(of)))
        });
        let seen = sum(&by_status);
        let Some(live) = live.filter(|live| live.reads > 0 && seen > 0.0) else {
            let entry = (entries == 0).then_some(Estimate::exact(0.0));
            return Self { entries: entry, unknown: Some(entries) };
        };
        // An event may be on its way: a few entries more or less are none from before.
        let unknown = (entries as f64 - seen).round().max(0.0) as u64;
        let unknown = unknown.min(unseen_max.unwrap_or(entries));
        let known = entries.saturating_sub(unknown) as f64;
        let evictable: f64 = EntryStatus::ALL
            .into_iter()
            .zip(by_status)
            .filter(|(status, _)| matches!(status, EntryStatus::Unreplied | EntryStatus::Replied))
            .map(|(_, entries)| entries)
            .sum();
        let share = (evictable / seen).clamp(0.0, 1.0);
        let reads = f64::from(live.reads);
        let (low, high) = wilson(share, reads, unseen(reads, known));
        let estimate = Estimate {
            value: known * share,
            low: known * low.min(share),
            high: known * high.max(share),
        };
        Self { entries: Some(estimate), unknown: Some(unknown) }
    }

    /// Reports whether it is known of at least half of the entries.
    #[must_use]
    pub fn is_known(&self, entries: u64) -> bool {
        self.entries.is_some() && self.unknown.is_some_and(|unknown| unknown <= entries / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::class::PROTOCOLS;

    fn live(unreplied: f64, assured: f64, reads: u32) -> Live {
        let mut entries = [[0.0; PROTOCOLS]; STATUSES];
        entries[EntryStatus::Unreplied as usize][1] = unreplied;
        entries[EntryStatus::Assured as usize][0] = assured;
        Live { entries, reads, ..Live::default() }
    }

    #[test]
    fn without_reads_nothing_is_known() {
        let none = Evictable::of(Some(3000), None, Some(3000));
        assert_eq!(none, Evictable { entries: None, unknown: Some(3000) });
        assert!(!none.is_known(3000));
        assert_eq!(Evictable::of(None, Some(&live(1.0, 1.0, 16)), None), Evictable::default());
        let empty = Evictable::of(Some(0), None, None);
        assert_eq!(empty.entries, Some(Estimate::exact(0.0)));
    }

    #[test]
    fn entries_from_before_are_unknown() {
        // 3,000 from before, all assured or not; of 2,000 that came since a half is evictable.
        let some = Evictable::of(Some(5000), Some(&live(1000.0, 1000.0, 400)), Some(3000));
        assert_eq!(some.unknown, Some(3000));
        let estimate = some.entries.unwrap();
        assert_eq!(estimate.value.round(), 1000.0);
        assert!(estimate.low > 900.0 && estimate.low < 970.0, "{estimate:?}");
        assert!(estimate.high > 1030.0 && estimate.high < 1100.0, "{estimate:?}");
        assert!(!some.is_known(5000));
    }

    #[test]
    fn events_on_their_way_are_none_from_before() {
        // The table is some entries ahead of its events, and none was there before.
        let all = Evictable::of(Some(1010), Some(&live(500.0, 500.0, 1000)), Some(0));
        assert_eq!(all.unknown, Some(0));
        assert_eq!(all.entries.unwrap().value.round(), 505.0);
        assert!(all.is_known(1010));
        // All were read: no doubt is left.
        let read = Evictable::of(Some(1000), Some(&live(0.0, 1000.0, 1000)), None);
        assert_eq!(read.entries, Some(Estimate::exact(0.0)));
    }
}
