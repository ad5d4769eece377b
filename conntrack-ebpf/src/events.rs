//! The detail: one record an insert and one a destroy, through the ring buffer.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_ktime_get_ns,
    macros::map,
    maps::RingBuf,
};
use conntrack_ebpf::FlowEvent;

use crate::{
    config,
    kernel::{self, Ptr},
};

/// The size is the loader's choice.
#[map]
static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Sends the event `kind` of the entry `ct`. False: the ring was full and the event is lost.
#[inline(always)]
pub(crate) fn send(ct: Ptr, netns_cookie: u64, kind: u8) -> bool {
    let Some(mut entry) = EVENTS.reserve::<FlowEvent>(0) else {
        return false;
    };
    let event = entry.as_mut_ptr();
    // SAFETY: reserved memory of the event's size. It holds what was there before, so every field
    // is written.
    unsafe {
        (&raw mut (*event).time_ns).write(bpf_ktime_get_ns());
        (&raw mut (*event).netns_cookie).write(netns_cookie);
        kernel::tuple(ct, config::nf_conn_original(), &raw mut (*event).original);
        kernel::tuple(ct, config::nf_conn_reply(), &raw mut (*event).reply);
        (&raw mut (*event).status).write(kernel::status(ct));
        (&raw mut (*event).sample_threshold).write(u32::MAX);
        (&raw mut (*event).zone).write(kernel::zone(ct));
        (&raw mut (*event).kind).write(kind);
        (&raw mut (*event).reserved).write([0; 5]);
    }
    // A wake-up a record would cost more than the record: the reader comes by itself on a timer, and
    // is called only when the ring fills up before that.
    let full = EVENTS.query(BPF_RB_AVAIL_DATA.into()) >= u64::from(config::ring_wakeup());
    let flags = if full { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    entry.submit(flags.into());
    true
}
