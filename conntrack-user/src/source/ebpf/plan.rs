//! What is attached where: the hooks, and the ladder of ways to attach one. Pure: the kernel is
//! passed in as a function.

use std::fmt;

use conntrack_ebpf::COPIES;
use thiserror::Error;

use super::btf::{Btf, BtfError, Function};

/// A place in the kernel where something is counted. Each one can be missing alone; what it counts
/// is then unavailable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Allocated and refused entries.
    Alloc,
    /// Inserts by packets.
    Insert,
    /// Inserts through ctnetlink and BPF kfuncs.
    HashInsert,
    /// Deletes and, with [`Hook::EarlyDrop`], evictions.
    Delete,
    /// Frees.
    Free,
    /// Evictions and packets dropped because the table is full.
    EarlyDrop,
}

impl Hook {
    /// All hooks.
    pub const ALL: [Self; 6] =
        [Self::Alloc, Self::Insert, Self::HashInsert, Self::Delete, Self::Free, Self::EarlyDrop];

    /// The name in options and output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alloc => "alloc",
            Self::Insert => "insert",
            Self::HashInsert => "hash-insert",
            Self::Delete => "delete",
            Self::Free => "free",
            Self::EarlyDrop => "early-drop",
        }
    }

    /// The kernel function (net/netfilter/nf_conntrack_core.c).
    #[must_use]
    pub const fn function(self) -> &'static str {
        match self {
            Self::Alloc => "__nf_conntrack_alloc",
            Self::Insert => "__nf_conntrack_insert_prepare",
            Self::HashInsert => "nf_conntrack_hash_check_insert",
            Self::Delete => "__nf_ct_delete_from_lists",
            Self::Free => "nf_conntrack_free",
            Self::EarlyDrop => "early_drop",
        }
    }

    /// How many parameters the function takes. The programs find the value it returns behind the
    /// last one, so a function with another number is another function.
    const fn parameters(self) -> u32 {
        match self {
            Self::Alloc => 6,
            Self::Insert | Self::HashInsert | Self::Delete | Self::Free => 1,
            Self::EarlyDrop => 2,
        }
    }

    /// The programs, in the order in which they are attached. What is attached last runs first, and
    /// the first copy has to.
    #[must_use]
    pub const fn programs(self) -> &'static [Program] {
        use At::{Entry, Exit};
        const fn only(name: &'static str, at: At) -> Program {
            Program { name, at, is_last: true }
        }
        const fn copies(names: [&'static str; COPIES], at: At) -> [Program; COPIES] {
            let [first, second, third] = names;
            [
                Program { name: third, at, is_last: true },
                Program { name: second, at, is_last: false },
                Program { name: first, at, is_last: false },
            ]
        }
        const ALLOC: [Program; COPIES] =
            copies(["ctmon_alloc", "ctmon_alloc_2", "ctmon_alloc_3"], Exit);
        const INSERT: [Program; 1] = [only("ctmon_insert", Entry)];
        const HASH_INSERT: [Program; COPIES] =
            copies(["ctmon_hash_ins", "ctmon_hash_ins2", "ctmon_hash_ins3"], Exit);
        const DELETE: [Program; 1] = [only("ctmon_delete", Entry)];
        const FREE: [Program; COPIES] =
            copies(["ctmon_free", "ctmon_free_2", "ctmon_free_3"], Entry);
        const DROP: [Program; COPIES] =
            copies(["ctmon_drop", "ctmon_drop_2", "ctmon_drop_3"], Exit);
        const DROP_IN: [Program; COPIES] =
            copies(["ctmon_drop_in", "ctmon_drop_in2", "ctmon_drop_in3"], Entry);
        // The end before the beginning: no note without someone to take it away.
        const EARLY_DROP: [Program; 2 * COPIES] =
            [DROP[0], DROP[1], DROP[2], DROP_IN[0], DROP_IN[1], DROP_IN[2]];
        match self {
            Self::Alloc => &ALLOC,
            Self::Insert => &INSERT,
            Self::HashInsert => &HASH_INSERT,
            Self::Delete => &DELETE,
            Self::Free => &FREE,
            Self::EarlyDrop => &EARLY_DROP,
        }
    }

    /// Whether the count of entries rests on it: without it there is nothing to show.
    #[must_use]
    pub const fn is_required(self) -> bool {
        matches!(self, Self::Alloc | Self::Free)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A kernel program of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// Its name in the object file, as `bpftool prog` shows it.
    pub name: &'static str,
    /// Where in the function it runs.
    pub at: At,
    /// Whether no copy of it runs after it: what this one is skipped for, nobody counts.
    pub is_last: bool,
}

/// Where in a function a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Before its first instruction.
    Entry,
    /// After it has returned.
    Exit,
}

/// Which BTF the function is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// The kernel itself.
    Vmlinux,
    /// The module nf_conntrack.
    Module,
}

