//! Network namespaces, and the processes that show them.

use std::{collections::BTreeSet, io, path::Path};

use super::{Roots, file};
use crate::{
    doctor::facts::{Fact, Namespace, Namespaces, Refused},
    source::{access::Own, procfs},
};

/// What the folders of processes show.
pub(super) struct Processes {
    /// Those whose network namespace is hidden.
    pub(super) hidden: Fact<u64>,
    /// Names of the programs.
    pub(super) programs: BTreeSet<String>,
}

/// Looks at every process once.
pub(super) fn processes(procfs: &Path) -> Fact<Processes> {
    let own = procfs.join("self/ns/net");
    if let Err(error) = std::fs::read_link(&own) {
        return Fact::Unknown(file::why(&own, &error));
    }
    let (mut hidden, mut programs) = (0, BTreeSet::new());
    for name in file::names(procfs) {
        if !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let folder = procfs.join(name);
        let link = std::fs::read_link(folder.join("ns/net"));
        let is_hidden = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        hidden += u64::from(link.is_err_and(is_hidden));
        programs.extend(file::text(&folder.join("comm")).known().cloned());
    }
    // There always is a first process: not to see it is the mount option hidepid.
    let hidden = if procfs.join("1").exists() {
        Fact::Known(hidden)
    } else {
        Fact::Unknown("procfs hides processes of others (hidepid)".into())
    };
    Fact::Known(Processes { hidden, programs })
}

/// The inode of the namespace that this process is in.
pub(super) fn own(roots: &Roots) -> Fact<u64> {
    match procfs::Namespaces::new(roots.procfs.clone(), roots.pods.clone()).own() {
        Ok(inode) => Fact::Known(inode),
        Err(error) => Fact::Unknown(error.to_string()),
    }
}

/// Visits all that can be found, as `ctmon watch` does.
pub(super) fn read(roots: &Roots, own: Fact<u64>, processes: Fact<&Processes>) -> Namespaces {
    let mut found = procfs::Namespaces::new(roots.procfs.clone(), roots.pods.clone());
    found.scan(&Own::new(roots.procfs.clone()));
    let number = |result: io::Result<u32>| match result {
        Ok(number) => Fact::Known(number),
        Err(error) => Fact::Unknown(error.to_string()),
    };
    let mut read: Vec<Namespace> = found
        .iter()
        .map(|netns| Namespace {
            inode: netns.inode,
            name: netns.name.as_ref().map(|name| name.text.clone()),
            count: number(netns.count()),
            max: number(netns.max()),
        })
        .collect();
    read.sort_by_key(|netns| netns.inode);
    let refused = found.problems().iter();
    let refused = refused
        .map(|problem| Refused { inode: problem.inode, reason: problem.reason.clone() })
        .collect();
    Namespaces {
        own,
        read,
        refused,
        hidden_processes: processes.and_then(|processes| processes.hidden.clone()),
    }
}
