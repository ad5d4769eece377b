//! What a source hands to the model at a tick.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    bounds::{self, at_most},
    counts::{Balance, Counted, Totals},
    coverage::{self, Coverage},
    flow::FlowEvent,
    in_flight::InFlight,
    live_state::Batch,
    name::Name,
    probe::Probe,
    windows::Windows,
};
use crate::forecast::snapshot::Timeouts;

/// A moment, on both clocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// Nanoseconds on a clock that never jumps; only differences mean anything.
    pub monotonic_ns: u64,
    /// Nanoseconds since 1970 UTC.
    pub unix_ns: u64,
}

/// Which network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetnsId {
    /// `net->net_cookie`, where it is known: never used twice.
    pub cookie: Option<u64>,
    /// `net->ns.inum`, as the kernel log and `/proc/PID/ns/net` show it. Reused.
    pub inode: u64,
}

/// All that was read at one tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// When.
    pub time: Time,
    /// The namespaces that were read; those in which nothing was counted lately are left out.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::NETNS }>")]
    pub netns: Vec<NetnsReading>,
    /// How many were left out.
    pub idle: u64,
    /// Namespaces that are gone, besides those that say so in `netns`.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::GONE }>")]
    pub gone: Vec<NetnsId>,
    /// What became of the events since the programs were attached; none without events.
    pub events: Option<Events>,
    /// Calls that the programs missed in all namespaces; none when it cannot be told.
    #[serde(alias = "missed_at_most")]
    pub missed_calls_max: Option<u64>,
    /// What was counted in namespaces beyond those that can be told apart.
    pub overflow: Totals,
    /// How the kernel programs do; read once a second.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::HOOKS }>")]
    pub probes: Vec<Probe>,
    /// Tuples that were refused or evicted since the reading before: some of them, the last ones.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::SAMPLES }>")]
    pub victims: Vec<Victim>,
    /// Blocks of counters that are taken, and how many there are; none when procfs is polled.
    pub blocks: Option<(u64, u64)>,
    /// Live entries that were read again since the reading before.
    pub rereads: Option<Batch>,
    /// Which of the totals are counted.
    pub counted: Counted,
    /// Coverage of the machine's namespaces; none where only one is wanted, and in recordings made before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "coverage::shared")]
    pub coverage: Option<Arc<Coverage>>,
}

/// What became of the events of all namespaces since the programs were attached. When nothing happens,
/// `seen` is the sum of the next three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Inserts and deletes.
    pub seen: u64,
    /// Events taken out of the ring buffers.
    pub received: u64,
    /// Events of entries that are not in the sample.
    pub sampled_out: u64,
    /// Events that found their ring buffer full.
    pub lost: u64,
    /// Entries whose hash is below this are in the sample now: see [`super::flow::Sample`].
    pub threshold: u32,
}

/// A flow that was refused, or evicted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Victim {
    /// Its namespace; inode 0 where it is not known any more.
    pub netns: NetnsId,
    /// The flow.
    pub flow: FlowEvent,
}

/// One namespace at a tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetnsReading {
    /// Which one.
    pub id: NetnsId,
    /// Its name, where one is known.
    pub name: Option<Name>,
    /// It has ended; these are its last counts.
    pub ended: bool,
    /// Nothing was counted in it lately: read for the sake of its drift alone.
    pub idle: bool,
    /// What the kernel programs have counted in it, or what was heard of it; none when procfs is polled, when some of it
    /// was counted together with others, or when nobody listens in it.
    pub totals: Option<Totals>,
    /// Something that belongs into the totals was lost since the reading before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missed: bool,
    /// The kernel's count of entries, read once or more; empty when it cannot be read.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::COUNT_READS }>")]
    pub counts: Vec<CountRead>,
    /// Entries in flight at a moment of these reads; none where nothing stood still, and where they are not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<InFlight>,
    /// `nf_conntrack_max`.
    pub max: Option<u32>,
    /// The timeouts of its entries: when they are first read, and when they have changed; none otherwise, and where
    /// they cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// What was counted by windows since the tick before; none where that is not told.
    pub windows: Option<Windows>,
    /// The kernel's own statistics.
    pub kernel: Option<KernelStat>,
}

