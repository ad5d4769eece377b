//! Knowing inside `__nf_ct_delete_from_lists` that `early_drop` is what called it.

use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::bpf_jiffies64,
    macros::map,
    maps::{Array, LruHashMap},
};

/// The stacks on which `early_drop` runs: a call it makes runs on the same one. At most as many as
/// there are CPUs, and tasks that were pre-empted in it.
#[map]
static EVICTING: LruHashMap<u64, u8> = LruHashMap::with_max_entries(4096, 0);

/// When `early_drop` was last entered, in jiffies. As long as no table is full, a delete costs one
/// look at it.
#[map]
static LAST_EVICTING: Array<u64> = Array::with_max_entries(1, 0);

/// Jiffies after which no call of `early_drop` can still be going on; 10 s at the highest HZ.
const LONGEST: u64 = 10_000;

#[inline(always)]
fn now() -> u64 {
    // SAFETY: the helper takes no argument.
    unsafe { bpf_jiffies64() }
}

/// `early_drop` begins on `stack`.
#[inline(always)]
pub(crate) fn begin(stack: u64) {
    if let Some(last) = LAST_EVICTING.get_ptr_mut(0) {
        // SAFETY: a map value; one aligned store.
        unsafe { last.write_volatile(now()) };
    }
    let _ = EVICTING.insert(stack, 0, BPF_ANY.into());
}

/// `early_drop` has ended on `stack`.
#[inline(always)]
pub(crate) fn end(stack: u64) {
    let _ = EVICTING.remove(stack);
}

/// Whether any table was full lately.
#[inline(always)]
pub(crate) fn lately() -> bool {
    match LAST_EVICTING.get(0) {
        Some(last) => *last != 0 && now().wrapping_sub(*last) < LONGEST,
        None => false,
    }
}

/// Whether `early_drop` is running on `stack`.
#[inline(always)]
pub(crate) fn on(stack: u64) -> bool {
    // SAFETY: only whether there is a value counts.
    unsafe { EVICTING.get(stack) }.is_some()
}

/// `nf_ct_is_expired(ct)` for an entry's `timeout`: not in the future, in the lower 32 bits of
/// jiffies.
#[inline(always)]
pub(crate) fn is_expired(timeout: u32) -> bool {
    (timeout.wrapping_sub(now() as u32) as i32) <= 0
}
