//! Names of network namespaces: of a file on which one is mounted, or of what runs in it.
//!
//! The kernel gives a namespace numbers only. The rest is read from one process in it: two small
//! files at most (`cgroup`, and `comm` where that says nothing), and the names of the folders under
//! /var/log/pods once for all. So ask once for each namespace that came, of its lowest process
//! number, and not for each process: reading `cgroup` takes a lock that the whole machine shares
//! (`css_set_lock`, kernel/cgroup/cgroup.c, `proc_cgroup_show`).
//!
//! A name is a help to the reader, never an identity: two namespaces may have the same one, whoever
//! may make cgroups chooses what they are called, and a process number may have been given to
//! another process since it was looked up. Not to be asked of the host's own namespace: nearly
//! every service runs in it, and so do pods with `hostNetwork`.

mod cgroup;
mod engines;
pub(in crate::source) mod folders;
mod pods;

use std::{fs::File, io::Read as _, path::Path};

pub use pods::Pods;

use crate::{
    model::name::{LONGEST, Name, NameKind},
    text::printable,
};

/// Name of the namespace that the machine's process 1 is in, and of no other.
const HOST: &str = "host";

/// Bytes of `/proc/PID/cgroup`: a path has at most 4096 (`PATH_MAX`), and v1 has some 14 of them.
const CGROUP_LIMIT: u64 = 64 * 1024;
/// Bytes of `/proc/PID/comm`: 16 for most (`TASK_COMM_LEN`), 64 for workers of the kernel.
const COMM_LIMIT: u64 = 64;

impl Name {
    /// None where nothing is left to print.
    fn new(kind: NameKind, text: &str) -> Option<Self> {
        let mut text = printable(text.trim(), LONGEST).into_owned();
        // Whoever makes a process, a cgroup or a mount chooses its name.
        if text == HOST {
            text.push('?');
        }
        (!text.is_empty()).then_some(Self { text, kind })
    }

    fn of_owner(owner: cgroup::Owner, pods: &Pods) -> Option<Self> {
        match owner {
            cgroup::Owner::Pod { uid, inner } => {
                let mut text = match pods.name(&uid) {
                    Some(name) => name.to_owned(),
                    None => format!("pod {}", uid.chars().take(8).collect::<String>()),
                };
                if let Some(inner) = inner {
                    text.push('/');
                    text.push_str(&inner);
                }
                Self::new(NameKind::Pod, &text)
            }
            cgroup::Owner::Container(text) => {
                Self::new(NameKind::Container, &containers(Path::new("/"), &text))
            }
            cgroup::Owner::Unit(text) => Self::new(NameKind::Service, &text),
        }
    }
}

/// `text`, in which the ids of containers, `outer/inner`, are replaced by their names where their engine tells.
fn containers(rootfs: &Path, text: &str) -> String {
    let name = |part: &str| {
        let is_id = hex_digits(part) == Some(cgroup::SHORT_ID);
        is_id.then(|| engines::name(rootfs, part)).flatten().unwrap_or_else(|| part.to_owned())
    };
    text.split('/').map(name).collect::<Vec<_>>().join("/")
}

/// Who a process belongs to, else what it is called. `process`: its folder in procfs.
///
/// None: it has ended, or may not be read. What is said of a process that has just begun may be what
/// it was before it called execve(2), so a name of the kinds from [`NameKind::Generated`] on is worth
/// asking for again.
#[must_use]
pub fn of_process(process: &Path, pods: &Pods) -> Option<Name> {
    let owner = read(&process.join("cgroup"), CGROUP_LIMIT).and_then(|text| cgroup::owner(&text));
    owner.and_then(|owner| Name::of_owner(owner, pods)).or_else(|| {
        let comm = read(&process.join("comm"), COMM_LIMIT)?;
        Name::new(NameKind::Process, comm.strip_suffix('\n').unwrap_or(&comm))
    })
}

/// The better of the name of a file on which a namespace is mounted and of what a process in it says.
///
/// A name that a runtime made up gives way to a pod, a container or a unit: containerd and CRI-O put every pod's namespace
/// under /run/netns.
#[must_use]
pub(in crate::source) fn best(
    file: Option<&(NameKind, String)>,
    of_process: Option<Name>,
) -> Option<Name> {
    let file = file.and_then(|(kind, text)| Name::new(*kind, text));
    [file, of_process].into_iter().flatten().min_by_key(|name| name.kind)
}

/// The name of the namespace that the machine's process 1 is in.
#[must_use]
pub(in crate::source) fn host() -> Name {
    Name { text: HOST.into(), kind: NameKind::Host }
}

/// How many hexadecimal digits `text` has, if it has nothing else.
fn hex_digits(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(text.len())
}

/// The start of a file, at most `limit` bytes and then whole lines only.
fn read(path: &Path, limit: u64) -> Option<String> {
    let mut bytes = Vec::new();
    let len = File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
    if u64::try_from(len).ok()? == limit {
        // Half a path would be another path.
        let lines = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        bytes.truncate(lines);
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