/// One read of the kernel's count, between two of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountRead {
    /// Ours, just before.
    pub before: Balance,
    /// `nf_conntrack_count`.
    pub count: u32,
    /// Ours, just after.
    pub after: Balance,
}

impl CountRead {
    /// Whether nothing happened meanwhile, as far as the programs saw: then the two counts are of
    /// the same moment, but for entries in the middle of being allocated or freed.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.before == self.after
    }
}

/// What the kernel counts itself in a namespace, over all CPUs (`struct ip_conntrack_stat`,
/// include/linux/netfilter/nf_conntrack_common.h). A counter that this kernel lacks is none. As it is read, each is a
/// 32-bit number a CPU, and wraps: [`super::kernel_counters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelStat<T = u64> {
    /// Look-ups for a new packet that found an entry made meanwhile.
    pub found: Option<T>,
    /// Packets that could not be tracked.
    pub invalid: Option<T>,
    /// Entries inserted through ctnetlink; packets are not counted.
    pub insert: Option<T>,
    /// Entries that could not be inserted: a clash, a chain too long, or dying.
    pub insert_failed: Option<T>,
    /// Packets dropped: table full, or a clash that could not be resolved.
    pub drop: Option<T>,
    /// Entries evicted early to make room.
    pub early_drop: Option<T>,
    /// Packets with a protocol error.
    pub error: Option<T>,
    /// Look-ups that were begun again because the table was resized.
    pub search_restart: Option<T>,
    /// Clashes that were resolved.
    pub clash_resolve: Option<T>,
    /// Entries refused because their bucket's chain was too long.
    pub chaintoolong: Option<T>,
    /// Expectations that packets met: connections announced by another one (FTP, SIP). They are in a
    /// table of their own, with a limit of its own (`nf_conntrack_expect_max`).
    pub expect_new: Option<T>,
    /// Expectations made.
    pub expect_create: Option<T>,
    /// Expectations taken away.
    pub expect_delete: Option<T>,
}

impl<T: Copy> KernelStat<T> {
    /// Each counter that both have, as `f` makes it of the two.
    #[must_use]
    pub fn zip<U: Copy, V>(&self, other: &KernelStat<U>, f: impl Fn(T, U) -> V) -> KernelStat<V> {
        let both = |one: Option<T>, other: Option<U>| Some(f(one?, other?));
        KernelStat {
            found: both(self.found, other.found),
            invalid: both(self.invalid, other.invalid),
            insert: both(self.insert, other.insert),
            insert_failed: both(self.insert_failed, other.insert_failed),
            drop: both(self.drop, other.drop),
            early_drop: both(self.early_drop, other.early_drop),
            error: both(self.error, other.error),
            search_restart: both(self.search_restart, other.search_restart),
            clash_resolve: both(self.clash_resolve, other.clash_resolve),
            chaintoolong: both(self.chaintoolong, other.chaintoolong),
            expect_new: both(self.expect_new, other.expect_new),
            expect_create: both(self.expect_create, other.expect_create),
            expect_delete: both(self.expect_delete, other.expect_delete),
        }
    }
}

#[cfg(test)]
impl Reading {
    /// One of which nothing else is known, at this time on `CLOCK_MONOTONIC`.
    pub(crate) fn example(monotonic_ns: u64, netns: Vec<NetnsReading>) -> Self {
        Self {
            time: Time { monotonic_ns, unix_ns: 0 },
            idle: 0,
            netns,
            gone: vec![],
            events: None,
            missed_calls_max: Some(0),
            overflow: Totals::default(),
            probes: vec![],
            victims: vec![],
            rereads: None,
            blocks: None,
            counted: Counted::ALL,
            coverage: None,
        }
    }
}
