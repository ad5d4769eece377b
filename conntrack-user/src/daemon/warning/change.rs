//! A change of severity.

use crate::{
    forecast::outlook::Quantiles,
    model::{
        full::Full,
        name::Name,
        reading::{NetnsId, Time},
        tick::{Entries, Limit},
    },
    severity::{Condition, Severity, facts::Losses},
};

/// A change of a table's severity, or a critical one that begins to drop packets.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// When.
    pub time: Time,
    /// Which namespace.
    pub id: NetnsId,
    /// Its name, where one is known.
    pub name: Option<Name>,
    /// Severity before; the same as `to` where a critical table begins to drop packets.
    pub from: Severity,
    /// Seconds of that severity, or since the table was first seen.
    pub seconds: f64,
    /// Severity now.
    pub to: Severity,
    /// Conditions that hold, the worst first; empty for [`Severity::Ok`].
    pub conditions: Vec<Condition>,
    /// Entries in its table.
    pub entries: Entries,
    /// Entries it may have.
    pub limit: Limit,
    /// Facts, where it is full.
    pub full: Option<Full>,
    /// Seconds until it is full, as [`crate::forecast::outlook::Outlook::seconds_to_full`].
    pub seconds_to_full: Option<Quantiles<Option<f64>>>,
    /// The probability that it is full, as [`crate::forecast::outlook::Outlook::full_probability`].
    pub full_probability: Option<[f64; 4]>,
    /// Losses since it was last [`Severity::Ok`].
    pub losses: Losses,
    /// It is over because the namespace has ended.
    pub ended: bool,
    /// All of it in a sentence.
    pub message: String,
}
