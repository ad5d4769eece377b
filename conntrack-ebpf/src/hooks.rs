//! One program a hook. Facts about the functions: net/netfilter/nf_conntrack_core.c.
//!
//! `__nf_conntrack_insert_prepare` and `__nf_ct_delete_from_lists` run with soft interrupts off, so
//! their programs are never skipped. The others have copies: see `once`.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use conntrack_ebpf::{
    COPIES, EVENT_DESTROY, EVENT_INSERT_CTNETLINK, EVENT_INSERT_PACKET, IPS_ASSURED,
};

use crate::{
    config,
    counters::{self, Handle, add},
    events, evicting,
    kernel::{self, Ptr},
    once::{Run, once, returned},
    percpu::{self, Hook, Program},
};

const _: () = assert!(COPIES == 3, "the copies below");

/// `IS_ERR()`: the last 4095 addresses are error numbers.
const MAX_ERRNO: u64 = 4095;

/// Makes the copies of a program.
macro_rules! copies {
    ($attribute:ident $context:ident, $hook:ident, $body:ident: $($name:ident $copy:literal)*) => {$(
        #[$attribute]
        fn $name(ctx: $context) -> i32 {
            once(&ctx, Hook::$hook, Program::$hook, $copy, $body);
            0
        }
    )*};
}

/// `struct nf_conn *__nf_conntrack_alloc(net, zone, orig, repl, gfp, hash)`: every entry is born here.
#[inline(always)]
fn alloc(ctx: &FExitContext, run: &Run) {
    let ct = returned(ctx, 6);
    let Some(counters) = counters::of(ctx.arg(0), run.cpu, run.program) else {
        return;
    };
    if ct < MAX_ERRNO.wrapping_neg() {
        add!(counters, allocs[run.copy]);
    } else {
        add!(counters, allocs_failed[run.copy]);
        counters::log_refused(ctx, &counters);
    }
}

copies!(fexit FExitContext, Alloc, alloc: ctmon_alloc 0 ctmon_alloc_2 1 ctmon_alloc_3 2);

/// `void nf_conntrack_free(ct)`: every entry ends here, hashed before or not.
#[inline(always)]
fn free(ctx: &FEntryContext, run: &Run) {
    let net = kernel::net(ctx.arg(0));
    let Some(counters) = counters::of(net, run.cpu, run.program) else {
        return;
    };
    if config::fault_skip_frees() == 0 || run.copy != 0 || !skip_for_test(&counters) {
        add!(counters, frees[run.copy]);
    }
}

copies!(fentry FEntryContext, Free, free: ctmon_free 0 ctmon_free_2 1 ctmon_free_3 2);

/// Whether the fault asked for leaves out this free.
#[inline(always)]
fn skip_for_test(counters: &Handle) -> bool {
    let read = |counter: *mut u64| {
        // SAFETY: a field of a map value.
        unsafe { counter.read() }
    };
    let before = read(counters.counter(|c| &raw mut c.frees[0]))
        + read(counters.counter(|c| &raw mut c.frees_skipped));
    let skip = (before + 1) % u64::from(config::fault_skip_frees()) == 0;
    if skip {
        add!(counters, frees_skipped);
    }
    skip
}

/// `void __nf_conntrack_insert_prepare(ct)`: a packet's entry is put into the hash. Called by
/// `__nf_conntrack_confirm` once nothing can go wrong any more, and by `nf_ct_resolve_clash_harder`
/// for an entry that gets only its reply direction hashed; not for an entry that is merged into the
/// winner of a clash. NAT has set the reply tuple; the confirmed bit comes a moment later.
#[fentry]
fn ctmon_insert(ctx: FEntryContext) -> i32 {
    let ct: Ptr = ctx.arg(0);
    let Some(cpu) = percpu::of(percpu::number()) else {
        return 0;
    };
    let net = kernel::net(ct);
    let Some(counters) = counters::of(net, cpu, Program::Insert as usize) else {
        return 0;
    };
    add!(counters, inserts_packet);
    if config::events() == 1 && !events::send(ct, counters.cookie, EVENT_INSERT_PACKET) {
        add!(counters, lost_inserts_packet);
    }
    0
}

