//! What programs keep on a CPU between two runs.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE, helpers::bpf_get_smp_processor_id, macros::map, maps::Array,
};
use conntrack_ebpf::{Activity, COPIES};

use crate::kernel::Ptr;

/// Programs that keep something, each copy for itself: on one CPU a program never runs inside
/// itself, so what only it writes needs no atomic operation.
#[derive(Clone, Copy)]
pub(crate) enum Program {
    Insert = 0,
    Delete = 1,
    Cause = 2,
    Clash = 3,
    Confirm = 4,
    Alloc = 5,
    Free = 5 + COPIES as isize,
    HashInsert = 5 + 2 * COPIES as isize,
    DropIn = 5 + 3 * COPIES as isize,
    Drop = 5 + 4 * COPIES as isize,
    Init = 5 + 5 * COPIES as isize,
    AllocCaller = 5 + 6 * COPIES as isize,
    ConfirmInsert = 5 + 7 * COPIES as isize,
    DeleteCaller = 5 + 8 * COPIES as isize,
}

const PROGRAMS: usize = 5 + 9 * COPIES;

/// Hooks whose program has copies: see `once`.
#[derive(Clone, Copy)]
pub(crate) enum Hook {
    Alloc = 0,
    Free = 1,
    HashInsert = 2,
    Drop = 3,
    Init = 4,
    AllocCaller = 5,
    ConfirmInsert = 6,
    DeleteCaller = 7,
}

const HOOKS: usize = 8;

/// Notes a hook can have at once on one CPU: one a stack, in the place given by the stack's number.
pub(crate) const NOTES: usize = 256;

/// The namespace a program counted for last.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Last {
    /// See `netns::cookie`.
    pub(crate) cookie: u64,
    pub(crate) slot: u32,
    pub(crate) block: u32,
    /// How many namespaces had ended, where that matters.
    pub(crate) ended: u32,
    pub(crate) reserved: u32,
}

/// What the programs keep on one CPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    /// First, where user space looks for it.
    pub(crate) activity: Activity,
    pub(crate) last: [Last; PROGRAMS],
    /// When a tuple was last sent as that of a victim, in jiffies: see `events`.
    pub(crate) last_victim: u64,
    /// Where a program turns a pointer into a number.
    scratch: [u64; PROGRAMS],
    /// Calls that a copy has dealt with, by hook and stack: see `once`.
    pub(crate) notes: [[u64; NOTES]; HOOKS],
}

/// One value a CPU. An array and not a per-CPU array, because `once` looks into those of others, and
/// because the verifier turns its look-up into a few instructions on every kernel. The loader sets
/// the size. Mapped by user space, for the activity.
#[map]
static CPUS: Array<Cpu> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The number of this CPU.
#[inline(always)]
pub(crate) fn number() -> u32 {
    // SAFETY: the helper takes no argument.
    unsafe { bpf_get_smp_processor_id() }
}

/// What is kept on the CPU `number`.
#[inline(always)]
pub(crate) fn of(number: u32) -> Option<*mut Cpu> {
    CPUS.get_ptr_mut(number)
}

/// The address `pointer` as a number.
///
/// The verifier forbids arithmetic on some pointers, such as that to a program's context, and forgets
/// that a number read from a map was one.
#[inline(always)]
pub(crate) fn address(cpu: *mut Cpu, program: usize, pointer: Ptr) -> u64 {
    // SAFETY: `cpu` is a map value; volatile, so that the number is really read back.
    unsafe {
        let scratch = &raw mut (*cpu).scratch[program];
        ptr::write_volatile(scratch, pointer as u64);
        ptr::read_volatile(scratch)
    }
}

/// `number`, of which the compiler knows nothing.
#[inline(always)]
pub(crate) fn opaque(mut number: u64) -> u64 {
    // SAFETY: a move to itself. No instruction at all would leave two source lines at one address, which
    // the kernel refuses.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack)) };
    number
}

/// The number of the stack that `address` is on. Stacks are `THREAD_SIZE` apart, 16 KiB on x86-64 and
/// arm64; a soft interrupt has one of its own.
#[inline(always)]
pub(crate) const fn stack(address: u64) -> u64 {
    address >> 14
}
