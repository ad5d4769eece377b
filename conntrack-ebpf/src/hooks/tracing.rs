//! The programs where the kernel has type information (BTF) of the functions.
//!
//! `__nf_conntrack_insert_prepare`, `__nf_ct_delete_from_lists` and `nf_ct_resolve_clash` run with soft
//! interrupts off, so their programs are never skipped. Those that counts rest on have copies where it
//! is otherwise: see `once`.

use aya_ebpf::{
    EbpfContext as _,
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use conntrack_ebpf::{CAUSE_KERNEL, CAUSE_USER, COPIES, IPS_DYING};

use crate::{
    causes, config,
    counters::{self, add, add_atomic},
    events,
    kernel::{self, Probed, Ptr, Read as _, Typed},
    netns,
    once::{Run, once, returned},
    percpu::{self, Hook, Program},
};

const _: () = assert!(COPIES == 3, "the copies below");

/// `IS_ERR()`: the last 4095 addresses are error numbers.
const MAX_ERRNO: u64 = 4095;

/// `NF_DROP` (include/uapi/linux/netfilter.h)
const NF_DROP: i32 = 0;

/// Makes the copies of a program.
macro_rules! copies {
    ($attribute:ident $context:ident, $hook:ident, $body:ident: $($name:ident $copy:literal)*) => {$(
        #[$attribute]
        fn $name(ctx: $context) -> i32 {
            // A closure of its own, or the copies share one out of line.
            once(&ctx, Hook::$hook, Program::$hook, $copy, |ctx, run| $body(ctx, run));
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

/// `void nf_conntrack_free(ct)`: every entry ends here, hashed before or not.
#[inline(always)]
fn free(ctx: &FEntryContext, run: &Run) {
    super::free::<Typed>(ctx.arg(0), run.cpu, run.program, run.copy);
}

copies!(fentry FEntryContext, Free, free: ctmon_free 0 ctmon_free_2 1 ctmon_free_3 2);

/// `void __nf_conntrack_insert_prepare(ct)`: a packet's entry is put into the hash. Called by
/// `__nf_conntrack_confirm` once nothing can go wrong any more, and by `nf_ct_resolve_clash_harder`
/// for an entry that gets only its reply direction hashed; not for an entry that is merged into the
/// winner of a clash. NAT has set the reply tuple; the confirmed bit comes a moment later.
#[fentry]
fn ctmon_insert(ctx: FEntryContext) -> i32 {
    if let Some(cpu) = percpu::of(percpu::number()) {
        super::insert::<Typed>(ctx.arg(0), cpu);
    }
    0
}

/// `int nf_conntrack_hash_check_insert(ct)`: put into the hash through ctnetlink or a BPF kfunc. The
/// caller holds a reference.
#[inline(always)]
fn hash_insert(ctx: &FExitContext, run: &Run) {
    if returned(ctx, 1) as i32 == 0 {
        super::hash_insert::<Typed>(ctx.arg(0), run.cpu, run.program);
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
        let ct: Ptr = ctx.arg(0);
        let stack = percpu::stack(percpu::address(cpu, Program::Delete as usize, ctx.as_ptr()));
        let number = percpu::address(cpu, Program::Delete as usize, ct);
        super::delete::<Typed>(ct, number, stack, cpu);
    }
    0
}

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

/// `void nf_conntrack_expect_pernet_fini(net)`: the namespace ends, and all its entries are gone
/// (`nf_conntrack_cleanup_net_list`).
#[fentry]
fn ctmon_end(ctx: FEntryContext) -> i32 {
    if let Some(cpu) = percpu::of(percpu::number()) {
        netns::end::<Typed>(ctx.arg(0), cpu);
    }
    0
}
