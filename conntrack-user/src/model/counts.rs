//! Counts of one namespace since the programs were attached.

use serde::{Deserialize, Serialize};

/// A number for each kind of protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByProtocol {
    /// TCP
    pub tcp: u64,
    /// UDP
    pub udp: u64,
    /// ICMP and `ICMPv6`
    pub icmp: u64,
    /// All others
    pub other: u64,
}

impl From<[u64; 4]> for ByProtocol {
    fn from([tcp, udp, icmp, other]: [u64; 4]) -> Self {
        Self { tcp, udp, icmp, other }
    }
}

impl From<ByProtocol> for [u64; 4] {
    fn from(by: ByProtocol) -> Self {
        [by.tcp, by.udp, by.icmp, by.other]
    }
}

impl ByProtocol {
    /// All protocols together.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.tcp + self.udp + self.icmp + self.other
    }

    /// `f` of each number and its counterpart.
    #[must_use]
    pub fn zip(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            tcp: f(self.tcp, other.tcp),
            udp: f(self.udp, other.udp),
            icmp: f(self.icmp, other.icmp),
            other: f(self.other, other.other),
        }
    }
}

/// A number for each protocol and for each status that an entry can have in the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByStatus {
    /// No answer was seen.
    pub unreplied: ByProtocol,
    /// Packets were seen in both directions (`IPS_SEEN_REPLY`).
    pub replied: ByProtocol,
    /// Worth keeping, never evicted early (`IPS_ASSURED`).
    pub assured: ByProtocol,
    /// Still in a flow table (`IPS_OFFLOAD`, `IPS_HW_OFFLOAD`).
    pub offloaded: ByProtocol,
}

impl From<[ByProtocol; 4]> for ByStatus {
    fn from([unreplied, replied, assured, offloaded]: [ByProtocol; 4]) -> Self {
        Self { unreplied, replied, assured, offloaded }
    }
}

impl From<ByStatus> for [[u64; 4]; 4] {
    fn from(by: ByStatus) -> Self {
        [by.unreplied, by.replied, by.assured, by.offloaded].map(Into::into)
    }
}

impl ByStatus {
    /// All of them together.
    #[must_use]
    pub const fn sum(&self) -> u64 {
        self.unreplied.sum() + self.replied.sum() + self.assured.sum() + self.offloaded.sum()
    }

    fn zip(&self, other: &Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            unreplied: self.unreplied.zip(&other.unreplied, &f),
            replied: self.replied.zip(&other.replied, &f),
            assured: self.assured.zip(&other.assured, &f),
            offloaded: self.offloaded.zip(&other.offloaded, &f),
        }
    }
}

/// Everything that is counted, over all CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Entries allocated.
    pub allocs: u64,
    /// Allocations refused: table full and nothing to evict, or no memory.
    pub allocs_failed: u64,
    /// Packets dropped because the table was full and nothing could be evicted.
    #[serde(alias = "table_full")]
    pub table_full_drops: u64,
    /// Entries hashed by a packet.
    pub inserts_packet: ByProtocol,
    /// Entries hashed through ctnetlink or a BPF kfunc.
    pub inserts_ctnetlink: ByProtocol,
    /// Entries taken out of the hash, for whatever reason.
    pub deletes: ByStatus,
    /// Those that a user asked for; part of `deletes`, as the next two.
    pub deletes_user: u64,
    /// Those because the namespace ended.
    pub deletes_netns_exit: u64,
    /// Those evicted early to make room for new ones.
    #[serde(alias = "evictions")]
    pub early_drops: u64,
    /// Entries that found another one with their tuple when they were to be hashed.
    pub clashes: u64,
    /// Those that were merged into the other one, or hashed beside it.
    pub clashes_resolved: u64,
    /// Packets dropped because a clash could not be resolved.
    pub failed_clash: u64,
    /// Packets dropped because their bucket's chain was too long.
    pub failed_chain_too_long: u64,
    /// Packets dropped because their entry was deleted before it was hashed.
    pub failed_dying: u64,
    /// Entries freed, whether they had been hashed or not.
    pub frees: u64,
    /// Events of entries that are not in the sample.
    pub events_sampled_out: u64,
    /// Events that found the ring buffer full.
    pub events_lost: u64,
}

impl Totals {
    /// Entries hashed, by whatever path.
    #[must_use]
    pub const fn inserts(&self) -> u64 {
        self.inserts_packet.sum() + self.inserts_ctnetlink.sum()
    }

    /// Deletes for none of the causes that are told apart: the entry expired, was reset, or its device
    /// went away.
    #[must_use]
    pub const fn deletes_kernel(&self) -> u64 {
        let others = self.deletes_user + self.deletes_netns_exit + self.early_drops;
        // Each is read at another moment.
        self.deletes.sum().saturating_sub(others)
    }

    /// What the count of entries follows from.
    #[must_use]
    pub const fn balance(&self) -> Balance {
        Balance { allocs: self.allocs, frees: self.frees }
    }

