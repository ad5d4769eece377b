//! `ctmon doctor`: [`gather`] reads what this machine is like, [`verdict`] judges it, [`bundle`] packs
//! both for a bug report. Reads only: no module is loaded, the table is not dumped; the kernel programs
//! are attached for a moment.

pub mod bundle;
pub mod facts;
pub mod gather;
pub mod setters;
pub mod verdict;

/// The module, where conntrack is one.
const MODULE: &str = "nf_conntrack";