/// A way to attach a hook's programs: trampolines (fentry, fexit) on a function found in BTF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Where the function is.
    pub image: Image,
    /// Its id in that BTF.
    pub function: Function,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.image {
            Image::Vmlinux => "fentry/fexit (vmlinux)",
            Image::Module => "fentry/fexit (module nf_conntrack)",
        })
    }
}

/// What became of a hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookReport {
    /// The hook.
    pub hook: Hook,
    /// How it was attached, or why it was not.
    pub outcome: Result<Way, NotAttached>,
}

/// Why a hook is not attached.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{reason}")]
pub struct NotAttached {
    /// A sentence for the reader.
    pub reason: String,
    /// Whether the kernel refused for want of permission.
    pub is_refused: bool,
}

impl From<String> for NotAttached {
    fn from(reason: String) -> Self {
        Self { reason, is_refused: false }
    }
}

impl HookReport {
    /// Whether it counts.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.outcome.is_ok()
    }
}

/// The ways to attach `hook` that BTF promises, best first, or why there is none.
///
/// # Errors
/// A sentence for the reader: the function is not there, or is not the one the programs know.
pub fn ways(hook: Hook, vmlinux: &Btf, module: Option<&Btf>) -> Result<Vec<Way>, String> {
    let name = hook.function();
    let find = |btf: &Btf| btf.function(name).map_err(|error: BtfError| error.to_string());
    let mut ways = Vec::new();
    if let Some(function) = find(vmlinux)? {
        ways.push(Way { image: Image::Vmlinux, function });
    }
    if let Some(function) = module.map(find).transpose()?.flatten() {
        ways.push(Way { image: Image::Module, function });
    }
    if ways.is_empty() {
        return Err(format!(
            "this kernel's BTF has no function {name}: it is built without it, has inlined it, or has \
             no BTF for the module nf_conntrack"
        ));
    }
    if let Some(other) = ways.iter().find(|way| way.function.parameters != hook.parameters()) {
        return Err(format!(
            "{name} takes {} parameters in this kernel, not {}",
            other.function.parameters,
            hook.parameters()
        ));
    }
    Ok(ways)
}

/// Takes the first of `ways` that really attaches.
///
/// # Errors
/// All the reasons, when none does.
pub fn first_that_attaches<T>(
    ways: &[Way],
    mut attach: impl FnMut(&Way) -> anyhow::Result<T>,
) -> Result<(Way, T), NotAttached> {
    let mut reasons = Vec::new();
    let mut is_refused = false;
    for way in ways {
        match attach(way) {
            Ok(attached) => return Ok((*way, attached)),
            Err(error) => {
                is_refused |= super::is_refused(&error);
                reasons.push(format!("{way}: {error:#}"));
            }
        }
    }
    Err(NotAttached { reason: reasons.join("; "), is_refused })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(image: Image) -> Way {
        Way { image, function: Function { id: 7, parameters: 1 } }
    }

    #[test]
    fn the_first_way_that_attaches_is_taken_and_the_next_not_tried() {
        let mut tried = vec![];
        let ways = [way(Image::Vmlinux), way(Image::Module)];
        let (taken, ()) = first_that_attaches(&ways, |way| {
            tried.push(way.image);
            Ok(())
        })
        .unwrap();
        assert_eq!(taken.image, Image::Vmlinux);
        assert_eq!(tried, [Image::Vmlinux]);
    }

    #[test]
    fn what_is_refused_is_passed_over_and_all_reasons_are_kept() {
        let ways = [way(Image::Vmlinux), way(Image::Module)];
        let (taken, ()) = first_that_attaches(&ways, |way| match way.image {
            Image::Vmlinux => Err(anyhow::anyhow!("refused")),
            Image::Module => Ok(()),
        })
        .unwrap();
        assert_eq!(taken.image, Image::Module);

        let error =
            first_that_attaches::<()>(&ways, |_| Err(anyhow::anyhow!("no room"))).unwrap_err();
        let expected =
            "fentry/fexit (vmlinux): no room; fentry/fexit (module nf_conntrack): no room";
        assert_eq!((error.reason.as_str(), error.is_refused), (expected, false));

        let refuse = |_: &Way| Err(std::io::Error::from_raw_os_error(libc::EPERM).into());
        assert!(first_that_attaches::<()>(&ways, refuse).unwrap_err().is_refused);
    }

    #[test]
    fn copies_are_attached_last_one_first() {
        for hook in Hook::ALL {
            for group in hook.programs().chunk_by(|_, next| !next.is_last) {
                let copies: Vec<bool> = group.iter().map(|program| program.is_last).collect();
                assert!(matches!(copies[..], [true] | [true, false, false]), "{hook}: {copies:?}");
            }
        }
    }

    #[test]
    fn names_of_programs_fit_the_kernel_and_are_known_by_their_prefix() {
        for program in Hook::ALL.iter().flat_map(|hook| hook.programs()) {
            assert!(program.name.starts_with("ctmon_"), "{}", program.name);
            // BPF_OBJ_NAME_LEN, with the NUL.
            assert!(program.name.len() < 16, "{}", program.name);
        }
    }
}
