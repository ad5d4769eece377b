//! What a forecast says.

use super::table::Jump;

/// What becomes of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// In a word.
    pub state: State,
    /// Seconds until it is full; a quantile that lies beyond [`HORIZON`] is none: so likely it is not full by
    /// then. None where nothing can be said, or there is no limit.
    pub seconds_to_full: Option<Quantiles<Option<f64>>>,
    /// The probability that it is full within each of [`WITHIN`] seconds, in the same order.
    pub full_probability: Option<[f64; 4]>,
    /// Seconds until the first packet is dropped for want of room, where that is not when it is full: as `seconds_to_full`.
    pub seconds_to_first_drop: Option<Quantiles<Option<f64>>>,
    /// Entries that the kernel can evict at the limit, as the forecaster supposes for the first drop, those of unknown status
    /// among them. What is known is in [`crate::model::evictable::Evictable`].
    pub evictable_entries: Option<f64>,
    /// Where it settles if arrivals and lifetimes stay as they are, and after how many seconds it is within 5 %
    /// of that; the level without regard to the limit.
    pub steady_state: Option<SteadyState>,
    /// Entries in [`AHEAD`] seconds, without regard to the limit.
    pub entries_in_60s: Option<Quantiles<f64>>,
    /// The ends of the 95 % interval of that; none where a forecaster has none.
    pub entries_in_60s_95: Option<[f64; 2]>,
    /// Cause of a jump: the median of `seconds_to_full` differs from that of the tick before by more than
    /// [`JUMP_FACTOR`](super::table::JUMP_FACTOR).
    pub jump: Option<Jump>,
    /// Why, in one line.
    pub reason: String,
}

impl Outlook {
    /// Nothing more can be said, for that reason.
    #[must_use]
    pub fn unknown(state: State, reason: &str) -> Self {
        Self {
            state,
            seconds_to_full: None,
            full_probability: None,
            seconds_to_first_drop: None,
            evictable_entries: None,
            steady_state: None,
            entries_in_60s: None,
            entries_in_60s_95: None,
            jump: None,
            reason: reason.to_owned(),
        }
    }

    /// The probability that it is full within so many seconds, up to [`HORIZON`]; none where nothing can be said, and
    /// where there is no limit. As [`Outlook::full_probability`] and the quantiles of [`Outlook::seconds_to_full`] have it; between
    /// them it is taken to rise evenly, and beyond the last of them, where nothing more is said, to stay as it is.
    #[must_use]
    pub fn full_by(&self, seconds: f64) -> Option<f64> {
        if self.state == State::Full {
            return Some(1.0);
        }
        let (full, within) = (self.seconds_to_full?, self.full_probability?);
        let times = [full.low, full.median, full.high].into_iter().zip([0.1, 0.5, 0.9]);
        let quantiles = times.filter_map(|(time, probability)| Some((time?, probability)));
        let mut law: Vec<(f64, f64)> = WITHIN.into_iter().zip(within).chain(quantiles).collect();
        law.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let mut before = (0.0, 0.0);
        for (time, probability) in law {
            // Two ways to tell the same need not agree to the last digit.
            let next = (time, f64::max(probability, before.1));
            if seconds < time {
                let share = (seconds - before.0) / (next.0 - before.0);
                return Some(before.1 + share * (next.1 - before.1));
            }
            before = next;
        }
        Some(before.1)
    }
}

/// Reason of [`State::Full`] where nothing more is known.
pub const IS_FULL: &str = "the table is full";
/// Seconds up to which a forecast looks.
pub const HORIZON: f64 = 3.0 * 3600.0;
/// Seconds of [`Outlook::full_probability`].
pub const WITHIN: [f64; 4] = [60.0, 300.0, 900.0, 3600.0];
/// Names of [`WITHIN`] in JSON, metrics and notifications.
pub const WITHIN_NAMES: [&str; 4] = ["1m", "5m", "15m", "1h"];
/// Seconds of [`Outlook::entries_in_60s`].
pub const AHEAD: f64 = 60.0;

/// How a table does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not enough is known yet.
    Unknown,
    /// It stays about as it is.
    Steady,
    /// It grows.
    Filling,
    /// It shrinks.
    Draining,
    /// It is full.
    Full,
}

/// The 10 %, the 50 % and the 90 % quantile: in one of ten cases it is less than the first. Of times that are
/// none later than of any number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantiles<T> {
    /// 10 %
    pub low: T,
    /// 50 %
    pub median: T,
    /// 90 %
    pub high: T,
}

impl Quantiles<Option<f64>> {
    /// Delays each quantile to that of `first` where it is earlier; none is beyond the horizon.
    #[must_use]
    pub fn no_earlier_than(self, first: Self) -> Self {
        let later = |one: Option<f64>, first: Option<f64>| Some(one?.max(first?));
        Self {
            low: later(self.low, first.low),
            median: later(self.median, first.median),
            high: later(self.high, first.high),
        }
    }
}

/// A level that a table comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SteadyState {
    /// Entries.
    pub level: f64,
    /// Seconds.
    pub seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probability_to_be_full_lies_between_those_that_are_told() {
        let full = Quantiles { low: Some(120.0), median: Some(600.0), high: None };
        let outlook = Outlook {
            seconds_to_full: Some(full),
            full_probability: Some([0.05, 0.3, 0.6, 0.8]),
            ..Outlook::unknown(State::Filling, "")
        };
        let cases = [
            (0.0, 0.0),
            (30.0, 0.025),
            (60.0, 0.05),
            (120.0, 0.1),
            (300.0, 0.3),
            (450.0, 0.4),
            (600.0, 0.5),
            (900.0, 0.6),
            (3600.0, 0.8),
            (HORIZON, 0.8),
        ];
        for (seconds, expected) in cases {
            let probability = outlook.full_by(seconds).unwrap_or(-1.0);
            assert!((probability - expected).abs() < 1e-9, "{seconds}: {probability}");
        }
        // A quantile and a probability that do not agree: the higher one counts from there on.
        let low = Quantiles { low: Some(50.0), median: Some(59.0), high: None };
        let outlook = Outlook { seconds_to_full: Some(low), ..outlook };
        assert_eq!(outlook.full_by(60.0), Some(0.5));
    }

    #[test]
    fn where_nothing_is_said_there_is_no_probability() {
        assert_eq!(Outlook::unknown(State::Unknown, "").full_by(60.0), None);
        assert_eq!(Outlook::unknown(State::Full, "").full_by(60.0), Some(1.0));
    }
}
