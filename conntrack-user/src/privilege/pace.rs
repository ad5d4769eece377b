//! Pace of the helper: the share of time in which it works for the other half, which somebody may have taken over.

use std::time::Duration;

/// Work that may be done at once: attaching, and entering some thousand namespaces, in an emulated machine.
const BURST: Duration = Duration::from_secs(60);
/// One part in so many of the time goes into work, on the long run. Looks for namespaces take half a per cent of it.
const SHARE: u32 = 2;
/// Longest pause: a half that asks for much, and is not taken over, must not find the helper silent
/// ([`super::helper::ANSWERED_IN`]).
const PAUSE: Duration = Duration::from_secs(20);

/// Work that may still be done without a pause.
#[derive(Debug)]
pub(super) struct Pace {
    left: Duration,
}

impl Pace {
    /// Pace with all of [`BURST`] left.
    pub(super) const fn new() -> Self {
        Self { left: BURST }
    }

    /// Pace with nothing left.
    #[cfg(test)]
    pub(super) const fn spent() -> Self {
        Self { left: Duration::ZERO }
    }

    /// Length of the pause after a request that took `worked`; `since`: time from the end of the last pause to the begin of
    /// that work.
    pub(super) fn pause(&mut self, since: Duration, worked: Duration) -> Duration {
        let earned = since.saturating_add(worked) / SHARE;
        let left = self.left.saturating_add(earned).min(BURST);
        self.left = left.saturating_sub(worked);
        let owed = worked.saturating_sub(left);
        // The pause earns what is owed.
        owed.saturating_mul(SHARE).min(PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    /// Works for `worked` again and again, `idle` apart, for an hour: the share of the time that was work.
    fn share(idle: Duration, worked: Duration) -> f64 {
        let (mut pace, mut all, mut work) = (Pace::new(), Duration::ZERO, Duration::ZERO);
        while all < Duration::from_secs(3600) {
            all += idle + worked + pace.pause(idle, worked);
            work += worked;
        }
        work.as_secs_f64() / all.as_secs_f64()
    }

    #[test]
    fn a_flood_of_requests_takes_half_of_the_time() {
        for worked in [ms(1), ms(100), ms(5000), ms(20_000)] {
            let share = share(Duration::ZERO, worked);
            // The first minute is free.
            assert!((0.45..0.52).contains(&share), "{worked:?}: {share}");
        }
    }

    #[test]
    fn what_serve_asks_for_waits_for_nothing() {
        // A start in an emulated machine.
        let mut pace = Pace::new();
        assert_eq!(pace.pause(ms(0), ms(29_000)), ms(0));
        for _ in 0..1000 {
            assert_eq!(pace.pause(ms(1), ms(30)), ms(0));
        }
        // Looks for namespaces, and counters of 64 at each tick.
        for _ in 0..100_000 {
            assert_eq!(pace.pause(ms(90), ms(40)), ms(0));
        }
    }

    #[test]
    fn no_pause_is_as_long_as_an_answer_may_take() {
        let mut pace = Pace::new();
        for _ in 0..10 {
            assert!(pace.pause(ms(0), Duration::MAX) < super::super::helper::ANSWERED_IN);
        }
    }
}
