//! The running kernel: what the programs count, beside what procfs says, as one reading.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Lost,
    ebpf::{
        self, EbpfSource,
        flow::FlowEvent,
        plan::{Hook, HookReport},
    },
    limits,
    procfs::{Namespace, Namespaces},
};
use crate::model::{
    counts::{Balance, Counted, Totals},
    reading::{CountRead, KernelStat, NetnsId, NetnsReading, Reading, Time},
};

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
    /// Where procfs is mounted.
    pub procfs: PathBuf,
    /// For the kernel programs.
    pub ebpf: ebpf::Options,
}

/// Between two looks for new namespaces.
const SCAN_EVERY: Duration = Duration::from_secs(5);
/// The same when a namespace counts that was not found yet.
const SCAN_SOON: Duration = Duration::from_millis(500);
/// Between two reads of the kernel's statistics, which cost a line of text a CPU, and of the missed
/// calls, which cost a system call a program.
const STAT_EVERY: Duration = Duration::from_secs(1);
/// Reads of the count in one reading, at most, and how many of a single moment are enough.
const COUNT_READS: usize = 8;
const AGREEING_READS: usize = 4;

/// The running kernel.
pub struct Live {
    programs: Option<EbpfSource>,
    lost: Vec<Lost>,
    namespaces: Namespaces,
    selection: Selection,
    started: Instant,
    last_scan: Instant,
    last_stat: Option<Instant>,
    stats: HashMap<NetnsId, KernelStat>,
    /// Cookies of all namespaces that could ever be entered.
    entered: HashSet<u64>,
    /// Cookies that counted when the last scan was made.
    looked_for: HashSet<u64>,
    /// Whether a namespace could no longer be read.
    has_ended: bool,
    missed_at_most: Option<u64>,
    events: Option<u64>,
}

impl Live {
    /// Attaches the programs, or falls back to procfs where [`Choice::Auto`] allows it.
    ///
    /// # Errors
    /// Says what is missing, what it was for and what to do.
    pub fn open(options: &Options) -> Result<Self> {
        // Two files a namespace are kept open.
        limits::raise(libc::RLIMIT_NOFILE);
        let mut namespaces = Namespaces::new(options.procfs.clone());
        namespaces.scan();
        require_conntrack(&options.procfs)?;
        let own = namespaces.own();
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
        let now = Instant::now();
        let live = Self {
            programs,
            lost,
            entered: namespaces.iter().filter_map(|netns| netns.cookie).collect(),
            namespaces,
            selection,
            started: now,
            last_scan: now,
            last_stat: None,
            stats: HashMap::new(),
            looked_for: HashSet::new(),
            has_ended: false,
            missed_at_most: None,
            events,
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

    /// Reads everything.
    pub fn read(&mut self) -> Reading {
        let slots: HashMap<u64, (u32, u64)> = self
            .programs
            .iter()
            .flat_map(EbpfSource::netns)
            .map(|(slot, netns)| (netns.cookie, (slot, netns.inode.into())))
            .collect();
        self.scan_when_due(&slots);
        let with_stat = self.last_stat.is_none_or(|last| last.elapsed() >= STAT_EVERY);
        if with_stat {
            self.last_stat = Some(Instant::now());
            self.stats.clear();
            self.missed_at_most =
                self.programs.as_ref().and_then(|programs| programs.missed_at_most().ok());
        }

        let time = self.now();
        let mut readings = Vec::new();
        let mut has_ended = false;
        for netns in self.namespaces.iter() {
            if !self.is_selected(netns.inode) {
                continue;
            }
            let slot = netns.cookie.and_then(|cookie| slots.get(&cookie)).map(|(slot, _)| *slot);
            let id = NetnsId { cookie: netns.cookie, inode: netns.inode };
            if with_stat {
                self.stats.extend(netns.stat().map(|stat| (id, stat)));
            }
            let reading = self.read_netns(netns, id, slot);
            has_ended |= reading.as_ref().is_none_or(|reading| reading.counts.is_empty());
            readings.extend(reading);
        }
        self.has_ended = has_ended;
        // Namespaces that count and could not be entered; not those that could, and have ended.
        for (cookie, (slot, inode)) in &slots {
            if self.is_selected(*inode) && !self.entered.contains(cookie) {
                readings.push(NetnsReading {
                    id: NetnsId { cookie: Some(*cookie), inode: *inode },
                    name: None,
                    totals: self.programs.as_ref().map(|programs| programs.counters(*slot)),
                    counts: vec![],
                    max: None,
                    kernel: None,
                });
            }
        }
        readings.sort_by_key(|reading| reading.id);
        let attached = |hook| self.hooks().iter().any(|one| one.hook == hook && one.is_attached());
        Reading {
            time,
            netns: readings,
            events_received: self.events,
            missed_at_most: self.missed_at_most,
            overflow: self.programs.as_ref().map(EbpfSource::overflow).unwrap_or_default(),
            counted: Counted {
                inserts_packet: attached(Hook::Insert),
                inserts_ctnetlink: attached(Hook::HashInsert),
                deletes: attached(Hook::Delete),
                early_drops: attached(Hook::EarlyDrop),
            },
        }
    }

    fn is_selected(&self, inode: u64) -> bool {
        match self.selection {
            Selection::Inode(wanted) => inode == wanted,
            Selection::All | Selection::Own => true,
        }
    }

    fn scan_when_due(&mut self, slots: &HashMap<u64, (u32, u64)>) {
        let due = self.last_scan.elapsed();
        // One that could not be found the first time is left to the regular scan.
        let is_new = slots.keys().any(|cookie| !self.looked_for.contains(cookie));
        if due >= SCAN_EVERY || due >= SCAN_SOON && (is_new || self.has_ended) {
            self.last_scan = Instant::now();
            self.has_ended = false;
            self.looked_for.extend(slots.keys());
            self.namespaces.scan();
            self.entered.extend(self.namespaces.iter().filter_map(|netns| netns.cookie));
        }
    }

    /// None: the namespace tracks nothing and never has.
    fn read_netns(
        &self,
        netns: &Namespace,
        id: NetnsId,
        slot: Option<u32>,
    ) -> Option<NetnsReading> {
        let programs = self.programs.as_ref();
        let balance = || match (programs, slot) {
            (Some(programs), Some(slot)) => programs.balance(slot),
            _ => Balance::default(),
        };
        let mut counts = Vec::with_capacity(COUNT_READS);
        let mut before = balance();
        for _ in 0..COUNT_READS {
            let Ok(count) = netns.count() else { break };
            let after = balance();
            counts.push(CountRead { before, count, after });
            before = after;
            let agreeing = counts.iter().filter(|read| read.agrees()).count();
            if agreeing >= AGREEING_READS {
                break;
            }
        }
        if counts.is_empty() && slot.is_none() {
            return None;
        }
        Some(NetnsReading {
            id,
            name: netns.name.clone(),
            totals: programs
                .map(|programs| slot.map_or_else(Totals::default, |slot| programs.counters(slot))),
            counts,
            max: netns.max().ok(),
            kernel: self.stats.get(&id).copied(),
        })
    }
}

/// What cannot be told where `hook` is not attached.
#[must_use]
pub const fn lost_without(hook: Hook) -> &'static str {
    match hook {
        Hook::Alloc | Hook::Free => "entries",
        Hook::Insert => "inserts by packets",
        Hook::HashInsert => "inserts through ctnetlink",
        Hook::Delete => "deletes and evictions",
        Hook::EarlyDrop => "evictions and drops because the table is full",
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
