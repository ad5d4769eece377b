//! What knows the kernel.

pub mod ebpf;
