//! The hooks: places in the kernel where something is counted.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::rungs::{self, Data, Rung};

/// A place in the kernel where something is counted. Each one can be missing alone; what it counts
/// is then unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Hook {
    /// Allocated and refused entries.
    Alloc,
    /// Inserts by packets.
    Insert,
    /// Inserts through ctnetlink and BPF kfuncs.
    HashInsert,
    /// Deletes and, with [`Hook::EarlyDrop`], evictions.
    Delete,
    /// Deletes that a user asked for.
    DeleteCause,
    /// Frees.
    Free,
    /// Evictions and packets dropped because the table is full.
    EarlyDrop,
    /// Clashes: entries that found another one with their tuple.
    Clash,
    /// Packets dropped because their entry could not be hashed.
    Confirm,
    /// Namespaces that end.
    NetnsEnd,
}

/// The ways to attach programs, of which one is used for all hooks: what they count fits together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Family {
    /// Trampolines on functions whose type the kernel knows (BTF).
    #[value(name = "fentry")]
    Tracing,
    /// Breakpoints on functions found by their name.
    Kprobe,
}

/// What evicts. With kprobes, a delete is known for an eviction by its caller.
pub const EARLY_DROP: &str = "early_drop";

/// What hashes an entry of ctnetlink. With kprobes, an insert is known for one by its caller.
pub const HASH_CHECK_INSERT: &str = "nf_conntrack_hash_check_insert";

impl Hook {
    /// All hooks.
    pub const ALL: [Self; 10] = [
        Self::Alloc,
        Self::Insert,
        Self::HashInsert,
        Self::Delete,
        Self::DeleteCause,
        Self::Free,
        Self::EarlyDrop,
        Self::Clash,
        Self::Confirm,
        Self::NetnsEnd,
    ];

    const fn data(self) -> &'static Data {
        rungs::of(self)
    }

    /// The name in options and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.data().name
    }

    /// The ways to count what it counts by trampolines, the best first.
    #[must_use]
    pub const fn rungs(self) -> &'static [Rung] {
        self.data().rungs
    }

    /// The kernel function of the best one.
    #[must_use]
    pub const fn function(self) -> &'static str {
        self.data().rungs[0].parts[0].functions[0]
    }

    /// All kernel functions that it may be attached to by trampolines, under all names that they have had.
    pub fn functions(self) -> impl Iterator<Item = &'static str> {
        let parts = self.rungs().iter().flat_map(|rung| rung.parts);
        parts.flat_map(|part| part.functions).copied()
    }

    /// The program for a kprobe, and the function it is put on, under all names that it has had. None
    /// where it takes what a function returns.
    #[must_use]
    pub const fn kprobe(self) -> Option<(&'static str, &'static [&'static str])> {
        self.data().kprobe
    }

    /// Whether the count of entries rests on it: without it there is nothing to show.
    #[must_use]
    pub const fn is_required(self, family: Family) -> bool {
        match family {
            Family::Tracing => matches!(self, Self::Alloc | Self::Free),
            // Refused allocations are told apart by what early_drop evicts.
            Family::Kprobe => matches!(
                self,
                Self::Alloc | Self::Free | Self::EarlyDrop | Self::Delete | Self::DeleteCause
            ),
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
