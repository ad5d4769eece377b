//! The kernel programs. On the host this is an empty program, so that the workspace builds as one.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// For `counters::increment` and `percpu::opaque`. The target itself needs the same switch of the
// compiler, which conntrack-user/build.rs sets.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

// By its path, so that its modules are found beside it.
#[cfg(target_arch = "bpf")]
#[path = "programs.rs"]
mod programs;

#[cfg(target_arch = "bpf")]
use programs::*;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
