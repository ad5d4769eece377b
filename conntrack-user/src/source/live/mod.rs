//! The running kernel: what programs count, or what ctnetlink tells, beside what procfs says, as one reading.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use conntrack_ebpf::{EVERY_FLOW, Reread, reread};

mod counter;
mod coverage;
mod listening;
mod presence;
mod read;
mod scans;
mod slots;
mod statistics;

use super::{
    Unavailable,
    access::Access,
    ebpf::{self, EbpfSource, plan::HookReport},
    item::{Flows, NetnsFlow, Threshold},
    limits, netlink,
    procfs::Namespaces,
};
use crate::model::{
    coverage::Coverage,
    failed_inserts::Follow,
    flow::FlowEvent,
    flows,
    live_state::{self, Batch, Found},
    probe::Probe,
    reading::{KernelStat, NetnsId, Time},
};
use counter::Counter;
pub use counter::lost_without;
use presence::require_conntrack;
pub use presence::{NO_SYSCTLS, conntrack_file, hidden_conntrack, require_sysctls};
use slots::Slots;
use statistics::Entered;

/// Where the numbers are to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// Kernel programs where the kernel takes them, else procfs.
    Auto,
    /// Kernel programs, or an error.
    Ebpf,
    /// Polling procfs.
    Procfs,
    /// Listening to the events of ctnetlink, which makes every new connection dearer; or an error.
    Netlink,
}

/// Which namespaces are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// All that can be found.
    All,
    /// The one that this process is in.
    Own,
    /// The one with this inode.
    Inode(u64),
}

impl Selection {
    /// Whether the namespace with this inode is wanted; [`Selection::Own`] is resolved before.
    const fn has(self, inode: u64) -> bool {
        match self {
            Self::Inode(wanted) => inode == wanted,
            Self::All | Self::Own => true,
        }
    }
}

/// How to open the source.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the numbers are to come from.
    pub choice: Choice,
    /// Which namespaces are wanted.
    pub selection: Selection,
    /// Whether each reading has all namespaces, also those in which nothing is counted.
    pub idle_too: bool,
    /// Whether the programs are timed.
    pub probe_stats: bool,
    /// Where procfs is mounted.
    pub procfs: PathBuf,
    /// The folder that has the names of pods, /var/log/pods on a node of Kubernetes.
    pub pods: PathBuf,
    /// Who has the privileges.
    pub access: Arc<dyn Access>,
    /// For the kernel programs.
    pub ebpf: ebpf::Options,
    /// For listening.
    pub netlink: netlink::Options,
}

/// The running kernel.
pub struct Live {
    counter: Counter,
    lost: Vec<Unavailable>,
    access: Arc<dyn Access>,
    namespaces: Namespaces,
    selection: Selection,
    idle_too: bool,
    own: Option<u64>,
    last_scan: Instant,
    last_stat: Option<Instant>,
    last_review: Instant,
    /// Idle namespaces whose drift is to be looked at, in turn.
    to_review: VecDeque<u64>,
    stats: HashMap<NetnsId, KernelStat>,
    entered_stats: Entered,
    /// Failed inserts by namespace, where the kernel's counters tell them.
    failed: HashMap<NetnsId, Follow>,
    /// Before the first tick: what is there now was there before the programs.
    is_first: bool,
    slots: Slots,
    /// Whether a namespace could no longer be read.
    has_ended: bool,
    gone: Vec<NetnsId>,
    /// How many namespaces there are, and after how many scans and with how many slots that was so.
    known: Option<(usize, (u64, usize))>,
    /// Coverage, where it was worked out since the last scan.
    coverage: Option<Arc<Coverage>>,
    /// The kernel's own list of namespaces, as of the last scan; none where it cannot be read.
    listed: Option<HashMap<(u64, u64), Option<u64>>>,
    /// Slots that were there before the last scan, which could have found their namespaces.
    settled_slots: HashSet<u32>,
    scans: u64,
    /// Duration of the last scan.
    scan_time: Duration,
    missed_calls_max: Option<u64>,
    probes: Vec<Probe>,
    /// Whether events are sent.
    has_events: bool,
    /// Set where all hooks are attached that entries in flight are computed from.
    tells_in_flight: bool,
    threshold: u32,
    rereads: Option<Batch>,
    victims: VecDeque<FlowEvent>,
    /// Programs are timed as long as it is open.
    probe_stats: Option<OwnedFd>,
}

/// What a reading is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// All namespaces, for their baselines.
    Settle,
    /// A tick.
    Tick,
}

