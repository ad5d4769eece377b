//! What a forecaster said at a tick: of its outlook what is judged.

use crate::forecast::outlook::{Outlook, Quantiles, State};

/// Of an outlook, what is judged.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Said {
    /// Seconds until it is full, as in [`Outlook::seconds_to_full`].
    pub full: Option<Quantiles<Option<f64>>>,
    /// Seconds until the first packet is dropped; that of `full` where no other is said.
    pub drop: Option<Quantiles<Option<f64>>>,
    /// The probabilities that it is full within some times, as in [`Outlook::full_probability`].
    pub within: Option<[f64; 4]>,
    /// Entries that can be evicted at the limit.
    pub evictable_entries: Option<f64>,
    /// Entries at which it settles.
    pub steady_state: Option<f64>,
    /// Entries in 60 s, as in [`Outlook::entries_in_60s`].
    pub ahead: Option<Quantiles<f64>>,
    /// The ends of the 95 % interval of that.
    pub ahead95: Option<[f64; 2]>,
}

impl Said {
    /// Of an outlook.
    #[must_use]
    pub fn of(outlook: &Outlook) -> Self {
        let now = Some(0.0);
        let full = match outlook.state {
            State::Full => Some(Quantiles { low: now, median: now, high: now }),
            _ => outlook.seconds_to_full,
        };
        Self {
            full,
            drop: outlook.seconds_to_first_drop.or(full),
            within: outlook.full_probability,
            evictable_entries: outlook.evictable_entries,
            steady_state: outlook.steady_state.map(|steady_state| steady_state.level),
            ahead: outlook.entries_in_60s,
            ahead95: outlook.entries_in_60s_95,
        }
    }

    /// Seconds until it is full, as likely later as sooner; none: not that it is to be seen.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        self.full.and_then(|full| full.median)
    }
}
