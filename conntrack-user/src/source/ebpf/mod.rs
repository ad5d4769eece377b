//! Counts from programs inside the kernel.

use std::{collections::HashSet, io, os::fd::BorrowedFd, path::PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use conntrack_ebpf::{EVERY_FLOW, MAX_NETNS, Netns, OVERFLOW_SLOT, RINGS, Reread};

mod asked;
#[cfg(feature = "bench")]
pub mod bench;
pub mod bpf;
pub mod btf;
pub mod flow;
pub mod hook;
mod kernel;
pub mod layout;
mod load;
mod mapped;
pub mod plan;
mod preemption;
mod rings;
pub mod symbols;
mod table;
mod windows;

use super::limits;
use crate::model::{
    counts::{Balance, Totals},
    flow::FlowEvent,
    probe::{Probe, Run},
    windows::Windows,
};
use asked::Asked;
use hook::{Family, Hook};
use kernel::{Kernel, MODULE};
use mapped::Mapped;
use plan::{HookReport, Lack, NotAttached, State, Way};
use rings::Rings;
use table::Table;

/// Size of the ring buffers together unless asked otherwise: 16,384 events, 1.6 s of the default budget. Twice
/// that is resident in whoever maps it (`ringbuf_map_mmap_user` maps the data twice).
pub const DEFAULT_RING_BYTES: u32 = 2 << 20;

/// What to attach and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where procfs is mounted.
    pub procfs: PathBuf,
    /// Where sysfs is mounted.
    pub sysfs: PathBuf,
    /// The way to attach; none: trampolines where the kernel takes them, else kprobes.
    pub family: Option<Family>,
    /// Bytes of the ring buffers together: a power of two and at least a page.
    pub ring_bytes: u32,
    /// How many ring buffers: a power of two, at most [`RINGS`]. None: one for 16 CPUs.
    pub rings: Option<u32>,
    /// Whether each insert and destroy is also sent as an event.
    pub events: bool,
    /// Whether the programs write their debug log.
    pub debug_log: bool,
    /// Faults for tests.
    pub fault: Fault,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            procfs: "/proc".into(),
            sysfs: "/sys".into(),
            family: None,
            ring_bytes: DEFAULT_RING_BYTES,
            rings: None,
            events: true,
            debug_log: false,
            fault: Fault::default(),
        }
    }
}

/// What is to go wrong on purpose, so that tests can show that it would be seen.
#[derive(Debug, Clone, Default)]
pub struct Fault {
    /// Leave out the last of every so many frees; 0: none.
    pub skip_frees: u32,
    /// Do not attach these hooks, and claim that they are.
    pub without: Vec<Hook>,
    /// Attach also hooks that tell what this kernel tells by itself.
    pub all_hooks: bool,
    /// Tell only so many namespaces apart; 0: as many as there is room for.
    pub max_netns: u32,
}

/// The programs, attached, and what they count.
pub struct EbpfSource {
    table: Table,
    rings: Rings,
    threshold: Mapped<u32>,
    windows: Option<windows::Reader>,
    asked: Result<Asked>,
    victims: RingBuf<MapData>,
    family: Family,
    cookie_is_address: bool,
    hooks: Vec<HookReport>,
    attached: Vec<load::Attached>,
    /// Keeps the maps.
    maps: Ebpf,
}

/// Why the programs are attached in neither way.
#[derive(Debug, thiserror::Error)]
#[error("by fentry: {fentry}; by kprobe: {kprobe}")]
struct NeitherWay {
    fentry: String,
    kprobe: String,
    is_refused: bool,
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
    /// Loads and attaches.
    ///
    /// # Errors
    /// Says what is missing and what it was for: BTF, a function, a capability, the kernel's consent.
    pub fn attach(options: &Options) -> Result<Self> {
        ensure!(
            options.rings.is_none_or(|rings| rings.is_power_of_two() && rings as usize <= RINGS),
            "there are 1, 2, 4 or {RINGS} ring buffers"
        );
        // Before 5.11 maps count as locked memory.
        limits::raise(libc::RLIMIT_MEMLOCK);
        let kernel = Kernel::read(options)?;
        if let Some(family) = options.family {
            return Self::attach_family(options, &kernel, family);
        }
        let by_fentry = match Self::attach_family(options, &kernel, Family::Tracing) {
            Ok(source) => return Ok(source),
            Err(error) => error,
        };
        Self::attach_family(options, &kernel, Family::Kprobe).map_err(|by_kprobe| {
            let (fentry, kprobe) = (format!("{by_fentry:#}"), format!("{by_kprobe:#}"));
            if fentry == kprobe {
                return by_fentry;
            }
            let is_refused = is_refused(&by_fentry) || is_refused(&by_kprobe);
            NeitherWay { fentry, kprobe, is_refused }.into()
        })
    }

