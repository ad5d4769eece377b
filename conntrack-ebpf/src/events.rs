//! The detail: one record an insert and one a destroy, through the ring buffer; and some of the tuples
//! that were refused or evicted, through another one, which a flood of the first does not fill.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::map,
    maps::RingBuf,
};
use conntrack_ebpf::{CAUSE_KERNEL, EVENT_REFUSED, EVERY_FLOW, FlowEvent};

use crate::{
    config,
    kernel::{self, Ptr, Read},
    percpu::Cpu,
};

/// The size is the loader's choice.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Victims of a full table: at most one a jiffy and CPU.
#[map]
static VICTIMS: RingBuf = RingBuf::with_byte_size(1 << 16, 0);

/// Sends the event `kind` of the entry `ct`. False: the ring was full and the event is lost.
#[inline(always)]
pub(crate) fn send<R: Read>(ct: Ptr, netns_cookie: u64, kind: u8, cause: u8) -> bool {
    let Some(mut entry) = EVENTS.reserve::<FlowEvent>(0) else {
        return false;
    };
    // SAFETY: reserved memory of the event's size.
    unsafe { write::<R>(entry.as_mut_ptr(), ct, netns_cookie, kind, cause) };
    // A wake-up a record would cost more than the record: the reader comes by itself on a timer, and
    // is called only when the ring fills up before that.
    let full = EVENTS.query(BPF_RB_AVAIL_DATA.into()) >= u64::from(config::ring_wakeup());
    let flags = if full { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    entry.submit(flags.into());
    true
}

/// Sends the entry `ct` as a victim of the kind `kind`, unless there was one in this jiffy.
#[inline(always)]
pub(crate) fn send_victim<R: Read>(cpu: *mut Cpu, ct: Ptr, netns_cookie: u64, kind: u8, cause: u8) {
    if !is_first_of_jiffy(cpu) {
        return;
    }
    if let Some(mut entry) = VICTIMS.reserve::<FlowEvent>(0) {
        // SAFETY: reserved memory of the event's size.
        unsafe { write::<R>(entry.as_mut_ptr(), ct, netns_cookie, kind, cause) };
        entry.submit(BPF_RB_NO_WAKEUP.into());
    }
}

/// Sends the tuples of an entry that there was no room for, unless there was a victim in this jiffy.
#[inline(always)]
pub(crate) fn send_refused<R: Read>(
    cpu: *mut Cpu,
    [original, reply]: [Ptr; 2],
    zone: u16,
    netns_cookie: u64,
) {
    if !is_first_of_jiffy(cpu) {
        return;
    }
    let Some(mut entry) = VICTIMS.reserve::<FlowEvent>(0) else {
        return;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: reserved memory of the event's size.
    unsafe {
        R::tuple(original, 0, &raw mut (*event).original);
        R::tuple(reply, 0, &raw mut (*event).reply);
        (&raw mut (*event).status).write(0);
        (&raw mut (*event).zone).write(zone);
        (&raw mut (*event).entry).write(0);
        write_rest(event, netns_cookie, EVENT_REFUSED, CAUSE_KERNEL);
    }
    entry.submit(BPF_RB_NO_WAKEUP.into());
}

#[inline(always)]
fn is_first_of_jiffy(cpu: *mut Cpu) -> bool {
    // SAFETY: the helper takes no argument; a map value, and nothing is lost if two writers meet.
    unsafe {
        let now = bpf_jiffies64();
        let last = &raw mut (*cpu).last_victim;
        let is_first = last.read_volatile() != now;
        last.write_volatile(now);
        is_first
    }
}

/// Writes the event of an entry. Reserved memory holds what was there before, so every field is
/// written.
///
/// # Safety
/// `event` is writable.
#[inline(always)]
unsafe fn write<R: Read>(event: *mut FlowEvent, ct: Ptr, netns_cookie: u64, kind: u8, cause: u8) {
    // SAFETY: by contract.
    unsafe {
        R::tuple(ct, config::nf_conn_original(), &raw mut (*event).original);
        R::tuple(ct, config::nf_conn_reply(), &raw mut (*event).reply);
        (&raw mut (*event).status).write(kernel::status::<R>(ct));
        (&raw mut (*event).zone).write(kernel::zone::<R>(ct));
        (&raw mut (*event).entry).write(ct as u64);
        write_rest(event, netns_cookie, kind, cause);
    }
}

/// Writes what does not come from an entry.
///
/// # Safety
/// As for [`write`].
#[inline(always)]
unsafe fn write_rest(event: *mut FlowEvent, netns_cookie: u64, kind: u8, cause: u8) {
    // SAFETY: by contract.
    unsafe {
        (&raw mut (*event).time_ns).write(bpf_ktime_get_ns());
        (&raw mut (*event).netns_cookie).write(netns_cookie);
        (&raw mut (*event).sample_hash).write(0);
        (&raw mut (*event).sample_threshold).write(EVERY_FLOW);
        (&raw mut (*event).kind).write(kind);
        (&raw mut (*event).cause).write(cause);
    }
}
