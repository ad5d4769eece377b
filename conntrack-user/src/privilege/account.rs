//! The user that the serving half becomes, and the files that this user may not reach.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::{
    fs::{Access, access},
    io::Errno,
    process::{getegid, geteuid},
};

use crate::file;

/// Name of the user that a package makes for ctmon.
const NAME: &str = "ctmon";
/// Number of the user and group without a name of their own, on every distribution (`overflowuid`).
const NOBODY: u32 = 65_534;

/// Number of no user and no group: setresuid(2) takes it for "as it is".
const NO_CHANGE: u32 = u32::MAX;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
/// Limit in bytes of such a list: some hundred thousand users.
const LIST_BYTES: u64 = 32 << 20;

/// A user and a group, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// Number of the user; never 0.
    pub user: u32,
    /// Number of the group.
    pub group: u32,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.group)
    }
}

/// The content of a list of users or groups; empty where it cannot be read.
fn users(path: &str) -> String {
    file::read_text(Path::new(path), LIST_BYTES).unwrap_or_default()
}

impl Account {
    /// Reads `UID:GID`, `USER`, or `USER:GROUP`. Names are those of /etc/passwd and /etc/group.
    ///
    /// # Errors
    /// Names what is unknown; and user 0, which is root.
    pub fn parse(text: &str) -> Result<Self> {
        Self::find(text, &users(PASSWD), &users(GROUP))
    }

    pub(super) fn find(text: &str, passwd: &str, groups: &str) -> Result<Self> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let named = Self::named(passwd, user);
        let user = match user.parse() {
            Ok(number) => number,
            Err(_) => named.with_context(|| format!("{PASSWD} has no user {user}"))?.user,
        };
        let group = match group {
            Some(group) => match group.parse() {
                Ok(number) => number,
                Err(_) => number(groups, group, 2)
                    .with_context(|| format!("{GROUP} has no group {group}"))?,
            },
            None => match named {
                Some(named) => named.group,
                None => bail!("a number needs a group, as in 65534:65534"),
            },
        };
        ensure!(user != 0, "user 0 is root, which the half that serves must not stay");
        ensure!(user != NO_CHANGE && group != NO_CHANGE, "{NO_CHANGE} is the number of nobody");
        Ok(Self { user, group })
    }

    /// The user `ctmon` if there is one, else 65534:65534.
    #[must_use]
    pub fn unprivileged() -> Self {
        Self::unprivileged_of(&users(PASSWD))
    }

    pub(super) fn unprivileged_of(passwd: &str) -> Self {
        let is_other =
            |named: &Self| named.user != 0 && ![named.user, named.group].contains(&NO_CHANGE);
        let named = Self::named(passwd, NAME).filter(is_other);
        named.unwrap_or(Self { user: NOBODY, group: NOBODY })
    }

    /// The user and its group by a line of passwd(5).
    fn named(passwd: &str, name: &str) -> Option<Self> {
        Some(Self { user: number(passwd, name, 2)?, group: number(passwd, name, 3)? })
    }

    /// Reports whether other services may be this user, too.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.user == NOBODY
    }

    /// The account of this process.
    #[must_use]
    pub fn own() -> Self {
        Self { user: geteuid().as_raw(), group: getegid().as_raw() }
    }
}

/// The number in a field of the line that begins with `name`, in a file such as passwd(5) and group(5).
fn number(file: &str, name: &str, field: usize) -> Option<u32> {
    let mut lines = file.lines().map(|line| line.split(':'));
    lines
        .find_map(|mut fields| (fields.next()? == name).then(|| fields.nth(field - 1))?)?
        .parse()
        .ok()
}

/// Advice for each of `files` that this process may not read; `None`: it may read all that exist.
#[must_use]
pub fn unreadable(files: &[PathBuf]) -> Option<String> {
    let own = Account::own();
    let file = |file: &Path| {
        let (group, file) = (own.group, file.display());
        format!("user {own} cannot read {file}: chown root:{group} {file} && chmod 0640 {file}")
    };
    advice(files, Access::READ_OK, file)
}

