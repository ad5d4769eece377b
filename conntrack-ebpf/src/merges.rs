//! Packets that go on with another entry than the one they came with, known where `__nf_conntrack_confirm` ends.

use aya_ebpf::{
    bindings::BPF_ANY,
    macros::map,
    maps::{Array, LruHashMap},
};

use crate::lately;

/// The packet, by the stack on which `nf_ct_resolve_clash` has given it the entry that won. The loader sets the size.
#[map]
static MERGED: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1, 0);

/// Time of the last merge: see [`mod@lately`].
#[map]
static LAST_MERGE: Array<u64> = Array::with_max_entries(1, 0);

/// The packet `skb` was given another entry on `stack`.
#[inline(always)]
pub(crate) fn note(stack: u64, skb: u64) {
    lately::note(&LAST_MERGE);
    let _ = MERGED.insert(stack, skb, BPF_ANY.into());
}

/// Removes the note that the packet `skb` was given another entry on `stack`; reports whether there was one.
#[inline(always)]
pub(crate) fn take(stack: u64, skb: u64) -> bool {
    if !lately::is_lately(&LAST_MERGE) {
        return false;
    }
    // SAFETY: only this stack writes the value.
    let noted = unsafe { MERGED.get(stack) }.copied();
    if noted.is_some() {
        let _ = MERGED.remove(stack);
    }
    noted == Some(skb)
}
