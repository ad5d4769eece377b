//! The running kernel: what the programs count, beside what procfs says, as one reading.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};

mod read;
mod slots;

use super::{
    Lost,
    ebpf::{self, EbpfSource, hook::Hook, plan::HookReport},
    item::{Flows, NetnsFlow},
    limits,
    procfs::Namespaces,
};
use crate::model::{
    flow::FlowEvent,
    probe::Probe,
    reading::{KernelStat, NetnsId, Time},
};
use slots::Slots;

/// Where the numbers are to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// Kernel programs where the kernel takes them, else procfs.
    Auto,
    /// Kernel programs, or an error.
    Ebpf,
    /// Polling procfs.
    Procfs,
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
    /// For the kernel programs.
    pub ebpf: ebpf::Options,
}

/// The running kernel.
pub struct Live {
    programs: Option<EbpfSource>,
    lost: Vec<Lost>,
    namespaces: Namespaces,
    selection: Selection,
    idle_too: bool,
    own: Option<u64>,
    started: Instant,
    last_scan: Instant,
    last_stat: Option<Instant>,
    last_review: Instant,
    /// Idle namespaces whose drift is to be looked at, in turn.
    to_review: VecDeque<u64>,
    stats: HashMap<NetnsId, KernelStat>,
    slots: Slots,
    /// Whether a namespace could no longer be read.
    has_ended: bool,
    gone: Vec<NetnsId>,
    /// How many namespaces there are, and after how many scans and with how many slots that was so.
    known: Option<(usize, (u64, usize))>,
    scans: u64,
    missed_at_most: Option<u64>,
    probes: Vec<Probe>,
    events: Option<u64>,
    victims: VecDeque<FlowEvent>,
    /// Programs are timed as long as it is open.
    probe_stats: Option<std::os::fd::OwnedFd>,
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
        // Two files a namespace are kept open.
        limits::raise(libc::RLIMIT_NOFILE);
        let mut namespaces = Namespaces::new(options.procfs.clone(), options.pods.clone());
        namespaces.scan();
        require_conntrack(&options.procfs)?;
        let own = namespaces.own();
        let own_inode = own.as_ref().ok().copied();
        let selection = match options.selection {
            Selection::Own => Selection::Inode(
                own.context("cannot tell which network namespace this process is in")?,
            ),
            other => other,
        };
        let attached = match options.choice {
            Choice::Procfs => Err("procfs was asked for".to_owned()),
            Choice::Ebpf => Ok(EbpfSource::attach(&options.ebpf)
                .context("no kernel programs (--source procfs polls without them)")?),
            Choice::Auto => {
                EbpfSource::attach(&options.ebpf).map_err(|error| super::explain(&error))
            }
        };
        let (programs, lost) = match attached {
            Ok(programs) => {
                let lost = lost_hooks(programs.hooks());
                (Some(programs), lost)
            }
            Err(why) => {
                let what = "insert and delete rates, drops, evictions, drift and events".into();
                (None, vec![Lost { what, why }])
            }
        };
        let events = (programs.is_some() && options.ebpf.events).then_some(0);
        let probe_stats = (programs.is_some() && options.probe_stats)
            .then(ebpf::bpf::enable_statistics)
            .transpose()
            .context(
                "cannot time the programs (--probe-stats needs CAP_SYS_ADMIN and Linux 5.8)",
            )?;
        let now = Instant::now();
        let live = Self {
            programs,
            lost,
            namespaces,
            selection,
            idle_too: options.idle_too,
            own: own_inode,
            started: now,
            last_scan: now,
            last_stat: None,
            last_review: now,
            to_review: VecDeque::new(),
            stats: HashMap::new(),
            slots: Slots::default(),
            has_ended: false,
            gone: Vec::new(),
            known: None,
            scans: 0,
            missed_at_most: None,
            probes: Vec::new(),
            events,
            victims: VecDeque::new(),
            probe_stats,
        };
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

