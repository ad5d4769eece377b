//! Network namespaces.

use std::io;

use super::Roots;
use crate::{
    doctor::facts::{Fact, Namespace, Namespaces, Refused},
    source::{access::Own, procfs},
};

/// The inode of the namespace that this process is in.
pub(super) fn own(roots: &Roots) -> Fact<u64> {
    match procfs::Namespaces::new(roots.procfs.clone(), roots.pods.clone()).own() {
        Ok(inode) => Fact::Known(inode),
        Err(error) => Fact::Unavailable(error.to_string()),
    }
}

/// Visits all that can be found, as `ctmon watch` does.
pub(super) fn read(roots: &Roots, own: Fact<u64>) -> Namespaces {
    let mut found = procfs::Namespaces::new(roots.procfs.clone(), roots.pods.clone());
    found.scan(&Own::new(roots.procfs.clone()));
    let number = |result: io::Result<u32>| match result {
        Ok(number) => Fact::Known(number),
        Err(error) => Fact::Unavailable(error.to_string()),
    };
    let mut read: Vec<Namespace> = found
        .iter()
        .map(|netns| Namespace {
            inode: netns.inode,
            name: netns.name.as_ref().map(|name| name.text.clone()),
            entries: number(netns.count()),
            entries_limit: number(netns.max()),
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
        hidden_processes: found.hidden().map_or_else(
            || Fact::Unavailable("procfs hides processes of others (hidepid)".into()),
            Fact::Known,
        ),
    }
}
