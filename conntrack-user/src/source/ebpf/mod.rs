//! Counts from programs inside the kernel.

use std::{collections::HashSet, io, os::fd::BorrowedFd, path::PathBuf, time::SystemTime};

use anyhow::{Result, bail};
use aya::maps::{MapData, RingBuf};
use conntrack_ebpf::{EVERY_FLOW, ListedNetns, Netns, OVERFLOW_SLOT, Reread};

mod asked;
pub mod attach;
mod bears;
#[cfg(feature = "bench")]
pub mod bench;
pub mod bpf;
pub mod btf;
pub mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod hook;
mod kernel;
pub mod layout;
mod load;
mod mapped;
mod maps;
mod memory;
pub mod parts;
mod pins;
pub mod plan;
mod preemption;
mod probes;
mod rings;
pub mod rungs;
pub mod symbols;
mod table;
mod windows;

use crate::model::{
    counts::{Books, Totals},
    flow::FlowEvent,
    probe::Probe,
    windows::Windows,
};
use asked::Asked;
pub use attach::is_refused;
use hook::{Family, Hook};
pub use load::LEFT_OUT;
use mapped::Mapped;
use parts::{Open, Parts, Without};
use plan::{HookReport, State};
use probes::Attached;
use rings::Rings;
use table::Table;

/// Size of the ring buffers together unless asked otherwise: 16,384 events, 1.6 s of the default budget. Twice
/// that is resident in whoever maps it (`ringbuf_map_mmap_user` maps the data twice).
pub const DEFAULT_RING_BYTES: u32 = 2 << 20;

/// What to attach and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where procfs is mounted.
    pub procfs: PathBuf,
    /// Where sysfs is mounted.
    pub sysfs: PathBuf,
    /// A file with the types of the running kernel (BTF), in place of those in sysfs.
    pub btf: Option<PathBuf>,
    /// The way to attach; none: trampolines where the kernel takes them, else kprobes.
    pub family: Option<Family>,
    /// Bytes of the ring buffers together: a power of two and at least a page.
    pub ring_bytes: u32,
    /// How many ring buffers: a power of two, at most [`conntrack_ebpf::RINGS`]. None: one for 16 CPUs.
    pub rings: Option<u32>,
    /// Whether each insert and destroy is also sent as an event.
    pub events: bool,
    /// Whether the programs write their debug log.
    pub debug_log: bool,
    /// A folder in a BPF file system in which the programs are pinned, so that they stay attached, and from which they
    /// are taken over; none: they end with this process.
    pub pins: Option<PathBuf>,
    /// Faults for tests.
    pub fault: Fault,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            procfs: "/proc".into(),
            sysfs: "/sys".into(),
            btf: None,
            family: None,
            ring_bytes: DEFAULT_RING_BYTES,
            rings: None,
            events: true,
            debug_log: false,
            pins: None,
            fault: Fault::default(),
        }
    }
}

/// What is to go wrong on purpose, so that tests can show that it would be seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fault {
    /// Leave out the last of every so many frees; 0: none.
    #[cfg(feature = "fault-injection")]
    pub skip_frees: u32,
    /// Leave out one of so many inserts by packets, at random; 0: none.
    #[cfg(feature = "fault-injection")]
    pub skip_inserts: u32,
    /// Leave out one of so many deletes, at random; 0: none.
    #[cfg(feature = "fault-injection")]
    pub skip_deletes: u32,
    /// Do not attach these hooks, and claim that they are.
    pub without: Vec<Hook>,
    /// Take the functions of the first rung of these hooks as inlined.
    pub inlined: Vec<Hook>,
    /// Attach also hooks that tell what this kernel tells by itself.
    pub all_hooks: bool,
    /// Tell only so many namespaces apart; 0: as many as there is room for.
    pub max_netns: u32,
}

/// The programs, attached by whoever may, and what they count.
pub struct EbpfSource {
    table: Table,
    rings: Rings,
    threshold: Mapped<u32>,
    windows: Option<windows::Reader>,
    asked: Result<Asked, String>,
    victims: RingBuf<MapData>,
    family: Family,
    cookie_is_address: bool,
    hooks: Vec<HookReport>,
    since_ns: u64,
    bpf_map_memory_bytes: Option<u64>,
    not_pinned: Option<String>,
    sends_events: bool,
    without: Vec<Without>,
    received: Mapped<u64>,
    attached: Vec<Attached>,
}

/// What a call of [`EbpfSource::drain`] found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Records taken out of the ring.
    pub received: u64,
    /// Records among them that made no sense.
    pub malformed: u64,
}

