//! A change of level.

use super::sign::Sign;
use crate::{
    forecast::outlook::Quantiles,
    model::{
        name::Name,
        reading::{NetnsId, Time},
        tick::{Entries, Limit},
    },
};

/// How a table stands, in rising order of weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(serde::Deserialize), serde(rename_all = "snake_case"))]
pub enum Level {
    /// Nothing to do.
    Ok,
    /// Somebody should look today.
    Warning,
    /// Connections fail, or will in minutes.
    Critical,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Warning, Self::Critical];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// 0, 1 or 2, for metrics.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
        }
    }
}

/// That a namespace's table is on another level than at the tick before, or that a critical one begins to drop packets.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// When.
    pub time: Time,
    /// Which namespace.
    pub id: NetnsId,
    /// Its name, where one is known.
    pub name: Option<Name>,
    /// The level before; the same as `to` where a critical table begins to drop packets.
    pub from: Level,
    /// Seconds on the level before, or since it was first seen.
    pub seconds: f64,
    /// The level now.
    pub to: Level,
    /// Why it is on that level: what is raised, the worst first; empty for [`Level::Ok`].
    pub signs: Vec<Sign>,
    /// Entries in its table.
    pub entries: Entries,
    /// Entries it may have.
    pub limit: Limit,
    /// Seconds until it is full, as [`crate::forecast::outlook::Outlook::full`].
    pub full: Option<Quantiles<Option<f64>>>,
    /// The probability that it is full, as [`crate::forecast::outlook::Outlook::full_within`].
    pub full_within: Option<[f64; 4]>,
    /// What was lost since it was last [`Level::Ok`].
    pub lost: Lost,
    /// It is over because the namespace has ended.
    pub ended: bool,
    /// All of it in a sentence.
    pub reason: String,
}

/// What a full table cost. Each is none where it cannot be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Packets dropped because the table was full.
    pub dropped: Option<u64>,
    /// Entries evicted to make room for new ones.
    pub evicted: Option<u64>,
}

impl Lost {
    /// Adds what is known of a tick.
    pub(super) fn add(&mut self, tick: Self) {
        let sum = |sum: Option<u64>, more: Option<u64>| match (sum, more) {
            (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
            (sum, more) => sum.or(more),
        };
        self.dropped = sum(self.dropped, tick.dropped);
        self.evicted = sum(self.evicted, tick.evicted);
    }
}
