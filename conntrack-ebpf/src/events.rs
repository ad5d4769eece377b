//! The detail: one record an insert and one a destroy of each entry in the sample, through ring buffers;
//! and some of the tuples that were refused or evicted, through another one, which a flood of the first
//! does not fill.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::map,
    maps::{Array, RingBuf, ring_buf::RingBufEntry},
};
use conntrack_ebpf::{
    CAUSE_KERNEL, EVENT_TABLE_FULL_DROP, EVERY_FLOW, FlowEvent, RINGS, is_sampled,
};

use crate::{
    config,
    kernel::{self, Ptr, Read},
    percpu::Cpu,
};

/// Declares the rings and what picks one of them. Their size is the loader's choice.
macro_rules! rings {
    ($($name:ident $index:literal)*) => {
        $(
            #[map]
            static $name: RingBuf = RingBuf::with_byte_size(4096, 0);
        )*

        /// The ring of the CPU `number`. One ring for all would be what many CPUs wait for: its producers
        /// take turns under a lock.
        #[inline(always)]
        fn ring(number: u32) -> &'static RingBuf {
            let index = number & (config::rings() - 1);
            $(
                // Without the fence the compiler makes a table of the rings' addresses, which would have to
                // be relocated.
                core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
                if index == $index && $index < RINGS as u32 {
                    return &$name;
                }
            )*
            &EVENTS
        }
    };
}

rings!(EVENTS 0 EVENTS_1 1 EVENTS_2 2 EVENTS_3 3 EVENTS_4 4 EVENTS_5 5 EVENTS_6 6 EVENTS_7 7);

const _: () = assert!(RINGS == 8, "the rings above");

/// Entries whose hash is below it are in the sample; set by user space at any time.
#[map]
static THRESHOLD: Array<u32> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Victims of a full table: at most one a jiffy and CPU.
#[map]
static VICTIMS: RingBuf = RingBuf::with_byte_size(1 << 16, 0);

/// What became of an event.
pub(crate) enum Outcome {
    /// It is in the ring.
    Sent,
    /// Its entry is not in the sample.
    SampledOut,
    /// The ring was full.
    Lost,
}

/// Sends the event `kind` of the entry `ct`, if that is in the sample. `entry`: the address of `ct` as a
/// number; `number`: this CPU's.
#[inline(always)]
pub(crate) fn send<R: Read>(
    ct: Ptr,
    entry: u64,
    netns_cookie: u64,
    number: u32,
    kind: u8,
    cause: u8,
) -> Outcome {
    let hash = kernel::hash::<R>(ct, entry, netns_cookie);
    let threshold = threshold();
    if !is_sampled(hash, threshold) {
        return Outcome::SampledOut;
    }
    let ring = ring(number);
    let Some(mut record) = ring.reserve::<FlowEvent>(0) else {
        return Outcome::Lost;
    };
    let event = record.as_mut_ptr();
    // SAFETY: reserved memory of the event's size.
    unsafe {
        write::<R>(event, ct, netns_cookie, kind, cause);
        (&raw mut (*event).sample_hash).write(hash);
        (&raw mut (*event).sample_threshold).write(threshold);
    }
    submit(ring, record);
    Outcome::Sent
}

#[inline(always)]
fn threshold() -> u32 {
    match THRESHOLD.get_ptr(0) {
        // SAFETY: a map value; one aligned load.
        Some(threshold) => unsafe { threshold.read_volatile() },
        None => EVERY_FLOW,
    }
}

/// A wake-up a record would cost more than the record: the reader comes by itself on a timer, and is called
/// only when the ring fills up before that.
#[inline(always)]
fn submit(ring: &RingBuf, record: RingBufEntry<FlowEvent>) {
    let full = ring.query(BPF_RB_AVAIL_DATA.into()) >= u64::from(config::ring_wakeup());
    let flags = if full { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    record.submit(flags.into());
}

/// Sends the entry `ct` as a victim of the kind `kind`, unless there was one in this jiffy.
#[inline(always)]
pub(crate) fn send_victim<R: Read>(cpu: *mut Cpu, ct: Ptr, netns_cookie: u64, kind: u8, cause: u8) {
    if config::victims() == 0 || !is_first_of_jiffy(cpu) {
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
    if config::victims() == 0 || !is_first_of_jiffy(cpu) {
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
        write_rest(event, netns_cookie, EVENT_TABLE_FULL_DROP, CAUSE_KERNEL);
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
/// The contract of [`write()`].
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
