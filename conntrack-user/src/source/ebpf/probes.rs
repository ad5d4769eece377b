//! How the programs do: what they were skipped for, and how long they run.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use super::{
    bpf::{self, Runs},
    hook::Hook,
    plan::HookReport,
};
use crate::model::{
    counts::Totals,
    probe::{Probe, Run},
};

/// An attached program.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) hook: Hook,
    pub(super) is_last: bool,
    pub(super) program: OwnedFd,
    pub(super) misses: Misses,
}

/// Where calls are counted that a program was skipped for.
#[derive(Debug)]
pub(super) enum Misses {
    /// Trampolines.
    Program,
    /// Kprobes: in the link too, from 5.15 on.
    Link(OwnedFd),
    /// Kprobes before.
    Nowhere,
}

impl Attached {
    /// What the kernel counts of the program.
    fn runs(&self) -> io::Result<Runs> {
        bpf::runs(&self.program)
    }

    /// Calls that the program was skipped for; none when the kernel does not tell.
    fn misses(&self) -> io::Result<Option<u64>> {
        match &self.misses {
            Misses::Program => Ok(Some(self.runs()?.recursion_misses)),
            Misses::Nowhere => Ok(None),
            Misses::Link(link) => {
                let skipped = self.runs()?.recursion_misses;
                Ok(bpf::kprobe_misses(link.as_fd())?.map(|missed| missed + skipped))
            }
        }
    }
}

/// At most so many calls were not counted, because every copy of a program was running already
/// on that CPU: 0 means that every count is exact. None where the kernel does not tell.
///
/// # Errors
/// The kernel's.
pub(super) fn missed_calls_max(attached: &[Attached]) -> io::Result<Option<u64>> {
    let mut sum = Some(0);
    for copies in copies(attached) {
        let misses = misses(copies)?;
        sum = sum.zip(misses).map(|(sum, misses)| sum + misses);
    }
    Ok(sum)
}

/// How each of `hooks` does; a system call a program.
///
/// # Errors
/// The kernel's.
pub(super) fn all(hooks: &[HookReport], attached: &[Attached]) -> io::Result<Vec<Probe>> {
    let probe = |report: &HookReport| {
        let own = attached.iter().filter(|one| one.hook == report.hook);
        let mut runs = Run::default();
        for one in own {
            let one = one.runs()?;
            runs.count += one.count;
            runs.time_ns += one.time_ns;
        }
        let mut sum = Some(0);
        for copies in copies(attached).filter(|copies| copies[0].hook == report.hook) {
            sum = sum.zip(misses(copies)?).map(|(sum, misses)| sum + misses);
        }
        Ok(Probe {
            hook: report.hook.name().into(),
            hits: None,
            misses: report.is_attached().then_some(sum).flatten(),
            runs: Some(runs).filter(|runs| runs.count > 0),
        })
    };
    hooks.iter().map(probe).collect()
}

/// The programs, with the copies of one together.
fn copies(attached: &[Attached]) -> impl Iterator<Item = &[Attached]> {
    attached.chunk_by(|_, next| !next.is_last)
}

/// Calls that none of `copies` saw, at most: a call is missed when all copies are skipped, so not more
/// often than any one of them is.
fn misses(copies: &[Attached]) -> io::Result<Option<u64>> {
    let mut least = None;
    for one in copies {
        let Some(misses) = one.misses()? else {
            return Ok(None);
        };
        least = Some(least.map_or(misses, |least: u64| least.min(misses)));
    }
    Ok(Some(least.unwrap_or(0)))
}

/// Calls of a hook's function that were counted; none where its programs count nothing themselves.
pub(super) const fn hits(hook: Hook, totals: &Totals) -> Option<u64> {
    Some(match hook {
        Hook::Alloc => totals.allocs + totals.allocs_failed,
        Hook::Insert => totals.inserts_packet.sum(),
        Hook::HashInsert => totals.inserts_ctnetlink.sum(),
        Hook::Delete => totals.deletes.sum(),
        Hook::Free => totals.frees,
        Hook::Clash => totals.clashes,
        Hook::DeleteCause | Hook::EarlyDrop | Hook::Confirm | Hook::NetnsEnd => return None,
    })
}
