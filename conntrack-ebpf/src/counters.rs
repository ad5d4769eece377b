//! The truth: per-CPU counters of each network namespace.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap, Queue},
};
use aya_log_ebpf::info;
use conntrack_ebpf::{Counters, MAX_NETNS, Netns, OVERFLOW_SLOT, SLOTS};

use crate::{
    config,
    kernel::{self, Ptr},
    percpu::{self, Cpu},
};

/// Slot after slot, in each slot one value a CPU. User space maps it, so that reading costs no
/// system call. The loader sets the size: [`SLOTS`] times the number of CPUs.
#[map]
static COUNTERS: Array<Counters> = Array::with_max_entries(SLOTS, BPF_F_MMAPABLE);

/// Which namespace each slot belongs to; mapped by user space.
#[map]
static NETNS: Array<Netns> = Array::with_max_entries(SLOTS, BPF_F_MMAPABLE);

/// Namespace cookie to slot.
#[map]
static SLOT_OF: HashMap<u64, u32> = HashMap::with_max_entries(MAX_NETNS, 0);

/// Slots that no namespace has; filled by the loader.
#[map]
static FREE_SLOTS: Queue<u32> = Queue::with_max_entries(MAX_NETNS, 0);

/// A namespace's counters on this CPU.
pub(crate) struct Handle {
    /// `net->net_cookie`
    pub(crate) cookie: u64,
    counters: *mut Counters,
}

/// Adds one to a counter of the calling program.
macro_rules! add {
    ($handle:expr, $($field:tt)+) => {{
        let counter = $crate::counters::Handle::counter(&$handle, |c| &raw mut c.$($field)+);
        // SAFETY: a field of a map value, written by this program only.
        unsafe { *counter += 1 }
    }};
}
pub(crate) use add;

impl Handle {
    /// The counter that `field` picks.
    #[inline(always)]
    pub(crate) fn counter(&self, field: impl FnOnce(&mut Counters) -> *mut u64) -> *mut u64 {
        // SAFETY: a map value, which lives as long as the map; the reference ends with the call.
        field(unsafe { &mut *self.counters })
    }
}

/// The namespace a program counted for last, as one word: cookie in the upper 48 bits, slot in the
/// lower 16. One aligned store, so it is never seen half written.
const SLOT_BITS: u32 = 16;

/// The counters of the namespace `net` on this CPU, for the program with the index `program`.
#[inline(always)]
pub(crate) fn of(net: Ptr, cpu: *mut Cpu, program: usize) -> Option<Handle> {
    let cookie = kernel::value::<u64>(net, config::net_cookie());
    // SAFETY: `cpu` is a map value.
    let last_netns = unsafe { &raw mut (*cpu).last_netns[program] };
    // SAFETY: as above.
    let last = unsafe { last_netns.read_volatile() };
    let slot = if last != 0 && last >> SLOT_BITS == cookie {
        last as u32 & ((1 << SLOT_BITS) - 1)
    } else {
        let slot = find_slot(net, cookie);
        if slot != OVERFLOW_SLOT && cookie >> (64 - SLOT_BITS) == 0 {
            // SAFETY: as above.
            unsafe { last_netns.write_volatile(cookie << SLOT_BITS | u64::from(slot)) };
        }
        slot
    };
    let counters = COUNTERS.get_ptr_mut(slot * config::cpus() + percpu::number())?;
    Some(Handle { cookie, counters })
}

/// The slot from the shared map; a namespace not seen before gets one.
#[inline(always)]
fn find_slot(net: Ptr, cookie: u64) -> u32 {
    // SAFETY: a slot number is written once, before its key can be found, and never changed.
    match unsafe { SLOT_OF.get(cookie) } {
        Some(slot) => *slot,
        None => add_netns(cookie, kernel::value(net, config::net_inode())),
    }
}

/// Gives the namespace a slot, or the overflow slot when none is left.
#[inline(always)]
fn add_netns(cookie: u64, inode: u32) -> u32 {
    let Ok(Some(slot)) = FREE_SLOTS.pop() else {
        return OVERFLOW_SLOT;
    };
    // Named before it can be found: whoever sees a count can see whose it is.
    let _ = NETNS.set(slot, Netns { cookie, inode, reserved: 0 }, 0);
    if SLOT_OF.insert(cookie, slot, BPF_NOEXIST.into()).is_ok() {
        return slot;
    }
    // Another CPU was first: its slot it is, and this one goes back.
    let _ = NETNS.set(slot, Netns::default(), 0);
    let _ = FREE_SLOTS.push(slot, 0);
    // SAFETY: as in `find_slot`.
    match unsafe { SLOT_OF.get(cookie) } {
        Some(slot) => *slot,
        None => OVERFLOW_SLOT,
    }
}

/// Writes a refused allocation to the debug log.
#[inline(always)]
pub(crate) fn log_refused(ctx: &impl EbpfContext, handle: &Handle) {
    if config::debug_log() == 1 {
        info!(ctx, "allocation refused in the netns with cookie {}", handle.cookie);
    }
}
