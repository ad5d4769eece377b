//! The ladder of ways to attach a hook. Pure: the kernel is passed in as a function.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    btf::{Btf, BtfError, Function},
    hook::{EARLY_DROP, Family, HASH_CHECK_INSERT, Hook},
    symbols::Symbols,
};

/// Which BTF the function is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Image {
    /// The kernel itself.
    Vmlinux,
    /// The module nf_conntrack.
    Module,
}

/// A way to attach a hook's programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// Trampolines (fentry, fexit) on a function found in BTF.
    Tracing {
        /// Where the function is.
        image: Image,
        /// Its id in that BTF.
        function: Function,
    },
    /// A kprobe on each of these functions.
    Kprobe {
        /// Their names: the function, and what a compiler has split off from it.
        functions: Vec<String>,
    },
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tracing { image: Image::Vmlinux, .. } => "fentry/fexit (vmlinux)",
            Self::Tracing { image: Image::Module, .. } => "fentry/fexit (module nf_conntrack)",
            Self::Kprobe { .. } => "kprobe",
        })
    }
}

/// What became of a hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookReport {
    /// The hook.
    pub hook: Hook,
    /// How it was attached, or why it was not.
    pub outcome: Result<Way, NotAttached>,
}

/// Why a hook is not attached.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[error("{reason}")]
pub struct NotAttached {
    /// A sentence for the reader.
    pub reason: String,
    /// Which of the two it is.
    pub kind: Lack,
}

/// What a hook lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lack {
    /// This kernel has not what it takes.
    Unsupported,
    /// It has, but does not take the program.
    Broken,
    /// It refused for want of permission.
    Refused,
    /// It tells the same by itself.
    NotNeeded,
}

impl From<String> for NotAttached {
    fn from(reason: String) -> Self {
        Self { reason, kind: Lack::Unsupported }
    }
}

/// How a hook stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It counts.
    Attached,
    /// This kernel has not what it takes, or not for the way that the programs are attached.
    Unsupported,
    /// The kernel has what it takes, and refuses the program.
    Broken,
    /// The kernel tells the same by itself.
    #[serde(alias = "unneeded")]
    NotNeeded,
}

impl State {
    /// As JSON and metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Unsupported => "unsupported",
            Self::Broken => "broken",
            Self::NotNeeded => "not_needed",
        }
    }
}

impl HookReport {
    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        match self.outcome.as_ref().map_err(|error| error.kind) {
            Ok(_) => State::Attached,
            Err(Lack::Unsupported) => State::Unsupported,
            Err(Lack::Broken | Lack::Refused) => State::Broken,
            Err(Lack::NotNeeded) => State::NotNeeded,
        }
    }

    /// Whether it counts.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.outcome.is_ok()
    }
}

/// The ways to attach `hook` by trampolines that BTF promises, best first, or why there is none.
///
/// # Errors
/// A sentence for the reader: the function is not there, or is not the one the programs know.
pub fn tracing(
    hook: Hook,
    vmlinux: &Btf,
    module: Option<&Btf>,
    symbols: &Symbols,
) -> Result<Vec<Way>, String> {
    for name in hook.functions() {
        let find = |btf: &Btf| btf.function(name).map_err(|error: BtfError| error.to_string());
        let in_vmlinux = find(vmlinux)?.map(|function| (Image::Vmlinux, function));
        let in_module = module.map(find).transpose()?.flatten();
        let in_module = in_module.map(|function| (Image::Module, function));
        let ways: Vec<_> = in_vmlinux.into_iter().chain(in_module).collect();
        if ways.is_empty() {
            continue;
        }
        if let Some((_, other)) = ways.iter().find(|way| way.1.parameters != hook.parameters()) {
            return Err(format!(
                "{name} takes {} parameters in this kernel, not {}",
                other.parameters,
                hook.parameters()
            ));
        }
        if let Some(part) = symbols.parts(name).next() {
            return Err(format!("in this kernel {part} is called instead of {name}"));
        }
        let way = |(image, function)| Way::Tracing { image, function };
        return Ok(ways.into_iter().map(way).collect());
    }
    Err(format!(
        "this kernel's BTF has no function {}: it is built without it, has inlined it, or has no BTF \
         for the module nf_conntrack",
        hook.functions().join(" or ")
    ))
}

/// The way to attach `hook` by kprobes, or why there is none.
///
/// # Errors
/// Says what is missing.
pub fn kprobe(hook: Hook, symbols: &Symbols) -> Result<Vec<Way>, NotAttached> {
    let Some((_, functions)) = hook.kprobe() else {
        return Err("a kprobe does not see what a function returns".to_owned().into());
    };
    let Some(name) = functions.iter().find(|name| symbols.get(name).is_some()) else {
        return Err(format!(
            "this kernel has no function {}: it is built without it, or has inlined it",
            functions.join(" or ")
        )
        .into());
    };
    // Known by the address of the caller.
    let caller = match hook {
        Hook::DeleteCause => Some(EARLY_DROP),
        Hook::HashInsert => Some(HASH_CHECK_INSERT),
        _ => None,
    };
    if let Some(caller) = caller {
        match symbols.get(caller) {
            None => return Err(format!("this kernel has no function {caller}").into()),
            Some(span) if span.start == 0 => {
                return Err(NotAttached {
                    reason: format!(
                        "the kernel hides the address of {caller}: showing it takes \
                         kernel.kptr_restrict below 2, and CAP_SYSLOG"
                    ),
                    kind: Lack::Refused,
                });
            }
            Some(_) => {}
        }
    }
    let parts = symbols.parts(name).map(str::to_owned);
    Ok(vec![Way::Kprobe { functions: [(*name).to_owned()].into_iter().chain(parts).collect() }])
}