    /// `ebpf` or `procfs`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        if self.programs.is_some() { "ebpf" } else { "procfs" }
    }

    /// How each hook is attached; empty when procfs is polled.
    #[must_use]
    pub fn hooks(&self) -> &[HookReport] {
        self.programs.as_ref().map_or(&[], EbpfSource::hooks)
    }

    /// What cannot be told, and why.
    #[must_use]
    pub fn lost(&self) -> &[Lost] {
        &self.lost
    }

    /// A descriptor that is readable when the ring buffer should be drained before its time.
    ///
    /// # Errors
    /// Those of dup(2).
    pub fn ring_fd(&self) -> io::Result<Option<std::os::fd::OwnedFd>> {
        self.programs.as_ref().map(|programs| programs.as_fd().try_clone_to_owned()).transpose()
    }

    /// Hands at most `limit` waiting events to `take`; how many there were.
    pub fn drain(&mut self, limit: u64, take: impl FnMut(FlowEvent)) -> u64 {
        let (Some(programs), Some(events)) = (&mut self.programs, &mut self.events) else {
            return 0;
        };
        let drained = programs.drain(limit, take);
        *events += drained.received;
        drained.received
    }

    /// The programs' debug log.
    ///
    /// # Errors
    /// Those of aya-log.
    pub fn debug_log(&mut self) -> Result<Option<aya_log::EbpfLogger<&'static dyn log::Log>>> {
        self.programs.as_mut().map(EbpfSource::debug_log).transpose()
    }

    /// This moment.
    #[must_use]
    pub fn now(&self) -> Time {
        Time {
            monotonic_ns: self.started.elapsed().as_nanos() as u64,
            unix_ns: SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos() as u64),
        }
    }

    /// Whether the module nf_conntrack was unloaded, and perhaps loaded again, since this was opened.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        // The own namespace does not end before this process does.
        let own = self.own.and_then(|inode| self.namespaces.get(inode, None));
        own.is_some_and(|own| own.count().is_err())
    }

    /// The namespace that an event is of.
    #[must_use]
    pub fn netns_of(&self, event: &FlowEvent) -> NetnsId {
        let inode = self.slots.inode_of(event.netns_cookie).unwrap_or(0);
        NetnsId { cookie: self.cookie(event.netns_cookie), inode }
    }

    /// Events with their namespaces, and with what turns their times into UTC now.
    #[must_use]
    pub fn flows(&self, events: Vec<FlowEvent>) -> Flows {
        let with_netns = |flow: FlowEvent| NetnsFlow { netns: self.netns_of(&flow), flow };
        let events = events.into_iter().map(with_netns).collect();
        Flows { utc_offset_ns: utc_offset_ns(), events }
    }

    /// A cookie as it is shown: where the programs have the address of `struct net` in its place, none.
    fn cookie(&self, cookie: u64) -> Option<u64> {
        let is_address = self.programs.as_ref().is_some_and(EbpfSource::cookie_is_address);
        (!is_address).then_some(cookie)
    }
}

/// `CLOCK_REALTIME` less `CLOCK_MONOTONIC`, in nanoseconds.
fn utc_offset_ns() -> i64 {
    let now = |clock| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes one timespec, for as long as the call takes.
        unsafe { libc::clock_gettime(clock, &raw mut time) };
        time.tv_sec * 1_000_000_000 + time.tv_nsec
    };
    now(libc::CLOCK_REALTIME) - now(libc::CLOCK_MONOTONIC)
}

/// What cannot be told where `hook` is not attached.
#[must_use]
pub const fn lost_without(hook: Hook) -> &'static str {
    match hook {
        Hook::Alloc | Hook::Free => "entries",
        Hook::Insert => "inserts by packets",
        Hook::HashInsert => "inserts through ctnetlink",
        Hook::Delete => "deletes and evictions",
        Hook::DeleteCause => "which deletes users asked for",
        Hook::EarlyDrop => "evictions and drops because the table is full",
        Hook::Clash => "clashes",
        Hook::Confirm => "inserts that failed for a long chain or a dying entry",
        Hook::NetnsEnd => "when a namespace ends; its counters are not given back",
    }
}

/// What the hooks that are not attached would have told.
fn lost_hooks(hooks: &[HookReport]) -> Vec<Lost> {
    let missing = hooks.iter().filter_map(|report| {
        let why = report.outcome.as_ref().err()?.reason.clone();
        Some(Lost { what: lost_without(report.hook).into(), why })
    });
    missing.collect()
}

/// The file that is there exactly when conntrack is.
#[must_use]
pub fn conntrack_file(procfs: &Path) -> PathBuf {
    procfs.join("sys/net/netfilter/nf_conntrack_count")
}

fn require_conntrack(procfs: &Path) -> Result<()> {
    let file = conntrack_file(procfs);
    match std::fs::metadata(&file) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => bail!(
            "this kernel tracks no connections: {} is not there, so the module nf_conntrack is not \
             loaded. It is loaded by the first firewall rule that needs it, or by `modprobe \
             nf_conntrack`; `ctmon watch --wait` waits for it",
            file.display()
        ),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}
