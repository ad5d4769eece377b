//! Why an entry is deleted, known inside `__nf_ct_delete_from_lists`.
//!
//! What called it is noted on the way there, by the stack that it runs on: a call made by a function
//! runs on the same one.

use aya_ebpf::{
    bindings::BPF_ANY,
    macros::map,
    maps::{Array, LruHashMap},
};
use conntrack_ebpf::{CAUSE_EARLY_DROP, CAUSE_KERNEL, CAUSE_NETNS_EXIT, CAUSE_USER, IPS_ASSURED};

use crate::{
    config,
    kernel::{Ptr, Read},
    lately,
};

/// Stacks on which `early_drop` runs, with 1 where it has evicted something. At most as many as there
/// are CPUs, and tasks that were pre-empted in it; with kprobes, which do not see its end, also those on
/// which it ran lately. The loader sets the size, as that of the next.
#[map]
static EVICTING: LruHashMap<u64, u8> = LruHashMap::with_max_entries(1, 0);

/// Deletes that were announced on a stack.
#[map]
static ANNOUNCED: LruHashMap<u64, Announced> = LruHashMap::with_max_entries(1, 0);

/// `nf_ct_delete` was called for `ct` because of `cause`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Announced {
    ct: u64,
    cause: u64,
}

/// Time of the last write into either map: see [`mod@lately`].
#[map]
static LAST: Array<u64> = Array::with_max_entries(1, 0);

/// Whether something was noted lately.
#[inline(always)]
pub(crate) fn lately() -> bool {
    lately::is_lately(&LAST)
}

/// `early_drop` begins on `stack`.
#[inline(always)]
pub(crate) fn begin_early_drop(stack: u64) {
    lately::note(&LAST);
    let _ = EVICTING.insert(stack, 0, BPF_ANY.into());
}

/// `early_drop` has ended on `stack`.
#[inline(always)]
pub(crate) fn end_early_drop(stack: u64) {
    let _ = EVICTING.remove(stack);
}

/// On `stack`, `early_drop` evicts an entry. Whether it is the first one.
#[inline(always)]
pub(crate) fn is_first_eviction(stack: u64) -> bool {
    let Some(evicted) = EVICTING.get_ptr_mut(stack) else {
        return false;
    };
    // SAFETY: a map value that this stack alone writes.
    unsafe {
        let before = evicted.read_volatile();
        evicted.write_volatile(1);
        before == 0
    }
}

/// `nf_ct_delete` is called on `stack` for the entry at `ct`, because of `cause`.
#[inline(always)]
pub(crate) fn announce(stack: u64, ct: u64, cause: u8) {
    if cause != CAUSE_KERNEL {
        lately::note(&LAST);
        let announced = Announced { ct, cause: cause.into() };
        let _ = ANNOUNCED.insert(stack, announced, BPF_ANY.into());
    } else if lately() {
        // One that was announced and not carried out: somebody else was first.
        let _ = ANNOUNCED.remove(stack);
    }
}

/// Why `ct`, of the namespace `net`, is taken out of the hash on `stack`.
#[inline(always)]
pub(crate) fn of<R: Read>(stack: u64, ct: u64, net: Ptr, status: u32, timeout: u32) -> u8 {
    let mut cause = if lately() { noted(stack, ct) } else { CAUSE_KERNEL };
    // On its way `early_drop` also reaps entries that have expired (`nf_ct_gc_expired`); what it evicts
    // is neither expired nor assured.
    if cause == CAUSE_EARLY_DROP && (status & IPS_ASSURED != 0 || is_expired(timeout)) {
        cause = CAUSE_KERNEL;
    }
    if cause == CAUSE_USER || cause == CAUSE_EARLY_DROP {
        return cause;
    }
    if R::value::<u32>(net, config::net_references()) == 0 { CAUSE_NETNS_EXIT } else { cause }
}

/// What was noted on `stack` of the delete of `ct`.
#[inline(always)]
fn noted(stack: u64, ct: u64) -> u8 {
    // SAFETY: only this stack writes the value.
    if let Some(announced) = unsafe { ANNOUNCED.get(stack) }.copied() {
        let _ = ANNOUNCED.remove(stack);
        if announced.ct == ct {
            return announced.cause as u8;
        }
    }
    // With kprobes, evictions are announced.
    // SAFETY: only whether there is a value counts.
    if config::early_drop() == 0 && unsafe { EVICTING.get(stack) }.is_some() {
        return CAUSE_EARLY_DROP;
    }
    CAUSE_KERNEL
}

/// `nf_ct_is_expired(ct)` for an entry's `timeout`: not in the future, in the lower 32 bits of
/// jiffies.
#[inline(always)]
fn is_expired(timeout: u32) -> bool {
    (timeout.wrapping_sub(lately::now() as u32) as i32) <= 0
}
