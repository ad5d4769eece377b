//! A steady rate.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Flows between two looks at the clock.
const BATCH: u64 = 16;

/// Holds a sender back to its rate.
pub(crate) struct Pace {
    rate: Option<u32>,
    began: Instant,
}

impl Pace {
    pub(crate) fn new(rate: Option<u32>) -> Self {
        Self { rate: rate.filter(|rate| *rate > 0), began: Instant::now() }
    }

    /// Called before the flow number `flow`, counted from 0: sleeps until that is due.
    pub(crate) fn wait(&self, flow: u64) {
        let Some(rate) = self.rate else {
            return;
        };
        if rate >= 100 && !flow.is_multiple_of(BATCH) {
            return;
        }
        let due = Duration::from_secs_f64(flow as f64 / f64::from(rate));
        thread::sleep(due.saturating_sub(self.began.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_rate() {
        let pace = Pace::new(Some(1000));
        let began = Instant::now();
        (0..=64).for_each(|flow| pace.wait(flow));
        assert!(began.elapsed() >= Duration::from_millis(64), "{:?}", began.elapsed());
    }

    #[test]
    fn no_rate_and_rate_0_do_not_wait() {
        for rate in [None, Some(0)] {
            let pace = Pace::new(rate);
            (0..1000).for_each(|flow| pace.wait(flow));
            assert!(pace.began.elapsed() < Duration::from_secs(1));
        }
    }
}
