//! What the serving half gives up before it serves.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use caps::{CapSet, Capability};
use landlock::{
    ABI, Access as _, AccessFs, BitFlags, LandlockStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, Scope, path_beneath_rules,
};
use rustix::{
    fs::{Gid, Uid},
    process::{DumpableBehavior, Pid, geteuid, set_dumpable_behavior},
    thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::{account::Account, capabilities, filter};

/// What the serving half still may.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    /// Files and folders that it reads, with all that is in them.
    pub read: Vec<PathBuf>,
    /// Folders in which it reads the names of files and folders, and nothing else.
    pub list: Vec<PathBuf>,
    /// Folders in which it makes, writes and removes files.
    pub write: Vec<PathBuf>,
    /// Whether it runs commands that were configured: these read and execute what the user may.
    pub commands: bool,
    /// Whether it connects to other machines (webhooks).
    pub connects: bool,
    /// The user that it becomes.
    pub user: User,
    /// The helper, to which no command sends a signal.
    pub helper: Option<Pid>,
}

/// The user that the serving half becomes. Another one takes `CAP_SETUID` and `CAP_SETGID`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum User {
    /// No change of user.
    #[default]
    Same,
    /// Change to this user; an error if that fails.
    Required(Account),
    /// Root becomes this one, where it can. Others stay who they are.
    UnlessOther(Account),
}

impl User {
    /// The account that a process which is root becomes; none where it stays who it is.
    #[must_use]
    pub fn becomes(self) -> Option<Account> {
        let (Self::Required(account) | Self::UnlessOther(account)) = self else { return None };
        (geteuid().is_root() && require_change_of_user().is_ok()).then_some(account)
    }
}

/// State of a process that has given up what it could.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entered {
    /// Version of landlock's interface that is in force; 0: this kernel has no landlock.
    pub landlock_abi: i32,
    /// Set if processes of other services may have the same user.
    pub shares_user: bool,
    /// Reason for which it is still root though it was to become another user.
    pub stays_root: Option<String>,
}

impl Entered {
    /// Warnings about what could not be given up.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let root = self.stays_root.as_ref().map(|why| {
            format!(
                "the half that serves stays root (without capabilities), because {why}: add CAP_SETUID and CAP_SETGID, \
                 or start ctmon as another user"
            )
        });
        let landlock = (self.landlock_abi == 0).then(|| {
            "this kernel has no landlock: files are kept by their permissions alone".to_owned()
        });
        let user = (self.landlock_abi == 0 && self.shares_user).then(|| {
            "without landlock whoever takes over the half that serves reads the memory of other processes of its user, \
             which other services may have, too: make a user ctmon, or give --user a number that nobody else has"
                .to_owned()
        });
        root.into_iter().chain(landlock).chain(user).collect()
    }
}

/// The newest restrictions that are asked for; a kernel that has not all of them enforces those that it has.
const LANDLOCK: ABI = ABI::V9;
/// Version of landlock's interface from which on no signal leaves the sandbox.
const SIGNALS_SCOPED: i32 = 6;

/// Gives up, for this thread and those that it starts, everything else: call it before there are others, and after
/// [`super::start`].
///
/// # Errors
/// The kernel's, where it has what is asked for and refuses it.
pub fn enter(sandbox: &Sandbox) -> Result<Entered> {
    // For advice that is given later.
    crate::source::began_as_root();
    let before = geteuid();
    let stays_root = change_user(sandbox.user)?;
    capabilities::pass_none_on()?;
    let kept: &[Capability] = match capabilities::bpf_is_refused()? {
        true => &[Capability::CAP_BPF],
        false => &[],
    };
    capabilities::keep(kept)?;
    // Another user makes it what fs.suid_dumpable says.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("cannot forbid core dumps")?;
    set_no_new_privs(true).context("cannot set no_new_privs")?;
    let landlock_abi = restrict_files(sandbox)?;
    let signals = filter::Signals {
        helper: sandbox.helper,
        // Between two processes of one user there is nothing but the filter.
        groups_alone: landlock_abi < SIGNALS_SCOPED && geteuid() == before,
    };
    filter::install(&filter::serving(sandbox.commands, sandbox.connects, signals)?)?;
    Ok(Entered { landlock_abi, shares_user: Account::own().is_shared(), stays_root })
}

/// Returns the reason for which it stays root, where it has to.
fn change_user(user: User) -> Result<Option<String>> {
    match user {
        User::Required(account) if account != Account::own() => {
            become_user(account).with_context(|| format!("cannot become user {account}"))?;
            Ok(None)
        }
        User::UnlessOther(account) if geteuid().is_root() => {
            Ok(become_user(account).err().map(|error| format!("{error:#}")))
        }
        User::Same | User::Required(_) | User::UnlessOther(_) => Ok(None),
    }
}

/// Becomes `account` without other groups, and keeps the capabilities.
///
/// # Errors
/// The capabilities that it takes are missing; or those of the kernel.
pub fn become_user(account: Account) -> Result<()> {
    require_change_of_user()?;
    // Until it is known which ones are needed.
    caps::securebits::set_keepcaps(true)?;
    let (user, group) = (Uid::from_raw(account.user), Gid::from_raw(account.group));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    ensure!(Account::own() == account, "the kernel made it user {}", Account::own());
    caps::set(None, CapSet::Effective, &caps::read(None, CapSet::Permitted)?)?;
    Ok(())
}

fn require_change_of_user() -> Result<()> {
    for capability in [Capability::CAP_SETUID, Capability::CAP_SETGID] {
        let has = caps::has_cap(None, CapSet::Effective, capability)?;
        ensure!(has, "{capability} is missing");
    }
    Ok(())
}

/// Restricts files by landlock; returns the version of its interface that is in force.
fn restrict_files(sandbox: &Sandbox) -> Result<i32> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = match sandbox.commands {
        // Whatever a command makes of it, but for what takes the kernel's devices or another process.
        true => {
            let never = AccessFs::Execute | AccessFs::IoctlDev | AccessFs::MakeChar;
            AccessFs::from_all(LANDLOCK) & !(never | AccessFs::MakeBlock | AccessFs::ResolveUnix)
        }
        false => {
            let files = AccessFs::WriteFile | AccessFs::Truncate;
            read | files | AccessFs::MakeReg | AccessFs::RemoveFile
        }
    };
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))?
        // No signal to a process outside, and no abstract socket of one.
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .add_rules(path_beneath_rules(&sandbox.read, read))?
        .add_rules(path_beneath_rules(&sandbox.list, AccessFs::ReadDir))?
        .add_rules(path_beneath_rules(&sandbox.write, write))?
        // Where output is thrown away.
        .add_rules(path_beneath_rules(["/dev/null"], read | AccessFs::WriteFile))?;
    if sandbox.commands {
        let all = read | AccessFs::Execute | AccessFs::ResolveUnix;
        rules = rules.add_rules(path_beneath_rules(["/"], all))?;
    }
    let status = rules.restrict_self().context("cannot restrict files by landlock")?;
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as i32,
        _ => 0,
    })
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