impl EbpfSource {
    /// Reads programs that are attached. One at a time may: it takes events away, and sets the tick.
    ///
    /// # Errors
    /// Those of mmap(2), and of bpf(2) where that takes CAP_BPF (before 5.19).
    pub fn new(parts: Parts) -> Result<Self> {
        let Open { facts, maps, asked, attached } = parts.open()?;
        let asked = match asked {
            Ok(programs) => Ok(Asked::new(programs, &maps)?),
            Err(why) => Err(why),
        };
        let windows = match (&asked, windows::jiffy()) {
            (Ok(_), Some(jiffy)) => {
                Some(windows::Reader::new(&maps, facts.cpus, facts.window_copies, jiffy)?)
            }
            _ => None,
        };
        let threshold = Mapped::new(&maps, "THRESHOLD", 1)?;
        // Whoever read them before may have left another one.
        threshold.write(0, EVERY_FLOW);
        Ok(Self {
            table: Table::map(&maps, facts.cpus, facts.family)?,
            rings: Rings::new(&maps, facts.rings)?,
            threshold,
            windows,
            asked,
            victims: maps.ring("VICTIMS")?,
            family: facts.family,
            cookie_is_address: facts.cookie_is_address,
            hooks: facts.hooks,
            since_ns: facts.since_ns,
            bpf_map_memory_bytes: facts.bpf_map_memory_bytes,
            not_pinned: facts.not_pinned,
            sends_events: facts.sends_events,
            without: facts.without,
            received: Mapped::new(&maps, "RECEIVED", 1)?,
            attached,
        })
    }

    /// How the programs are attached.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Whether what the programs have for a namespace's cookie is an address in the kernel.
    #[must_use]
    pub const fn cookie_is_address(&self) -> bool {
        self.cookie_is_address
    }

    /// Whether inserts that failed are told by the kernel, with their reasons.
    #[must_use]
    pub fn leaves_failures_to_kernel(&self) -> bool {
        let is_confirm = |report: &&HookReport| report.hook == Hook::Confirm;
        self.hooks.iter().find(is_confirm).is_some_and(|report| report.state() == State::NotNeeded)
    }

    /// When the programs were attached, in nanoseconds since 1970 UTC: everything is counted since then.
    #[must_use]
    pub const fn since_ns(&self) -> u64 {
        self.since_ns
    }

    /// Bytes of memory that all maps take, as the kernel accounts it; none where it does not tell.
    #[must_use]
    pub const fn bpf_map_memory_bytes(&self) -> Option<u64> {
        self.bpf_map_memory_bytes
    }

    /// Why the programs are not pinned although that was asked for; none where they are, or it was not.
    #[must_use]
    pub fn not_pinned(&self) -> Option<&str> {
        self.not_pinned.as_deref()
    }

    /// Whether inserts and destroys are sent as events.
    #[must_use]
    pub const fn sends_events(&self) -> bool {
        self.sends_events
    }

    /// Values that the way of attaching makes unavailable, and why that way was taken.
    #[must_use]
    pub fn without(&self) -> &[Without] {
        &self.without
    }

