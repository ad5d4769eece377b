//! What the serving half gives up before it serves.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use caps::Capability;
use landlock::{
    ABI, Access as _, AccessFs, BitFlags, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetStatus, path_beneath_rules,
};
use rustix::{
    fs::{Gid, Uid},
    thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::{capabilities, filter};

/// What the serving half still may.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    /// Files and folders that it reads, with all that is in them.
    pub read: Vec<PathBuf>,
    /// Folders in which it makes, writes and removes files.
    pub write: Vec<PathBuf>,
    /// Whether it runs commands that were configured: these read and execute what the user may.
    pub commands: bool,
    /// The user and group to become; none: it stays who it is. Taking another one takes CAP_SETUID and CAP_SETGID.
    pub user: Option<(u32, u32)>,
}

/// The newest restrictions that are asked for; a kernel that has not all of them enforces those that it has.
const LANDLOCK: ABI = ABI::V5;

/// Gives up, for this thread and those that it starts, everything else: call it before there are others, and after
/// [`super::start`]. Returns what could not be given up because this kernel does not have it.
///
/// # Errors
/// The kernel's, where it has what is asked for and refuses it.
pub fn enter(sandbox: &Sandbox) -> Result<Vec<String>> {
    if let Some((user, group)) = sandbox.user {
        become_user(user, group)
            .with_context(|| format!("cannot become user {user}, group {group}"))?;
    }
    capabilities::pass_none_on()?;
    let kept: &[Capability] = match capabilities::bpf_is_refused()? {
        true => &[Capability::CAP_BPF],
        false => &[],
    };
    capabilities::keep(kept)?;
    set_no_new_privs(true).context("cannot set no_new_privs")?;
    let missing = restrict_files(sandbox)?;
    filter::install(&filter::serving(sandbox.commands)?)?;
    Ok(missing.into_iter().collect())
}

fn become_user(user: u32, group: u32) -> Result<()> {
    // Until it is known which ones are needed.
    caps::securebits::set_keepcaps(true)?;
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    caps::set(None, caps::CapSet::Effective, &caps::read(None, caps::CapSet::Permitted)?)?;
    Ok(())
}

/// By landlock; why that is not in force, where it is not.
fn restrict_files(sandbox: &Sandbox) -> Result<Option<String>> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(LANDLOCK) & !AccessFs::Execute;
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        .create()?
        .add_rules(path_beneath_rules(&sandbox.read, read))?
        .add_rules(path_beneath_rules(&sandbox.write, write))?
        // Where output is thrown away.
        .add_rules(path_beneath_rules(["/dev/null"], read | AccessFs::WriteFile))?;
    if sandbox.commands {
        rules = rules.add_rules(path_beneath_rules(["/"], read | AccessFs::Execute))?;
    }
    let status = rules.restrict_self().context("cannot restrict files by landlock")?;
    Ok((status.ruleset == RulesetStatus::NotEnforced).then(|| {
        "this kernel has no landlock: files are kept by their permissions alone".to_owned()
    }))
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
