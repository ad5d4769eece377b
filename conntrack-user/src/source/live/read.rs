//! What is read at a tick: of what has changed everything, of the rest next to nothing.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use super::{
    super::{
        ebpf::{
            self, EbpfSource,
            hook::{Family, Hook},
        },
        procfs::Namespace,
    },
    Live, Purpose, Selection,
    counter::Counter,
    listening,
    slots::Slot,
};
use crate::model::{
    counts::{Books, Counted, Totals},
    failed_inserts::{FailedInserts, Follow},
    in_flight::InFlight,
    reading::{CountRead, Events, NetnsId, NetnsReading, Reading, Victim},
    windows::Windows,
};

/// Between two reads of the kernel's statistics, which cost a line of text a CPU, and of the missed
/// calls, which cost a system call a program.
const STAT_EVERY: Duration = Duration::from_secs(1);
/// Reads of the count in one reading, at most, and how many of a single moment are enough.
const COUNT_READS: usize = 8;
const AGREEING_READS: usize = 4;
/// Time in which the drift of each idle namespace is looked at once.
const REVIEW: Duration = Duration::from_secs(60);
/// Victims kept of a reading.
const VICTIMS: usize = 16;

impl Live {
    /// Reads what has changed, or for [`Purpose::Settle`] everything.
    pub fn read(&mut self, purpose: Purpose) -> Reading {
        let started = Instant::now();
        self.is_first &= purpose == Purpose::Settle;
        self.collect();
        self.scan_when_due();
        self.take_victims();
        let with_stat = self.last_stat.is_none_or(|last| last.elapsed() >= STAT_EVERY);
        if with_stat {
            self.read_stat();
        } else if self.probe_stats.is_some() {
            self.read_probes();
        }
        if let Some(programs) = self.counter.programs() {
            programs.set_hits(&mut self.probes, &self.slots.total());
        }

        let time = self.now();
        let mut netns = Vec::new();
        let overflow =
            self.counter.programs().map(EbpfSource::overflow).filter(|o| *o != Totals::default());
        let chosen = self.choose(purpose, started);
        let own = self.own.filter(|_| with_stat);
        let due = chosen.iter().filter(|(_, _, idle)| with_stat || *idle).map(|(inode, ..)| *inode);
        let due = own.into_iter().chain(due.filter(|inode| Some(*inode) != own));
        self.entered_stats.read(due, &self.namespaces, self.access.as_ref(), started);
        for (inode, cookie, idle) in chosen {
            netns.extend(self.read_one(
                inode,
                cookie,
                idle,
                with_stat,
                overflow.is_some(),
                started,
            ));
        }
        if purpose == Purpose::Tick {
            self.take_ended(&mut netns);
        }
        // One that has ended before one that has its inode now.
        netns.sort_by_key(|reading| (reading.id.inode, !reading.ended, reading.id));
        let shown = netns.iter().filter(|netns| !netns.idle && !netns.ended).count();
        let counted = self.counted();
        let idle = (self.known() as u64).saturating_sub(shown as u64);
        let victims = match purpose {
            Purpose::Tick => std::mem::take(&mut self.victims),
            Purpose::Settle => VecDeque::new(),
        };
        let victims =
            victims.into_iter().map(|flow| Victim { netns: self.netns_of(&flow), flow }).collect();
        Reading {
            time,
            idle,
            netns,
            gone: std::mem::take(&mut self.gone),
            events: match self.counter.listeners() {
                Some(listeners) => listeners.events(),
                None => self.events(&overflow.unwrap_or_default()),
            },
            missed_calls_max: match self.counter.listeners() {
                Some(listeners) => listeners.lost(),
                None => self.missed_calls_max,
            },
            overflow: overflow.unwrap_or_default(),
            probes: self.probes.clone(),
            victims,
            rereads: self.rereads.take(),
            blocks: self.counter.programs().map(EbpfSource::blocks),
            counted,
            coverage: self.coverage(),
        }
    }

    /// Takes in what programs have counted since the last call. At least twice a second, so that no window is missed.
    pub fn collect(&mut self) {
        if let Some(programs) = self.counter.programs_mut() {
            self.slots.update(programs, Instant::now());
            programs.read_windows(self.slots.busy_numbers());
        }
    }

    /// What became of the events so far, if there are any.
    #[must_use]
    pub fn events_so_far(&self) -> Option<Events> {
        if let Some(listeners) = self.counter.listeners() {
            return listeners.events();
        }
        self.events(&self.counter.programs()?.overflow())
    }

