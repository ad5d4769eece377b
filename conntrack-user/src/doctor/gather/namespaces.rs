//! Network namespaces.

use std::io;

use conntrack_ebpf::ListedNetns;

use super::{Roots, hooks::Programs};
use crate::{
    doctor::facts::{Fact, Namespace, Namespaces, OtherNetns, Refused},
    model::{coverage::Coverage, reading::NetnsId},
    source::{
        access::Own,
        procfs::{self, Other},
    },
};

/// The inode of the namespace that this process is in.
pub(super) fn own(roots: &Roots) -> Fact<u64> {
    match procfs::Namespaces::new(roots.procfs.clone(), roots.pods.clone()).own() {
        Ok(inode) => Fact::Known(inode),
        Err(error) => Fact::Unavailable(error.to_string()),
    }
}

/// Visits all that can be found, as `ctmon watch` does, and looks for others on the kernel's own list.
pub(super) fn read(roots: &Roots, own: Fact<u64>, programs: Option<&Programs>) -> Namespaces {
    let before = programs.and_then(Programs::list);
    let mut found = procfs::Namespaces::new(roots.procfs.clone(), roots.pods.clone());
    found.scan(&Own::new(roots.procfs.clone()));
    let after = programs.and_then(Programs::list);
    let listed = before.zip(after).map(|(before, after)| others(&found, &before, after));
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
    let is_total_exact = listed.is_some();
    let others = listed.unwrap_or_default();
    let coverage = found.coverage(&others, is_total_exact);
    let Coverage { counted, unread, blind_spots, stale_files, .. } = coverage;
    let is_refused = |inode| found.problems().iter().any(|problem| problem.inode == inode);
    let alone = others.iter().filter(|other| !is_refused(other.id.inode));
    Namespaces {
        unread: counted + unread,
        others: alone
            .map(|other| OtherNetns { inode: other.id.inode, entries: other.entries })
            .collect(),
        is_total_exact,
        blind_spots,
        stale_files,
        own,
        read,
        refused,
        hidden_processes: found.hidden().map_or_else(
            || Fact::Unavailable("procfs hides processes of others (hidepid)".into()),
            Fact::Known,
        ),
    }
}

/// Namespaces of the kernel's own list that were not found, though they were on it before and after the search. One without
/// entries is none of them: its table is empty.
fn others(
    found: &procfs::Namespaces,
    before: &[ListedNetns],
    after: Vec<ListedNetns>,
) -> Vec<Other> {
    let is_same = |a: &ListedNetns, b: &ListedNetns| (a.inode, a.cookie) == (b.inode, b.cookie);
    let stayed = after.into_iter().filter(|one| before.iter().any(|other| is_same(one, other)));
    let not_found = stayed.filter_map(|one| {
        let (cookie, inode) = (Some(one.cookie), u64::from(one.inode));
        let entries = u64::try_from(one.entries).ok();
        let is_found = found.get(inode, cookie).is_some();
        let is_empty = entries == Some(0);
        let id = NetnsId { cookie, inode };
        (!is_found && !is_empty).then_some(Other { id, is_counted: entries.is_some(), entries })
    });
    not_found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_that_the_kernels_list_alone_shows() {
        let mut found = procfs::Namespaces::new("/proc".into(), "/var/log/pods".into());
        found.scan(&Own::new("/proc".into()));
        let listed = |inode, entries| ListedNetns {
            cookie: u64::from(inode),
            inode,
            entries,
            ..ListedNetns::default()
        };
        let before = [listed(1, 5), listed(2, 0), listed(3, -1), listed(5, 9)];
        // The fourth came during the search, and the fifth ended.
        let after = vec![listed(1, 900), listed(2, 0), listed(3, -1), listed(4, 9)];
        let others = others(&found, &before, after);
        let others: Vec<_> =
            others.iter().map(|other| (other.id.inode, other.entries, other.is_counted)).collect();
        assert_eq!(others, [(1, Some(900), true), (3, None, false)]);
    }
}
