//! What live entries are doing: a few of them, read again each second.
//!
//! No event tells when an entry is answered, becomes assured or changes its TCP state. So some flows of the
//! live table, chosen at random without replacement, are read again, and stand for the others.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{
    bounds::{self, at_most},
    class::{EntryStatus, Protocol, STATUSES},
    estimate::{Estimate, Sampled, wilson},
    flow::{Status, ratio},
    flows::Flows,
};
use crate::forecast::snapshot::{ByClass, Live};

/// Entries to be read again a second, at the most.
pub const READS_PER_SECOND: usize = 256;

/// For how long a read counts, in nanoseconds.
const WINDOW_NS: u64 = 5_000_000_000;
/// Entries that have to be read of a namespace before anything is said of its live entries.
const LEAST_READS: u32 = 16;
/// After which a flow that was found gone, and whose destroy has not come, has lost it.
const GONE_NS: u64 = 2_000_000_000;

/// Seconds left until an entry expires from which on it lasts.
const LASTING_SECS: u32 = 3600;

/// TCP states that are told apart; all others are the last one.
pub const TCP_STATES: usize = TcpState::ALL.len();

/// `enum tcp_conntrack` (include/uapi/linux/netfilter/nf_conntrack_tcp.h). As a number: its place in
/// [`TcpState::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum TcpState {
    /// `TCP_CONNTRACK_NONE`
    None,
    /// `TCP_CONNTRACK_SYN_SENT`
    SynSent,
    /// `TCP_CONNTRACK_SYN_RECV`
    SynRecv,
    /// `TCP_CONNTRACK_ESTABLISHED`
    Established,
    /// `TCP_CONNTRACK_FIN_WAIT`
    FinWait,
    /// `TCP_CONNTRACK_CLOSE_WAIT`
    CloseWait,
    /// `TCP_CONNTRACK_LAST_ACK`
    LastAck,
    /// `TCP_CONNTRACK_TIME_WAIT`
    TimeWait,
    /// `TCP_CONNTRACK_CLOSE`
    Close,
    /// `TCP_CONNTRACK_SYN_SENT2`: both sides have sent a SYN.
    SynSent2,
    /// A number that no state has.
    Unknown,
}

impl TcpState {
    /// All of them, in the kernel's order.
    pub const ALL: [Self; 11] = [
        Self::None,
        Self::SynSent,
        Self::SynRecv,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::LastAck,
        Self::TimeWait,
        Self::Close,
        Self::SynSent2,
        Self::Unknown,
    ];

    /// Of the kernel's number (`nf_conn.proto.tcp.state`).
    #[must_use]
    pub fn of(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown)
    }

    /// Its name as the kernel has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::SynSent2 => "SYN_SENT2",
            Self::Unknown => "UNKNOWN",
        }
    }
}

/// An entry that was read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reread {
    /// As it was chosen: the entry's address.
    pub entry: u64,
    /// As it was chosen: when it was inserted, as `CLOCK_MONOTONIC` in nanoseconds.
    pub inserted_ns: u64,
    /// What was there; none if that entry was gone, or another had its place.
    pub found: Option<Found>,
}

/// The state of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `nf_conn.status`: `IPS_*` bits.
    pub status: u32,
    /// `nf_conn.proto.tcp.state`; of no meaning for other protocols.
    pub tcp_state: u8,
    /// Seconds until it expires.
    pub timeout_seconds: u32,
}

/// Entries that were read again at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub time_ns: u64,
    /// What reading them took, in nanoseconds; none where it was not measured.
    pub cost_ns: Option<u64>,
    /// The entries.
    #[serde(deserialize_with = "at_most::<_, _, { bounds::SAMPLES }>")]
    pub rereads: Vec<Reread>,
}

/// A share of the live entries.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share<T> {
    /// Of those in this state.
    pub of: T,
    /// The share.
    pub ratio: Estimate,
}