    fn events(&self, overflow: &Totals) -> Option<Events> {
        let received = self.counter.programs().filter(|_| self.has_events)?.received();
        let totals = self.slots.total().plus(overflow);
        Some(Events {
            seen: totals.inserts() + totals.deletes.sum(),
            received,
            sampled_out: totals.events_sampled_out,
            lost: totals.events_lost,
            threshold: self.threshold,
        })
    }

    fn take_windows(&mut self, slot: u32) -> Option<Windows> {
        self.counter.programs_mut()?.take_windows(slot, unix_offset_ns())
    }

    /// What the hooks that are attached count.
    pub(super) fn counted(&self) -> Counted {
        if self.counter.listeners().is_some() {
            return listening::COUNTED;
        }
        let attached = |hook| self.hooks().iter().any(|one| one.hook == hook && one.is_attached());
        let returns = self.counter.programs().is_some_and(|p| p.family() == Family::Tracing);
        let failed_by_kernel = self.failures_are_kernels();
        Counted {
            allocs: self.counter.programs().is_some(),
            netns_exits: attached(Hook::Delete),
            inserts_packet: attached(Hook::Insert),
            inserts_ctnetlink: attached(Hook::HashInsert),
            deletes: attached(Hook::Delete),
            early_drops: attached(Hook::EarlyDrop),
            causes: attached(Hook::Delete) && attached(Hook::DeleteCause),
            clashes: attached(Hook::Clash),
            clash_outcomes: attached(Hook::Clash) && returns,
            failed_inserts: (attached(Hook::Confirm) || failed_by_kernel)
                && attached(Hook::Clash)
                && returns,
            failed_by_kernel,
        }
    }

    /// Namespaces that there are, as far as can be told.
    fn known(&mut self) -> usize {
        let changes = (self.scans, self.slots.len());
        if let Some((known, of)) = self.known
            && of == changes
        {
            return known;
        }
        let known = self.count_known();
        self.known = Some((known, changes));
        known
    }

