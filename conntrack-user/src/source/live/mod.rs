//! The running kernel: what the programs count, beside what procfs says, as one reading.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};

mod slots;

use super::{
    Lost,
    ebpf::{
        self, EbpfSource,
        hook::{Family, Hook},
        plan::HookReport,
    },
    limits,
    procfs::{Namespace, Namespaces},
};
use crate::model::{
    counts::{Balance, Counted, Totals},
    flow::FlowEvent,
    probe::Probe,
    reading::{CountRead, KernelStat, NetnsId, NetnsReading, Reading, Time, Victim},
};
use slots::{Slot, Slots};

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
/// After this time without a count a namespace is idle.
const IDLE_AFTER: Duration = Duration::from_secs(10);
/// Time in which the drift of each idle namespace is looked at once.
const REVIEW: Duration = Duration::from_secs(60);
/// Victims kept of a reading.
const VICTIMS: usize = 16;

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

    /// A cookie as it is shown: where the programs have the address of `struct net` in its place, none.
    fn cookie(&self, cookie: u64) -> Option<u64> {
        let is_address = self.programs.as_ref().is_some_and(EbpfSource::cookie_is_address);
        (!is_address).then_some(cookie)
    }

    /// Reads what has changed, or for [`Purpose::Settle`] everything.
    pub fn read(&mut self, purpose: Purpose) -> Reading {
        let started = Instant::now();
        if let Some(programs) = &mut self.programs {
            self.slots.update(programs, started);
        }
        self.scan_when_due();
        self.take_victims();
        let with_stat = self.last_stat.is_none_or(|last| last.elapsed() >= STAT_EVERY);
        if with_stat {
            self.read_stat();
        } else if self.probe_stats.is_some() {
            self.read_probes();
        }
        if let Some(programs) = &self.programs {
            programs.set_hits(&mut self.probes, &self.slots.total());
        }

        let time = self.now();
        let mut netns = Vec::new();
        let overflow =
            self.programs.as_ref().map(EbpfSource::overflow).filter(|o| *o != Totals::default());
        for (inode, cookie, idle) in self.choose(purpose, started) {
            netns.extend(self.read_one(inode, cookie, idle, with_stat, overflow.is_some()));
        }
        if purpose == Purpose::Tick {
            self.take_ended(&mut netns);
        }
        // One that has ended before one that has its inode now.
        netns.sort_by_key(|reading| (reading.id.inode, !reading.ended, reading.id));
        let shown = netns.iter().filter(|netns| !netns.idle && !netns.ended).count();
        let counted = self.counted();
        let victims = match purpose {
            Purpose::Tick => std::mem::take(&mut self.victims),
            Purpose::Settle => VecDeque::new(),
        };
        let victims =
            victims.into_iter().map(|flow| Victim { netns: self.netns_of(&flow), flow }).collect();
        Reading {
            time,
            idle: (self.known() as u64).saturating_sub(shown as u64),
            netns,
            gone: std::mem::take(&mut self.gone),
            events_received: self.events,
            missed_at_most: self.missed_at_most,
            events_lost: self.slots.total().events_lost
                + overflow.map_or(0, |overflow| overflow.events_lost),
            overflow: overflow.unwrap_or_default(),
            probes: self.probes.clone(),
            victims,
            blocks: self.programs.as_ref().map(EbpfSource::blocks),
            counted,
        }
    }

    /// What the hooks that are attached count.
    fn counted(&self) -> Counted {
        let attached = |hook| self.hooks().iter().any(|one| one.hook == hook && one.is_attached());
        let returns = self.programs.as_ref().is_some_and(|p| p.family() == Family::Tracing);
        Counted {
            inserts_packet: attached(Hook::Insert),
            inserts_ctnetlink: attached(Hook::HashInsert),
            deletes: attached(Hook::Delete),
            early_drops: attached(Hook::EarlyDrop),
            causes: attached(Hook::Delete) && attached(Hook::DeleteCause),
            clashes: attached(Hook::Clash),
            clash_outcomes: attached(Hook::Clash) && returns,
            failed_inserts: attached(Hook::Confirm) && attached(Hook::Clash),
        }
    }

    /// Namespaces that there are, as far as can be told.
    fn known(&self) -> usize {
        let unseen = self.slots.iter().filter(|slot| {
            let cookie = self.cookie(slot.cookie);
            !slot.ended && self.namespaces.get(slot.inode, cookie).is_none()
        });
        let seen = match self.selection {
            Selection::All | Selection::Own => self.namespaces.len(),
            Selection::Inode(inode) => usize::from(self.namespaces.get(inode, None).is_some()),
        };
        seen + unseen.filter(|slot| self.is_selected(slot.inode)).count()
    }

    /// Inode and cookie of the namespaces to read, and whether each is read for its drift alone.
    fn choose(&mut self, purpose: Purpose, now: Instant) -> Vec<(u64, Option<u64>, bool)> {
        let everything = purpose == Purpose::Settle || self.idle_too || self.programs.is_none();
        let mut chosen: Vec<(u64, Option<u64>, bool)> = Vec::new();
        let mut inodes = HashSet::new();
        let lately = |slot: &&Slot| everything || now.duration_since(slot.changed) < IDLE_AFTER;
        let slots = self.slots.iter().filter(|slot| !slot.ended).filter(lately);
        for slot in slots.filter(|slot| self.is_selected(slot.inode)) {
            if inodes.insert(slot.inode) {
                chosen.push((slot.inode, Some(slot.cookie), false));
            }
        }
        let always =
            |inode: u64| Some(inode) == self.own || self.selection == Selection::Inode(inode);
        if everything {
            let others = self.namespaces.iter().filter(|netns| self.is_selected(netns.inode));
            let others = others.filter(|netns| inodes.insert(netns.inode));
            chosen.extend(others.map(|netns| (netns.inode, netns.cookie, false)));
            return chosen;
        }
        let named = match self.selection {
            Selection::Inode(inode) => Some(inode),
            Selection::All | Selection::Own => self.own,
        };
        chosen.extend(
            named.filter(|inode| always(*inode) && inodes.insert(*inode)).map(|i| (i, None, false)),
        );
        for inode in self.due_for_review(now) {
            if self.is_selected(inode) && inodes.insert(inode) {
                chosen.push((inode, None, true));
            }
        }
        chosen
    }

    /// Some of the idle namespaces, so that each comes once in [`REVIEW`].
    fn due_for_review(&mut self, now: Instant) -> Vec<u64> {
        if self.to_review.is_empty() {
            self.to_review.extend(self.namespaces.iter().map(|netns| netns.inode));
        }
        let share = now.duration_since(self.last_review).as_secs_f64() / REVIEW.as_secs_f64();
        let count = (share * self.namespaces.len() as f64) as usize;
        if count > 0 {
            self.last_review = now;
        }
        let count = count.min(self.to_review.len());
        self.to_review.drain(..count).collect()
    }

    /// None: the namespace tracks nothing and never has.
    fn read_one(
        &mut self,
        inode: u64,
        cookie: Option<u64>,
        idle: bool,
        with_stat: bool,
        is_overflowing: bool,
    ) -> Option<NetnsReading> {
        let slot = match cookie.and_then(|cookie| self.slots.of_cookie(cookie)) {
            Some(slot) => Some(slot),
            None => self.slots.of_inode(inode),
        };
        let shown = slot.and_then(|slot| self.cookie(slot.cookie));
        let netns = self.namespaces.get(inode, shown);
        if netns.is_none() && slot.is_none() {
            return None;
        }
        let id = NetnsId { cookie: netns.and_then(|netns| netns.cookie).or(shown), inode };
        if with_stat {
            let stat = netns.and_then(Namespace::stat);
            self.stats.extend(stat.map(|stat| (id, stat)));
        }
        let counts =
            netns.map_or_else(Vec::new, |netns| counts(netns, slot, self.programs.as_ref()));
        self.has_ended |= netns.is_some() && counts.is_empty();
        if counts.is_empty() && slot.is_none() {
            return None;
        }
        let totals = match slot {
            // What it counted is counted together with others.
            Some(slot) if slot.spilled => None,
            None if is_overflowing => None,
            Some(slot) => self.programs.as_ref().map(|programs| programs.counters(slot.number)),
            None => self.programs.as_ref().map(|_| Totals::default()),
        };
        let reading = NetnsReading {
            id,
            name: netns.and_then(|netns| netns.name.clone()),
            ended: false,
            idle,
            totals,
            counts,
            max: netns.and_then(|netns| netns.max().ok()),
            kernel: self.stats.get(&id).copied(),
        };
        if let Some(slot) = slot.map(|slot| slot.number) {
            self.slots.remember(slot, &reading);
        }
        Some(reading)
    }

    /// Adds those that have ended, with their last counts, and forgets them.
    fn take_ended(&mut self, netns: &mut Vec<NetnsReading>) {
        let Some(programs) = &mut self.programs else {
            return;
        };
        for slot in self.slots.take_ended() {
            // What cannot be given back stays taken, and is told by the number of blocks.
            let _ = programs.release(slot.number);
            let is_address = programs.cookie_is_address();
            let selected = match self.selection {
                Selection::Inode(wanted) => slot.inode == wanted,
                Selection::All | Selection::Own => true,
            };
            if selected {
                netns.push(NetnsReading {
                    id: NetnsId { cookie: (!is_address).then_some(slot.cookie), inode: slot.inode },
                    name: slot.name,
                    ended: true,
                    idle: false,
                    totals: (!slot.spilled).then_some(slot.totals),
                    counts: vec![],
                    max: None,
                    kernel: None,
                });
            }
        }
    }

    fn take_victims(&mut self) {
        let Some(programs) = &mut self.programs else {
            return;
        };
        programs.drain_victims(|event| {
            if self.victims.len() == VICTIMS {
                self.victims.pop_front();
            }
            self.victims.push_back(event);
        });
    }

    fn read_stat(&mut self) {
        self.last_stat = Some(Instant::now());
        self.stats.clear();
        if let Some(programs) = &self.programs {
            self.missed_at_most = programs.missed_at_most().ok().flatten();
        }
        self.read_probes();
    }

    fn read_probes(&mut self) {
        if let Some(programs) = &self.programs {
            self.probes = programs.probes().unwrap_or_default();
        }
    }

    fn is_selected(&self, inode: u64) -> bool {
        match self.selection {
            Selection::Inode(wanted) => inode == wanted,
            Selection::All | Selection::Own => true,
        }
    }

    fn scan_when_due(&mut self) {
        let due = self.last_scan.elapsed();
        // One that could not be found the first time is left to the regular scan.
        let is_new = self.slots.has_new() || self.has_ended;
        if due >= SCAN_EVERY || due >= SCAN_SOON && is_new {
            self.last_scan = Instant::now();
            self.has_ended = false;
            self.slots.forget_new();
            let ended = self.namespaces.scan();
            // One with a slot is told by the programs, after its last count.
            let gone = ended.into_iter().filter(|netns| match netns.cookie {
                Some(cookie) => self.slots.of_cookie(cookie).is_none(),
                None => self.slots.of_inode(netns.inode).is_none(),
            });
            self.gone
                .extend(gone.map(|netns| NetnsId { cookie: netns.cookie, inode: netns.inode }));
        }
    }
}

/// Reads the kernel's count, often enough to tell what belongs to one moment.
fn counts(netns: &Namespace, slot: Option<&Slot>, programs: Option<&EbpfSource>) -> Vec<CountRead> {
    let balance = || match (programs, slot) {
        (Some(programs), Some(slot)) => programs.balance(slot.number),
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
        // One is enough where nothing is counted beside it.
        if agreeing >= AGREEING_READS || programs.is_none() {
            break;
        }
    }
    counts
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
