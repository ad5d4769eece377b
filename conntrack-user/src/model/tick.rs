//! What the model makes of a reading: what the views show.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    counts::{Counted, Totals},
    coverage::Coverage,
    evictable::Evictable,
    flow_summary::FlowSummary,
    full::Full,
    in_flight::InFlightTick,
    kernel_counters::KernelTick,
    name::{Name, NameKind},
    probe::Probe,
    reading::{Events, KernelStat, NetnsId, Time, Victim},
    windows::Windows,
};
use crate::forecast::outlook::Outlook;

/// All namespaces at a tick.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// When.
    pub time: Time,
    /// Nanoseconds since the tick before; none at the first.
    pub interval_ns: Option<u64>,
    /// The namespaces, in the order of the reading; idle ones are left out.
    pub netns: Vec<NetnsTick>,
    /// Namespaces in which nothing was counted lately.
    pub idle: u64,
    /// The kernel's counters of idle namespaces that were looked at in their turn, and are not in `netns`.
    pub reviewed: Vec<(NetnsId, KernelTick)>,
    /// Namespaces that are gone, besides those that say so in `netns`.
    pub gone: Vec<NetnsId>,
    /// What became of the events; none without.
    pub events: Option<Events>,
    /// Calls that the programs missed; 0: every count is exact. None when it cannot be told.
    pub missed_calls_max: Option<u64>,
    /// Which counts are counted at all.
    pub counted: Counted,
    /// What was counted together in namespaces beyond those that can be told apart; none while there is
    /// none.
    pub overflow: Option<Totals>,
    /// How the kernel programs do.
    pub probes: Vec<Probe>,
    /// Tuples that were refused or evicted in the tick: some of them, the last ones.
    pub victims: Vec<Victim>,
    /// Blocks of counters that are taken, and how many there are.
    pub blocks: Option<(u64, u64)>,
    /// Changes of `nf_conntrack_max` since the first reading.
    pub limit_changes: u64,
    /// What is known of single flows: once a second.
    pub flows: Option<Box<FlowSummary>>,
    /// What is to be said once.
    pub notices: Vec<String>,
    /// Coverage of the machine's namespaces; none where only one is wanted, or nothing says it.
    pub coverage: Option<Arc<Coverage>>,
}

/// One namespace at a tick.
#[derive(Debug, Clone, PartialEq)]
pub struct NetnsTick {
    /// Which one.
    pub id: NetnsId,
    /// Its name, where one is known.
    pub name: Option<Name>,
    /// It has ended; these are its last counts.
    pub ended: bool,
    /// Entries in its table.
    pub entries: Entries,
    /// Entries it may have.
    pub limit: Limit,
    /// What happened since the tick before; none at the first, when procfs is polled, and when some of it was lost.
    pub change: Option<Totals>,
    /// Entries a second, as far as they can be told.
    pub rates: Rates,
    /// What was counted by windows since the tick before; none where that is not told.
    pub windows: Option<Windows>,
    /// What was counted since the programs were attached; none when procfs is polled.
    pub totals: Option<Totals>,
    /// Entries before the programs counted, once settled; of events, those that no event tells of.
    pub baseline: Option<i64>,
    /// The kernel's count less ours; 0 unless an event was missed. None while the table moves.
    pub count_drift: Option<i64>,
    /// Entries that are allocated and not in the table, and what they tell of calls that were missed.
    pub in_flight: InFlightTick,
    /// What becomes of it.
    pub outlook: Outlook,
    /// Facts about a full table; none while it is not full.
    pub full: Option<Full>,
    /// Entries a second by which it grew over the last 10 s, or since it was first read; none where that is not known.
    pub growth: Option<f64>,
    /// Entries that can be evicted.
    pub evictable: Evictable,
    /// Whether the forecast knows the timeouts of its entries; else it begins with the kernel's defaults.
    pub timeouts_known: bool,
    /// The kernel's count as read.
    pub count: Option<u32>,
    /// The kernel's statistics as read.
    pub kernel: Option<KernelStat>,
    /// The kernel's counters followed from tick to tick; none where they could not be read.
    pub kernel_counters: Option<KernelTick>,
}

/// Entries in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entries {
    /// This many.
    Exact(u64),
    /// From the first to the second, both included: the baseline is not settled.
    Between(u64, u64),
    /// It cannot be told.
    Unavailable,
}

impl Entries {
    /// The number, or the highest it can be.
    #[must_use]
    pub const fn at_most(self) -> Option<u64> {
        match self {
            Self::Exact(entries) | Self::Between(_, entries) => Some(entries),
            Self::Unavailable => None,
        }
    }
}

/// How many entries a table may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// So many: `nf_conntrack_max`.
    Entries(u32),
    /// As many as memory holds: `nf_conntrack_max` is 0, which kernels up to 6.18 accept.
    Unlimited,
    /// It cannot be read.
    Unavailable,
}

impl Limit {
    /// What `nf_conntrack_max` says.
    #[must_use]
    pub const fn of(max: u32) -> Self {
        if max == 0 { Self::Unlimited } else { Self::Entries(max) }
    }

    /// Entries (at most) as a share of the limit; none where either is unknown or there is no limit.
    #[must_use]
    pub fn fill(self, entries: Entries) -> Option<f64> {
        match self {
            Self::Entries(max) => Some(entries.at_most()? as f64 / f64::from(max)),
            Self::Unlimited | Self::Unavailable => None,
        }
    }

