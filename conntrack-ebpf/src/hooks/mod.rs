//! What is counted where. Facts about the functions: net/netfilter/nf_conntrack_core.c.
//!
//! What is the same whichever way a program is attached is here; the programs are in `tracing` (fentry
//! and fexit) and `kprobe`.

#[cfg(feature = "fault-injection")]
use aya_ebpf::helpers::bpf_get_prandom_u32;
use conntrack_ebpf::{
    CAUSE_EARLY_DROP, CAUSE_KERNEL, CAUSE_NETNS_EXIT, CAUSE_USER, EVENT_DESTROY, EVENT_EARLY_DROP,
    EVENT_INSERT_CTNETLINK, EVENT_INSERT_PACKET,
};

use crate::{
    causes, config,
    counters::{self, add, add_atomic, add_shared},
    events::{self, Outcome},
    kernel::{self, Ptr, Read},
    once::Run,
    percpu, windows,
};

mod kprobe;
mod list;
mod reread;
mod tracing;

/// An entry is freed.
#[inline(always)]
pub(crate) fn free<R: Read>(ct: Ptr, run: &Run) {
    let net = kernel::net::<R>(ct);
    let Some(counters) = counters::of::<R>(net, run.cpu, run.program) else {
        return;
    };
    #[cfg(feature = "fault-injection")]
    if run.copy == 0 && is_left_out(&counters) {
        return;
    }
    add!(counters, frees[run.copy]);
    if !kernel::was_hashed::<R>(ct) {
        add!(counters, frees_unhashed[run.copy]);
    }
}

/// Reports whether a test leaves this call out: one of `every` calls, at random; 0: none.
#[cfg(feature = "fault-injection")]
#[inline(always)]
fn is_skipped(every: u32) -> bool {
    // SAFETY: the helper takes no argument.
    every != 0 && unsafe { bpf_get_prandom_u32() } % every == 0
}

/// Whether the fault asked for leaves out this free.
#[cfg(feature = "fault-injection")]
#[inline(always)]
fn is_left_out(counters: &counters::Handle) -> bool {
    if config::fault_skip_frees() == 0 {
        return false;
    }
    let read = |counter: *mut u64| {
        // SAFETY: a field of a map value.
        unsafe { counter.read() }
    };
    let before = read(counters.counter(|c| &raw mut c.frees[0]))
        + read(counters.counter(|c| &raw mut c.fault_frees_skipped));
    let skip = (before + 1) % u64::from(config::fault_skip_frees()) == 0;
    if skip {
        add!(*counters, fault_frees_skipped);
    }
    skip
}

/// Sends an event where that is wanted, and counts those that did not get through: plainly where one
/// program sends events of its kind (`add`), else atomically.
macro_rules! send {
    ($add:ident, $counters:ident: $reader:ident $ct:ident $entry:expr, $kind:ident $cause:expr) => {
        if config::events() == 1 {
            let number = percpu::number();
            let outcome =
                events::send::<$reader>($ct, $entry, $counters.cookie, number, $kind, $cause);
            match outcome {
                Outcome::Sent => {}
                Outcome::SampledOut => {
                    $add!(
                        $counters,
                        events_sampled_out[$kind as usize - EVENT_INSERT_PACKET as usize]
                    );
                }
                Outcome::Lost => add_atomic!($counters, events_lost),
            }
        }
    };
}

/// A packet's entry is put into the hash.
#[inline(always)]
pub(crate) fn insert<R: Read>(ct: Ptr, run: &Run) {
    #[cfg(feature = "fault-injection")]
    if is_skipped(config::fault_skip_inserts()) {
        return;
    }
    let net = kernel::net::<R>(ct);
    let Some(counters) = counters::of::<R>(net, run.cpu, run.program) else {
        return;
    };
    add_shared!(counters, inserts_packet[kernel::protocol::<R>(ct)]);
    windows::note_insert(counters.slot, run.copy);
    send!(add_shared, counters: R ct percpu::address(run.cpu, run.program, ct),
        EVENT_INSERT_PACKET CAUSE_KERNEL);
}

/// An entry was put into the hash through ctnetlink or a BPF kfunc.
#[inline(always)]
fn hash_insert<R: Read>(ct: Ptr, run: &Run) {
    let net = kernel::net::<R>(ct);
    let Some(counters) = counters::of::<R>(net, run.cpu, run.program) else {
        return;
    };
    add_atomic!(counters, inserts_ctnetlink[kernel::protocol::<R>(ct)]);
    send!(add_atomic, counters: R ct percpu::address(run.cpu, run.program, ct),
        EVENT_INSERT_CTNETLINK CAUSE_KERNEL);
}

/// The entry `ct` is taken out of the hash, on `stack`; `ct_number` is its address as a number.
#[inline(always)]
pub(crate) fn delete<R: Read>(ct: Ptr, ct_number: u64, stack: u64, run: &Run) {
    #[cfg(feature = "fault-injection")]
    if is_skipped(config::fault_skip_deletes()) {
        return;
    }
    let net = kernel::net::<R>(ct);
    let Some(counters) = counters::of::<R>(net, run.cpu, run.program) else {
        return;
    };
    let status = kernel::status::<R>(ct);
    add_shared!(counters, deletes[kernel::kind_of(status)][kernel::protocol::<R>(ct)]);
    windows::note_delete(counters.slot, run.copy);
    let timeout = R::value(ct, config::nf_conn_timeout());
    let cause = causes::of::<R>(stack, ct_number, net, status, timeout);
    match cause {
        CAUSE_USER => add_shared!(counters, deletes_user),
        CAUSE_NETNS_EXIT => add_shared!(counters, deletes_netns_exit),
        CAUSE_EARLY_DROP => {
            add_shared!(counters, early_drops);
            // Known by address with kprobes only, and then nobody sees what `early_drop` returns.
            if config::early_drop() != 0 && causes::is_first_eviction(stack) {
                add_shared!(counters, full_evicted);
            }
            events::send_victim::<R>(run.cpu, ct, counters.cookie, EVENT_EARLY_DROP, cause);
        }
        _ => {}
    }
    send!(add_shared, counters: R ct ct_number, EVENT_DESTROY cause);
}
