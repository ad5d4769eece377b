//! The ladder of ways to attach a hook. Pure: the kernel is passed in as a function.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    btf::{Btf, BtfError, Function},
    hook::{EARLY_DROP, Family, HASH_CHECK_INSERT, Hook},
    rungs::Rung,
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
        /// Where the functions are.
        image: Image,
        /// Which of the hook's rungs.
        rung: usize,
        /// The functions of its parts, by their ids in that BTF.
        functions: Vec<Function>,
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
    /// Sentence on what the attached hook counts wrong; none: all counts are exact.
    #[serde(default)]
    pub not_exact: Option<String>,
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
    /// Notes in each of `hooks` what it counts wrong although it is attached.
    pub fn note_exactness(hooks: &mut [Self]) {
        let attached: Vec<Hook> =
            hooks.iter().filter(|report| report.is_attached()).map(|report| report.hook).collect();
        for report in hooks {
            report.not_exact = report.rung().and_then(|rung| {
                let without = rung.rests_on.filter(|(hook, _)| !attached.contains(hook));
                rung.not_exact.or(without.map(|(_, wrong)| wrong)).map(str::to_owned)
            });
        }
    }

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

    /// The kernel functions that it is attached to, or would best be.
    #[must_use]
    pub fn function(&self) -> String {
        let names =
            |rung: &Rung| rung.parts.iter().map(|part| part.functions[0]).collect::<Vec<_>>();
        self.rung().map_or_else(|| self.hook.function().into(), |rung| names(rung).join(" and "))
    }

    /// The rung that it is on.
    fn rung(&self) -> Option<&'static Rung> {
        match &self.outcome {
            Ok(Way::Tracing { rung, .. }) => self.hook.rungs().get(*rung),
            Ok(Way::Kprobe { .. }) | Err(_) => None,
        }
    }
}

/// The ways to attach `hook` by trampolines that BTF promises: those of its best rung. Or why there is none.
///
/// # Errors
/// A sentence for the reader: the function is not there, or is not the one the programs know.
pub fn tracing(
    hook: Hook,
    vmlinux: &Btf,
    module: Option<&Btf>,
    symbols: &Symbols,
) -> Result<Vec<Way>, String> {
    let mut why = None;
    for (number, rung) in hook.rungs().iter().enumerate() {
        let mut ways = Vec::new();
        for (image, btf) in [(Image::Vmlinux, Some(vmlinux)), (Image::Module, module)] {
            let Some(btf) = btf else { continue };
            match functions_of(rung, btf, symbols) {
                Ok(Some(functions)) => ways.push(Way::Tracing { image, rung: number, functions }),
                Ok(None) => {}
                Err(error) => why = why.or(Some(error)),
            }
        }
        if !ways.is_empty() {
            return Ok(ways);
        }
    }
    let names: Vec<_> = hook.functions().collect();
    Err(why.unwrap_or_else(|| {
        format!(
            "this kernel's BTF has no function {}: it is built without it, has inlined it, or has no BTF for the module \
             nf_conntrack",
            names.join(" or ")
        )
    }))
}

/// The functions of a rung in `btf`; none where one of them is not there.
///
/// # Errors
/// One is not the one that the programs know.
fn functions_of(
    rung: &Rung,
    btf: &Btf,
    symbols: &Symbols,
) -> Result<Option<Vec<Function>>, String> {
    let mut functions = Vec::new();
    for part in rung.parts {
        let mut found = None;
        for name in part.functions {
            let function = btf.function(name).map_err(|error: BtfError| error.to_string())?;
            // BTF may have one of which a compiler has left nothing.
            if let Some(function) = function.filter(|_| symbols.may_have(name)) {
                found = Some((*name, function));
                break;
            }
        }
        let Some((name, function)) = found else {
            return Ok(None);
        };
        if function.parameters != part.parameters {
            return Err(format!(
                "{name} takes {} parameters in this kernel, not {}",
                function.parameters, part.parameters
            ));
        }
        if let Some(split) = symbols.parts(name).next() {
            return Err(format!("in this kernel {split} is called instead of {name}"));
        }
        functions.push(function);
    }
    Ok(Some(functions))
}

/// Reason where not one function of the kernel is known.
pub const NO_KALLSYMS: &str = "/proc/kallsyms lists none of the functions: it cannot be read";
/// Words in the reason where functions are listed without their addresses.
pub const HIDES_ADDRESS: &str = "hides the address";

/// The way to attach `hook` by kprobes, or why there is none.
///
/// # Errors
/// Says what is missing.
pub fn kprobe(hook: Hook, symbols: &Symbols) -> Result<Vec<Way>, NotAttached> {
    let Some((_, functions)) = hook.kprobe() else {
        return Err("a kprobe does not see what a function returns".to_owned().into());
    };
    if symbols.is_empty() {
        return Err(NotAttached { reason: NO_KALLSYMS.into(), kind: Lack::Refused });
    }
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
                        "the kernel {HIDES_ADDRESS} of {caller}: showing it takes \
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
#[path = "plan_tests.rs"]
mod tests;