    /// What was counted after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    fn zip(&self, other: &Self, f: impl Fn(u64, u64) -> u64 + Copy) -> Self {
        Self {
            allocs: f(self.allocs, other.allocs),
            allocs_failed: f(self.allocs_failed, other.allocs_failed),
            table_full_drops: f(self.table_full_drops, other.table_full_drops),
            inserts_packet: self.inserts_packet.zip(&other.inserts_packet, f),
            inserts_ctnetlink: self.inserts_ctnetlink.zip(&other.inserts_ctnetlink, f),
            deletes: self.deletes.zip(&other.deletes, f),
            deletes_user: f(self.deletes_user, other.deletes_user),
            deletes_netns_exit: f(self.deletes_netns_exit, other.deletes_netns_exit),
            early_drops: f(self.early_drops, other.early_drops),
            clashes: f(self.clashes, other.clashes),
            clashes_resolved: f(self.clashes_resolved, other.clashes_resolved),
            failed_clash: f(self.failed_clash, other.failed_clash),
            failed_chain_too_long: f(self.failed_chain_too_long, other.failed_chain_too_long),
            failed_dying: f(self.failed_dying, other.failed_dying),
            frees: f(self.frees, other.frees),
            events_sampled_out: f(self.events_sampled_out, other.events_sampled_out),
            events_lost: f(self.events_lost, other.events_lost),
        }
    }
}

/// Allocations and frees: the kernel's count is what it was before, plus the one, less the other
/// (`__nf_conntrack_alloc` and `nf_conntrack_free`, net/netfilter/nf_conntrack_core.c). Where those are not counted,
/// inserts and deletes: see [`super::unheard`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Entries allocated.
    pub allocs: u64,
    /// Entries freed.
    pub frees: u64,
}

impl Balance {
    /// Entries that came, less entries that went.
    #[must_use]
    pub const fn net(self) -> i64 {
        self.allocs as i64 - self.frees as i64
    }
}

/// What the counts of a namespace say together: see [`super::in_flight`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Books {
    /// Allocations and frees.
    pub balance: Balance,
    /// Entries hashed, by whatever path.
    pub inserts: u64,
    /// Entries taken out of the hash.
    pub deletes: u64,
    /// Entries freed that had never been hashed; part of the frees.
    pub frees_unhashed: u64,
}

impl Books {
    /// Entries that were allocated, and neither hashed nor freed.
    #[must_use]
    pub const fn unhashed(&self) -> i64 {
        self.balance.allocs as i64 - self.inserts as i64 - self.frees_unhashed as i64
    }

    /// Entries that were deleted, and not freed.
    #[must_use]
    pub const fn dying(&self) -> i64 {
        self.deletes as i64 - (self.balance.frees as i64 - self.frees_unhashed as i64)
    }
}

/// What is counted at all: a hook that could not be attached leaves a gap that is no zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// `allocs`, `allocs_failed` and `frees`, and so the count of entries
    #[serde(default = "yes")]
    pub allocs: bool,
    /// `inserts_packet`
    pub inserts_packet: bool,
    /// `inserts_ctnetlink`
    pub inserts_ctnetlink: bool,
    /// `deletes`
    pub deletes: bool,
    /// `table_full_drops` and, with `deletes`, `early_drops`
    pub early_drops: bool,
    /// `deletes_user`, and so which deletes are the kernel's own
    pub causes: bool,
    /// `deletes_netns_exit`
    #[serde(default = "yes")]
    pub netns_exits: bool,
    /// `clashes`
    pub clashes: bool,
    /// `clashes_resolved` and `failed_clash`
    pub clash_outcomes: bool,
    /// `failed_chain_too_long` and `failed_dying`
    pub failed_inserts: bool,
    /// They are the kernel's own numbers, so only of namespaces whose numbers can be read.
    pub failed_by_kernel: bool,
}

impl Counted {
    /// Everything.
    pub const ALL: Self = Self {
        allocs: true,
        inserts_packet: true,
        inserts_ctnetlink: true,
        deletes: true,
        early_drops: true,
        causes: true,
        netns_exits: true,
        clashes: true,
        clash_outcomes: true,
        failed_inserts: true,
        failed_by_kernel: false,
    };

    /// The same for a namespace: `has_stat`, whether the kernel's own numbers of it are known.
    #[must_use]
    pub const fn of(self, has_stat: bool) -> Self {
        let failed_inserts = self.failed_inserts && (has_stat || !self.failed_by_kernel);
        Self { failed_inserts, ..self }
    }

    /// Whether each delete's cause is told.
    #[must_use]
    pub const fn all_causes(&self) -> bool {
        self.causes && self.deletes && self.early_drops && self.netns_exits
    }

    /// Whether inserts are counted on every path.
    #[must_use]
    pub const fn all_inserts(&self) -> bool {
        self.inserts_packet && self.inserts_ctnetlink
    }
}

/// What programs in the kernel have always counted, recordings do not say.
const fn yes() -> bool {
    true
}
