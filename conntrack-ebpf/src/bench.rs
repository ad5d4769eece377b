//! Programs that time the bodies of the others in a loop, for `cargo xtask bench`: raw tracepoint programs, which
//! the kernel runs by itself on request (`BPF_PROG_TEST_RUN`), also where it refuses those that attach.
//! On the host this is an empty program.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
#[path = "programs.rs"]
mod programs;
#[cfg(target_arch = "bpf")]
mod timed;

#[cfg(target_arch = "bpf")]
use programs::*;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
