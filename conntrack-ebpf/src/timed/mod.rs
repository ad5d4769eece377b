//! The timed programs. Each returns how many nanoseconds [`ROUNDS`] rounds of its body took; the loop itself
//! is that of the empty one.

mod fake;

use core::{arch::asm, ffi::c_void};

use aya_ebpf::{
    EbpfContext as _,
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_NO_WAKEUP},
    helpers::{bpf_jiffies64, bpf_ktime_get_ns},
    macros::map,
    maps::RingBuf,
    programs::RawTracePointContext,
};
use conntrack_ebpf::{
    CAUSE_KERNEL, CAUSE_USER, EVENT_DESTROY, EVENT_INSERT_PACKET, FlowEvent, Tuple,
    bench::{ENTRIES, FakeEntry, ROUNDS},
};

use self::fake::Mapped;
use crate::{
    causes,
    counters::{self, add},
    events::{self, Outcome},
    hooks,
    kernel::{self, Ptr, Read as _},
    netns,
    once::{self, Run},
    percpu::{self, Cpu, Hook, Program},
    windows,
};

/// A ring of its own, for the parts of an event.
#[map]
static SCRATCH: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Where a tuple is copied to.
#[map]
static COPY: aya_ebpf::maps::Array<Tuple> = aya_ebpf::maps::Array::with_max_entries(1, 0);

/// What a body is given.
struct Round {
    cpu: *mut Cpu,
    /// The entry, in the first namespace.
    ct: Ptr,
    /// The same in the second namespace.
    other: Ptr,
    number: u32,
}

/// The compiler does not do away with what gives `value`, and moves nothing past this.
#[inline(always)]
fn opaque(value: impl Into<u64>) {
    // SAFETY: a register is copied to itself.
    unsafe { asm!("{0} = {0}", inout(reg) value.into() => _) };
}

/// Times `body`.
#[inline(always)]
fn time<C>(ctx: &C, mut body: impl FnMut(&C, &Round)) -> i32 {
    let (Some(cpu), Some(ct), Some(other)) =
        (percpu::of(percpu::number()), fake::entry(0), fake::entry(1))
    else {
        return -1;
    };
    let mut round =
        Round { cpu, ct: ct.cast_const().cast(), other: other.cast_const().cast(), number: 0 };
    // SAFETY: the helper takes no argument.
    let began = unsafe { bpf_ktime_get_ns() };
    while round.number < ROUNDS {
        opaque(round.number);
        body(ctx, &round);
        round.number += 1;
    }
    // SAFETY: as above.
    (unsafe { bpf_ktime_get_ns() } - began) as i32
}

