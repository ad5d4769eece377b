//! The programs where the kernel has type information (BTF) of the functions.
//!
//! `__nf_conntrack_insert_prepare`, `__nf_ct_delete_from_lists` and `nf_ct_resolve_clash` run with soft
//! interrupts off: unless such code is pre-empted, which real-time kernels may do, their programs are never skipped. Where
//! a program can be, it has copies: see `once`.

use aya_ebpf::{
    EbpfContext,
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use conntrack_ebpf::{CAUSE_KERNEL, CAUSE_USER, COPIES, IPS_DYING};

use crate::{
    causes, config,
    counters::{self, add, add_atomic},
    events,
    kernel::{self, Probed, Ptr, Read as _, Typed},
    merges, netns,
    once::{self, Run, returned},
    percpu::{self, Hook, Program},
};

const _: () = assert!(COPIES == 3, "the copies below");

/// `IS_ERR()`: the last 4095 addresses are error numbers.
const MAX_ERRNO: u64 = 4095;

/// `NF_DROP` (include/uapi/linux/netfilter.h)
const NF_DROP: i32 = 0;
/// `NF_ACCEPT` (include/uapi/linux/netfilter.h)
const NF_ACCEPT: i32 = 1;
/// `IP_CT_IS_REPLY` (include/uapi/linux/netfilter/nf_conntrack_common.h): from here on, packets of the reply.
const IP_CT_IS_REPLY: u64 = 3;

/// Makes the copies of a program.
macro_rules! copies {
    ($attribute:ident $context:ident, $hook:ident, $body:ident: $($name:ident $copy:literal)*) => {$(
        #[$attribute]
        fn $name(ctx: $context) -> i32 {
            if let Some(call) = once::begin(&ctx, Hook::$hook, Program::$hook, $copy) {
                $body(&ctx, &call.run);
                call.end();
            }
            0
        }
    )*};
}

/// `struct nf_conn *__nf_conntrack_alloc(net, zone, orig, repl, gfp, hash)`: every entry is born here.
#[inline(always)]
fn alloc(ctx: &FExitContext, run: &Run) {
    let ct = returned(ctx, 6);
    let Some(counters) = counters::of::<Typed>(ctx.arg(0), run.cpu, run.program) else {
        return;
    };
    if ct < MAX_ERRNO.wrapping_neg() {
        add!(counters, allocs[run.copy]);
        return;
    }
    add_atomic!(counters, allocs_failed);
    counters::log_refused(ctx, &counters);
    let zone = Typed::value(ctx.arg(1), config::zone_id());
    let tuples = [ctx.arg(2), ctx.arg(3)];
    events::send_refused::<Typed>(run.cpu, tuples, zone, counters.cookie);
}

copies!(fexit FExitContext, Alloc, alloc: ctmon_alloc 0 ctmon_alloc_2 1 ctmon_alloc_3 2);

/// `struct nf_conntrack_tuple_hash *init_conntrack(net, tmpl, tuple, skb, dataoff, hash)`: where a compiler has put
/// `__nf_conntrack_alloc` into the functions that call it, entries are born here.
#[inline(always)]
fn init(ctx: &FExitContext, run: &Run) {
    born(ctx, run, 6);
}

copies!(fexit FExitContext, Init, init: ctmon_init 0 ctmon_init_2 1 ctmon_init_3 2);

/// `struct nf_conn *nf_conntrack_alloc(net, zone, orig, repl, gfp)`: and those of ctnetlink and BPF kfuncs here.
#[inline(always)]
fn alloc_caller(ctx: &FExitContext, run: &Run) {
    born(ctx, run, 5);
}

copies!(fexit FExitContext, AllocCaller, alloc_caller:
    ctmon_nalloc 0 ctmon_nalloc_2 1 ctmon_nalloc_3 2);

/// Counts what a caller of `__nf_conntrack_alloc` returns: an entry or its tuple hash is an alloc; null is nothing, because the
/// tuple cannot be inverted; an error pointer is a refused alloc. `arguments`: how many the caller takes.
#[inline(always)]
fn born(ctx: &FExitContext, run: &Run, arguments: usize) {
    let entry = returned(ctx, arguments);
    if entry == 0 {
        return;
    }
    let Some(counters) = counters::of::<Typed>(ctx.arg(0), run.cpu, run.program) else {
        return;
    };
    // Atomically: two functions count.
    if entry < MAX_ERRNO.wrapping_neg() {
        add_atomic!(counters, allocs[run.copy]);
    } else {
        add_atomic!(counters, allocs_failed);
        counters::log_refused(ctx, &counters);
    }
}

/// `void nf_conntrack_free(ct)`: every entry ends here, hashed before or not.
#[inline(always)]
fn free(ctx: &FEntryContext, run: &Run) {
    super::free::<Typed>(ctx.arg(0), run);
}

copies!(fentry FEntryContext, Free, free: ctmon_free 0 ctmon_free_2 1 ctmon_free_3 2);

/// `void __nf_conntrack_insert_prepare(ct)`: a packet's entry is put into the hash. Called by
/// `__nf_conntrack_confirm` once nothing can go wrong any more, and by `nf_ct_resolve_clash_harder`
/// for an entry that gets only its reply direction hashed; not for an entry that is merged into the
/// winner of a clash. NAT has set the reply tuple; the confirmed bit comes a moment later.
#[fentry]
fn ctmon_insert(ctx: FEntryContext) -> i32 {
    if let Some(cpu) = percpu::of(percpu::number()) {
        super::insert::<Typed>(ctx.arg(0), &Run::only(cpu, Program::Insert));
    }
    0
}

/// `int __nf_conntrack_confirm(skb)`: where a compiler has put `__nf_conntrack_insert_prepare` into the functions that call
/// it. Called for entries that are not hashed. So this call has hashed the entry if the packet is accepted, keeps its own entry,
/// and that entry is hashed. A packet in the direction of the reply is accepted as it is.
#[inline(always)]
fn confirm_insert(ctx: &FExitContext, run: &Run) {
    let skb = percpu::address(run.cpu, run.program, ctx.arg(0));
    let stack = percpu::stack(percpu::address(run.cpu, run.program, ctx.as_ptr()));
    let is_merged = merges::take(stack, skb);
    if is_merged || returned(ctx, 1) as i32 != NF_ACCEPT {
        return;
    }
    let (ct, info) = kernel::entry_and_info::<Typed>(ctx.arg(0));
    if info < IP_CT_IS_REPLY && kernel::was_hashed::<Probed>(ct) {
        super::insert::<Probed>(ct, run);
    }
}

copies!(fexit FExitContext, ConfirmInsert, confirm_insert:
    ctmon_conf_ins 0 ctmon_conf_ins2 1 ctmon_conf_ins3 2);

/// `int nf_conntrack_hash_check_insert(ct)`: put into the hash through ctnetlink or a BPF kfunc. The
/// caller holds a reference.
#[inline(always)]
fn hash_insert(ctx: &FExitContext, run: &Run) {
    if returned(ctx, 1) as i32 == 0 {
        super::hash_insert::<Typed>(ctx.arg(0), run);
    }
}

copies!(fexit FExitContext, HashInsert, hash_insert:
    ctmon_hash_ins 0 ctmon_hash_ins2 1 ctmon_hash_ins3 2);

/// `void __nf_ct_delete_from_lists(ct)`: an entry is taken out of the hash. Called by `nf_ct_delete`
/// after it has won the dying bit, so once an entry, also when a ctnetlink event could not be
/// delivered and `nf_ct_delete` returns false.
#[fentry]
fn ctmon_delete(ctx: FEntryContext) -> i32 {
    if let Some(cpu) = percpu::of(percpu::number()) {
        delete(ctx.arg(0), &ctx, &Run::only(cpu, Program::Delete));
    }
    0
}

#[inline(always)]
fn delete(ct: Ptr, ctx: &impl EbpfContext, run: &Run) {
    let stack = percpu::stack(percpu::address(run.cpu, run.program, ctx.as_ptr()));
    let number = percpu::address(run.cpu, run.program, ct);
    super::delete::<Typed>(ct, number, stack, run);
}

/// `bool nf_ct_delete(ct, portid, report)`: where a compiler has put `__nf_ct_delete_from_lists` into it. True: this call has
/// won the dying bit, taken the entry out of the hash and sent its event. The caller holds a reference.
#[inline(always)]
fn delete_caller(ctx: &FExitContext, run: &Run) {
    if returned(ctx, 3) & 0xff != 0 {
        delete(ctx.arg(0), ctx, run);
    }
}

copies!(fexit FExitContext, DeleteCaller, delete_caller:
    ctmon_ndelete 0 ctmon_ndelete2 1 ctmon_ndelete3 2);

/// `bool nf_ct_delete(ct, portid, report)`: a user's wish has the port of its netlink socket. Not
/// counted here, because it may come to nothing.
#[fentry]
fn ctmon_cause(ctx: FEntryContext) -> i32 {
    let portid: u32 = ctx.arg(1);
    if (portid != 0 || causes::lately())
        && let Some(cpu) = percpu::of(percpu::number())
    {
        let address = percpu::address(cpu, Program::Cause as usize, ctx.as_ptr());
        let ct = percpu::address(cpu, Program::Cause as usize, ctx.arg(0));
        let cause = if portid != 0 { CAUSE_USER } else { CAUSE_KERNEL };
        causes::announce(percpu::stack(address), ct, cause);
    }
    0
}

/// `int early_drop(net, hash)` begins: the count is above max. To note that twice does no harm, so
/// all copies that are not skipped do.
#[inline(always)]
fn drop_in(ctx: &FEntryContext, copy: usize) {
    if let Some(cpu) = percpu::of(percpu::number()) {
        let address = percpu::address(cpu, Program::DropIn as usize + copy, ctx.as_ptr());
        causes::begin_early_drop(percpu::stack(address));
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
    let address = percpu::address(run.cpu, run.program, ctx.as_ptr());
    causes::end_early_drop(percpu::stack(address));
    if returned(ctx, 2) & 0xff != 0 {
        return;
    }
    if let Some(counters) = counters::of::<Typed>(ctx.arg(0), run.cpu, run.program) {
        add_atomic!(counters, table_full_drops);
    }
}

copies!(fexit FExitContext, Drop, drop: ctmon_drop 0 ctmon_drop_2 1 ctmon_drop_3 2);

/// `int nf_ct_resolve_clash(skb, h, reply_hash)`: another packet with the same tuple was hashed first.
/// The packet goes on with that entry, or with its own beside it, or is dropped.
#[fexit]
fn ctmon_clash(ctx: FExitContext) -> i32 {
    let Some(cpu) = percpu::of(percpu::number()) else {
        return 0;
    };
    let ct = kernel::entry::<Typed>(ctx.arg(0));
    let net = kernel::net::<Probed>(ct);
    if let Some(counters) = counters::of::<Probed>(net, cpu, Program::Clash as usize) {
        add!(counters, clashes);
        if returned(&ctx, 3) as i32 != NF_DROP {
            add!(counters, clashes_resolved);
            // Noted for `confirm_insert`. Merged: the packet goes on with the winner, of which the second argument is a half.
            let number = |pointer| percpu::address(cpu, Program::Clash as usize, pointer);
            let winner = number(ctx.arg(1));
            if config::is_shared() == 1
                && winner.wrapping_sub(ct as u64) <= u64::from(config::nf_conn_reply())
            {
                merges::note(percpu::stack(number(ctx.as_ptr())), number(ctx.arg(0)));
            }
        }
    }
    0
}

/// `int __nf_conntrack_confirm(skb)`: the packet is dropped when its entry cannot be hashed: after a
/// clash, because a chain is too long, or because it is dying already.
#[fexit]
fn ctmon_confirm(ctx: FExitContext) -> i32 {
    if returned(&ctx, 1) as i32 != NF_DROP {
        return 0;
    }
    let Some(cpu) = percpu::of(percpu::number()) else {
        return 0;
    };
    let ct = kernel::entry::<Typed>(ctx.arg(0));
    let net = kernel::net::<Probed>(ct);
    if let Some(counters) = counters::of::<Probed>(net, cpu, Program::Confirm as usize) {
        add!(counters, confirm_dropped);
        if kernel::status::<Probed>(ct) & IPS_DYING != 0 {
            add!(counters, confirm_dying);
        }
    }
    0
}

/// `void proc_net_ns_exit(net)`: the namespace ends, and all its entries are gone (`cleanup_net` calls what was registered
/// first last).
#[fentry]
fn ctmon_end(ctx: FEntryContext) -> i32 {
    if let Some(cpu) = percpu::of(percpu::number()) {
        netns::end::<Typed>(ctx.arg(0), cpu);
    }
    0
}
