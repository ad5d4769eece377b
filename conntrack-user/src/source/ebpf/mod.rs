//! Counts from programs inside the kernel.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use conntrack_ebpf::{Netns, OVERFLOW_SLOT};

pub mod bpf;
pub mod btf;
pub mod flow;
pub mod layout;
mod load;
pub mod plan;
mod table;

use super::limits;
use crate::model::counts::{Balance, Totals};
use btf::Btf;
use flow::FlowEvent;
use plan::{Hook, HookReport, NotAttached};
use table::Table;

/// The module, where conntrack is one.
const MODULE: &str = "nf_conntrack";

/// Size of the ring buffer unless asked otherwise: a good second of events at 15,000 flows/s.
pub const DEFAULT_RING_BYTES: u32 = 4 << 20;

/// What to attach and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where sysfs is mounted.
    pub sysfs: PathBuf,
    /// Bytes of the ring buffer: a power of two and at least a page.
    pub ring_bytes: u32,
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
            sysfs: "/sys".into(),
            ring_bytes: DEFAULT_RING_BYTES,
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
}

/// The programs, attached, and what they count.
pub struct EbpfSource {
    table: Table,
    ring: RingBuf<MapData>,
    hooks: Vec<HookReport>,
    attached: Vec<load::Attached>,
    /// Keeps the maps.
    maps: Ebpf,
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
        // Before 5.11 maps count as locked memory.
        limits::raise(libc::RLIMIT_MEMLOCK);
        let (vmlinux, module) = read_btf(&options.sysfs)?;
        let mut ways = Vec::new();
        for hook in Hook::ALL {
            let found = plan::ways(hook, &vmlinux, module.as_deref()).map_err(NotAttached::from);
            require(hook, &found)?;
            ways.push((hook, found));
        }
        let types = module.as_ref().unwrap_or(&vmlinux);
        let mut config = layout::resolve(types)
            .context("cannot tell where this kernel keeps its connection tracking data")?;
        config.cpus = possible_cpus(&options.sysfs)?;
        config.events = options.events.into();
        config.ring_wakeup = options.ring_bytes / 2;
        config.debug_log = options.debug_log.into();
        config.fault_skip_frees = options.fault.skip_frees;

        let mut maps = load::create_maps(&config, options.ring_bytes)?;
        let programs = load::Programs::prepare(&maps, module.as_ref().map(|_| MODULE))?;
        let mut hooks = Vec::new();
        let mut attached = Vec::new();
        for (hook, ways) in ways {
            let without = options.fault.without.contains(&hook);
            let outcome = ways.and_then(|ways| {
                plan::first_that_attaches(&ways, |way| {
                    programs.attach(if without { &[] } else { hook.programs() }, way)
                })
            });
            let outcome = outcome.map(|(way, links)| {
                attached.extend(links);
                way
            });
            require(hook, &outcome)?;
            hooks.push(HookReport { hook, outcome });
        }

        let map = |name| maps.map(name).with_context(|| format!("the object has no map {name}"));
        let counters = load::map_data(map("COUNTERS")?)?;
        let netns = load::map_data(map("NETNS")?)?;
        let table = Table::map(counters, netns, config.cpus).context("cannot map the counters")?;
        let ring = maps.take_map("EVENTS").context("the object has no map EVENTS")?;
        let ring = RingBuf::try_from(ring).context("cannot map the ring buffer")?;
        Ok(Self { table, ring, hooks, attached, maps })
    }

    /// How each hook is attached, or why it is not.
    #[must_use]
    pub fn hooks(&self) -> &[HookReport] {
        &self.hooks
    }

    /// At most so many calls were not counted, because every copy of a program was running already
    /// on that CPU: 0 means that every count is exact.
    ///
    /// # Errors
    /// The kernel's.
    pub fn missed_at_most(&self) -> io::Result<u64> {
        // A call is missed when all copies are skipped: not more often than any one of them is.
        let copies = self.attached.chunk_by(|_, next| !next.is_last);
        let misses = |one: &load::Attached| bpf::recursion_misses(&one.program);
        copies
            .map(|copies| copies.iter().map(misses).try_fold(u64::MAX, |a, b| Ok(a.min(b?))))
            .sum()
    }

    /// The namespaces that something was counted in, with their slots.
    pub fn netns(&self) -> impl Iterator<Item = (u32, Netns)> {
        self.table.netns()
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

    /// Hands at most `limit` waiting events to `take`. Fewer were there if fewer were received.
    pub fn drain(&mut self, limit: u64, mut take: impl FnMut(FlowEvent)) -> Drained {
        let mut drained = Drained::default();
        while drained.received < limit {
            let Some(record) = self.ring.next() else {
                break;
            };
            drained.received += 1;
            match FlowEvent::decode(&record) {
                Ok(event) => take(event),
                Err(_) => drained.malformed += 1,
            }
        }
        drained
    }

    /// Connects the programs' debug log with the crate `log`; the caller polls and flushes it.
    ///
    /// # Errors
    /// Those of aya-log.
    pub fn debug_log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>> {
        aya_log::EbpfLogger::init(&mut self.maps).context("cannot read the programs' debug log")
    }
}

/// Readable when the ring fills up faster than a timer empties it.
impl AsFd for EbpfSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring keeps its map's descriptor open as long as it lives.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

/// An error where a hook is not attached that everything rests on.
fn require<T>(hook: Hook, outcome: &Result<T, NotAttached>) -> Result<()> {
    match outcome {
        Err(error) if hook.is_required() => Err(anyhow::Error::new(error.clone())
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
            || cause.downcast_ref::<NotAttached>().is_some_and(|error| error.is_refused)
    })
}

/// The BTF of the kernel, and of the module where conntrack is one.
fn read_btf(sysfs: &Path) -> Result<(Arc<Btf>, Option<Arc<Btf>>)> {
    let folder = sysfs.join("kernel/btf");
    let path = folder.join("vmlinux");
    let why = "it says where this kernel keeps its data";
    let bytes = std::fs::read(&path).with_context(|| {
        format!("cannot read {}: {why} (a kernel built with CONFIG_DEBUG_INFO_BTF)", path.display())
    })?;
    let vmlinux =
        Btf::parse(bytes).with_context(|| format!("{} is of no use: {why}", path.display()))?;
    let vmlinux = Arc::new(vmlinux);

    let path = folder.join(MODULE);
    let module = match std::fs::read(&path) {
        // Built in, or a kernel without BTF of modules; what is missing shows at the hooks.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        bytes => {
            let bytes = bytes.with_context(|| format!("cannot read {}", path.display()))?;
            let module = Btf::parse_split(bytes, Arc::clone(&vmlinux))
                .with_context(|| format!("{} is of no use: {why}", path.display()))?;
            Some(Arc::new(module))
        }
    };
    Ok((vmlinux, module))
}

/// One more than the highest number of a CPU that can ever be there: `nr_cpu_ids`.
fn possible_cpus(sysfs: &Path) -> Result<u32> {
    let path = sysfs.join("devices/system/cpu/possible");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}: it sizes the counters", path.display()))?;
    last_cpu(&text)
        .map(|last| last + 1)
        .with_context(|| format!("{} is not a list of CPUs: {text:?}", path.display()))
}

/// The highest number in a list such as `0-3,8`.
fn last_cpu(list: &str) -> Option<u32> {
    list.trim().rsplit([',', '-']).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cpu_of_a_list() {
        for (list, last) in [("0\n", Some(0)), ("0-3", Some(3)), ("0,2-5,9", Some(9)), ("", None)] {
            assert_eq!(last_cpu(list), last, "{list:?}");
        }
    }
}
