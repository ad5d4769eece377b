//! Counts from ctnetlink's events: a socket in each network namespace, on which the kernel tells of every entry that is
//! made or ends. docs/netlink.md says what that costs and where it ends.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result};
use conntrack_ebpf::{EVERY_FLOW, FlowHash, is_sampled};
use rustix::event::epoll;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod listener;
pub mod message;
pub mod socket;
pub mod statistics;

use super::{
    access::Access,
    ebpf::monotonic_ns,
    procfs::{Namespace, Namespaces, enter::Visit},
};
use crate::model::{
    counts::{Balance, Totals},
    flow::{Cause, EventKind, FlowEvent, Sample, Tuple},
    reading::{Events, NetnsId},
};
use listener::Listener;
use message::{Event, What};

/// Room for messages that wait in each socket, in bytes, unless asked otherwise. The kernel takes it twice, and 1,280 bytes
/// of that for an event: 6,553 of them.
pub const DEFAULT_RECEIVE_BYTES: u32 = 4 << 20;
/// Namespaces that are listened to, at the most: each may hold as much memory as its socket has room for.
pub const MOST: usize = 64;
/// How long to wait for more events once there is one: to be woken for each would cost more than they do.
pub const GATHERING: Duration = Duration::from_millis(5);
/// Events taken out of a socket at once, when the count of entries is read.
const AT_ONCE: u64 = 8192;

/// How to listen.
#[derive(Debug, Clone)]
pub struct Options {
    /// Room for messages that wait in each socket, in bytes.
    pub receive_bytes: u32,
    /// Whether events are handed on, not only counted.
    pub events: bool,
}

/// The sockets, and what was heard.
pub struct NetlinkSource {
    options: Options,
    /// By the inode of their namespace, which no other one gets while there is a socket in it.
    listeners: BTreeMap<u64, Listener>,
    /// Why one cannot listen in a namespace, by its inode.
    refused: BTreeMap<u64, String>,
    /// Watches all sockets.
    poll: OwnedFd,
    sampler: Sampler,
    /// Events that came when it was the count that was asked for.
    pending: VecDeque<FlowEvent>,
    /// Events handed on, or about to be.
    received: u64,
    /// Whose turn it is when there are more events than are taken out at once: the first inode that may.
    turn: u64,
    /// What was heard in namespaces that are not listened to any more.
    past: Heard,
}

/// Sums over namespaces.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    totals: Totals,
    /// More was lost than is counted.
    lost_more: bool,
}

impl Heard {
    fn with(self, listener: &Listener) -> Self {
        Self {
            totals: self.totals.plus(listener.totals()),
            lost_more: self.lost_more || listener.has_lost_more(),
        }
    }
}