    /// How many events were taken out of the rings since then, by whomever.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.read(0)
    }

    /// How each hook is attached, or why it is not.
    #[must_use]
    pub fn hooks(&self) -> &[HookReport] {
        &self.hooks
    }

    /// At most so many calls were not counted, because every copy of a program was running already
    /// on that CPU: 0 means that every count is exact. None where the kernel does not tell.
    ///
    /// # Errors
    /// The kernel's.
    pub fn missed_calls_max(&self) -> io::Result<Option<u64>> {
        probes::missed_calls_max(&self.attached)
    }

    /// How each hook does; a system call a program.
    ///
    /// # Errors
    /// The kernel's.
    pub fn probes(&self) -> io::Result<Vec<Probe>> {
        probes::all(&self.hooks, &self.attached)
    }

    /// Sets the hits of `probes` to what was counted in `totals`; costs no system call.
    pub fn set_hits(&self, probes: &mut [Probe], totals: &Totals) {
        for (probe, report) in probes.iter_mut().zip(&self.hooks) {
            probe.hits = report.is_attached().then(|| probes::hits(report.hook, totals)).flatten();
        }
    }

    /// Begins a tick: the namespaces in which something may have been counted since the one before
    /// last, with their slots.
    pub fn active(&mut self) -> Vec<(u32, Netns)> {
        self.table.active()
    }

    /// What was counted in `slot` since attaching.
    #[must_use]
    pub fn counters(&self, slot: u32) -> Totals {
        self.table.counters(slot)
    }

    /// What entries in `slot` came to since attaching.
    #[must_use]
    pub fn books(&self, slot: u32) -> Books {
        self.table.books(slot)
    }

    /// What was counted in namespaces that got no slot of their own.
    #[must_use]
    pub fn overflow(&self) -> Totals {
        self.table.counters(OVERFLOW_SLOT)
    }

    /// Gives back the slot of a namespace that has ended, with what was counted in it.
    ///
    /// # Errors
    /// Those of bpf(2).
    pub fn release(&mut self, slot: u32) -> Result<()> {
        if let Some(windows) = &mut self.windows {
            windows.release(slot)?;
        }
        self.table.release(slot)
    }

    /// Blocks of counters that namespaces hold, and how many there are.
    #[must_use]
    pub fn blocks(&self) -> (u64, u64) {
        self.table.blocks()
    }

    /// Hands the tuples that were refused or evicted since the last call to `take`: some of them, where
    /// there are many.
    pub fn drain_victims(&mut self, mut take: impl FnMut(FlowEvent)) {
        /// Bounds the time that it takes; the ring does not hold many more.
        const LIMIT: usize = 1024;
        for _ in 0..LIMIT {
            let Some(record) = self.victims.next() else {
                return;
            };
            if let Ok(event) = flow::decode(&record) {
                take(event);
            }
        }
    }

    /// Hands at most `limit` waiting events to `take`. Fewer were there if fewer were received.
    pub fn drain(&mut self, limit: u64, mut take: impl FnMut(FlowEvent)) -> Drained {
        let before = self.received.read(0);
        let mut taken = before;
        let drained = self.rings.drain(limit, monotonic_ns(), |event| {
            // Each by itself: whoever goes on after a kill misses one at most.
            taken += 1;
            self.received.write(0, taken);
            take(event);
        });
        self.received.write(0, before + drained.received);
        drained
    }

    /// Descriptors that are readable when a ring buffer should be drained before its time.
    pub fn ring_descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.rings.descriptors()
    }

    /// From now on, entries whose hash is below `threshold` are in the sample.
    pub fn set_threshold(&self, threshold: u32) {
        self.threshold.write(0, threshold);
    }

    /// Takes in the windows that have ended since the last call; it must not be longer ago than
    /// [`conntrack_ebpf::WINDOWS`] windows. `busy`: slots in which something is counted lately.
    pub fn read_windows(&mut self, busy: &HashSet<u32>) {
        if let (Some(windows), Ok(asked)) = (&mut self.windows, &self.asked)
            && let Ok(clock) = asked.clock()
        {
            windows.update(busy, clock);
        }
    }

    /// The windows of `slot` that were read since the last call; none where they are not counted.
    /// `unix_ns`: what to add to `CLOCK_MONOTONIC` for nanoseconds since 1970.
    pub fn take_windows(&mut self, slot: u32, unix_ns: i64) -> Option<Windows> {
        self.windows.as_mut()?.take(slot, unix_ns)
    }

    /// Reads live entries again, [`conntrack_ebpf::REREADS`] at most.
    ///
    /// # Errors
    /// The kernel's, and why it did not take the program.
    pub fn reread(&self, entries: &mut [Reread]) -> Result<()> {
        match &self.asked {
            Ok(asked) => asked.reread(entries),
            Err(why) => bail!("{why}"),
        }
    }

    /// All network namespaces on the kernel's own list.
    ///
    /// # Errors
    /// The kernel's, and why it did not take the program.
    pub fn list_netns(&self) -> Result<Vec<ListedNetns>> {
        match &self.asked {
            Ok(asked) => asked.list(),
            Err(why) => bail!("{why}"),
        }
    }

    /// Why live entries cannot be read again, and windows not be told; none where they can.
    #[must_use]
    pub fn not_asked(&self) -> Option<String> {
        self.asked.as_ref().err().cloned()
    }
}

/// Length of a jiffy in nanoseconds, where the kernel tells.
#[must_use]
pub fn jiffy_ns() -> Option<u64> {
    windows::jiffy().map(|jiffy| jiffy.as_nanos() as u64)
}

/// `CLOCK_MONOTONIC`, as the programs' `bpf_ktime_get_ns` has it.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the structure that it is given. It cannot fail: the clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    nanoseconds(now.tv_sec as u64, now.tv_nsec as u64)
}

/// `CLOCK_REALTIME`: nanoseconds since 1970, 0 before. Beyond the year 2554 it stays.
#[must_use]
pub fn unix_ns() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    nanoseconds(since.as_secs(), since.subsec_nanos().into())
}

const fn nanoseconds(seconds: u64, more: u64) -> u64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(more)
}

/// Difference of two times, in nanoseconds: at most 292 years, beyond which it stays.
#[must_use]
pub fn offset_ns(unix_ns: u64, monotonic_ns: u64) -> i64 {
    let difference = i128::from(unix_ns) - i128::from(monotonic_ns);
    difference.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_beyond_the_years_that_numbers_have_stay_at_the_last() {
        // The year 2600.
        assert_eq!(nanoseconds(19_880_640_000, 5), u64::MAX);
        assert_eq!(nanoseconds(1, 5), 1_000_000_005);
        assert_eq!(offset_ns(u64::MAX, 0), i64::MAX);
        assert_eq!(offset_ns(0, u64::MAX), i64::MIN);
        assert_eq!(offset_ns(7, 5), 2);
    }
}
