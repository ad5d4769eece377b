//! The programs of each hook, and the kernel functions that they are attached to.
//!
//! A compiler may put a small static function into those that call it. Then the next rung counts the same in the functions
//! that are left.

use conntrack_ebpf::COPIES;

use super::hook::{EARLY_DROP, HASH_CHECK_INSERT, Hook};

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

/// A way to count what a hook counts: functions that have to be there, all of them.
#[derive(Debug, Clone, Copy)]
pub struct Rung {
    /// The functions.
    pub parts: &'static [Part],
    /// A sentence on what is counted wrong on this rung; none: all counts are exact.
    pub not_exact: Option<&'static str>,
    /// Another hook that it needs to be exact, and what is counted wrong without.
    pub rests_on: Option<(Hook, &'static str)>,
}

/// A function, and the programs on it.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Its name (net/netfilter/nf_conntrack_core.c, nf_conntrack_expect.c), in each version of the kernel that has another
    /// one.
    pub functions: &'static [&'static str],
    /// How many parameters it takes. The programs find the value that it returns behind the last one, so a function with
    /// another number is another function.
    pub parameters: u32,
    /// In the order in which they are attached. What is attached last runs first, and the first copy has to.
    programs: &'static [Program],
}

/// What is known of a hook.
pub(super) struct Data {
    pub(super) name: &'static str,
    /// The best first.
    pub(super) rungs: &'static [Rung],
    /// The program for a kprobe, and the function that it is put on, under all names that it has had.
    pub(super) kprobe: Option<(&'static str, &'static [&'static str])>,
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

/// A rung of one function, exact.
const fn rung(part: &'static [Part]) -> [Rung; 1] {
    [Rung { parts: part, not_exact: None, rests_on: None }]
}

const DROP: [Program; COPIES] = copies(["ctmon_drop", "ctmon_drop_2", "ctmon_drop_3"], At::Exit);
const DROP_IN: [Program; COPIES] =
    copies(["ctmon_drop_in", "ctmon_drop_in2", "ctmon_drop_in3"], At::Entry);

const DELETE_FUNCTIONS: &[&str] = &["__nf_ct_delete_from_lists", "nf_ct_delete_from_lists"];

const ALLOC: Data = Data {
    name: "alloc",
    rungs: &[
        Rung {
            parts: &[Part {
                functions: &["__nf_conntrack_alloc"],
                parameters: 6,
                programs: &copies(["ctmon_alloc", "ctmon_alloc_2", "ctmon_alloc_3"], At::Exit),
            }],
            not_exact: None,
            rests_on: None,
        },
        Rung {
            parts: &[
                Part {
                    functions: &["init_conntrack"],
                    parameters: 6,
                    programs: &copies(["ctmon_init", "ctmon_init_2", "ctmon_init_3"], At::Exit),
                },
                Part {
                    functions: &["nf_conntrack_alloc"],
                    parameters: 5,
                    programs: &copies(
                        ["ctmon_nalloc", "ctmon_nalloc_2", "ctmon_nalloc_3"],
                        At::Exit,
                    ),
                },
            ],
            not_exact: Some(
                "an entry that init_conntrack frees itself, for want of memory for a SYNPROXY, is counted as refused: the \
                 drift shows it; refused packets are not among the victims",
            ),
            rests_on: None,
        },
    ],
    kprobe: Some(("ctmon_k_alloc", &["__nf_conntrack_alloc"])),
};

const INSERT: Data = Data {
    name: "insert",
    rungs: &[
        Rung {
            parts: &[Part {
                functions: &["__nf_conntrack_insert_prepare"],
                parameters: 1,
                programs: &only("ctmon_insert", At::Entry),
            }],
            not_exact: None,
            rests_on: None,
        },
        Rung {
            parts: &[Part {
                functions: &["__nf_conntrack_confirm"],
                parameters: 1,
                programs: &copies(
                    ["ctmon_conf_ins", "ctmon_conf_ins2", "ctmon_conf_ins3"],
                    At::Exit,
                ),
            }],
            not_exact: None,
            rests_on: Some((
                Hook::Clash,
                "a packet that is merged into the winner of a clash is counted as an insert",
            )),
        },
    ],
    kprobe: Some(("ctmon_k_insert", &["__nf_conntrack_insert_prepare"])),
};

const HASH_INSERT: Data = Data {
    name: "hash-insert",
    rungs: &rung(&[Part {
        functions: &[HASH_CHECK_INSERT],
        parameters: 1,
        programs: &copies(["ctmon_hash_ins", "ctmon_hash_ins2", "ctmon_hash_ins3"], At::Exit),
    }]),
    kprobe: Some(("ctmon_k_hashins", &["__nf_conntrack_hash_insert"])),
};

const DELETE: Data = Data {
    name: "delete",
    rungs: &[
        Rung {
            parts: &[Part {
                functions: DELETE_FUNCTIONS,
                parameters: 1,
                programs: &only("ctmon_delete", At::Entry),
            }],
            not_exact: None,
            rests_on: None,
        },
        Rung {
            parts: &[Part {
                functions: &["nf_ct_delete"],
                parameters: 3,
                programs: &copies(["ctmon_ndelete", "ctmon_ndelete2", "ctmon_ndelete3"], At::Exit),
            }],
            not_exact: Some(
                "a delete whose ctnetlink event cannot be delivered is not counted: dying_entries shows it",
            ),
            rests_on: None,
        },
    ],
    kprobe: Some(("ctmon_k_delete", DELETE_FUNCTIONS)),
};

const DELETE_CAUSE: Data = Data {
    name: "delete-cause",
    rungs: &rung(&[Part {
        functions: &["nf_ct_delete"],
        parameters: 3,
        programs: &only("ctmon_cause", At::Entry),
    }]),
    kprobe: Some(("ctmon_k_cause", &["nf_ct_delete"])),
};

const FREE: Data = Data {
    name: "free",
    rungs: &rung(&[Part {
        functions: &["nf_conntrack_free"],
        parameters: 1,
        programs: &copies(["ctmon_free", "ctmon_free_2", "ctmon_free_3"], At::Entry),
    }]),
    kprobe: Some(("ctmon_k_free", &["nf_conntrack_free"])),
};

const EARLY_DROP_DATA: Data = Data {
    name: "early-drop",
    rungs: &rung(&[Part {
        functions: &[EARLY_DROP],
        parameters: 2,
        // The end before the beginning: no note without someone to take it away.
        programs: &[DROP[0], DROP[1], DROP[2], DROP_IN[0], DROP_IN[1], DROP_IN[2]],
    }]),
    kprobe: Some(("ctmon_k_drop", &[EARLY_DROP])),
};

const CLASH: Data = Data {
    name: "clash",
    rungs: &rung(&[Part {
        functions: &["nf_ct_resolve_clash"],
        parameters: 3,
        programs: &only("ctmon_clash", At::Exit),
    }]),
    kprobe: Some(("ctmon_k_clash", &["nf_ct_resolve_clash"])),
};

const CONFIRM: Data = Data {
    name: "confirm",
    rungs: &rung(&[Part {
        functions: &["__nf_conntrack_confirm"],
        parameters: 1,
        programs: &only("ctmon_confirm", At::Exit),
    }]),
    kprobe: None,
};

/// Called through a pointer (`pernet_operations.exit`), so no compiler inlines it; registered before conntrack's own, so
/// it is called after that one has freed the last entry (`cleanup_net`).
const NETNS_EXIT: &str = "proc_net_ns_exit";

const NETNS_END: Data = Data {
    name: "netns-end",
    rungs: &rung(&[Part {
        functions: &[NETNS_EXIT],
        parameters: 1,
        programs: &only("ctmon_end", At::Entry),
    }]),
    kprobe: Some(("ctmon_k_end", &[NETNS_EXIT])),
};

pub(super) const fn of(hook: Hook) -> &'static Data {
    match hook {
        Hook::Alloc => &ALLOC,
        Hook::Insert => &INSERT,
        Hook::HashInsert => &HASH_INSERT,
        Hook::Delete => &DELETE,
        Hook::DeleteCause => &DELETE_CAUSE,
        Hook::Free => &FREE,
        Hook::EarlyDrop => &EARLY_DROP_DATA,
        Hook::Clash => &CLASH,
        Hook::Confirm => &CONFIRM,
        Hook::NetnsEnd => &NETNS_END,
    }
}

impl Program {
    /// Whether none of `copies` runs after it: what this one is skipped for, nobody counts.
    #[must_use]
    pub fn is_last(&self, copies: u32) -> bool {
        self.copy.is_none_or(|copy| copy + 1 == copies)
    }
}

impl Rung {
    /// How many copies of its programs run, at the most, where there are `copies` of those that have some.
    #[must_use]
    pub fn copies(&self, copies: u32) -> u32 {
        let programs = self.parts.iter().flat_map(|part| part.programs(copies));
        programs.filter_map(|program| program.copy).max().map_or(1, |last| last + 1)
    }
}

impl Part {
    /// The programs with so many copies, in the order in which they are attached.
    pub fn programs(&self, copies: u32) -> impl Iterator<Item = &'static Program> {
        let is_wanted = move |program: &&Program| program.copy.is_none_or(|copy| copy < copies);
        self.programs.iter().filter(is_wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> impl Iterator<Item = (&'static Rung, &'static Part)> {
        let rungs = Hook::ALL.into_iter().flat_map(Hook::rungs);
        rungs.flat_map(|rung| rung.parts.iter().map(move |part| (rung, part)))
    }

    #[test]
    fn copies_are_attached_last_one_first() {
        for copies in [2, 3] {
            for (rung, part) in parts() {
                assert!([1, copies].contains(&rung.copies(copies)));
                let programs: Vec<&Program> = part.programs(copies).collect();
                for group in programs.chunk_by(|_, next| !next.is_last(copies)) {
                    let numbers: Vec<_> = group.iter().map(|program| program.copy).collect();
                    let expected: Vec<_> = (0..copies).rev().map(Some).collect();
                    assert!(numbers == [None] || numbers == expected, "{numbers:?}");
                }
            }
        }
    }

    #[test]
    fn names_of_programs_fit_the_kernel_and_are_known_by_their_prefix() {
        let tracing = parts().flat_map(|(_, part)| part.programs).map(|program| program.name);
        let kprobes = Hook::ALL.iter().filter_map(|hook| hook.kprobe()).map(|(name, _)| name);
        for name in tracing.chain(kprobes) {
            assert!(name.starts_with("ctmon_"), "{name}");
            // BPF_OBJ_NAME_LEN, with the NUL.
            assert!(name.len() < 16, "{name}");
        }
    }
}
