//! Traffic that fills a connection tracking table with a known number of entries.
//!
//! The kernel tests and the program `ctmon-traffic` share it. Every number is taken from what the
//! system calls returned, so it is a witness of its own beside the kernel's counters and ctmon's.

pub mod bench;
pub mod client;
pub mod cpu;
pub mod traffic;
