//! The hooks: places in the kernel where something is counted, and the programs that do it.

use std::fmt;

use conntrack_ebpf::COPIES;
use serde::{Deserialize, Serialize};

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

/// A kernel program of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Its name in the object file, as `bpftool prog` shows it.
    pub name: &'static str,
    /// Where in the function it runs.
    pub at: At,
    /// Which copy it is, from 0 in the order in which they run; none where there is one program only.
    pub copy: Option<u32>,
}

/// Where in a function a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Before its first instruction.
    Entry,
    /// After it has returned.
    Exit,
}

/// What is known of a hook.
struct Data {
    name: &'static str,
    /// The kernel function, in each version of the kernel that has another one.
    functions: &'static [&'static str],
    /// How many parameters the function takes. The programs find the value it returns behind the
    /// last one, so a function with another number is another function.
    parameters: u32,
    /// In the order in which they are attached. What is attached last runs first, and the first copy
    /// has to.
    tracing: &'static [Program],
    /// The program for a kprobe, and the function where that is another one.
    kprobe: Option<(&'static str, &'static [&'static str])>,
}

const fn only(name: &'static str, at: At) -> [Program; 1] {
    [Program { name, at, copy: None }]
}

const fn copies(names: [&'static str; COPIES], at: At) -> [Program; COPIES] {
    let [first, second, third] = names;
    [
        Program { name: third, at, copy: Some(2) },
        Program { name: second, at, copy: Some(1) },
        Program { name: first, at, copy: Some(0) },
    ]
}

const DROP: [Program; COPIES] = copies(["ctmon_drop", "ctmon_drop_2", "ctmon_drop_3"], At::Exit);
const DROP_IN: [Program; COPIES] =
    copies(["ctmon_drop_in", "ctmon_drop_in2", "ctmon_drop_in3"], At::Entry);

const DELETE: &[&str] = &["__nf_ct_delete_from_lists", "nf_ct_delete_from_lists"];

const ALLOC: Data = Data {
    name: "alloc",
    functions: &["__nf_conntrack_alloc"],
    parameters: 6,
    tracing: &copies(["ctmon_alloc", "ctmon_alloc_2", "ctmon_alloc_3"], At::Exit),
    kprobe: Some(("ctmon_k_alloc", &["__nf_conntrack_alloc"])),
};

const INSERT: Data = Data {
    name: "insert",
    functions: &["__nf_conntrack_insert_prepare"],
    parameters: 1,
    tracing: &only("ctmon_insert", At::Entry),
    kprobe: Some(("ctmon_k_insert", &["__nf_conntrack_insert_prepare"])),
};

const HASH_INSERT: Data = Data {
    name: "hash-insert",
    functions: &[HASH_CHECK_INSERT],
    parameters: 1,
    tracing: &copies(["ctmon_hash_ins", "ctmon_hash_ins2", "ctmon_hash_ins3"], At::Exit),
    kprobe: Some(("ctmon_k_hashins", &["__nf_conntrack_hash_insert"])),
};

const DELETE_DATA: Data = Data {
    name: "delete",
    functions: DELETE,
    parameters: 1,
    tracing: &only("ctmon_delete", At::Entry),
    kprobe: Some(("ctmon_k_delete", DELETE)),
};

const DELETE_CAUSE: Data = Data {
    name: "delete-cause",
    functions: &["nf_ct_delete"],
    parameters: 3,
    tracing: &only("ctmon_cause", At::Entry),
    kprobe: Some(("ctmon_k_cause", &["nf_ct_delete"])),
};

const FREE: Data = Data {
    name: "free",
    functions: &["nf_conntrack_free"],
    parameters: 1,
    tracing: &copies(["ctmon_free", "ctmon_free_2", "ctmon_free_3"], At::Entry),
    kprobe: Some(("ctmon_k_free", &["nf_conntrack_free"])),
};

const EARLY_DROP_DATA: Data = Data {
    name: "early-drop",
    functions: &[EARLY_DROP],
    parameters: 2,
    // The end before the beginning: no note without someone to take it away.
    tracing: &[DROP[0], DROP[1], DROP[2], DROP_IN[0], DROP_IN[1], DROP_IN[2]],
    kprobe: Some(("ctmon_k_drop", &[EARLY_DROP])),
};

const CLASH: Data = Data {
    name: "clash",
    functions: &["nf_ct_resolve_clash"],
    parameters: 3,
    tracing: &only("ctmon_clash", At::Exit),
    kprobe: Some(("ctmon_k_clash", &["nf_ct_resolve_clash"])),
};

const CONFIRM: Data = Data {
    name: "confirm",
    functions: &["__nf_conntrack_confirm"],
    parameters: 1,
    tracing: &only("ctmon_confirm", At::Exit),
    kprobe: None,
};

const NETNS_END: Data = Data {
    name: "netns-end",
    functions: &["nf_conntrack_expect_pernet_fini"],
    parameters: 1,
    tracing: &only("ctmon_end", At::Entry),
    kprobe: Some(("ctmon_k_end", &["nf_conntrack_expect_pernet_fini"])),
};

/// What evicts. With kprobes, a delete is known for an eviction by its caller.
pub const EARLY_DROP: &str = "early_drop";

/// What hashes an entry of ctnetlink. With kprobes, an insert is known for one by its caller.
pub const HASH_CHECK_INSERT: &str = "nf_conntrack_hash_check_insert";

impl Program {
    /// Whether none of `copies` runs after it: what this one is skipped for, nobody counts.
    #[must_use]
    pub fn is_last(&self, copies: u32) -> bool {
        self.copy.is_none_or(|copy| copy + 1 == copies)
    }
}

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
        match self {
            Self::Alloc => &ALLOC,
            Self::Insert => &INSERT,
            Self::HashInsert => &HASH_INSERT,
            Self::Delete => &DELETE_DATA,
            Self::DeleteCause => &DELETE_CAUSE,
            Self::Free => &FREE,
            Self::EarlyDrop => &EARLY_DROP_DATA,
            Self::Clash => &CLASH,
            Self::Confirm => &CONFIRM,
            Self::NetnsEnd => &NETNS_END,
        }
    }

    /// The name in options and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.data().name
    }

    /// The kernel function (net/netfilter/nf_conntrack_core.c, nf_conntrack_expect.c).
    #[must_use]
    pub const fn function(self) -> &'static str {
        self.data().functions[0]
    }

    /// The function under all names that it has had.
    #[must_use]
    pub const fn functions(self) -> &'static [&'static str] {
        self.data().functions
    }

    /// How many parameters it takes.
    #[must_use]
    pub const fn parameters(self) -> u32 {
        self.data().parameters
    }

    /// The programs for trampolines with so many copies, in the order in which they are attached.
    pub fn programs(self, copies: u32) -> impl Iterator<Item = &'static Program> {
        let is_wanted = move |program: &&Program| program.copy.is_none_or(|copy| copy < copies);
        self.data().tracing.iter().filter(is_wanted)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_attached_last_one_first() {
        for (hook, copies) in Hook::ALL.into_iter().flat_map(|hook| [(hook, 2), (hook, 3)]) {
            let programs: Vec<&Program> = hook.programs(copies).collect();
            for group in programs.chunk_by(|_, next| !next.is_last(copies)) {
                let numbers: Vec<_> = group.iter().map(|program| program.copy).collect();
                let expected: Vec<_> = (0..copies).rev().map(Some).collect();
                assert!(numbers == [None] || numbers == expected, "{hook}: {numbers:?}");
            }
        }
    }

    #[test]
    fn names_of_programs_fit_the_kernel_and_are_known_by_their_prefix() {
        let tracing =
            Hook::ALL.iter().flat_map(|hook| hook.programs(3)).map(|program| program.name);
        let kprobes = Hook::ALL.iter().filter_map(|hook| hook.kprobe()).map(|(name, _)| name);
        for name in tracing.chain(kprobes) {
            assert!(name.starts_with("ctmon_"), "{name}");
            // BPF_OBJ_NAME_LEN, with the NUL.
            assert!(name.len() < 16, "{name}");
        }
    }
}
