//! How long entries live: a life table of the flows in the sample.
//!
//! Ages are in bins ([`bins`]). Of each bin it is known how many came under observation in it, how many
//! ended, and how many left observation alive; what follows from that is in [`curve`]. Each flow weighs
//! as much as the entries that it stands for. Flows that leave the sample because the threshold falls
//! leave alive: the hash that decided it has nothing to do with how long they live, so nothing is biased.
//!
//! Old data is forgotten by epochs: at the end of each, all that live leave its table and come into the
//! next one's at the age they have (left truncation), so that in what is summed over the last epochs
//! deaths and flows under observation always belong to the same time.

pub mod bins;
pub mod curve;

use std::{array, collections::VecDeque};

use super::{
    class::{EntryStatus, PROTOCOLS, Protocol, STATUSES},
    flow::ratio,
};
use bins::BINS;
use curve::Curve;

/// How much is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Nanoseconds of an epoch.
    pub epoch_ns: u64,
    /// Epochs, the one that runs among them; at least 1.
    pub epochs: usize,
}

impl Default for Window {
    /// The last 10 to 12 minutes: some 420 KiB.
    fn default() -> Self {
        Self { epoch_ns: 120_000_000_000, epochs: 6 }
    }
}

/// How many entries a flow stands for, in units of 2^-16, in which sums are exact: what has come less
/// what has gone is 0 when all have gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight(u64);

impl Weight {
    const ONE: f64 = 65_536.0;

    /// Of a flow that is in the sample while its hash is below `threshold`.
    #[must_use]
    pub fn of(threshold: u32) -> Self {
        Self((Self::ONE / ratio(threshold.max(1))).round() as u64)
    }

    fn squared(self) -> f64 {
        let entries = entries(self.0);
        entries * entries
    }
}

/// Entries that a sum of weights stands for.
fn entries(weight: u64) -> f64 {
    weight as f64 / Weight::ONE
}

/// A flow that is alive.
#[derive(Debug, Clone, Copy)]
pub struct Alive {
    /// Its protocol.
    pub protocol: Protocol,
    /// Nanoseconds since it was inserted.
    pub age_ns: u64,
    /// The entries it stands for.
    pub weight: Weight,
}

/// Sums of weights, and of their squares.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    weight: u64,
    squares: f64,
}

impl Sum {
    // Flows that stand for more entries than there can be come from a file that somebody made up.
    fn add(&mut self, weight: Weight) {
        self.weight = self.weight.saturating_add(weight.0);
        self.squares += weight.squared();
    }

    fn merge(&mut self, other: Self) {
        self.weight = self.weight.saturating_add(other.weight);
        self.squares += other.squares;
    }
}

/// What happened to flows of one protocol at ages of one bin.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// Came under observation, being of that age already.
    entered: Sum,
    /// Left observation alive.
    left: Sum,
    /// Ended, in all.
    died: Sum,
    /// Ended, by final status.
    died_by_status: [u64; STATUSES],
}

/// The flows of one protocol that ended with one status.
#[derive(Debug, Clone, Copy, Default)]
struct Ended {
    /// In the sample.
    n: u64,
    sum: Sum,
}

/// Everything about one protocol in some time.
#[derive(Debug, Clone)]
struct Table {
    /// Came under observation as they were inserted.
    born: Sum,
    cells: Box<[Cell]>,
    ended: [Ended; STATUSES],
}

impl Table {
    fn new() -> Self {
        let cells = vec![Cell::default(); BINS].into();
        Self { born: Sum::default(), cells, ended: Default::default() }
    }

    fn cell(&mut self, age_ns: u64) -> Option<&mut Cell> {
        self.cells.get_mut(bins::of(age_ns))
    }

    fn merge(&mut self, other: &Self) {
        self.born.merge(other.born);
        for (cell, other) in self.cells.iter_mut().zip(&other.cells) {
            cell.entered.merge(other.entered);
            cell.left.merge(other.left);
            cell.died.merge(other.died);
            for (died, other) in cell.died_by_status.iter_mut().zip(other.died_by_status) {
                *died = died.saturating_add(other);
            }
        }
        for (ended, other) in self.ended.iter_mut().zip(other.ended) {
            ended.n += other.n;
            ended.sum.merge(other.sum);
        }
    }
}

