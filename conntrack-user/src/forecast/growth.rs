//! The plainest forecast: the net growth over the last few ticks goes on.

use std::collections::VecDeque;

use super::{Forecast, Point, TimeToFull};
use crate::model::tick::Limit;

/// Ticks between the first and the last point looked at.
const WINDOWS: usize = 5;

/// A straight line through the first and the last of the last few points.
#[derive(Debug, Clone, Default)]
pub struct Growth {
    points: VecDeque<Point>,
}

impl Forecast for Growth {
    fn observe(&mut self, point: Point) {
        if self.points.len() > WINDOWS {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    fn time_to_full(&self) -> TimeToFull {
        let (Some(first), Some(last)) = (self.points.front(), self.points.back()) else {
            return TimeToFull::Unknown;
        };
        let max = match last.limit {
            Limit::Unavailable => return TimeToFull::Unknown,
            Limit::Unlimited => return TimeToFull::Unlimited,
            Limit::Entries(max) => u64::from(max),
        };
        if last.entries >= max {
            return TimeToFull::Full;
        }
        let elapsed = last.time_ns.saturating_sub(first.time_ns) as f64 / 1e9;
        if elapsed <= 0.0 {
            return TimeToFull::Unknown;
        }
        let growth = last.entries as f64 - first.entries as f64;
        if growth <= 0.0 {
            return TimeToFull::NotGrowing;
        }
        TimeToFull::In { seconds: (max - last.entries) as f64 * elapsed / growth }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast(entries: &[u64], limit: Limit) -> TimeToFull {
        let mut growth = Growth::default();
        for (second, entries) in entries.iter().enumerate() {
            let time_ns = second as u64 * 1_000_000_000;
            growth.observe(Point { time_ns, entries: *entries, limit });
        }
        growth.time_to_full()
    }

    #[test]
    fn what_it_says() {
        let max = Limit::Entries(1000);
        let cases: [(&[u64], Limit, TimeToFull); 9] = [
            (&[], max, TimeToFull::Unknown),
            (&[500], max, TimeToFull::Unknown),
            (&[500, 600], max, TimeToFull::In { seconds: 4.0 }),
            (&[500, 500], max, TimeToFull::NotGrowing),
            (&[500, 400], max, TimeToFull::NotGrowing),
            (&[500, 1000], max, TimeToFull::Full),
            (&[1100, 1050], max, TimeToFull::Full),
            (&[500, 600], Limit::Unlimited, TimeToFull::Unlimited),
            (&[500, 600], Limit::Unavailable, TimeToFull::Unknown),
        ];
        for (entries, limit, expected) in cases {
            assert_eq!(forecast(entries, limit), expected, "{entries:?} {limit:?}");
        }
    }

    #[test]
    fn only_the_last_ticks_count() {
        // Five windows back lies the jump's foot; one more and it is forgotten.
        assert_eq!(
            forecast(&[0, 500, 500, 500, 500, 500], Limit::Entries(1000)),
            TimeToFull::In { seconds: 5.0 }
        );
        assert_eq!(
            forecast(&[0, 500, 500, 500, 500, 500, 500], Limit::Entries(1000)),
            TimeToFull::NotGrowing
        );
    }
}