/// Makes raw tracepoint programs. What they return goes to whoever runs them, which the macro of the library
/// does not provide for.
macro_rules! programs {
    ($($(#[$meta:meta])* fn $name:ident($ctx:ident) $body:block)*) => {$(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "raw_tp")]
        extern "C" fn $name(ctx: *mut c_void) -> i32 {
            let $ctx = RawTracePointContext::new(ctx);
            $body
        }
    )*};
}

macro_rules! timed {
    ($($name:ident: |$ctx:ident, $round:ident| $body:expr;)*) => {
        programs! {$(
            fn $name(ctx) {
                time(&ctx, |$ctx, $round| {
                    let _ = ($ctx, $round);
                    $body
                })
            }
        )*}
    };
}

timed! {
    time_empty: |_ctx, _round| {};
    // SAFETY: the helpers take no argument.
    time_jiffies: |_ctx, _round| opaque(unsafe { bpf_jiffies64() });
    // SAFETY: as above.
    time_clock: |_ctx, _round| opaque(unsafe { bpf_ktime_get_ns() });
    time_number: |_ctx, _round| opaque(percpu::number());
    time_cpus: |_ctx, _round| if let Some(cpu) = percpu::of(percpu::number()) {
        // SAFETY: a map value.
        opaque(unsafe { (&raw const (*cpu).last_victim).read_volatile() });
    };
    time_block: |_ctx, round| {
        let net = kernel::net::<Mapped>(round.ct);
        let cookie = netns::cookie::<Mapped>(net);
        let program = Program::Insert as usize;
        if let Some(block) = netns::block::<Mapped>(net, cookie, round.cpu, program) {
            opaque(block.1);
        }
    };
    time_block_miss: |_ctx, round| {
        let net = kernel::net::<Mapped>(if round.number % 2 == 0 { round.ct } else { round.other });
        let cookie = netns::cookie::<Mapped>(net);
        let program = Program::Insert as usize;
        if let Some(block) = netns::block::<Mapped>(net, cookie, round.cpu, program) {
            opaque(block.1);
        }
    };
    time_counters: |_ctx, round| {
        let net = kernel::net::<Mapped>(round.ct);
        if let Some(counters) = counters::of::<Mapped>(net, round.cpu, Program::Insert as usize) {
            opaque(counters.cookie);
        }
    };
    time_insert: |_ctx, round| if let Some(cpu) = percpu::of(percpu::number()) {
        hooks::insert::<Mapped>(round.ct, &Run::only(cpu, Program::Insert));
    };
    time_insert_miss: |_ctx, round| if let Some(cpu) = percpu::of(percpu::number()) {
        let ct = if round.number % 2 == 0 { round.ct } else { round.other };
        hooks::insert::<Mapped>(ct, &Run::only(cpu, Program::Insert));
    };
    time_delete: |ctx, round| delete(ctx, round, None);
    time_delete_user: |ctx, round| delete(ctx, round, Some(CAUSE_USER));
    // Three copies run in one call, as in `hooks::tracing`.
    time_alloc: |ctx, round| {
        alloc(ctx, round, 0);
        alloc(ctx, round, 1);
        alloc(ctx, round, 2);
    };
    time_alloc_1: |ctx, round| alloc(ctx, round, 0);
    time_free: |ctx, round| {
        free(ctx, round, 0);
        free(ctx, round, 1);
        free(ctx, round, 2);
    };
    time_free_1: |ctx, round| free(ctx, round, 0);
    time_event: |_ctx, round| {
        let entry = percpu::address(round.cpu, Program::Insert as usize, round.ct);
        let number = percpu::number();
        let _ = events::send::<Mapped>(round.ct, entry, 1, number, EVENT_INSERT_PACKET, CAUSE_KERNEL);
    };
    time_hash: |_ctx, round| {
        let entry = percpu::address(round.cpu, Program::Insert as usize, round.ct);
        opaque(kernel::hash::<Mapped>(round.ct, entry, 1));
    };
    time_window: |_ctx, _round| windows::note_insert(1, 0);
    time_record: |_ctx, _round| if let Some(entry) = SCRATCH.reserve::<FlowEvent>(0) {
        entry.submit(BPF_RB_NO_WAKEUP.into());
    };
    time_fill_level: |_ctx, _round| opaque(SCRATCH.query(BPF_RB_AVAIL_DATA.into()));
    time_tuple: |_ctx, round| if let Some(to) = COPY.get_ptr_mut(0) {
        // SAFETY: a map value.
        unsafe { Mapped::tuple(round.ct, crate::config::nf_conn_original(), to) };
    };
}

/// A delete; `cause`: and what its caller announced before.
#[inline(always)]
fn delete(ctx: &RawTracePointContext, round: &Round, cause: Option<u8>) {
    if let Some(cpu) = percpu::of(percpu::number()) {
        let program = Program::Delete as usize;
        let stack = percpu::stack(percpu::address(cpu, program, ctx.as_ptr()));
        let number = percpu::address(cpu, program, round.ct);
        if let Some(cause) = cause {
            causes::announce(stack, number, cause);
        }
        hooks::delete::<Mapped>(round.ct, number, stack, &Run::only(cpu, Program::Delete));
    }
}

/// What `hooks::tracing` does when an entry was allocated.
#[inline(always)]
fn alloc(ctx: &RawTracePointContext, round: &Round, copy: usize) {
    if let Some(call) = once::begin(ctx, Hook::Alloc, Program::Alloc, copy) {
        let net = kernel::net::<Mapped>(round.ct);
        if let Some(counters) = counters::of::<Mapped>(net, call.run.cpu, call.run.program) {
            add!(counters, allocs[call.run.copy]);
        }
        call.end();
    }
}

#[inline(always)]
fn free(ctx: &RawTracePointContext, round: &Round, copy: usize) {
    if let Some(call) = once::begin(ctx, Hook::Free, Program::Free, copy) {
        hooks::free::<Mapped>(round.ct, &call.run);
        call.end();
    }
}

programs! {
    /// Makes the two namespaces, and an entry in each.
    fn bench_set_up(_ctx) {
        for index in 0..2 {
            let netns = fake::netns(fake::reference(index));
            // SAFETY: an element of the static, and nobody else writes it.
            unsafe {
                (*netns).cookie = index + 1;
                (*netns).inode = 1000 + index as u32;
                (*netns).references = 1;
            }
            if let Some(entry) = fake::entry(index as u32) {
                set(entry, index as u32);
                // SAFETY: a map value.
                unsafe { (*entry).net = fake::reference(index) };
            }
        }
        0
    }

    /// Writes events into the ring: [`ROUNDS`] flows from the number in the first argument on; the second
    /// argument is 1 where they end. Returns how many were sent.
    fn bench_send(ctx) {
        let (first, ends): (u64, u64) = (ctx.arg(0), ctx.arg(1));
        let kind = if ends == 1 { EVENT_DESTROY } else { EVENT_INSERT_PACKET };
        let mut sent = 0;
        let mut round = 0;
        while round < ROUNDS {
            let number = (first as u32).wrapping_add(round) % ENTRIES;
            if let Some(entry) = fake::entry(number) {
                set(entry, number);
                let Some(cpu) = percpu::of(percpu::number()) else { break };
                let ct = entry.cast_const().cast();
                let address = percpu::address(cpu, Program::Insert as usize, ct);
                let outcome = events::send::<Mapped>(ct, address, 1, 0, kind, CAUSE_KERNEL);
                sent += i32::from(matches!(outcome, Outcome::Sent));
            }
            round += 1;
        }
        sent
    }
}

/// Makes the entry that of the UDP flow number `number`, in the first namespace.
#[inline(always)]
fn set(entry: *mut FakeEntry, number: u32) {
    let [low, high, more, _] = number.to_le_bytes();
    // SAFETY: a map value.
    unsafe {
        (*entry).net = fake::reference(0);
        for (tuple, is_reply) in
            [(&raw mut (*entry).original, false), (&raw mut (*entry).reply, true)]
        {
            (*tuple).family = 2;
            (*tuple).protocol = 17;
            (*tuple).direction = is_reply.into();
            let near = [10, more, high, low];
            let (source, destination) = if is_reply {
                (&raw mut (*tuple).destination, &raw mut (*tuple).source)
            } else {
                (&raw mut (*tuple).source, &raw mut (*tuple).destination)
            };
            source.cast::<[u8; 4]>().write(near);
            destination.cast::<[u8; 4]>().write([10, 96, 0, 10]);
            (*tuple).source_port = [0x80, low];
            (*tuple).destination_port = [0, 53];
        }
    }
}
