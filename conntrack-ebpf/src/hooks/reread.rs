//! Programs that user space runs itself (`BPF_PROG_TEST_RUN`): what only the kernel can tell.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::{map, raw_tracepoint},
    maps::Array,
    programs::RawTracePointContext,
};
use conntrack_ebpf::{
    ABSENT, Clock, IPS_CONFIRMED, IPS_DYING, Misses, REREADS_A_CALL, Reread, reread,
};

use crate::{
    config,
    kernel::{self, Probed, Ptr, Read as _},
    netns,
};

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

/// Mapped by user space.
#[map]
static CLOCK: Array<Clock> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Mapped by user space.
#[map]
static REREAD: Array<Reread> = Array::with_max_entries(REREADS_A_CALL, BPF_F_MMAPABLE);

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

/// Number of places that held no entry, in a map that user space cannot reset.
#[map]
static REREAD_MISSES: Array<Misses> = Array::with_max_entries(1, 0);

/// Reads live entries again. Their memory may be another entry's by now, or none's: then the hash of what
/// lies there is another one.
#[raw_tracepoint]
fn ctmon_reread(_ctx: RawTracePointContext) -> i32 {
    let Some(misses) = REREAD_MISSES.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the helpers take no argument.
    let (now, second) =
        unsafe { (bpf_jiffies64() as u32, bpf_ktime_get_ns() / NANOSECONDS_PER_SECOND) };
    let mut index = 0;
    while index < REREADS_A_CALL {
        let Some(reread) = REREAD.get_ptr_mut(index) else {
            break;
        };
        // SAFETY: a map value. User space may write to it during the call: it is read once, and written once.
        let asked = unsafe { reread.read_volatile() };
        if asked.entry == 0 {
            break;
        }
        let read = read(&asked, now);
        // SAFETY: a map value. Calls on two CPUs at once may count one miss for two: there are not many CPUs.
        let is_said = unsafe { (*misses).admit(second, read.found != reread::FOUND) };
        let answer = if is_said { read } else { nothing(&asked, reread::REFUSED) };
        // SAFETY: as above.
        unsafe { reread.write_volatile(answer) };
        index += 1;
    }
    0
}

/// Answer that repeats the request and reveals nothing.
#[inline(always)]
fn nothing(asked: &Reread, found: u8) -> Reread {
    let Reread { entry, netns_cookie, hash, .. } = *asked;
    Reread { entry, netns_cookie, hash, found, ..Reread::default() }
}

/// What is asked for, with what was found. User space, which has no right to the kernel's memory, chooses the address:
/// of what is not the entry that it says, it learns nothing.
#[inline(always)]
fn read(asked: &Reread, now: u32) -> Reread {
    let Reread { entry, netns_cookie, hash, .. } = *asked;
    // Memory that cannot be read is 0; no namespace has that cookie.
    if netns_cookie == 0 || !netns::has_slot(netns_cookie) {
        return nothing(asked, reread::REFUSED);
    }
    let ct = entry as Ptr;
    let cookie = netns::cookie::<Probed>(kernel::net::<Probed>(ct));
    let status = kernel::status::<Probed>(ct);
    let original = kernel::tuple(ct, config::nf_conn_original());
    let reply = kernel::tuple(ct, config::nf_conn_reply());
    let is_same = (cookie == netns_cookie)
        & (kernel::hash_of(original.words(), entry, cookie) == hash)
        & original.is_answered_by(&reply)
        & (status & IPS_DYING == 0);
    if !is_same {
        return nothing(asked, reread::GONE);
    }
    // It is confirmed a moment after the event of the insert, which is as long as a virtual CPU stands still.
    if (status & IPS_CONFIRMED == 0) | !kernel::was_hashed::<Probed>(ct) {
        return nothing(asked, reread::REFUSED);
    }
    let tcp_state = match config::nf_conn_tcp_state() {
        ABSENT => 0,
        offset => Probed::value(ct, offset),
    };
    let timeout: u32 = Probed::value(ct, config::nf_conn_timeout());
    let expires = timeout.wrapping_sub(now) as i32;
    Reread { status, tcp_state, expires, ..nothing(asked, reread::FOUND) }
}