impl Live {
    /// Attaches the programs, or falls back to procfs where [`Choice::Auto`] allows it.
    ///
    /// # Errors
    /// Says what is missing, what it was for and what to do.
    pub fn open(options: &Options) -> Result<Self> {
        // Three descriptors a namespace are kept open.
        limits::raise(libc::RLIMIT_NOFILE);
        let mut namespaces = Namespaces::new(options.procfs.clone(), options.pods.clone());
        namespaces.scan(options.access.as_ref());
        require_conntrack(&options.procfs)?;
        let own = namespaces.own();
        let own_inode = own.as_ref().ok().copied();
        let selection = match options.selection {
            Selection::Own => Selection::Inode(
                own.context("cannot tell which network namespace this process is in")?,
            ),
            other => other,
        };
        let (counter, mut lost) = Counter::open(options, &namespaces, selection, own_inode)?;
        lost.extend(statistics::unread(own_inode, &namespaces, options.access.as_ref()));
        let probe_stats = (counter.programs().is_some() && options.probe_stats)
            .then(|| options.access.time_programs())
            .transpose()
            .context(
                "cannot time the programs (--probe-stats needs CAP_SYS_ADMIN and Linux 5.8)",
            )?;
        let now = Instant::now();
        let sends_events = counter.programs().is_none_or(EbpfSource::sends_events);
        let has_events = options.ebpf.events && sends_events;
        let mut live = Self {
            counter,
            lost,
            access: Arc::clone(&options.access),
            namespaces,
            selection,
            idle_too: options.idle_too,
            own: own_inode,
            last_scan: now,
            last_stat: None,
            last_review: now,
            to_review: VecDeque::new(),
            stats: HashMap::new(),
            entered_stats: Entered::default(),
            failed: HashMap::new(),
            is_first: true,
            slots: Slots::default(),
            has_ended: false,
            gone: Vec::new(),
            known: None,
            coverage: None,
            listed: None,
            settled_slots: HashSet::new(),
            scans: 0,
            scan_time: Duration::ZERO,
            missed_calls_max: None,
            probes: Vec::new(),
            has_events,
            tells_in_flight: false,
            threshold: EVERY_FLOW,
            rereads: None,
            victims: VecDeque::new(),
            probe_stats,
        };
        if live.selection == Selection::All {
            live.begin_coverage();
            let coverage = live.coverage();
            live.lost.extend(coverage.iter().flat_map(|coverage| coverage::unavailable(coverage)));
        }
        let counted = live.counted();
        live.tells_in_flight = counted.allocs && counted.all_inserts() && counted.deletes;
        if let Selection::Inode(inode) = live.selection
            && !live.namespaces.iter().any(|netns| netns.inode == inode)
        {
            let problem = live.namespaces.problems().iter().find(|problem| problem.inode == inode);
            match problem {
                Some(problem) => bail!("cannot read the network namespace {inode}: {problem}"),
                None => bail!(
                    "there is no network namespace {inode}; `ls -Li /proc/*/ns/net /run/netns/*` \
                     lists those that there are"
                ),
            }
        }
        Ok(live)
    }

