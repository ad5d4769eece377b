//! Rates over the last seconds, whatever the length of a tick.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::bounds::{self, at_most};

/// Shorter ticks are put together up to so many seconds: that bounds the number of spans.
const SPAN_SECS: f64 = 1.0;

/// What happened in the last seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Recent {
    /// The oldest first.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::REMEMBERED }>")]
    spans: VecDeque<Span>,
}

/// One tick, or several short ones.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Span {
    end_ns: u64,
    seconds: f64,
    amount: f64,
}

impl Recent {
    /// Takes in `amount` of a tick of `seconds` that ended at `now_ns`, and forgets what ended `keep_ns` before or earlier.
    pub(super) fn push(&mut self, now_ns: u64, seconds: f64, amount: f64, keep_ns: u64) {
        match self.spans.back_mut().filter(|last| last.seconds + seconds <= SPAN_SECS) {
            Some(last) => {
                *last = Span {
                    end_ns: now_ns,
                    seconds: last.seconds + seconds,
                    amount: last.amount + amount,
                };
            }
            None => self.spans.push_back(Span { end_ns: now_ns, seconds, amount }),
        }
        let is_old = |span: &Span| span.end_ns.saturating_add(keep_ns) <= now_ns;
        while self.spans.front().is_some_and(is_old) {
            self.spans.pop_front();
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.spans.clear();
    }

    /// Amount a second; none before there was a tick.
    pub(super) fn rate(&self) -> Option<f64> {
        let seconds: f64 = self.spans.iter().map(|span| span.seconds).sum();
        let amount: f64 = self.spans.iter().map(|span| span.amount).sum();
        (seconds > 0.0).then(|| amount / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_rate_is_that_of_the_last_seconds_and_the_memory_is_bounded() {
        let mut recent = Recent::default();
        assert_eq!(recent.rate(), None);
        recent.push(SECOND, 1.0, 8.0, 5 * SECOND);
        assert_eq!(recent.rate(), Some(8.0));
        recent.push(2 * SECOND, 1.0, 4.0, 5 * SECOND);
        assert_eq!(recent.rate(), Some(6.0));
        recent.push(6 * SECOND, 4.0, 0.0, 5 * SECOND);
        assert_eq!(recent.rate(), Some(0.8), "the first one is old");
        for tick in 1..=1_000 {
            recent.push(6 * SECOND + tick * SECOND / 100, 0.01, 0.1, 5 * SECOND);
        }
        assert!((recent.rate().unwrap() - 10.0).abs() < 1e-6 && recent.spans.len() <= 6);
        recent.clear();
        assert_eq!(recent.rate(), None);
    }
}
