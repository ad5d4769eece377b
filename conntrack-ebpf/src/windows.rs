//! Inserts and deletes by windows of a few jiffies, so that bursts within a tick are seen.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_jiffies64,
    macros::map,
    maps::{Array, Queue},
};
use conntrack_ebpf::{NetnsWindows, SLOTS, WINDOWS, Windows};

use crate::{config, percpu};

/// The place of each slot's windows in [`WINDOWS_OF`], counted from 1; 0: it has none. Mapped by user
/// space, which gives them to those that need them.
#[map]
static WINDOW_SLOT: Array<u32> = Array::with_max_entries(SLOTS, BPF_F_MMAPABLE);

/// Places that no slot has; filled by the loader.
#[map]
static FREE_WINDOWS: Queue<u32> = Queue::with_max_entries(1, 0);

/// Windows by place, copy of the program and CPU; mapped by user space. The loader sets the size.
#[map]
static WINDOWS_OF: Array<NetnsWindows> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// A namespace's first count: it gets a place as long as there is one.
#[inline(always)]
pub(crate) fn begin(slot: u32) {
    if config::window_jiffies() == 0 {
        return;
    }
    if let Ok(Some(place)) = FREE_WINDOWS.pop() {
        let _ = WINDOW_SLOT.set(slot, place, 0);
    }
}

/// Counts an insert by a packet in `slot`, seen by the copy `copy`.
#[inline(always)]
pub(crate) fn note_insert(slot: u32, copy: usize) {
    if let Some(windows) = of(slot, copy) {
        // SAFETY: a map value; the fields of the program that inserts.
        unsafe { note(&raw mut (*windows).inserts) };
    }
}

/// Counts a delete in `slot`, seen by the copy `copy`.
#[inline(always)]
pub(crate) fn note_delete(slot: u32, copy: usize) {
    if let Some(windows) = of(slot, copy) {
        // SAFETY: a map value; the fields of the program that deletes.
        unsafe { note(&raw mut (*windows).deletes) };
    }
}

#[inline(always)]
fn of(slot: u32, copy: usize) -> Option<*mut NetnsWindows> {
    if config::window_jiffies() == 0 {
        return None;
    }
    // SAFETY: a map value; one aligned load.
    let place = unsafe { WINDOW_SLOT.get_ptr(slot)?.read_volatile() };
    if place == 0 {
        return None;
    }
    let copies = (place - 1) * config::window_copies() + copy as u32;
    WINDOWS_OF.get_ptr_mut(copies * config::cpus() + percpu::number())
}

/// Adds one to the window that is now.
///
/// # Safety
/// `windows` is writable, and the calling copy of a program alone writes it.
#[inline(always)]
unsafe fn note(windows: *mut Windows) {
    let length = u64::from(config::window_jiffies());
    // SAFETY: by contract; the helper takes no argument. A bucket is written by one store, because user
    // space reads it meanwhile.
    unsafe {
        let now = bpf_jiffies64();
        let mut number = (*windows).number;
        // A division costs more than all the rest.
        if now.wrapping_sub((*windows).start) >= length {
            let count = now / length;
            number = count as u32;
            (*windows).start = count * length;
            (*windows).number = number;
        }
        let bucket = &raw mut (*windows).buckets[number as usize % WINDOWS];
        let before = bucket.read_volatile();
        let this = u64::from(number) << 32;
        let count = if before & !u64::from(u32::MAX) == this { before + 1 } else { this + 1 };
        bucket.write_volatile(count);
    }
}