    /// `ebpf`, `netlink` or `procfs`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.counter.name()
    }

    /// Has the programs detached, also where they are pinned: what is dropped leaves those attached.
    ///
    /// # Errors
    /// They are pinned, and the pins cannot be removed.
    pub fn let_go(self) -> Result<()> {
        self.counter.let_go()
    }

    /// Since when everything is counted, in nanoseconds since 1970 UTC; none where nothing is.
    #[must_use]
    pub fn counting_since_ns(&self) -> Option<u64> {
        self.counter.programs().map(EbpfSource::since_ns)
    }

    /// Bytes of memory that the programs' maps take; none without programs, or where the kernel does not tell.
    #[must_use]
    pub fn bpf_map_memory_bytes(&self) -> Option<u64> {
        self.counter.programs()?.bpf_map_memory_bytes()
    }

    /// How each hook is attached; empty without programs.
    #[must_use]
    pub fn hooks(&self) -> &[HookReport] {
        self.counter.programs().map_or(&[], EbpfSource::hooks)
    }

    /// What cannot be told, and why.
    #[must_use]
    pub fn lost(&self) -> &[Unavailable] {
        &self.lost
    }

    /// Descriptors that are readable when events should be taken out before their time.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn ring_fds(&self) -> io::Result<Vec<OwnedFd>> {
        self.counter.descriptors().iter().map(BorrowedFd::try_clone_to_owned).collect()
    }

    /// How long to wait for more when one of them is readable: a ring buffer is by then half full, and a socket has a single
    /// event.
    #[must_use]
    pub const fn gathering(&self) -> Duration {
        self.counter.gathering()
    }

    /// From now on, entries whose hash is below `threshold` are in the sample. What is to be told of it, where
    /// that is a change.
    pub fn set_threshold(&mut self, threshold: u32) -> Option<Threshold> {
        if threshold == self.threshold {
            return None;
        }
        let time = self.now();
        if !self.counter.set_threshold(threshold) {
            return None;
        }
        self.threshold = threshold;
        Some(Threshold { time, threshold })
    }

    /// Reads live entries again, for the next reading. Where that cannot be done, nothing is read.
    pub fn reread(&mut self, choices: &[flows::Choice]) {
        let Some(programs) = self.counter.programs() else {
            return;
        };
        let (Some(jiffy_ns), false) = (ebpf::jiffy_ns(), choices.is_empty()) else {
            return;
        };
        let known: Vec<&flows::Choice> =
            choices.iter().filter(|choice| choice.netns_cookie.is_some()).collect();
        let mut entries: Vec<Reread> = known
            .iter()
            .map(|choice| Reread {
                entry: choice.entry,
                netns_cookie: choice.netns_cookie.unwrap_or_default(),
                hash: choice.hash,
                ..Reread::default()
            })
            .collect();
        let began = ebpf::monotonic_ns();
        if programs.reread(&mut entries).is_err() {
            return;
        }
        let time_ns = ebpf::monotonic_ns();
        let seconds =
            |jiffies: i32| (i64::from(jiffies.max(0)) as u64 * jiffy_ns / 1_000_000_000) as u32;
        // Nothing is known of those that the program refuses: they are not gone.
        let answered =
            known.iter().zip(&entries).filter(|(_, entry)| entry.found != reread::REFUSED);
        let rereads = answered.map(|(choice, entry)| live_state::Reread {
            entry: choice.entry,
            inserted_ns: choice.inserted_ns,
            found: (entry.found == reread::FOUND).then(|| Found {
                status: entry.status,
                tcp_state: entry.tcp_state,
                timeout_seconds: seconds(entry.expires),
            }),
        });
        self.rereads =
            Some(Batch { time_ns, cost_ns: Some(time_ns - began), rereads: rereads.collect() });
    }

    /// Hands at most `limit` waiting events to `take`; how many there were.
    pub fn drain(&mut self, limit: u64, take: impl FnMut(FlowEvent)) -> u64 {
        if self.has_events { self.counter.drain(limit, take) } else { 0 }
    }

    /// Puts at most `limit` waiting events into `flows`, in place of what was there; how many there were.
    pub fn drain_into(&mut self, limit: u64, flows: &mut Flows) -> u64 {
        let mut events = std::mem::take(&mut flows.events);
        events.clear();
        let nowhere = NetnsId { cookie: None, inode: 0 };
        let drained = self.drain(limit, |flow| events.push(NetnsFlow { netns: nowhere, flow }));
        events.iter_mut().for_each(|event| event.netns = self.netns_of(&event.flow));
        *flows = Flows { utc_offset_ns: utc_offset_ns(), events };
        drained
    }

    /// The programs' debug log.
    ///
    /// # Errors
    /// Those of aya-log.
    pub fn debug_log(&mut self) -> Result<Option<aya_log::EbpfLogger<&'static dyn log::Log>>> {
        let Counter::Programs { attachment, .. } = &mut self.counter else {
            return Ok(None);
        };
        attachment.debug_log().map(Some)
    }

    /// This moment.
    #[must_use]
    pub fn now(&self) -> Time {
        Time { monotonic_ns: ebpf::monotonic_ns(), unix_ns: ebpf::unix_ns() }
    }

    /// Whether the module nf_conntrack was unloaded, and perhaps loaded again, since this was opened.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        // The own namespace does not end before this process does.
        let own = self.own.and_then(|inode| self.namespaces.get(inode, None));
        own.is_some_and(|own| own.count().is_err())
    }

    /// Whether who has the privileges is gone, and with it the programs, where there are some.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        !self.access.is_there()
    }

    /// The namespace that an event is of.
    #[must_use]
    pub fn netns_of(&self, event: &FlowEvent) -> NetnsId {
        if let Some(listeners) = self.counter.listeners() {
            let nowhere = NetnsId { cookie: None, inode: 0 };
            return listeners.netns_of(event).unwrap_or(nowhere);
        }
        let inode = self.slots.inode_of(event.netns_cookie).unwrap_or(0);
        NetnsId { cookie: self.cookie(event.netns_cookie), inode }
    }

    /// A cookie as it is shown: where the programs have the address of `struct net` in its place, none.
    fn cookie(&self, cookie: u64) -> Option<u64> {
        let is_address = self.counter.programs().is_some_and(EbpfSource::cookie_is_address);
        (!is_address).then_some(cookie)
    }
}

/// `CLOCK_REALTIME` less `CLOCK_MONOTONIC`, in nanoseconds.
#[must_use]
pub fn utc_offset_ns() -> i64 {
    ebpf::offset_ns(ebpf::unix_ns(), ebpf::monotonic_ns())
}