/// `int nf_conntrack_hash_check_insert(ct)`: put into the hash through ctnetlink or a BPF kfunc. The
/// caller holds a reference.
#[inline(always)]
fn hash_insert(ctx: &FExitContext, run: &Run) {
    let ct: Ptr = ctx.arg(0);
    if returned(ctx, 1) as i32 != 0 {
        return;
    }
    let net = kernel::net(ct);
    let Some(counters) = counters::of(net, run.cpu, run.program) else {
        return;
    };
    add!(counters, inserts_ctnetlink[run.copy]);
    if config::events() == 1 && !events::send(ct, counters.cookie, EVENT_INSERT_CTNETLINK) {
        add!(counters, lost_inserts_ctnetlink[run.copy]);
    }
}

copies!(fexit FExitContext, HashInsert, hash_insert:
    ctmon_hash_ins 0 ctmon_hash_ins2 1 ctmon_hash_ins3 2);

/// `void __nf_ct_delete_from_lists(ct)`: an entry is taken out of the hash. Called by `nf_ct_delete`
/// after it has won the dying bit, so once an entry, also when a ctnetlink event could not be
/// delivered and `nf_ct_delete` returns false.
#[fentry]
fn ctmon_delete(ctx: FEntryContext) -> i32 {
    let ct: Ptr = ctx.arg(0);
    let Some(cpu) = percpu::of(percpu::number()) else {
        return 0;
    };
    let net = kernel::net(ct);
    let Some(counters) = counters::of(net, cpu, Program::Delete as usize) else {
        return 0;
    };
    add!(counters, deletes);
    if evicting::lately() {
        let address = percpu::address(cpu, Program::Delete as usize, &ctx);
        // On its way `early_drop` also reaps entries that have expired (`nf_ct_gc_expired`); what it
        // evicts is neither expired nor assured.
        if evicting::on(percpu::stack(address))
            && kernel::status(ct) & IPS_ASSURED == 0
            && !evicting::is_expired(kernel::value(ct, config::nf_conn_timeout()))
        {
            add!(counters, evictions);
        }
    }
    if config::events() == 1 && !events::send(ct, counters.cookie, EVENT_DESTROY) {
        add!(counters, lost_deletes);
    }
    0
}

/// `int early_drop(net, hash)` begins: the count is above max. To note that twice does no harm, so
/// all copies that are not skipped do.
#[inline(always)]
fn drop_in(ctx: &FEntryContext, copy: usize) {
    if let Some(cpu) = percpu::of(percpu::number()) {
        let address = percpu::address(cpu, Program::DropIn as usize + copy, ctx);
        evicting::begin(percpu::stack(address));
    }
}

#[fentry]
fn ctmon_drop_in(ctx: FEntryContext) -> i32 {
    drop_in(&ctx, 0);
    0
}

#[fentry]
fn ctmon_drop_in2(ctx: FEntryContext) -> i32 {
    drop_in(&ctx, 1);
    0
}

#[fentry]
fn ctmon_drop_in3(ctx: FEntryContext) -> i32 {
    drop_in(&ctx, 2);
    0
}

/// `int early_drop(net, hash)` ends; false when nothing could be evicted. Declared `int` or `bool`,
/// depending on the kernel; the lowest byte serves for both.
#[inline(always)]
fn drop(ctx: &FExitContext, run: &Run) {
    evicting::end(percpu::stack(percpu::address(run.cpu, run.program, ctx)));
    if returned(ctx, 2) & 0xff != 0 {
        return;
    }
    if let Some(counters) = counters::of(ctx.arg(0), run.cpu, run.program) {
        add!(counters, table_full[run.copy]);
    }
}

copies!(fexit FExitContext, Drop, drop: ctmon_drop 0 ctmon_drop_2 1 ctmon_drop_3 2);