/// Whether it is for `hook` to tell what the kernel tells too. `has_reasons`: the kernel counts failed inserts
/// by reason (`insert_failed` and `chaintoolong`, 5.15 and later with CONFIG_NF_CONNTRACK_PROCFS).
///
/// # Errors
/// It is not: a program at `__nf_conntrack_confirm` costs each new flow about as much as the one that counts
/// its insert.
pub fn needed(family: Family, hook: Hook, has_reasons: bool) -> Result<(), NotAttached> {
    if family == Family::Tracing && hook == Hook::Confirm && has_reasons {
        let reason = "the kernel counts the same (insert_failed and chaintoolong in /proc/net/stat/nf_conntrack)";
        return Err(NotAttached { reason: reason.into(), kind: Lack::NotNeeded });
    }
    Ok(())
}

/// The ways of one family.
///
/// # Errors
/// As [`tracing`] and [`kprobe`].
pub fn ways(
    family: Family,
    hook: Hook,
    vmlinux: &Btf,
    module: Option<&Btf>,
    symbols: &Symbols,
) -> Result<Vec<Way>, NotAttached> {
    match family {
        Family::Tracing => Ok(tracing(hook, vmlinux, module, symbols)?),
        Family::Kprobe => kprobe(hook, symbols),
    }
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
    let mut kind = Lack::Broken;
    for way in ways {
        match attach(way) {
            Ok(attached) => return Ok((way.clone(), attached)),
            Err(error) => {
                if super::is_refused(&error) {
                    kind = Lack::Refused;
                }
                reasons.push(format!("{way}: {error:#}"));
            }
        }
    }
    Err(NotAttached { reason: reasons.join("; "), kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(image: Image) -> Way {
        Way::Tracing { image, function: Function { id: 7, parameters: 1 } }
    }

    fn both() -> [Way; 2] {
        [way(Image::Vmlinux), way(Image::Module)]
    }

    #[test]
    fn the_first_way_that_attaches_is_taken_and_the_next_not_tried() {
        let mut tried = vec![];
        let (taken, ()) = first_that_attaches(&both(), |way| {
            tried.push(way.clone());
            Ok(())
        })
        .unwrap();
        assert_eq!(taken, way(Image::Vmlinux));
        assert_eq!(tried, [way(Image::Vmlinux)]);
    }

    #[test]
    fn what_is_refused_is_passed_over_and_all_reasons_are_kept() {
        let module = way(Image::Module);
        let (taken, ()) = first_that_attaches(&both(), |way| {
            if *way == module { Ok(()) } else { Err(anyhow::anyhow!("refused")) }
        })
        .unwrap();
        assert_eq!(taken, module);

        let error =
            first_that_attaches::<()>(&both(), |_| Err(anyhow::anyhow!("no room"))).unwrap_err();
        let expected =
            "fentry/fexit (vmlinux): no room; fentry/fexit (module nf_conntrack): no room";
        assert_eq!((error.reason.as_str(), error.kind), (expected, Lack::Broken));

        let refuse = |_: &Way| Err(std::io::Error::from_raw_os_error(libc::EPERM).into());
        let error = first_that_attaches::<()>(&both(), refuse).unwrap_err();
        assert_eq!(error.kind, Lack::Refused);
    }

    #[test]
    fn what_the_kernel_tells_needs_no_hook() {
        let kind = |family, hook, has_reasons| {
            needed(family, hook, has_reasons).map_err(|error| error.kind)
        };
        assert_eq!(kind(Family::Tracing, Hook::Confirm, true), Err(Lack::NotNeeded));
        assert_eq!(kind(Family::Tracing, Hook::Confirm, false), Ok(()));
        // It does not see which clashes are among them.
        assert_eq!(kind(Family::Kprobe, Hook::Confirm, true), Ok(()));
        assert_eq!(kind(Family::Tracing, Hook::Insert, true), Ok(()));
    }

    fn symbols(lines: &str) -> Symbols {
        Symbols::read(lines.as_bytes(), "nf_conntrack", |_| true).unwrap()
    }

    #[test]
    fn a_kprobe_goes_on_the_function_and_on_what_was_split_off() {
        let lines = "10 T nf_ct_delete\n20 t nf_ct_delete.part.0\n30 t early_drop\n40 t end\n";
        let functions = vec!["nf_ct_delete".to_owned(), "nf_ct_delete.part.0".to_owned()];
        assert_eq!(kprobe(Hook::DeleteCause, &symbols(lines)), Ok(vec![Way::Kprobe { functions }]));
    }

    #[test]
    fn a_kprobe_that_cannot_be_is_told_why() {
        for (hook, lines, why, kind) in [
            (Hook::Confirm, "10 T __nf_conntrack_confirm\n", "returns", Lack::Unsupported),
            (Hook::Delete, "10 T nf_ct_delete\n", "or nf_ct_delete_from_lists", Lack::Unsupported),
            (Hook::DeleteCause, "10 T nf_ct_delete\n", "early_drop", Lack::Unsupported),
            (
                Hook::DeleteCause,
                "0 T nf_ct_delete\n0 t early_drop\n",
                "address of early_drop",
                Lack::Refused,
            ),
        ] {
            let error = kprobe(hook, &symbols(lines)).unwrap_err();
            assert!(error.reason.contains(why) && error.kind == kind, "{hook}: {error:?}");
        }
    }

    #[test]
    fn the_name_a_kernel_has_for_the_function_is_taken() {
        let ways = kprobe(Hook::Delete, &symbols("10 t nf_ct_delete_from_lists\n")).unwrap();
        let functions = vec!["nf_ct_delete_from_lists".to_owned()];
        assert_eq!(ways, [Way::Kprobe { functions }]);
    }
}