impl NetlinkSource {
    /// One that listens nowhere yet.
    ///
    /// # Errors
    /// Those of epoll_create1(2).
    pub fn new(options: Options) -> Result<Self> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC);
        let poll = poll.context("cannot wait for the events of ctnetlink")?;
        let seed = RandomState::new().hash_one(0);
        let sampler = Sampler { seed, threshold: EVERY_FLOW, is_wanted: options.events };
        Ok(Self {
            options,
            listeners: BTreeMap::new(),
            refused: BTreeMap::new(),
            poll,
            sampler,
            pending: VecDeque::new(),
            received: 0,
            turn: 0,
            past: Heard::default(),
        })
    }

    /// Listens in those of the namespaces that are wanted, in the `first` one first, and lets go of those in which nobody
    /// was seen any more: a socket keeps them alive.
    pub(super) fn follow(
        &mut self,
        access: &dyn Access,
        all: &Namespaces,
        first: Option<u64>,
        wanted: impl Fn(u64) -> bool,
    ) {
        let is_left = |inode, cookie| !all.get(inode, cookie).is_some_and(Namespace::is_seen);
        let left: Vec<u64> = self
            .listeners
            .iter()
            .filter(|(inode, listener)| is_left(**inode, listener.id().cookie))
            .map(|(inode, _)| *inode)
            .collect();
        for inode in left {
            self.balance(inode);
            self.past = self.listeners.remove(&inode).map_or(self.past, |mut listener| {
                listener.take_missed();
                self.past.with(&listener)
            });
        }
        self.refused.retain(|inode, _| !is_left(*inode, None));

        let mut new: Vec<NetnsId> = all
            .iter()
            .filter(|netns| netns.is_seen() && wanted(netns.inode))
            .map(|netns| NetnsId { cookie: netns.cookie, inode: netns.inode })
            .filter(|id| !self.listens_in(id.inode) && !self.refused.contains_key(&id.inode))
            .collect();
        new.sort_by_key(|id| (Some(id.inode) != first, id.inode));
        new.truncate(MOST.saturating_sub(self.listeners.len()));
        let inodes: Vec<u64> = new.iter().map(|id| id.inode).collect();
        if inodes.is_empty() {
            return;
        }
        let visits = match access.listen(&inodes, self.options.receive_bytes) {
            Ok(visits) => visits,
            Err(error) => {
                let why = format!("{error:#}");
                return self.refused.extend(inodes.iter().map(|inode| (*inode, why.clone())));
            }
        };
        for Visit { inode, outcome } in visits {
            let Some(id) = new.iter().find(|id| id.inode == inode) else { continue };
            match outcome.and_then(|socket| self.watch(*id, socket)) {
                Ok(listener) => drop(self.listeners.insert(inode, listener)),
                // One that has ended meanwhile is forgotten the next time.
                Err(why) => drop(self.refused.insert(inode, why)),
            }
        }
    }

    fn watch(&self, id: NetnsId, socket: OwnedFd) -> Result<Listener, String> {
        let data = epoll::EventData::new_u64(id.inode);
        epoll::add(&self.poll, &socket, data, epoll::EventFlags::IN)
            .map_err(|error| format!("cannot wait for its events: {error}"))?;
        Ok(Listener::new(id, socket))
    }

    /// Whether the namespace with this inode is listened to.
    #[must_use]
    pub fn listens_in(&self, inode: u64) -> bool {
        self.listeners.contains_key(&inode)
    }

    /// How many namespaces are.
    #[must_use]
    pub fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// Why one cannot listen in a namespace, with its inode.
    pub fn refused(&self) -> impl Iterator<Item = (u64, &str)> {
        self.refused.iter().map(|(inode, why)| (*inode, why.as_str()))
    }

    /// Readable when one of the sockets is.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.poll.as_fd()
    }

    /// Takes out what waits in a namespace; inserts and deletes by then, in the place of allocations and frees.
    pub fn balance(&mut self, inode: u64) -> Balance {
        let Self { listeners, sampler, pending, received, .. } = self;
        let Some(listener) = listeners.get_mut(&inode) else {
            return Balance::default();
        };
        sampler.hear(listener, AT_ONCE, |flow| {
            *received += 1;
            pending.push_back(flow);
        });
        listener.balance()
    }

    /// What was heard in a namespace by now, and whether something was lost since the call before; none where it is not
    /// listened to.
    pub fn totals(&mut self, inode: u64) -> Option<(Totals, bool)> {
        let listener = self.listeners.get_mut(&inode)?;
        let missed = listener.take_missed();
        Some((*listener.totals(), missed))
    }

    /// Takes out at most `limit` waiting events and hands those in the sample to `take`; how many there were. Fewer wait if
    /// there were fewer.
    pub fn drain(&mut self, limit: u64, mut take: impl FnMut(FlowEvent)) -> u64 {
        let waiting = self.pending.len().min(limit as usize);
        self.pending.drain(..waiting).for_each(&mut take);
        let mut taken = waiting as u64;
        let Self { listeners, sampler, received, turn, .. } = self;
        let first = std::mem::take(turn);
        for is_later in [false, true] {
            for (inode, listener) in &mut *listeners {
                if (*inode < first) != is_later {
                    continue;
                }
                if taken >= limit {
                    *turn = *inode;
                    return limit;
                }
                taken += sampler.hear(listener, limit - taken, |flow| {
                    *received += 1;
                    take(flow);
                });
            }
        }
        taken.min(limit)
    }

    /// From now on, entries whose hash is below `threshold` are in the sample.
    pub const fn set_threshold(&mut self, threshold: u32) {
        self.sampler.threshold = threshold;
    }

    /// What became of the events so far; none where they are only counted.
    #[must_use]
    pub fn events(&self) -> Option<Events> {
        let Totals { events_sampled_out, events_lost, .. } = self.heard().totals;
        self.sampler.is_wanted.then(|| Events {
            seen: self.received + events_sampled_out + events_lost,
            received: self.received,
            sampled_out: events_sampled_out,
            lost: events_lost,
            threshold: self.sampler.threshold,
        })
    }

    /// Events that were sent and not heard; none where nobody knows how many.
    #[must_use]
    pub fn lost(&self) -> Option<u64> {
        let heard = self.heard();
        (!heard.lost_more).then_some(heard.totals.events_lost)
    }

    fn heard(&self) -> Heard {
        self.listeners.values().fold(self.past, Heard::with)
    }

    /// The namespace that an event is of, while it is listened to.
    #[must_use]
    pub fn netns_of(&self, event: &FlowEvent) -> Option<NetnsId> {
        let ids = self.listeners.values().map(Listener::id);
        ids.into_iter().find(|id| key(*id) == event.netns_cookie)
    }
}

