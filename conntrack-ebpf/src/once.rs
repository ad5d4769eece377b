//! Counting a call exactly once although a program can be skipped.
//!
//! The kernel does not run a tracing program on a CPU on which it is already running. That happens
//! when a task is interrupted or pre-empted inside the program, and lasts until it runs again: on a
//! pre-emptible kernel whole time slices of calls go uncounted. So each program that runs in such a
//! place has copies on the same function. They run one after the other (the kernel puts what is
//! attached last first, so the loader attaches the last copy first). The first that is not skipped
//! counts and leaves a note; the ones after it see the note and do nothing. A call is missed only
//! when all copies are skipped, and then the kernel counts a recursion miss of the last one.

use aya_ebpf::{EbpfContext, programs::FExitContext};

use crate::{
    config,
    percpu::{self, Cpu, Hook, NOTES, Program},
};

/// A run of a copy of a program.
pub(crate) struct Run {
    /// What is kept on this CPU.
    pub(crate) cpu: *mut Cpu,
    /// The index of what this copy keeps.
    pub(crate) program: usize,
    /// Which copy it is.
    pub(crate) copy: usize,
}

/// Runs `body` unless an earlier copy has done so for this call.
///
/// `ctx`'s address is the same for all copies in one call, and no other call has it meanwhile.
#[inline(always)]
pub(crate) fn once<C: EbpfContext>(
    ctx: &C,
    hook: Hook,
    first: Program,
    copy: usize,
    body: impl FnOnce(&C, &Run),
) {
    let Some(cpu) = percpu::of(percpu::number()) else {
        return;
    };
    let run = Run { cpu, program: first as usize + copy, copy };
    let address = percpu::address(cpu, run.program, ctx.as_ptr());
    let place = percpu::stack(address) as usize % NOTES;
    let note = note(cpu, hook, place);
    // SAFETY: `note` points into the map value of this CPU.
    let noted = unsafe { note.read_volatile() } == address;
    let is_last = copy as u32 == config::copies() - 1;
    if copy == 0 || !(noted || is_noted_elsewhere(hook, place, address, is_last)) {
        body(ctx, &run);
        if !is_last {
            // SAFETY: as above.
            unsafe { note.write_volatile(address) };
        }
    } else if noted && is_last {
        // SAFETY: as above.
        unsafe { note.write_volatile(0) };
    }
}

#[inline(always)]
fn note(cpu: *mut Cpu, hook: Hook, place: usize) -> *mut u64 {
    // SAFETY: `cpu` is a map value, and `place` is below the number of places.
    unsafe { &raw mut (*cpu).notes[hook as usize][place] }
}

/// Whether the note was left on another CPU: the task has moved between two copies. `take` takes it
/// away: a later call of the task has the same address.
///
/// Only reached when the first copy was skipped, or the task has moved.
#[inline(always)]
fn is_noted_elsewhere(hook: Hook, place: usize, address: u64, take: bool) -> bool {
    let mut number = 0;
    while number < config::cpus() {
        let Some(cpu) = percpu::of(number) else {
            return false;
        };
        let note = note(cpu, hook, place);
        // SAFETY: `note` points into the map value of that CPU. A note with this address is this
        // call's, so nobody else writes it meanwhile.
        unsafe {
            if note.read_volatile() == address {
                if take {
                    note.write_volatile(0);
                }
                return true;
            }
        }
        number += 1;
    }
    false
}

/// The value that the hooked function returned, in full. It is found behind the last argument, which
/// works from 5.5 on; the helper for it needs 5.17.
#[inline(always)]
pub(crate) fn returned(ctx: &FExitContext, arguments: usize) -> u64 {
    ctx.arg(arguments)
}
