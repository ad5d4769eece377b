//! The truth: per-CPU counters of each network namespace.

use aya_ebpf::{EbpfContext, bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use aya_log_ebpf::info;
use conntrack_ebpf::Counters;

use crate::{
    config,
    kernel::{Ptr, Read},
    netns,
    percpu::Cpu,
};

/// Blocks of counters: see `netns`. User space maps it, so that reading costs no system call. The
/// loader sets the size.
#[map]
static BLOCKS: Array<Counters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// A namespace's counters on this CPU.
pub(crate) struct Handle {
    /// See `netns::cookie`.
    pub(crate) cookie: u64,
    pub(crate) slot: u32,
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

/// Adds one to a counter that several programs write.
macro_rules! add_atomic {
    ($handle:expr, $($field:tt)+) => {
        $crate::counters::increment($crate::counters::Handle::counter(&$handle, |c| {
            &raw mut c.$($field)+
        }))
    };
}
pub(crate) use add_atomic;

/// Adds one to a counter that the copies of a program share, where it has some.
macro_rules! add_shared {
    ($handle:expr, $($field:tt)+) => {
        if $crate::config::is_shared() == 0 {
            $crate::counters::add!($handle, $($field)+)
        } else {
            $crate::counters::add_atomic!($handle, $($field)+)
        }
    };
}
pub(crate) use add_shared;

/// `lock *(u64 *)counter += 1`, which every kernel has; the language offers no atomic addition on
/// this target.
#[inline(always)]
pub(crate) fn increment(counter: *mut u64) {
    // SAFETY: callers pass a field of a map value; it is aligned.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({counter} + 0) += {one}",
            counter = in(reg) counter,
            one = in(reg) 1u64,
        );
    }
}

impl Handle {
    /// The counter that `field` picks.
    #[inline(always)]
    pub(crate) fn counter(&self, field: impl FnOnce(&mut Counters) -> *mut u64) -> *mut u64 {
        // SAFETY: a map value, which lives as long as the map; the reference ends with the call.
        field(unsafe { &mut *self.counters })
    }
}

/// The counters of the namespace `net` on this CPU, for the program with the index `program`.
#[inline(always)]
pub(crate) fn of<R: Read>(net: Ptr, cpu: *mut Cpu, program: usize) -> Option<Handle> {
    let cookie = netns::cookie::<R>(net);
    let (slot, block) = netns::block::<R>(net, cookie, cpu, program)?;
    Some(Handle { cookie, slot, counters: BLOCKS.get_ptr_mut(block)? })
}

/// Writes a refused allocation to the debug log.
#[inline(always)]
pub(crate) fn log_refused(ctx: &impl EbpfContext, handle: &Handle) {
    if config::debug_log() == 1 {
        // The reader sees the target: it does not say how modules lie within each other.
        info!(
            ctx,
            target: "ctmon_ebpf::counters",
            "allocation refused in the netns with cookie {}",
            handle.cookie
        );
    }
}