/// What an event says for its namespace: the inode where there are no cookies, which are far smaller.
fn key(netns: NetnsId) -> u64 {
    netns.cookie.unwrap_or(netns.inode)
}

/// Chooses flows, and makes their events.
#[derive(Debug, Clone, Copy)]
struct Sampler {
    seed: u64,
    threshold: u32,
    /// Whether there is anybody who wants them.
    is_wanted: bool,
}

impl Sampler {
    /// Lets a listener count at most `limit` events, and hands those in the sample to `take`; how many there were.
    fn hear(self, listener: &mut Listener, limit: u64, mut take: impl FnMut(FlowEvent)) -> u64 {
        listener.receive(limit, |netns, event| {
            let flow = self.is_wanted.then(|| self.flow(netns, &event));
            let is_in =
                flow.as_ref().is_none_or(|flow| is_sampled(flow.sample.hash, self.threshold));
            flow.into_iter().filter(|_| is_in).for_each(&mut take);
            is_in
        })
    }

    fn flow(self, netns: NetnsId, event: &Event) -> FlowEvent {
        let hash = self.hash(netns, event);
        FlowEvent {
            time_ns: monotonic_ns(),
            netns_cookie: key(netns),
            // Two entries may have the same id, but hardly the same hash, too.
            entry: u64::from(event.id) << 32 | u64::from(hash),
            kind: match (event.what, event.by_user) {
                (What::New, false) => EventKind::InsertPacket,
                (What::New, true) => EventKind::InsertCtnetlink,
                (What::Destroy, false) => EventKind::Destroy(Cause::NoUser),
                (What::Destroy, true) => EventKind::Destroy(Cause::User),
            },
            original: event.original,
            reply: event.reply,
            status: event.status,
            zone: event.zone,
            sample: Sample { hash, threshold: self.threshold },
        }
    }

    /// The same at an entry's insert and at its end.
    fn hash(self, netns: NetnsId, event: &Event) -> u32 {
        let Tuple { source, destination, source_port, destination_port, protocol } = event.original;
        let [ports, protocol] =
            [u64::from(source_port) << 16 | u64::from(destination_port), protocol.into()];
        let hash = FlowHash::new(self.seed).with(key(netns)).with(event.id.into());
        [source, destination]
            .into_iter()
            .flat_map(words)
            .chain([ports, protocol])
            .fold(hash, FlowHash::with)
            .finish()
    }
}

fn words(address: IpAddr) -> [u64; 2] {
    let bits = match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}