#[derive(Debug, Clone)]
struct Epoch {
    begin_ns: u64,
    tables: [Table; PROTOCOLS],
}

impl Epoch {
    fn new(begin_ns: u64) -> Self {
        Self { begin_ns, tables: array::from_fn(|_| Table::new()) }
    }

    fn table(&mut self, protocol: Protocol) -> Option<&mut Table> {
        self.tables.get_mut(protocol as usize)
    }
}

/// The life table. Times are those of the data; each event costs O(1), a summary O(bins) and a look at
/// each flow that is alive.
#[derive(Debug, Clone)]
pub struct Lifetimes {
    window: Window,
    now: Epoch,
    /// The epochs before, the oldest first.
    before: VecDeque<Epoch>,
}

impl Lifetimes {
    /// Nothing seen yet; the first epoch begins at `begin_ns`.
    #[must_use]
    pub fn new(window: Window, begin_ns: u64) -> Self {
        Self { window, now: Epoch::new(begin_ns), before: VecDeque::new() }
    }

    /// A flow was inserted.
    pub fn born(&mut self, protocol: Protocol, weight: Weight) {
        if let Some(table) = self.now.table(protocol) {
            table.born.add(weight);
        }
    }

    /// A flow under observation ended at that age.
    pub fn died(&mut self, flow: Alive, status: EntryStatus) {
        let Some(table) = self.now.table(flow.protocol) else { return };
        if let Some(ended) = table.ended.get_mut(status as usize) {
            ended.n += 1;
            ended.sum.add(flow.weight);
        }
        if let Some(cell) = table.cell(flow.age_ns) {
            cell.died.add(flow.weight);
            if let Some(died) = cell.died_by_status.get_mut(status as usize) {
                *died = died.saturating_add(flow.weight.0);
            }
        }
    }

    /// A flow comes under observation at that age.
    pub fn entered(&mut self, flow: Alive) {
        if let Some(cell) = self.now.table(flow.protocol).and_then(|table| table.cell(flow.age_ns))
        {
            cell.entered.add(flow.weight);
        }
    }

    /// A flow under observation leaves it alive at that age.
    pub fn left(&mut self, flow: Alive) {
        if let Some(cell) = self.now.table(flow.protocol).and_then(|table| table.cell(flow.age_ns))
        {
            cell.left.add(flow.weight);
        }
    }

    /// The age from which on a flow inserted at `inserted_ns` has been under observation in the epoch that
    /// runs: 0 if it was inserted in it.
    #[must_use]
    pub const fn observed_from_ns(&self, inserted_ns: u64) -> u64 {
        self.now.begin_ns.saturating_sub(inserted_ns)
    }

    /// Whether the epoch that runs is over.
    #[must_use]
    pub const fn is_epoch_over(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.now.begin_ns) >= self.window.epoch_ns
    }

    /// Begins an epoch. `alive`: all flows that are alive.
    pub fn begin_epoch(&mut self, now_ns: u64, alive: impl Iterator<Item = Alive>) {
        let mut next = Epoch::new(now_ns);
        for flow in alive {
            self.left(flow);
            if let Some(cell) = next.table(flow.protocol).and_then(|table| table.cell(flow.age_ns))
            {
                cell.entered.add(flow.weight);
            }
        }
        let last = std::mem::replace(&mut self.now, next);
        self.before.push_back(last);
        while self.before.len() >= self.window.epochs.max(1) {
            self.before.pop_front();
        }
    }

    /// When the oldest data that is remembered was taken.
    #[must_use]
    pub fn since_ns(&self) -> u64 {
        self.before.front().unwrap_or(&self.now).begin_ns
    }

    /// What is known, by protocol in the order of [`Protocol::ALL`]. `alive`: all flows that are alive.
    #[must_use]
    pub fn curves(&self, alive: impl Iterator<Item = Alive>) -> [Curve; PROTOCOLS] {
        let mut sum = self.now.clone();
        for epoch in &self.before {
            for (table, before) in sum.tables.iter_mut().zip(&epoch.tables) {
                table.merge(before);
            }
        }
        for flow in alive {
            if let Some(cell) = sum.table(flow.protocol).and_then(|table| table.cell(flow.age_ns)) {
                cell.left.add(flow.weight);
            }
        }
        sum.tables.map(|table| Curve::new(&table))
    }
}

#[cfg(test)]
mod tests;
