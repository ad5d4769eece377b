//! The plainest forecast: the net growth over the last few ticks goes on.

use std::collections::VecDeque;

use super::{max, nothing};
use crate::forecast::{
    Forecaster,
    outlook::{Outlook, Quantiles},
    snapshot::Snapshot,
};

/// Ticks between the first and the last point looked at.
const WINDOWS: usize = 5;

/// A straight line through the first and the last of the last few levels.
#[derive(Debug, Clone, Default)]
pub struct NetGrowth {
    /// (nanoseconds, entries), the earliest first.
    points: VecDeque<(u64, u64)>,
    max: Option<f64>,
}

impl Forecaster for NetGrowth {
    fn observe(&mut self, snapshot: &Snapshot) {
        let Some(entries) = snapshot.entries else { return };
        if self.points.len() > WINDOWS {
            self.points.pop_front();
        }
        self.points.push_back((snapshot.time_ns, entries));
        self.max = max(snapshot);
    }

    fn outlook(&self) -> Outlook {
        let (Some((begin, first)), Some((end, last))) = (self.points.front(), self.points.back())
        else {
            return nothing();
        };
        let Some(max) = self.max else { return nothing() };
        let (room, elapsed) = (max - *last as f64, end.saturating_sub(*begin) as f64 / 1e9);
        let growth = *last as f64 - *first as f64;
        let seconds = match () {
            () if room <= 0.0 => Some(0.0),
            () if elapsed <= 0.0 => return nothing(),
            () if growth <= 0.0 => None,
            () => Some(room * elapsed / growth),
        };
        let full = Quantiles { low: seconds, median: seconds, high: seconds };
        Outlook { seconds_to_full: Some(full), ..nothing() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{forecast::snapshot::Timeouts, model::tick::Limit};

    /// The median; none where nothing is said.
    fn forecast(entries: &[u64], limit: Limit) -> Option<Option<f64>> {
        let mut growth = NetGrowth::default();
        for (second, entries) in entries.iter().enumerate() {
            growth.observe(&Snapshot {
                time_ns: second as u64 * 1_000_000_000,
                entries: Some(*entries),
                limit,
                change: None,
                live: None,
                ended: None,
                timeouts: Timeouts::default(),
            });
        }
        growth.outlook().seconds_to_full.map(|full| full.median)
    }

    #[test]
    fn what_it_says() {
        let max = Limit::Entries(1000);
        let cases = [
            (&[][..], max, None),
            (&[500], max, None),
            (&[500, 600], max, Some(Some(4.0))),
            (&[500, 500], max, Some(None)),
            (&[500, 400], max, Some(None)),
            (&[500, 1000], max, Some(Some(0.0))),
            (&[1100, 1050], max, Some(Some(0.0))),
            (&[500, 600], Limit::Unlimited, None),
            (&[500, 600], Limit::Unavailable, None),
        ];
        for (entries, limit, expected) in cases {
            assert_eq!(forecast(entries, limit), expected, "{entries:?} {limit:?}");
        }
    }

    #[test]
    fn only_the_last_ticks_count() {
        // Five windows back lies the jump's foot; one more and it is forgotten.
        let max = Limit::Entries(1000);
        assert_eq!(forecast(&[0, 500, 500, 500, 500, 500], max), Some(Some(5.0)));
        assert_eq!(forecast(&[0, 500, 500, 500, 500, 500, 500], max), Some(None));
    }
}
