//! Derives changes of a table's [`Severity`] from ticks. Pure: the ticks carry the time. docs/warnings.md has the table of [`Condition`]s.

pub mod change;
mod hysteresis;
mod words;

use std::collections::{HashMap, HashSet, hash_map::Entry};

pub use change::Change;

use hysteresis::Signal;

use crate::{
    model::{
        name::Name,
        reading::{KernelStat, NetnsId, Time},
        tick::{Entries, Limit, NetnsTick, Tick},
    },
    severity::{
        Condition, Severity, Thresholds,
        facts::{Facts, Losses},
    },
};

/// Namespaces that are watched at a time; more than the kernel programs tell apart.
const MAX_NETNS: usize = 8192;

/// Watches all namespaces.
#[derive(Debug)]
pub struct Warnings {
    thresholds: Thresholds,
    /// By inode: the source may change meanwhile, and not each of them knows cookies.
    netns: HashMap<u64, Watched>,
    untracked: u64,
}

/// A namespace as it was at the last tick.
#[derive(Debug)]
struct Watched {
    cookie: Option<u64>,
    name: Option<Name>,
    severity: Severity,
    /// Since when it has this severity, on the monotonic clock.
    since_ns: u64,
    signals: [Signal; Condition::ALL.len()],
    entries: Entries,
    limit: Limit,
    kernel: Option<KernelStat>,
    /// Since it was last [`Severity::Ok`].
    losses: Losses,
}

impl Warnings {
    /// Of which nothing is known yet.
    #[must_use]
    pub fn new(thresholds: Thresholds) -> Self {
        Self { thresholds, netns: HashMap::new(), untracked: 0 }
    }

    /// Judges by `thresholds` from the next tick on. What is raised stays so until that says otherwise.
    pub const fn revise(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    /// The severity of each table that is watched.
    pub fn severities(&self) -> impl Iterator<Item = (NetnsId, Severity)> {
        let id = |inode: u64, watched: &Watched| NetnsId { cookie: watched.cookie, inode };
        self.netns.iter().map(move |(inode, watched)| (id(*inode, watched), watched.severity))
    }

    /// Namespaces of the last tick that are not watched, because there are too many.
    #[must_use]
    pub const fn untracked(&self) -> u64 {
        self.untracked
    }

    /// Takes in a tick; ticks come in the order of time. One change a namespace at the most, but for an inode that was
    /// given to another namespace since the tick before: of that the end of the first one is told, too.
    pub fn observe(&mut self, tick: &Tick) -> Vec<Change> {
        let mut changes = Vec::new();
        let ended = tick.netns.iter().filter(|netns| netns.ended).map(|netns| netns.id);
        for id in ended.chain(tick.gone.iter().copied()) {
            changes.extend(self.end(id, tick.time));
        }
        let mut seen = HashSet::new();
        self.untracked = 0;
        for netns in tick.netns.iter().filter(|netns| !netns.ended) {
            seen.insert(netns.id.inode);
            changes.extend(self.observe_netns(netns, tick));
        }
        // Where none is left out as idle, those that are missing are not known to be.
        if tick.idle > 0 {
            for (inode, watched) in &mut self.netns {
                if !seen.contains(inode) {
                    changes.extend(watched.observe_idle(*inode, tick.time, &self.thresholds));
                }
            }
        }
        changes
    }

    fn observe_netns(&mut self, netns: &NetnsTick, tick: &Tick) -> Vec<Change> {
        let mut changes = Vec::new();
        let inode = netns.id.inode;
        if self.netns.get(&inode).is_some_and(|known| is_other(known.cookie, netns.id.cookie)) {
            let known = self.netns.get(&inode).and_then(|known| known.cookie);
            changes.extend(self.end(NetnsId { cookie: known, inode }, tick.time));
        }
        if self.netns.len() >= MAX_NETNS && !self.netns.contains_key(&inode) {
            self.netns.retain(|_, watched| !watched.is_at_rest());
        }
        let has_room = self.netns.len() < MAX_NETNS;
        let watched = match self.netns.entry(inode) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) if has_room => place.insert(Watched::new(netns, tick.time)),
            Entry::Vacant(_) => {
                self.untracked += 1;
                return changes;
            }
        };
        watched.cookie = netns.id.cookie.or(watched.cookie);
        watched.name.clone_from(&netns.name);
        (watched.entries, watched.limit) = (netns.entries, netns.limit);
        let facts = Facts::of(netns, tick, watched.kernel.as_ref(), &self.thresholds);
        watched.kernel = netns.kernel.or(watched.kernel);
        if let Some(after) = watched.judge(&facts, tick.time, &self.thresholds) {
            let text = words::of_change(&after, watched, inode, Some(netns));
            changes.push(watched.change(after, inode, tick.time, Some(netns), text));
        }
        changes
    }

    /// Forgets a namespace; what it was warned of is over.
    fn end(&mut self, id: NetnsId, time: Time) -> Option<Change> {
        let known = self.netns.get(&id.inode)?;
        if is_other(known.cookie, id.cookie) {
            return None;
        }
        let mut watched = self.netns.remove(&id.inode)?;
        if watched.severity == Severity::Ok {
            return None;
        }
        let after = watched.turn(Severity::Ok, vec![], time);
        let text = words::of_end(&after, &watched, id.inode);
        let change = watched.change(after, id.inode, time, None, text);
        Some(Change { ended: true, ..change })
    }
}