impl<T> Share<T> {
    /// Reports whether any read found this state.
    #[must_use]
    pub const fn is_found(&self) -> bool {
        self.ratio.value > 0.0
    }
}

/// The live entries of one protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct ProtocolState {
    /// The protocol.
    pub protocol: Protocol,
    /// Flows read again in the last seconds that were there, each once.
    pub read: u64,
    /// Live entries that they speak for.
    pub speaks_for: Estimate,
    /// Shares by status, in the order of [`EntryStatus::ALL`].
    pub by_status: [Share<EntryStatus>; STATUSES],
    /// Shares by TCP state, in the order of [`TcpState::ALL`], also of states that no read found. Empty for other protocols.
    pub by_tcp_state: Vec<Share<TcpState>>,
}

/// The state of the live entries.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Seconds since the oldest read that counts.
    pub oldest_read_seconds: f64,
    /// Reads that were made, of entries that were gone too.
    pub reads: u64,
    /// Those that found the entry gone: its destroy was on the way, or lost.
    pub gone: u64,
    /// What a read took on the average, in seconds; none where it was not measured.
    pub seconds_per_read: Option<f64>,
    /// By protocol; those of which none was read are left out.
    pub protocols: Vec<ProtocolState>,
}

#[derive(Debug, Clone, Copy)]
struct Read {
    time_ns: u64,
    /// What names the flow: when it was inserted, and its hash. In a replay entries have other addresses.
    name: (u64, u32),
    /// None: gone.
    found: Option<(Protocol, Found, f64)>,
    /// None beyond those that are told apart.
    netns_cookie: Option<u64>,
}

/// What was read of one namespace.
#[derive(Debug, Clone, Copy, Default)]
struct NetnsReads {
    /// Sums of 1/ratio.
    weights: ByClass<f64>,
    /// Sum of 1/ratio of the established TCP entries.
    established: f64,
    /// Sum of 1/ratio of the answered TCP entries, and the same times the moment of their insert in ns.
    answered: f64,
    answered_inserted: f64,
    /// Sums of 1/ratio of the answered TCP entries that are older than the mean, and of the established ones among them.
    old: f64,
    old_established: f64,
    /// Sum of 1/ratio of TCP entries that last for more than [`LASTING_SECS`].
    lasting: f64,
    /// Sums of 1/ratio of entries without a whole second left, and of those with one left.
    expired: f64,
    expires_next: f64,
    reads: u32,
}

/// Reads of the last seconds.
#[derive(Debug, Clone, Default)]
pub struct LiveState {
    reads: VecDeque<Read>,
    /// What they say of each namespace, as of the last batch; as many as reads, at the most.
    by_netns: HashMap<u64, NetnsReads>,
    /// (time, cost, reads) of batches whose cost is known.
    costs: VecDeque<(u64, u64, usize)>,
    /// Found gone while the table had them alive: (time, entry, inserted).
    gone: VecDeque<(u64, u64, u64)>,
}

impl LiveState {
    /// Takes in a batch; batches come in the order of time. Flows that have ended since they were chosen
    /// are left out; those found gone whose destroy does not come in 2 s are taken out of `flows`.
    pub fn observe(&mut self, batch: &Batch, flows: &mut Flows) {
        let now_ns = batch.time_ns;
        // Reads beyond what a second may have would have no bound.
        for reread in batch.rereads.iter().take(READS_PER_SECOND) {
            let Reread { entry, inserted_ns, found } = *reread;
            let Some(known) = flows.get(entry, inserted_ns) else { continue };
            let found = found.map(|found| (known.protocol, found, ratio(known.sample.threshold)));
            if found.is_none() {
                self.gone.push_back((now_ns, entry, inserted_ns));
            }
            let name = (inserted_ns, known.sample.hash);
            let netns_cookie = known.netns_cookie;
            self.reads.push_back(Read { time_ns: now_ns, name, found, netns_cookie });
        }
        if let Some(cost_ns) = batch.cost_ns {
            self.costs.push_back((now_ns, cost_ns, batch.rereads.len()));
        }
        let is_old = |time_ns: u64| time_ns.saturating_add(WINDOW_NS) <= now_ns;
        while self.reads.front().is_some_and(|read| is_old(read.time_ns)) {
            self.reads.pop_front();
        }
        while self.costs.front().is_some_and(|(time_ns, ..)| is_old(*time_ns)) {
            self.costs.pop_front();
        }
        while let Some(&(time_ns, entry, inserted_ns)) = self.gone.front()
            && time_ns.saturating_add(GONE_NS) <= now_ns
        {
            self.gone.pop_front();
            flows.forget(entry, inserted_ns);
        }
        self.tell_apart();
    }

