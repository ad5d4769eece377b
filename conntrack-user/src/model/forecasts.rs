//! The forecasts of all namespaces: a forecaster for each, and what each is shown.

use std::collections::HashMap;

use super::{
    counts::{Counted, Totals},
    flow::ratio,
    flows,
    reading::NetnsId,
};
use crate::forecast::{
    Forecaster as _,
    outlook::{Outlook, State},
    snapshot::{Change, Ended, Snapshot},
    table::Table,
};

/// Forecasters at the most; namespaces beyond have none. docs/outlook.md has the memory of
/// one, measured.
pub const MOST: usize = 512;

/// A forecaster whose table has not moved for so long makes room for one whose table does.
const QUIET_NS: u64 = 10_000_000_000;
/// Entries that have ended, of one namespace between two ticks, at the most. When there are more, each kept one stands
/// for more.
const ENDED: usize = 512;

/// The forecasters.
#[derive(Debug, Default)]
pub struct Forecasts {
    by_netns: HashMap<u64, One>,
    /// Until then all tables have moved lately: there is no room.
    crowded_until_ns: u64,
    /// What the forecasters were shown, where that is kept.
    kept: Option<Vec<(NetnsId, Snapshot)>>,
}

/// The forecaster of one namespace.
#[derive(Debug, Default)]
struct One {
    table: Table,
    ended: Sample,
    /// When the table moved last, and what it had then.
    moved_ns: u64,
    entries: Option<u64>,
}

/// Entries that have ended since the last snapshot: every one, or every second, fourth, and so on.
#[derive(Debug, Default)]
struct Sample {
    kept: Vec<Ended>,
    /// One of 2 to the power of this is kept.
    halvings: u32,
    /// How many came since the last one that was kept.
    passed: u32,
}

impl Sample {
    fn push(&mut self, ended: Ended) {
        self.passed += 1;
        if self.passed < 1 << self.halvings {
            return;
        }
        self.passed = 0;
        if self.kept.len() == ENDED {
            self.halve();
        }
        self.kept.push(Ended { weight: ended.weight * f64::from(1 << self.halvings), ..ended });
    }

    fn halve(&mut self) {
        // Beyond 2^20 times as many it stays: what is then left out is the same each tick.
        self.halvings = (self.halvings + 1).min(20);
        let mut at = 0;
        self.kept.retain_mut(|ended| {
            ended.weight *= 2.0;
            at += 1;
            at % 2 == 0
        });
    }

    /// Empty again; its memory serves the next ones.
    fn clear(&mut self, mut kept: Vec<Ended>) {
        kept.clear();
        *self = Self { kept, ..Self::default() };
    }
}

impl Forecasts {
    /// From now on what the forecasters are shown is kept, until it is taken.
    pub fn keep(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// What was kept since the call before.
    pub fn take_kept(&mut self) -> Vec<(NetnsId, Snapshot)> {
        self.kept.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// An entry of a namespace has ended.
    pub fn end(&mut self, netns: NetnsId, ended: &flows::Ended) {
        let Some(one) = self.by_netns.get_mut(&key(netns)) else { return };
        one.ended.push(Ended {
            protocol: ended.protocol,
            status: ended.status,
            seconds: ended.ended_ns.saturating_sub(ended.inserted_ns) as f64 / 1e9,
            weight: 1.0 / ratio(ended.sample.threshold),
        });
    }

    /// Shows the next snapshot of a namespace to its forecaster, and returns what that says. `with_events`: the snapshot
    /// is to have the entries that have ended since the one before.
    pub fn observe(
        &mut self,
        netns: NetnsId,
        mut snapshot: Snapshot,
        with_events: bool,
    ) -> Outlook {
        let (now_ns, key) = (snapshot.time_ns, key(netns));
        let has_moved = |before: Option<u64>| {
            snapshot.change.map_or(snapshot.entries != before, |change| !change.is_nothing())
        };
        if !self.by_netns.contains_key(&key) && !self.make_room(now_ns, has_moved(snapshot.entries))
        {
            let reason = "there are too many network namespaces to forecast each one";
            return Outlook::unknown(State::Unknown, reason);
        }
        let one = self.by_netns.entry(key).or_insert_with(|| One {
            moved_ns: now_ns,
            entries: snapshot.entries,
            ..One::default()
        });
        if has_moved(one.entries) {
            one.moved_ns = now_ns;
        }
        one.entries = snapshot.entries;
        snapshot.ended = with_events.then(|| std::mem::take(&mut one.ended.kept));
        one.table.observe(&snapshot);
        if let Some(kept) = &mut self.kept {
            kept.push((netns, snapshot.clone()));
        }
        one.ended.clear(snapshot.ended.unwrap_or_default());
        one.table.outlook()
    }

    /// A namespace has ended.
    pub fn forget(&mut self, netns: NetnsId) {
        self.by_netns.remove(&key(netns));
    }

    /// Whether there is room for one more, or room is made by giving up the forecaster of the table that has been quiet
    /// for the longest time; for a table that moves.
    fn make_room(&mut self, now_ns: u64, moves: bool) -> bool {
        if self.by_netns.len() < MOST {
            return true;
        }
        if !moves || now_ns < self.crowded_until_ns {
            return false;
        }
        let quietest = self.by_netns.iter().map(|(key, one)| (one.moved_ns, *key)).min();
        let Some((moved_ns, key)) = quietest else { return true };
        if moved_ns + QUIET_NS > now_ns {
            self.crowded_until_ns = moved_ns + QUIET_NS;
            return false;
        }
        self.by_netns.remove(&key);
        true
    }
}

/// What a namespace is found by: its inode where namespaces have no cookies, which are far smaller.
fn key(netns: NetnsId) -> u64 {
    netns.cookie.unwrap_or(netns.inode)
}

/// What was counted between two ticks, as a forecast takes it. None where it is not all counted. `was_full`: the table
/// may have been at its limit; before, nothing is evicted or refused, whether that is counted or not.
#[must_use]
pub fn change(counts: &Totals, counted: &Counted, was_full: bool) -> Option<Change> {
    let is_counted = counted.all_inserts() && counted.deletes;
    if !is_counted || (was_full && !counted.early_drops) {
        return None;
    }
    Some(Change {
        inserts: counts.inserts_packet.zip(&counts.inserts_ctnetlink, |a, b| a + b).into(),
        deletes: counts.deletes.into(),
        early_drops: counts.early_drops,
        removed: counted.causes.then_some(counts.deletes_user + counts.deletes_netns_exit),
        refused: counts.table_full_drops,
    })
}

#[cfg(test)]
#[path = "forecasts_tests.rs"]
mod tests;
