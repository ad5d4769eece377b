//! What every object of kernel programs is made of; `main.rs` and `bench.rs` are the two there are.

pub(crate) mod causes;
pub(crate) mod config;
pub(crate) mod counters;
pub(crate) mod events;
pub(crate) mod hooks;
pub(crate) mod kept;
pub(crate) mod kernel;
pub(crate) mod lately;
pub(crate) mod merges;
pub(crate) mod netns;
pub(crate) mod once;
pub(crate) mod percpu;
pub(crate) mod windows;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: no path that the verifier accepts reaches a panic; it refuses the program otherwise.
    unsafe { core::hint::unreachable_unchecked() }
}

/// The helpers that read kernel memory are given to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
