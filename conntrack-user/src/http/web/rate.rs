//! A limit on the rate of requests.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::http::lock;

/// A bucket of tokens, of which a request takes one.
#[derive(Debug)]
pub(super) struct Bucket {
    interval: Duration,
    /// From this time on it is full.
    full: Mutex<Option<Instant>>,
    burst: u32,
}

impl Bucket {
    /// A full one: `burst` requests at once, then one each `interval`.
    pub(super) fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, full: Mutex::new(None), burst }
    }

    /// Whether there is a token, which is then taken.
    pub(super) fn take(&self, now: Instant) -> bool {
        let mut full = lock(&self.full);
        let next = full.map_or(now, |full| full.max(now)) + self.interval;
        let is_there = next - now <= self.interval.saturating_mul(self.burst);
        if is_there {
            *full = Some(next);
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_each_interval() {
        let bucket = Bucket::new(Duration::from_secs(2), 3);
        let start = Instant::now();
        let taken = [0, 0, 0, 0, 1, 2, 2, 3, 4, 100, 100, 100, 100]
            .map(|second| bucket.take(start + Duration::from_secs(second)));
        let expected =
            [true, true, true, false, false, true, false, false, true, true, true, true, false];
        assert_eq!(taken, expected);
    }
}