/// Advice for each of `folders` in which this process may make no file; `None`: it may in all that exist.
#[must_use]
pub fn unwritable(folders: &[PathBuf]) -> Option<String> {
    let own = Account::own();
    let folder = |folder: &Path| {
        let folder = folder.display();
        format!("user {own} cannot write into {folder}: chown -R {own} {folder}")
    };
    let refused = advice(folders, Access::WRITE_OK | Access::EXEC_OK, folder);
    let read_only =
        |folder: &&PathBuf| access(folder.as_path(), Access::WRITE_OK) == Err(Errno::ROFS);
    let mounted = folders.iter().filter(read_only).map(|folder| {
        let folder = folder.display();
        format!(
            "{folder} is mounted read-only: remount it, or add it to ReadWritePaths= of the unit"
        )
    });
    let all: Vec<String> = refused.into_iter().chain(mounted).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// Advice of `help` for each path that is refused `wanted`, or for the folder that is in its way.
fn advice(paths: &[PathBuf], wanted: Access, help: impl Fn(&Path) -> String) -> Option<String> {
    let own = Account::own();
    let is_refused = |path: &Path, wanted| access(path, wanted) == Err(Errno::ACCESS);
    let refused = paths.iter().filter(|path| is_refused(path, wanted));
    let advice: BTreeSet<String> = refused
        .map(|path| {
            let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
            folders.retain(|folder| !folder.as_os_str().is_empty());
            match folders.into_iter().rev().find(|folder| is_refused(folder, Access::EXEC_OK)) {
                Some(folder) => {
                    let (group, folder) = (own.group, folder.display());
                    format!(
                        "user {own} cannot enter {folder}: chgrp {group} {folder} && chmod g+x {folder}"
                    )
                }
                None => help(path),
            }
        })
        .collect();
    (!advice.is_empty()).then(|| Vec::from_iter(advice).join("; "))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\nctmon:x:991:990::/:/sbin/nologin\nbroken\n";
    const GROUPS: &str = "root:x:0:\nadm:x:4:syslog\n";

    #[test]
    fn accounts_are_numbers_or_names() {
        let account = |user, group| Account { user, group };
        for (text, expected) in [
            ("65534:65533", account(65_534, 65_533)),
            ("ctmon", account(991, 990)),
            ("ctmon:adm", account(991, 4)),
            ("ctmon:0", account(991, 0)),
            ("7:adm", account(7, 4)),
        ] {
            assert_eq!(Account::find(text, USERS, GROUPS).unwrap(), expected, "{text}");
        }
        for (text, why) in [
            ("nobody", "/etc/passwd has no user nobody"),
            ("ctmon:x", "/etc/group has no group x"),
            ("65534", "a number needs a group"),
            ("0:0", "user 0 is root"),
            ("4294967295:65534", "4294967295 is the number of nobody"),
            ("65534:4294967295", "4294967295 is the number of nobody"),
            ("root", "user 0 is root"),
            ("", "has no user"),
            ("-1:1", "has no user -1"),
            ("4294967296:1", "has no user"),
        ] {
            let error = Account::find(text, USERS, GROUPS).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn without_a_user_of_its_own_it_is_nobody() {
        let own = Account::unprivileged_of(USERS);
        assert_eq!((own, own.is_shared()), (Account { user: 991, group: 990 }, false));
        for passwd in [
            "",
            "root:x:0:0::/:/bin/sh",
            "ctmon:x:0:0::/:",
            "ctmon:x:y:z",
            "ctmon",
            "ctmon:x:4294967295:7::/:",
            "ctmon:x:7:4294967295::/:",
        ] {
            let expected = Account { user: 65_534, group: 65_534 };
            assert_eq!(Account::unprivileged_of(passwd), expected, "{passwd}");
            assert!(expected.is_shared());
        }
    }

    /// Advice about a file and a folder of root, given to `account` in a thread.
    fn said_to(account: Account, root: &Path) -> (Option<String>, Option<String>) {
        let root = root.to_owned();
        let said = move || {
            crate::privilege::sandbox::become_user(account).unwrap();
            caps::clear(None, caps::CapSet::Effective).unwrap();
            let missing = root.join("missing");
            let files = [root.join("web.yml"), root.join("shut/key.pem"), missing.clone()];
            (unreadable(&files), unwritable(&[root.join("flights"), missing]))
        };
        std::thread::spawn(said).join().unwrap()
    }

    #[test]
    fn what_cannot_be_reached_comes_with_the_command_that_helps() {
        if !geteuid().is_root() {
            println!("skipped: becoming another user takes root");
            return;
        }
        let root = tempfile::tempdir_in("/tmp").unwrap();
        let [web, shut, flights] =
            ["web.yml", "shut", "flights"].map(|name| root.path().join(name));
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        fs::create_dir(&shut).unwrap();
        fs::create_dir(&flights).unwrap();
        fs::write(&web, "").unwrap();
        fs::write(shut.join("key.pem"), "").unwrap();
        mode(root.path(), 0o755);
        mode(&web, 0o600);
        mode(&shut, 0o700);
        mode(&shut.join("key.pem"), 0o644);
        mode(&flights, 0o755);
        let [web, shut, flights] = [web, shut, flights].map(|path| path.display().to_string());
        let account = Account { user: 65_534, group: 65_533 };
        let (files, folders) = said_to(account, root.path());
        assert_eq!(
            files.unwrap(),
            format!(
                "user 65534:65533 cannot enter {shut}: chgrp 65533 {shut} && chmod g+x {shut}; \
                 user 65534:65533 cannot read {web}: chown root:65533 {web} && chmod 0640 {web}"
            )
        );
        assert_eq!(
            folders.unwrap(),
            format!("user 65534:65533 cannot write into {flights}: chown -R 65534:65533 {flights}")
        );
        // As it says.
        mode(Path::new(&web), 0o640);
        std::os::unix::fs::chown(&web, Some(0), Some(account.group)).unwrap();
        std::os::unix::fs::chown(&flights, Some(account.user), Some(account.group)).unwrap();
        std::os::unix::fs::chown(&shut, None, Some(account.group)).unwrap();
        mode(Path::new(&shut), 0o710);
        assert_eq!(said_to(account, root.path()), (None, None));
    }
}