/// Whether the cookies are of two namespaces; one that is not known may be any.
fn is_other(one: Option<u64>, other: Option<u64>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}

/// A severity that was left.
#[derive(Debug)]
struct Left {
    from: Severity,
    /// How long it lasted.
    seconds: f64,
    to: Severity,
    conditions: Vec<Condition>,
    /// Since it was last [`Severity::Ok`].
    losses: Losses,
}

impl Watched {
    fn new(netns: &NetnsTick, time: Time) -> Self {
        Self {
            cookie: netns.id.cookie,
            name: None,
            severity: Severity::Ok,
            since_ns: time.monotonic_ns,
            signals: Default::default(),
            entries: netns.entries,
            limit: netns.limit,
            kernel: None,
            losses: Losses::default(),
        }
    }

    /// Whether nothing would be forgotten with it but what the kernel has counted.
    fn is_at_rest(&self) -> bool {
        self.severity == Severity::Ok && self.signals.iter().all(Signal::is_at_rest)
    }

    /// A tick in which nothing was counted in it: it is as full as before, and nothing comes.
    fn observe_idle(&mut self, inode: u64, time: Time, thresholds: &Thresholds) -> Option<Change> {
        let facts = Facts::idle(self.entries, self.limit);
        let after = self.judge(&facts, time, thresholds)?;
        let text = words::of_change(&after, self, inode, None);
        Some(self.change(after, inode, time, None, text))
    }

    /// Moves to the severity that the conditions amount to; none where it has that already, unless it begins to drop packets:
    /// until then connections would fail, now they do.
    fn judge(&mut self, facts: &Facts, time: Time, thresholds: &Thresholds) -> Option<Left> {
        self.losses.add(facts.losses);
        let (mut raised, mut begins_to_drop) = (Vec::new(), false);
        for (condition, signal) in Condition::ALL.into_iter().zip(&mut self.signals) {
            let says = condition.verdict(facts, thresholds);
            let was_raised = signal.is_raised();
            if signal.observe(says, time.monotonic_ns, condition.timing(thresholds)) {
                begins_to_drop |= condition == Condition::TableFullDrops && !was_raised;
                raised.push(condition);
            }
        }
        let severity =
            raised.iter().map(|condition| condition.severity()).max().unwrap_or(Severity::Ok);
        let is_told = severity != self.severity || begins_to_drop;
        let left = is_told.then(|| self.turn(severity, raised, time));
        if self.severity == Severity::Ok {
            self.losses = Losses::default();
        }
        left
    }

    fn turn(&mut self, to: Severity, conditions: Vec<Condition>, time: Time) -> Left {
        let seconds = time.monotonic_ns.saturating_sub(self.since_ns) as f64 / 1e9;
        let from = std::mem::replace(&mut self.severity, to);
        if to != from {
            self.since_ns = time.monotonic_ns;
        }
        Left { from, seconds, to, conditions, losses: self.losses }
    }

    fn change(
        &self,
        left: Left,
        inode: u64,
        time: Time,
        netns: Option<&NetnsTick>,
        message: String,
    ) -> Change {
        let outlook = netns.map(|netns| &netns.outlook);
        Change {
            time,
            id: NetnsId { cookie: self.cookie, inode },
            name: self.name.clone(),
            from: left.from,
            seconds: left.seconds,
            to: left.to,
            conditions: left.conditions,
            entries: self.entries,
            limit: self.limit,
            full: netns.and_then(|netns| netns.full),
            seconds_to_full: outlook.and_then(|outlook| outlook.seconds_to_full),
            full_probability: outlook.and_then(|outlook| outlook.full_probability),
            losses: left.losses,
            ended: false,
            message,
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