    /// Sums up what the reads say of each namespace.
    fn tell_apart(&mut self) {
        self.by_netns.clear();
        let latest = latest(self.reads.iter());
        for (&(inserted_ns, _), &(cookie, (protocol, found, ratio))) in &latest {
            let Some(cookie) = cookie else { continue };
            let netns = self.by_netns.entry(cookie).or_default();
            let status = EntryStatus::of(Status(found.status));
            netns.weights[status as usize][protocol as usize] += 1.0 / ratio;
            if is_established(protocol, found) {
                netns.established += 1.0 / ratio;
            }
            if is_answered(protocol, found) {
                netns.answered += 1.0 / ratio;
                netns.answered_inserted += inserted_ns as f64 / ratio;
            }
            if protocol == Protocol::Tcp && found.timeout_seconds > LASTING_SECS {
                netns.lasting += 1.0 / ratio;
            }
            match found.timeout_seconds {
                0 => netns.expired += 1.0 / ratio,
                1 => netns.expires_next += 1.0 / ratio,
                _ => (),
            }
            netns.reads += 1;
        }
        for (&(inserted_ns, _), &(cookie, (protocol, found, ratio))) in &latest {
            let Some(netns) = cookie.and_then(|cookie| self.by_netns.get_mut(&cookie)) else {
                continue;
            };
            let is_old = inserted_ns as f64 * netns.answered <= netns.answered_inserted;
            if is_answered(protocol, found) && is_old {
                netns.old += 1.0 / ratio;
                netns.old_established +=
                    if is_established(protocol, found) { 1.0 / ratio } else { 0.0 };
            }
        }
    }

    /// The live entries of a namespace that were inserted since attaching: as many as the sample has of it, each
    /// standing for as many as those that were read do on the average. None where fewer than 16 were read
    /// in the last seconds.
    #[must_use]
    pub fn of_netns(&self, cookie: u64, flows: &Flows, now_ns: u64) -> Option<Live> {
        let last_ns = self.reads.back()?.time_ns;
        if last_ns.saturating_add(WINDOW_NS) <= now_ns {
            return None;
        }
        let netns = self.by_netns.get(&cookie).filter(|netns| netns.reads >= LEAST_READS)?;
        let each = f64::from(flows.in_netns(cookie)) / f64::from(netns.reads);
        let entries = netns.weights.map(|of| of.map(|weight| weight * each));
        // Of those without a whole second left, about as many have not expired as have one left.
        let expired = (netns.expired - netns.expires_next).max(0.0);
        Some(Live {
            entries,
            established: netns.established * each,
            old_established: (netns.old > 0.0).then(|| netns.old_established / netns.old),
            lasting: netns.lasting * each,
            expired: expired * each,
            reads: netns.reads,
        })
    }

