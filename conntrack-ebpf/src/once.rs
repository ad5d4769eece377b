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

impl Run {
    /// That of a program without copies.
    #[inline(always)]
    pub(crate) const fn only(cpu: *mut Cpu, program: Program) -> Self {
        Self { cpu, program: program as usize, copy: 0 }
    }
}

/// A call that this copy of a program has to deal with.
pub(crate) struct Call {
    pub(crate) run: Run,
    /// The place of the note for the copies after it; none: there are none.
    note: Option<*mut u64>,
    address: u64,
}

/// The call, unless an earlier copy has dealt with it. The caller counts between this and [`Call::end`]: a
/// closure as a parameter would become one function that all copies call.
///
/// `ctx`'s address is the same for all copies in one call, and no other call has it meanwhile.
#[inline(always)]
pub(crate) fn begin(
    ctx: &impl EbpfContext,
    hook: Hook,
    first: Program,
    copy: usize,
) -> Option<Call> {
    let cpu = percpu::of(percpu::number())?;
    let run = Run { cpu, program: first as usize + copy, copy };
    let is_last = copy as u32 + 1 == config::copies();
    let address = percpu::address(cpu, run.program, ctx.as_ptr());
    let place = percpu::stack(address) as usize % NOTES;
    let note = note(cpu, hook, place);
    if copy != 0 {
        // SAFETY: `note` points into the map value of this CPU.
        let noted = unsafe { note.read_volatile() } == address;
        if noted && is_last {
            // SAFETY: as above.
            unsafe { note.write_volatile(0) };
        }
        if noted || is_noted_elsewhere(hook, place, address, is_last) {
            return None;
        }
    }
    Some(Call { run, note: (!is_last).then_some(note), address })
}

impl Call {
    /// Leaves the note for the copies after this one.
    #[inline(always)]
    pub(crate) fn end(&self) {
        if let Some(note) = self.note {
            // SAFETY: it points into the map value of this CPU.
            unsafe { note.write_volatile(self.address) };
        }
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
