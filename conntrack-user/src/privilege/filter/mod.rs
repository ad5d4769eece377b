//! Filters of system calls of both halves (seccomp), made from [`calls::CALLS`], with the arguments there. Everything else
//! fails with `ENOSYS`, as in a kernel that does not have it, for which C libraries have another way (clone3(2)).

mod arguments;
mod calls;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use rustix::process::Pid;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use calls::CALLS;

/// Half of the service: the process that a filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Serving,
    Helper,
}

/// Process that a filter is for, and what it was configured to do.
#[derive(Debug, Clone, Copy)]
struct Scope {
    half: Half,
    /// Whether it runs configured commands.
    commands: bool,
    /// Whether it connects to other machines.
    connects: bool,
    /// Whether it pins programs.
    pins: bool,
    /// Whether it makes sockets for ctnetlink.
    ctnetlink: bool,
    /// Number of the process.
    process: u32,
    signals: Signals,
}

/// Bounds of the signals of configured commands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Signals {
    /// Process that gets none.
    pub(super) helper: Option<Pid>,
    /// Set if kill(2) may name process groups only: a process number may belong to a thread of the helper, which starts new
    /// threads to enter namespaces.
    pub(super) groups_alone: bool,
}

/// The serving half's, in this process. `commands`: whether it runs some; `connects`: whether it connects to other machines.
pub(super) fn serving(commands: bool, connects: bool, signals: Signals) -> Result<BpfProgram> {
    let process = std::process::id();
    compile(&Scope {
        half: Half::Serving,
        commands,
        connects,
        pins: false,
        ctnetlink: false,
        process,
        signals,
    })
}

/// The helper's, in this process. `pins`: whether it pins programs; `ctnetlink`: whether it makes sockets for ctnetlink.
pub(super) fn helper(pins: bool, ctnetlink: bool) -> Result<BpfProgram> {
    let process = std::process::id();
    compile(&Scope {
        half: Half::Helper,
        commands: false,
        connects: false,
        pins,
        ctnetlink,
        process,
        signals: Signals::default(),
    })
}

fn compile(scope: &Scope) -> Result<BpfProgram> {
    let mut rules = BTreeMap::new();
    for call in CALLS.iter().filter(|call| call.part.is_in(scope)) {
        rules.insert(call.number, call.allowed(scope)?);
    }
    let refused = SeccompAction::Errno(libc::ENOSYS as u32);
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, refused, SeccompAction::Allow, arch)?.try_into()?)
}

/// Puts this thread, and those that it starts, under `filter`. No_new_privs must be set.
pub(super) fn install(filter: &BpfProgram) -> Result<()> {
    seccompiler::apply_filter(filter).context("cannot restrict system calls by seccomp")
}

#[cfg(test)]
mod tests;