    /// What the reads of the last seconds say. None while there are none.
    #[must_use]
    pub fn summary(&self, flows: &Flows, now_ns: u64) -> Option<Summary> {
        let reads =
            || self.reads.iter().filter(|read| read.time_ns.saturating_add(WINDOW_NS) > now_ns);
        let oldest_ns = reads().next()?.time_ns;
        let latest = latest(reads());
        let (speaks_for, _) = flows.alive();
        let protocols = Protocol::ALL
            .into_iter()
            .zip(speaks_for)
            .filter_map(|(protocol, speaks_for)| {
                let of = latest.values().map(|(_, found)| found).filter(|(of, ..)| *of == protocol);
                protocol_state(protocol, speaks_for, of.map(|(_, found, ratio)| (*found, *ratio)))
            })
            .collect();
        let (cost_ns, read) = self
            .costs
            .iter()
            .fold((0, 0), |(cost, read), (_, cost_ns, reads)| (cost + cost_ns, read + reads));
        Some(Summary {
            oldest_read_seconds: now_ns.saturating_sub(oldest_ns) as f64 / 1e9,
            reads: reads().count() as u64,
            gone: reads().filter(|read| read.found.is_none()).count() as u64,
            seconds_per_read: (read > 0).then(|| cost_ns as f64 / read as f64 / 1e9),
            protocols,
        })
    }
}

/// What a flow is known by, its namespace's cookie, and what was found.
type Latest = BTreeMap<(u64, u32), (Option<u64>, (Protocol, Found, f64))>;

/// Each flow that was there. Of one that was read several times, the latest counts: the flows are few then.
fn latest<'a>(reads: impl Iterator<Item = &'a Read>) -> Latest {
    let mut latest = Latest::new();
    for read in reads {
        match read.found {
            Some(found) => latest.insert(read.name, (read.netns_cookie, found)),
            None => latest.remove(&read.name),
        };
    }
    latest
}

fn is_established(protocol: Protocol, found: Found) -> bool {
    protocol == Protocol::Tcp && TcpState::of(found.tcp_state) == TcpState::Established
}

fn is_answered(protocol: Protocol, found: Found) -> bool {
    protocol == Protocol::Tcp && EntryStatus::of(Status(found.status)) != EntryStatus::Unreplied
}

/// None if there are no reads.
fn protocol_state(
    protocol: Protocol,
    speaks_for: Estimate,
    reads: impl Iterator<Item = (Found, f64)>,
) -> Option<ProtocolState> {
    let mut all = Sampled::default();
    let mut statuses = [Sampled::default(); STATUSES];
    let mut states = [Sampled::default(); TCP_STATES];
    for (found, ratio) in reads {
        all.add(ratio);
        if let Some(of) = statuses.get_mut(EntryStatus::of(Status(found.status)) as usize) {
            of.add(ratio);
        }
        if let Some(of) = states.get_mut(TcpState::of(found.tcp_state) as usize) {
            of.add(ratio);
        }
    }
    if all.n == 0 {
        return None;
    }
    let share = |of: &Sampled| share(of, &all, speaks_for);
    let by_status = std::array::from_fn(|at| {
        let of = EntryStatus::ALL.get(at).copied().unwrap_or(EntryStatus::Unreplied);
        Share { of, ratio: share(statuses.get(at).unwrap_or(&all)) }
    });
    let by_tcp_state = TcpState::ALL
        .into_iter()
        .zip(&states)
        .filter(|_| protocol == Protocol::Tcp)
        .map(|(of, sampled)| Share { of, ratio: share(sampled) })
        .collect();
    Some(ProtocolState { protocol, read: all.n, speaks_for, by_status, by_tcp_state })
}

/// The share of `of` among `all` that were read, of as many as there are.
fn share(of: &Sampled, all: &Sampled, population: Estimate) -> Estimate {
    let value = (of.weight / all.weight).clamp(0.0, 1.0);
    // The reads are drawn from the flows in the sample, those from all.
    let unread = super::estimate::unseen(all.n as f64, population.high);
    let (low, high) = wilson(value, all.effective(), unread);
    Estimate { value, low: low.min(value), high: high.max(value) }
}

#[cfg(test)]
#[path = "live_state_tests.rs"]
mod tests;
