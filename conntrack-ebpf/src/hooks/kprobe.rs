//! The programs where the kernel has no type information of the functions: at their entry only. A
//! kprobe at the end (kretprobe) is skipped under load, so what a function returns is derived from what
//! it calls, or is not told.

use aya_ebpf::{macros::kprobe, programs::ProbeContext};
use conntrack_ebpf::{CAUSE_EARLY_DROP, CAUSE_KERNEL, CAUSE_USER};

use crate::{
    causes, config,
    counters::{self, add, add_atomic},
    kernel::{self, Probed, Ptr},
    netns,
    once::Run,
    percpu::{self, Cpu, Program},
};

/// An argument of the function, or null.
#[inline(always)]
fn argument(ctx: &ProbeContext, index: usize) -> Ptr {
    ctx.arg(index).unwrap_or_default()
}

/// The stack pointer.
#[inline(always)]
fn stack_pointer(ctx: &ProbeContext) -> u64 {
    // SAFETY: the registers are the program's context.
    unsafe {
        #[cfg(bpf_target_arch = "x86_64")]
        return (*ctx.regs).rsp;
        #[cfg(bpf_target_arch = "aarch64")]
        return (*ctx.regs).sp;
    }
}

/// Where the function will return to.
#[inline(always)]
fn return_address(ctx: &ProbeContext) -> u64 {
    #[cfg(bpf_target_arch = "x86_64")]
    return <Probed as kernel::Read>::value(stack_pointer(ctx) as Ptr, 0);
    // SAFETY: the registers are the program's context.
    #[cfg(bpf_target_arch = "aarch64")]
    return unsafe { (*ctx.regs).regs[30] };
}

/// The number of the stack that the function runs on.
#[inline(always)]
fn stack(ctx: &ProbeContext) -> u64 {
    percpu::stack(stack_pointer(ctx))
}

#[inline(always)]
fn cpu() -> Option<*mut Cpu> {
    percpu::of(percpu::number())
}

/// `__nf_conntrack_alloc`: its calls. Those that are refused are told apart by `early_drop`.
#[kprobe]
fn ctmon_k_alloc(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = cpu()
        && let Some(counters) =
            counters::of::<Probed>(argument(&ctx, 0), cpu, Program::Alloc as usize)
    {
        add!(counters, allocs[0]);
    }
    0
}

/// `nf_conntrack_free`
#[kprobe]
fn ctmon_k_free(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = cpu() {
        super::free::<Probed>(argument(&ctx, 0), &Run::only(cpu, Program::Free));
    }
    0
}

/// `__nf_conntrack_insert_prepare`
#[kprobe]
fn ctmon_k_insert(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = cpu() {
        super::insert::<Probed>(argument(&ctx, 0), &Run::only(cpu, Program::Insert));
    }
    0
}

/// `__nf_conntrack_hash_insert`, which `nf_conntrack_hash_check_insert` calls once nothing can go wrong
/// any more. Packets come by another way.
#[kprobe]
fn ctmon_k_hashins(ctx: ProbeContext) -> u32 {
    let caller = return_address(&ctx).wrapping_sub(config::hash_check_insert());
    if caller < config::hash_check_insert_len()
        && let Some(cpu) = cpu()
    {
        super::hash_insert::<Probed>(argument(&ctx, 0), &Run::only(cpu, Program::HashInsert));
    }
    0
}

/// `__nf_ct_delete_from_lists`, or `nf_ct_delete_from_lists` before 5.17.
#[kprobe]
fn ctmon_k_delete(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = cpu() {
        let ct = argument(&ctx, 0);
        super::delete::<Probed>(ct, ct as u64, stack(&ctx), &Run::only(cpu, Program::Delete));
    }
    0
}

/// `nf_ct_delete`, or the part of it that a compiler has split off: who wants it. Both announce the
/// same.
#[kprobe]
fn ctmon_k_cause(ctx: ProbeContext) -> u32 {
    let portid: u32 = ctx.arg(1).unwrap_or(0);
    let caller = return_address(&ctx).wrapping_sub(config::early_drop());
    let cause = if portid != 0 {
        CAUSE_USER
    } else if caller < config::early_drop_len() {
        CAUSE_EARLY_DROP
    } else {
        CAUSE_KERNEL
    };
    causes::announce(stack(&ctx), argument(&ctx, 0) as u64, cause);
    0
}

/// `early_drop`: its calls. Those that evict something are told by what they delete.
#[kprobe]
fn ctmon_k_drop(ctx: ProbeContext) -> u32 {
    causes::begin_early_drop(stack(&ctx));
    if let Some(cpu) = cpu()
        && let Some(counters) =
            counters::of::<Probed>(argument(&ctx, 0), cpu, Program::Drop as usize)
    {
        add_atomic!(counters, table_full_drops);
    }
    0
}

/// `nf_ct_resolve_clash`: its calls.
#[kprobe]
fn ctmon_k_clash(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = cpu() {
        let net = kernel::net::<Probed>(kernel::entry::<Probed>(argument(&ctx, 0)));
        if let Some(counters) = counters::of::<Probed>(net, cpu, Program::Clash as usize) {
            add!(counters, clashes);
        }
    }
    0
}

/// `proc_net_ns_exit`
#[kprobe]
fn ctmon_k_end(ctx: ProbeContext) -> u32 {
    if let Some(cpu) = cpu() {
        netns::end::<Probed>(argument(&ctx, 0), cpu);
    }
    0
}