    fn count_known(&self) -> usize {
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
        let everything =
            purpose == Purpose::Settle || self.idle_too || self.counter.programs().is_none();
        let mut chosen: Vec<(u64, Option<u64>, bool)> = Vec::new();
        let mut inodes = HashSet::new();
        let slots: Vec<&Slot> = if everything {
            self.slots.iter().filter(|slot| !slot.ended).collect()
        } else {
            self.slots.busy().collect()
        };
        for slot in slots {
            if self.is_selected(slot.inode) && inodes.insert(slot.inode) {
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
        now: Instant,
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
        // Of an idle one each time that it is looked at: packets without an entry come, too.
        if with_stat || idle {
            let stat = netns.and_then(Namespace::stat).or_else(|| self.entered_stats.get(inode));
            self.stats.extend(stat.map(|stat| (id, stat)));
        }
        let is_heard = self.counter.listeners().is_some_and(|all| all.listens_in(inode));
        // One read is enough where nothing is counted beside it.
        let is_alone = self.counter.programs().is_none() && !is_heard;
        let enough = if idle || is_alone { 1 } else { AGREEING_READS };
        let (counts, books) = netns.map_or_else(Default::default, |netns| {
            counts(netns, enough, || match (&mut self.counter, slot) {
                (Counter::Programs { source, .. }, Some(slot)) => source.books(slot.number),
                (Counter::Listeners(listeners), _) if is_heard => {
                    Books { balance: listeners.balance(inode), ..Books::default() }
                }
                _ => Books::default(),
            })
        });
        // One without a slot has counted nothing, unless it is counted together with others.
        let is_told = slot.map_or(!is_overflowing, |slot| !slot.spilled);
        let in_flight =
            if is_told && self.tells_in_flight { InFlight::lowest(&books) } else { None };
        let queued = netns.filter(|_| with_stat && in_flight.is_some_and(|now| now.unhashed != 0));
        let queued = queued.and_then(Namespace::queued);
        let heard = self.counter.listeners_mut().filter(|_| is_heard);
        let heard = heard.and_then(|listeners| listeners.totals(inode));
        self.has_ended |= netns.is_some() && counts.is_empty();
        if counts.is_empty() && slot.is_none() {
            return None;
        }
        let totals = match slot {
            // What it counted is counted together with others.
            Some(slot) if slot.spilled => None,
            None if is_overflowing => None,
            Some(slot) => self.counter.programs().map(|programs| programs.counters(slot.number)),
            None => match self.counter.programs() {
                Some(_) => Some(Totals::default()),
                None => heard.map(|(totals, _)| totals),
            },
        };
        let reading = NetnsReading {
            id,
            name: netns.and_then(|netns| netns.name.clone()),
            ended: false,
            idle,
            totals,
            missed: heard.is_some_and(|(_, missed)| missed),
            counts,
            in_flight: in_flight.map(|now| InFlight { queued, ..now }),
            max: netns.and_then(|netns| netns.max().ok()),
            timeouts: None,
            windows: None,
            kernel: self.stats.get(&id).copied(),
        };
        let is_there = netns.is_some() && !reading.counts.is_empty();
        let slot = slot.map(|slot| slot.number);
        if let Some(slot) = slot {
            self.slots.remember(slot, &reading);
        }
        let windows = slot.filter(|_| !idle).and_then(|slot| self.take_windows(slot));
        let totals = reading.totals.map(|totals| self.with_failed(&reading, totals));
        let timeouts =
            if is_there && !idle { self.namespaces.changed_timeouts(inode, now) } else { None };
        Some(NetnsReading { windows, totals, timeouts, ..reading })
    }

    fn failures_are_kernels(&self) -> bool {
        self.counter.programs().is_some_and(EbpfSource::leaves_failures_to_kernel)
    }

    /// `totals` with the failed inserts of the kernel's own counters, where those are to tell them.
    fn with_failed(&mut self, reading: &NetnsReading, totals: Totals) -> Totals {
        if !self.failures_are_kernels() {
            return totals;
        }
        if let Some(now) = reading.kernel.as_ref().and_then(FailedInserts::of) {
            // One that was not there at the start has counted from 0.
            let begin = if self.is_first { now } else { FailedInserts::default() };
            let follow = self.failed.entry(reading.id).or_insert_with(|| Follow::from(begin));
            follow.observe(now, totals.failed_clash);
        }
        self.failed.get(&reading.id).map_or(totals, |failed| failed.fill(totals))
    }

    /// Adds those that have ended, with their last counts, and forgets them.
    fn take_ended(&mut self, netns: &mut Vec<NetnsReading>) {
        let Some(programs) = self.counter.programs_mut() else {
            return;
        };
        for slot in self.slots.take_ended() {
            // What cannot be given back stays taken, and is told by the number of blocks.
            let _ = programs.release(slot.number);
            let is_address = programs.cookie_is_address();
            if self.selection.has(slot.inode) {
                let cookie = (!is_address).then_some(slot.cookie);
                let id = NetnsId { cookie, inode: slot.inode };
                let totals = match self.failed.remove(&id) {
                    Some(failed) => failed.fill(slot.totals),
                    None => slot.totals,
                };
                netns.push(NetnsReading {
                    id,
                    name: slot.name,
                    ended: true,
                    idle: false,
                    totals: (!slot.spilled).then_some(totals),
                    missed: false,
                    counts: vec![],
                    in_flight: None,
                    max: None,
                    timeouts: None,
                    windows: None,
                    kernel: None,
                });
            }
        }
    }

    fn take_victims(&mut self) {
        let Some(programs) = self.counter.programs_mut() else {
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
        if let Some(programs) = self.counter.programs() {
            self.missed_calls_max = programs.missed_calls_max().ok().flatten();
        }
        self.read_probes();
    }

    fn read_probes(&mut self) {
        if let Some(programs) = self.counter.programs() {
            self.probes = programs.probes().unwrap_or_default();
        }
    }

    fn is_selected(&self, inode: u64) -> bool {
        self.selection.has(inode)
    }
}

/// Reads the kernel's count, often enough to tell what belongs to one moment, and ours before and after each.
fn counts(
    netns: &Namespace,
    enough: usize,
    mut books: impl FnMut() -> Books,
) -> (Vec<CountRead>, Vec<Books>) {
    let mut counts = Vec::with_capacity(COUNT_READS);
    let mut all = Vec::with_capacity(COUNT_READS + 1);
    let mut before = books();
    all.push(before);
    for _ in 0..COUNT_READS {
        let Ok(count) = netns.count() else { break };
        let after = books();
        counts.push(CountRead { before: before.balance, count, after: after.balance });
        all.push(after);
        before = after;
        let agreeing = counts.iter().filter(|read| read.agrees()).count();
        if agreeing >= enough {
            break;
        }
    }
    (counts, all)
}

/// What to add to `CLOCK_MONOTONIC` for nanoseconds since 1970. The process may be kept waiting between the
/// two clocks, so the reads that were closest together count.
fn unix_offset_ns() -> i64 {
    let read = || {
        let before = ebpf::monotonic_ns();
        let unix = ebpf::unix_ns();
        (ebpf::monotonic_ns().saturating_sub(before), ebpf::offset_ns(unix, before))
    };
    let reads = [read(), read(), read()];
    reads.into_iter().min().map_or(0, |(_, difference)| difference)
}
