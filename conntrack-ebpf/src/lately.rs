//! Times of rare events: while the last one is long ago, a test for it costs one load and a comparison.

use aya_ebpf::{helpers::bpf_jiffies64, maps::Array};

/// Jiffies after which a call that was noted has returned; 10 s at the highest HZ.
const LONGEST: u64 = 10_000;

/// `jiffies_64`
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper takes no argument.
    unsafe { bpf_jiffies64() }
}

/// Writes the time into the only element of `last`, in jiffies.
#[inline(always)]
pub(crate) fn note(last: &Array<u64>) {
    if let Some(last) = last.get_ptr_mut(0) {
        // SAFETY: a map value; one aligned store.
        unsafe { last.write_volatile(now()) };
    }
}

/// Reports whether the time in `last` is at most [`LONGEST`] ago.
#[inline(always)]
pub(crate) fn is_lately(last: &Array<u64>) -> bool {
    match last.get(0) {
        Some(last) => *last != 0 && now().wrapping_sub(*last) < LONGEST,
        None => false,
    }
}
