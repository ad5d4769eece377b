//! Programs that user space runs itself (`BPF_PROG_TEST_RUN`): what only the kernel can tell.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use conntrack_ebpf::{ABSENT, Clock, IPS_DYING, REREADS, Reread};

use crate::{
    config,
    kernel::{self, Probed, Ptr, Read as _},
    netns,
};

/// Mapped by user space.
#[map]
static CLOCK: Array<Clock> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Mapped by user space.
#[map]
static REREAD: Array<Reread> = Array::with_max_entries(REREADS, BPF_F_MMAPABLE);

/// Reads the clocks.
#[raw_tracepoint]
fn ctmon_clock(_ctx: RawTracePointContext) -> i32 {
    if let Some(clock) = CLOCK.get_ptr_mut(0) {
        // SAFETY: a map value; the helpers take no argument.
        unsafe {
            clock.write_volatile(Clock {
                jiffies: bpf_jiffies64(),
                monotonic_ns: bpf_ktime_get_ns(),
            })
        };
    }
    0
}

/// Reads live entries again. Their memory may be another entry's by now, or none's: then the hash of what
/// lies there is another one.
#[raw_tracepoint]
fn ctmon_reread(_ctx: RawTracePointContext) -> i32 {
    // SAFETY: the helper takes no argument.
    let now = unsafe { bpf_jiffies64() } as u32;
    let mut index = 0;
    while index < REREADS {
        let Some(reread) = REREAD.get_ptr_mut(index) else {
            break;
        };
        // SAFETY: a map value. User space may write to it during the call: it is read once, and written once.
        let asked = unsafe { reread.read_volatile() };
        if asked.entry == 0 {
            break;
        }
        // SAFETY: as above.
        unsafe { reread.write_volatile(read(&asked, now)) };
        index += 1;
    }
    0
}

/// What is asked for, with what was found. User space, which has no right to the kernel's memory, chooses the address:
/// of what is not the entry that it says, it learns nothing.
#[inline(always)]
fn read(asked: &Reread, now: u32) -> Reread {
    let Reread { entry, netns_cookie, hash, .. } = *asked;
    let none = Reread { entry, netns_cookie, hash, ..Reread::default() };
    let ct = entry as Ptr;
    let cookie = netns::cookie::<Probed>(kernel::net::<Probed>(ct));
    let status = kernel::status::<Probed>(ct);
    // Not yet confirmed is live, too: that comes a moment after the event of the insert, which is as long as a
    // virtual CPU stands still.
    let is_live = status & IPS_DYING == 0;
    if !is_live || cookie != netns_cookie || kernel::hash::<Probed>(ct, entry, cookie) != hash {
        return none;
    }
    let tcp_state = match config::nf_conn_tcp_state() {
        ABSENT => 0,
        offset => Probed::value(ct, offset),
    };
    let timeout: u32 = Probed::value(ct, config::nf_conn_timeout());
    Reread { found: 1, status, tcp_state, expires: timeout.wrapping_sub(now) as i32, ..none }
}
