//! Programs that time the bodies of the others in a loop, for `cargo xtask bench`: raw tracepoint programs, which
//! the kernel runs by itself on request (`BPF_PROG_TEST_RUN`), also where it refuses those that attach.
//! On the host this is an empty program.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod causes;
#[cfg(target_arch = "bpf")]
mod config;
#[cfg(target_arch = "bpf")]
mod counters;
#[cfg(target_arch = "bpf")]
mod events;
#[cfg(target_arch = "bpf")]
mod hooks;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod netns;
#[cfg(target_arch = "bpf")]
mod once;
#[cfg(target_arch = "bpf")]
mod percpu;
#[cfg(target_arch = "bpf")]
mod timed;
#[cfg(target_arch = "bpf")]
mod windows;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: no path that the verifier accepts reaches a panic; it refuses the program otherwise.
    unsafe { core::hint::unreachable_unchecked() }
}

/// The helpers that read kernel memory are given to GPL-compatible programs only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