    fn attach_family(options: &Options, kernel: &Kernel, family: Family) -> Result<Self> {
        let mut ways = Vec::new();
        for hook in Hook::ALL {
            let module = kernel.module.as_deref();
            let found = plan::needed(family, hook, kernel.has_reasons)
                .and_then(|()| plan::ways(family, hook, &kernel.vmlinux, module, &kernel.symbols));
            require(hook, family, &found)?;
            ways.push((hook, found));
        }
        let config = kernel::config(options, kernel, family)?;
        let netns = Some(options.fault.max_netns).filter(|netns| *netns > 0).unwrap_or(MAX_NETNS);
        let ring_bytes = kernel::ring_bytes(options.ring_bytes, config.rings);
        let mut maps = load::create_maps(load::OBJECT, &config, ring_bytes, netns)?;
        // Before the programs are attached: they note the number of the tick.
        let table = Table::map(&maps, config.cpus, family)?;
        let threshold = Mapped::new(&maps, "THRESHOLD", 1)?;
        threshold.write(0, EVERY_FLOW);
        let asked = Asked::load(&mut maps);
        // When a window was is told by the clocks that are asked for.
        let windows = match (&asked, windows::jiffy()) {
            (Ok(_), Some(jiffy)) => Some(windows::Reader::new(&mut maps, config.cpus, jiffy)?),
            _ => None,
        };
        let programs = match family {
            Family::Tracing => {
                let module = kernel.module.as_ref().map(|_| MODULE);
                Some(load::Programs::prepare(&maps, module, config.copies)?)
            }
            Family::Kprobe => None,
        };
        let mut hooks = Vec::new();
        let mut attached = Vec::new();
        for (hook, ways) in ways {
            let without = options.fault.without.contains(&hook);
            let outcome = ways.and_then(|ways| {
                plan::first_that_attaches(&ways, |way| match (way, &programs) {
                    _ if without => Ok(Vec::new()),
                    (Way::Tracing { image, function }, Some(programs)) => {
                        programs.attach(hook, *image, *function)
                    }
                    (Way::Kprobe { functions }, _) => match hook.kprobe() {
                        Some((name, _)) => load::attach_kprobe(&mut maps, hook, name, functions),
                        None => bail!("there is no kprobe for {hook}"),
                    },
                    (Way::Tracing { .. }, None) => bail!("there is no program for {hook}"),
                })
            });
            let outcome = outcome.map(|(way, links)| {
                attached.extend(links);
                way
            });
            require(hook, family, &outcome)?;
            hooks.push(HookReport { hook, outcome });
        }

        let rings = Rings::take(&mut maps, config.rings)?;
        let victims = rings::take(&mut maps, "VICTIMS")?;
        let cookie_is_address = config.cookie_is_address == 1;
        Ok(Self {
            table,
            rings,
            threshold,
            windows,
            asked,
            victims,
            family,
            cookie_is_address,
            hooks,
            attached,
            maps,
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
        self.hooks.iter().find(is_confirm).is_some_and(|report| report.state() == State::Unneeded)
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
    pub fn missed_at_most(&self) -> io::Result<Option<u64>> {
        let mut sum = Some(0);
        for copies in self.copies() {
            let misses = misses(copies)?;
            sum = sum.zip(misses).map(|(sum, misses)| sum + misses);
        }
        Ok(sum)
    }

    /// The programs, with the copies of one together.
    fn copies(&self) -> impl Iterator<Item = &[load::Attached]> {
        self.attached.chunk_by(|_, next| !next.is_last)
    }

    /// How each hook does; a system call a program.
    ///
    /// # Errors
    /// The kernel's.
    pub fn probes(&self) -> io::Result<Vec<Probe>> {
        let probe = |report: &HookReport| {
            let own = self.attached.iter().filter(|one| one.hook == report.hook);
            let mut runs = Run::default();
            for one in own {
                let one = one.runs()?;
                runs.count += one.count;
                runs.time_ns += one.time_ns;
            }
            let mut sum = Some(0);
            for copies in self.copies().filter(|copies| copies[0].hook == report.hook) {
                sum = sum.zip(misses(copies)?).map(|(sum, misses)| sum + misses);
            }
            Ok(Probe {
                hook: report.hook.name().into(),
                hits: None,
                misses: report.is_attached().then_some(sum).flatten(),
                runs: Some(runs).filter(|runs| runs.count > 0),
            })
        };
        self.hooks.iter().map(probe).collect()
    }

    /// Sets the hits of `probes` to what was counted in `totals`; costs no system call.
    pub fn set_hits(&self, probes: &mut [Probe], totals: &Totals) {
        for (probe, report) in probes.iter_mut().zip(&self.hooks) {
            probe.hits = report.is_attached().then(|| hits(report.hook, totals)).flatten();
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

    /// Allocations and frees in `slot` since attaching.
    #[must_use]
    pub fn balance(&self, slot: u32) -> Balance {
        self.table.balance(slot)
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
            windows.release(&mut self.maps, slot)?;
        }
        self.table.release(&mut self.maps, slot)
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
    pub fn drain(&mut self, limit: u64, take: impl FnMut(FlowEvent)) -> Drained {
        self.rings.drain(limit, monotonic_ns(), take)
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
            Err(error) => bail!("{error:#}"),
        }
    }

    /// Why live entries cannot be read again, and windows not be told; none where they can.
    #[must_use]
    pub fn not_asked(&self) -> Option<String> {
        self.asked.as_ref().err().map(|error| format!("{error:#}"))
    }

    /// Connects the programs' debug log with the crate `log`; the caller polls and flushes it.
    ///
    /// # Errors
    /// Those of aya-log.
    pub fn debug_log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>> {
        aya_log::EbpfLogger::init(&mut self.maps).context("cannot read the programs' debug log")
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
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Calls that none of `copies` saw, at most: a call is missed when all copies are skipped, so not more
/// often than any one of them is.
fn misses(copies: &[load::Attached]) -> io::Result<Option<u64>> {
    let mut least = None;
    for one in copies {
        let Some(misses) = one.misses()? else {
            return Ok(None);
        };
        least = Some(least.map_or(misses, |least: u64| least.min(misses)));
    }
    Ok(Some(least.unwrap_or(0)))
}

/// Calls of a hook's function that were counted; none where its programs count nothing themselves.
const fn hits(hook: Hook, totals: &Totals) -> Option<u64> {
    Some(match hook {
        Hook::Alloc => totals.allocs + totals.allocs_failed,
        Hook::Insert => totals.inserts_packet.sum(),
        Hook::HashInsert => totals.inserts_ctnetlink.sum(),
        Hook::Delete => totals.deletes.sum(),
        Hook::Free => totals.frees,
        Hook::Clash => totals.clashes,
        Hook::DeleteCause | Hook::EarlyDrop | Hook::Confirm | Hook::NetnsEnd => return None,
    })
}

/// An error where a hook is not attached that everything rests on.
fn require<T>(hook: Hook, family: Family, outcome: &Result<T, NotAttached>) -> Result<()> {
    match outcome {
        Err(error) if hook.is_required(family) => Err(anyhow::Error::new(error.clone())
            .context(format!("cannot attach to {}, which every count needs", hook.function()))),
        _ => Ok(()),
    }
}

/// Whether the kernel said no for want of permission.
#[must_use]
pub fn is_refused(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied)
            || cause.downcast_ref::<NeitherWay>().is_some_and(|error| error.is_refused)
            || cause.downcast_ref::<NotAttached>().is_some_and(|error| error.kind == Lack::Refused)
    })
}
