//! What a forecast says.

/// What becomes of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlook {
    /// In a word.
    pub state: State,
    /// Seconds until it is full; a quantile that lies beyond [`HORIZON`] is none: so likely it is not full by
    /// then. None where nothing can be said, or there is no limit.
    pub full: Option<Quantiles<Option<f64>>>,
    /// The probability that it is full within each of [`WITHIN`] seconds, in the same order.
    pub full_within: Option<[f64; 4]>,
    /// Seconds until the first packet is dropped for want of room, where that is not when it is full: as `full`.
    pub drop: Option<Quantiles<Option<f64>>>,
    /// Entries that the kernel can evict at the limit: those that are not assured.
    pub evictable: Option<f64>,
    /// Where it settles if arrivals and lifetimes stay as they are, and after how many seconds it is within 5 %
    /// of that; the level without regard to the limit.
    pub settles: Option<Settles>,
    /// Entries in [`AHEAD`] seconds, without regard to the limit.
    pub ahead: Option<Quantiles<f64>>,
    /// Why, in one line.
    pub reason: String,
}

impl Outlook {
    /// Nothing more can be said, for that reason.
    #[must_use]
    pub fn unknown(state: State, reason: &str) -> Self {
        Self {
            state,
            full: None,
            full_within: None,
            drop: None,
            evictable: None,
            settles: None,
            ahead: None,
            reason: reason.to_owned(),
        }
    }
}

/// Seconds up to which a forecast looks.
pub const HORIZON: f64 = 3.0 * 3600.0;
/// Seconds of [`Outlook::full_within`].
pub const WITHIN: [f64; 4] = [60.0, 300.0, 900.0, 3600.0];
/// Seconds of [`Outlook::ahead`].
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

/// A level that a table comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settles {
    /// Entries.
    pub level: f64,
    /// Seconds.
    pub seconds: f64,
}
