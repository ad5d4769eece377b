//! What is counted where. Facts about the functions: net/netfilter/nf_conntrack_core.c.
//!
//! What is the same whichever way a program is attached is here; the programs are in `tracing` (fentry
//! and fexit) and `kprobe`.

use conntrack_ebpf::{
    CAUSE_EARLY_DROP, CAUSE_KERNEL, CAUSE_NETNS_EXIT, CAUSE_USER, EVENT_DESTROY, EVENT_EARLY_DROP,
    EVENT_INSERT_CTNETLINK, EVENT_INSERT_PACKET,
};

use crate::{
    causes, config,
    counters::{self, add, add_atomic},
    events::{self, Outcome},
    kernel::{self, Ptr, Read},
    percpu::{self, Cpu, Program},
    windows,
};

mod kprobe;
mod reread;
mod tracing;

/// An entry is freed; it is what the copy `copy` of the program sees.
#[inline(always)]
pub(crate) fn free<R: Read>(ct: Ptr, cpu: *mut Cpu, program: usize, copy: usize) {
    let net = kernel::net::<R>(ct);
    let Some(counters) = counters::of::<R>(net, cpu, program) else {
        return;
    };
    #[cfg(feature = "fault-injection")]
    if copy == 0 && is_left_out(&counters) {
        return;
    }
    add!(counters, frees[copy]);
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
pub(crate) fn insert<R: Read>(ct: Ptr, cpu: *mut Cpu) {
    let net = kernel::net::<R>(ct);
    let Some(counters) = counters::of::<R>(net, cpu, Program::Insert as usize) else {
        return;
    };
    add!(counters, inserts_packet[kernel::protocol::<R>(ct)]);
    windows::note_insert(counters.slot);
    send!(add, counters: R ct percpu::address(cpu, Program::Insert as usize, ct),
        EVENT_INSERT_PACKET CAUSE_KERNEL);
}

/// An entry was put into the hash through ctnetlink or a BPF kfunc.
#[inline(always)]
fn hash_insert<R: Read>(ct: Ptr, cpu: *mut Cpu, program: usize) {
    let net = kernel::net::<R>(ct);
    let Some(counters) = counters::of::<R>(net, cpu, program) else {
        return;
    };
    add_atomic!(counters, inserts_ctnetlink[kernel::protocol::<R>(ct)]);
    send!(add_atomic, counters: R ct percpu::address(cpu, program, ct),
        EVENT_INSERT_CTNETLINK CAUSE_KERNEL);
}

/// An entry is taken out of the hash, on `stack`; `ct_number` is its address as a number.
#[inline(always)]
pub(crate) fn delete<R: Read>(ct: Ptr, ct_number: u64, stack: u64, cpu: *mut Cpu) {
    let net = kernel::net::<R>(ct);
    let Some(counters) = counters::of::<R>(net, cpu, Program::Delete as usize) else {
        return;
    };
    let status = kernel::status::<R>(ct);
    add!(counters, deletes[kernel::kind_of(status)][kernel::protocol::<R>(ct)]);
    windows::note_delete(counters.slot);
    let timeout = R::value(ct, config::nf_conn_timeout());
    let cause = causes::of::<R>(stack, ct_number, net, status, timeout);
    match cause {
        CAUSE_USER => add!(counters, deletes_user),
        CAUSE_NETNS_EXIT => add!(counters, deletes_netns_exit),
        CAUSE_EARLY_DROP => {
            add!(counters, early_drops);
            // Known by address with kprobes only, and then nobody sees what `early_drop` returns.
            if config::early_drop() != 0 && causes::is_first_eviction(stack) {
                add!(counters, full_evicted);
            }
            events::send_victim::<R>(cpu, ct, counters.cookie, EVENT_EARLY_DROP, cause);
        }
        _ => {}
    }
    send!(add, counters: R ct ct_number, EVENT_DESTROY cause);
}