    /// Whether a table with so many entries may be at the limit.
    #[must_use]
    pub fn is_reached(self, entries: Entries) -> bool {
        match (self, entries.at_most()) {
            (Self::Unlimited, _) => false,
            (Self::Entries(max), Some(entries)) => entries >= u64::from(max),
            (Self::Unavailable, _) | (_, None) => true,
        }
    }
}

/// The limit that all tables have, and a namespace in which it was read.
#[derive(Debug, Clone, Copy)]
pub struct CommonLimit<'a> {
    /// Never [`Limit::Unavailable`].
    pub limit: Limit,
    /// The machine's own where it was read there, else the first one.
    pub read_in: &'a NetnsTick,
}

impl Tick {
    /// The limit of every table: see [`CommonLimit::of`].
    #[must_use]
    pub fn common_limit(&self) -> Option<CommonLimit<'_>> {
        CommonLimit::of(&self.netns)
    }
}

impl<'a> CommonLimit<'a> {
    /// The limit of every table, also of one whose own file cannot be read: `nf_conntrack_max` is one variable of the
    /// kernel, which the file of each namespace shows and that of the initial one alone can set (net/netfilter/
    /// nf_conntrack_standalone.c, up to 7.3). None where no limit was read, and where two namespaces have different ones:
    /// such a kernel keeps one each.
    #[must_use]
    pub fn of(all: impl IntoIterator<Item = &'a NetnsTick>) -> Option<Self> {
        let is_read = |one: &&NetnsTick| !one.ended && one.limit != Limit::Unavailable;
        let mut read = all.into_iter().filter(is_read);
        let first = read.next()?;
        let mut read_in = first;
        for other in read {
            if other.limit != first.limit {
                return None;
            }
            let is_host =
                |one: &NetnsTick| one.name.as_ref().is_some_and(|name| name.kind == NameKind::Host);
            if is_host(other) && !is_host(read_in) {
                read_in = other;
            }
        }
        Some(Self { limit: first.limit, read_in })
    }
}

/// Entries a second since the tick before.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Put into the table.
    pub insert: Option<f64>,
    /// Taken out of the table.
    pub delete: Option<f64>,
    /// By which the count of entries changed.
    pub net: Option<f64>,
}

#[cfg(test)]
impl Tick {
    /// One of which nothing else is known.
    pub(crate) fn example(netns: Vec<NetnsTick>) -> Self {
        Self {
            time: Time { monotonic_ns: 0, unix_ns: 1_764_000_000_000_000_000 },
            interval_ns: None,
            netns,
            events: None,
            missed_calls_max: None,
            counted: Counted::ALL,
            idle: 0,
            reviewed: vec![],
            gone: vec![],
            overflow: None,
            probes: vec![],
            victims: vec![],
            blocks: None,
            limit_changes: 0,
            flows: None,
            notices: vec![],
            coverage: None,
        }
    }
}

#[cfg(test)]
impl NetnsTick {
    /// One of which nothing else is known.
    pub(crate) fn example(inode: u64, entries: u64, max: u32) -> Self {
        Self {
            id: NetnsId { cookie: Some(inode), inode },
            name: None,
            ended: false,
            entries: Entries::Exact(entries),
            limit: Limit::of(max),
            change: None,
            rates: Rates::default(),
            windows: None,
            totals: None,
            baseline: None,
            count_drift: None,
            in_flight: InFlightTick::default(),
            outlook: Outlook::unknown(crate::forecast::outlook::State::Unknown, "nothing is known"),
            full: None,
            growth: None,
            evictable: Evictable::default(),
            timeouts_known: false,
            count: None,
            kernel: None,
            kernel_counters: None,
        }
    }
}

impl NetnsTick {
    /// The highest rate of inserts by packets in one window of the tick, a second.
    #[must_use]
    pub fn insert_rate_peak(&self) -> Option<f64> {
        match (&self.windows, &self.change) {
            (Some(windows), _) => windows.insert_rate_peak(),
            // One in which nothing was ever counted has no windows.
            (None, Some(change)) if change.inserts() == 0 => Some(0.0),
            (None, _) => None,
        }
    }

    /// Entries as a share of the limit; none where either is unknown or there is no limit.
    #[must_use]
    pub fn fill_ratio(&self) -> Option<f64> {
        self.limit.fill(self.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_limit_is_that_of_all() {
        let netns = |inode, max| NetnsTick::example(inode, 5, max);
        let limit =
            |tick: &Tick| tick.common_limit().map(|common| (common.limit, common.read_in.id.inode));
        let mut tick = Tick::example(vec![netns(7, 1000), netns(8, 1000)]);
        assert_eq!(limit(&tick), Some((Limit::Entries(1000), 7)));
        tick.netns[1].name = Some(Name { text: "host".into(), kind: NameKind::Host });
        assert_eq!(limit(&tick), Some((Limit::Entries(1000), 8)));
        // That of one which has ended may be older, and one that was not read has none.
        tick.netns.push(NetnsTick { ended: true, ..netns(9, 500) });
        tick.netns.push(NetnsTick { limit: Limit::Unavailable, ..netns(10, 1) });
        assert_eq!(limit(&tick), Some((Limit::Entries(1000), 8)));
        tick.netns.push(netns(11, 500));
        assert_eq!(limit(&tick), None, "a kernel with a limit a namespace");
        assert_eq!(limit(&Tick::example(vec![netns(7, 0)])), Some((Limit::Unlimited, 7)));
        assert_eq!(limit(&Tick::example(vec![])), None);
    }
}
