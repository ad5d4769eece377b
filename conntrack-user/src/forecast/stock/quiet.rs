//! Kinds of entries of which none is deleted for so long that none of them can be about to expire.

use super::{REPLIED, Span, Stock, UNREPLIED};
use crate::{
    forecast::{history::KINDS, passes::COLLECTOR},
    model::class::Protocol,
};

/// Seconds for which a reading of live entries counts.
const FRESH: f64 = 5.0;

/// For how long none of a kind was deleted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quiet {
    /// Seconds since the last delete, or since there are any.
    seconds: [f64; KINDS],
    /// Entries from before were deleted since they were supposed to be of this kind.
    has_old_gone: [bool; KINDS],
    /// Seconds left in which live entries count as such that the kernel keeps for longer than any forecast looks.
    lasts: f64,
}

impl Quiet {
    /// Time has gone on by `seconds`; so many were deleted, and so many are there.
    fn advance(&mut self, deaths: [f64; KINDS], there: [f64; KINDS], seconds: f64) {
        self.lasts = (self.lasts - seconds).max(0.0);
        for kind in [UNREPLIED, REPLIED] {
            let is_quiet = deaths[kind] == 0.0 && there[kind] >= 1.0;
            self.seconds[kind] = if is_quiet { self.seconds[kind] + seconds } else { 0.0 };
        }
    }
}

impl Stock {
    /// Takes in what was deleted.
    pub(in crate::forecast) fn wait(&mut self, mut deaths: [f64; KINDS], seconds: f64) {
        if !self.share.is_known {
            // Of which kind the entries are is a guess.
            deaths = [deaths.iter().sum(); KINDS];
        }
        self.quiet.advance(deaths, self.history.alive(), seconds);
    }

    /// Starts anew after a gap in the data.
    pub(in crate::forecast) fn wait_anew(&mut self) {
        self.quiet = Quiet { has_old_gone: self.quiet.has_old_gone, ..Quiet::default() };
    }

    /// Takes in how many of the entries from before were deleted.
    pub(super) fn see_old_gone(&mut self, kind: usize, deaths: f64) {
        self.quiet.has_old_gone[kind] |= deaths >= 1.0;
    }

    /// Live entries show whether the kernel keeps all answered ones for longer than any forecast looks.
    pub(in crate::forecast) fn see_lasting(&mut self, all_last: bool) {
        self.quiet.lasts = if all_last { FRESH } else { 0.0 };
    }

    /// Reports whether entries of a kind count as such that do not expire: none was deleted for longer than the time-out and the
    /// collector take together; of those whose insert was counted, live ones have their time left; of those from before, none
    /// was deleted yet.
    pub(in crate::forecast) fn keeps(&self, kind: usize, is_counted: bool) -> bool {
        let is_tcp = kind == REPLIED && self.protocol == Protocol::Tcp;
        let lasts = is_counted && is_tcp && self.quiet.lasts > 0.0;
        let is_unknown = !is_counted && !self.quiet.has_old_gone[kind];
        lasts || is_unknown || self.quiet.seconds[kind] > COLLECTOR + self.laws[kind].timeout()
    }

    /// Entries that may expire.
    pub(in crate::forecast) fn expires(&self) -> f64 {
        let alive = |span: &Span| {
            [UNREPLIED, REPLIED].map(|kind| match self.keeps(kind, span.is_counted) {
                true => 0.0,
                false => span.alive[kind],
            })
        };
        self.history.spans().flat_map(alive).sum()
    }
}
