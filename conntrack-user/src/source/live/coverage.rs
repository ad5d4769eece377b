//! Coverage of this machine's network namespaces, by files, processes, programs and the kernel's own list.

use std::{collections::HashMap, sync::Arc};

use conntrack_ebpf::ListedNetns;

use super::{
    super::{
        NETNS_FILL, Unavailable,
        procfs::{Namespace, Other},
    },
    Live, Selection,
};
use crate::model::{coverage::Coverage, reading::NetnsId};

/// Namespaces of the kernel's own list, by inode and by what the programs have for their cookie.
type Listed = HashMap<(u64, u64), Option<u64>>;

impl Live {
    /// Coverage as of the last scan; none where only one namespace is wanted.
    pub(super) fn coverage(&mut self) -> Option<Arc<Coverage>> {
        if self.selection != Selection::All {
            return None;
        }
        if self.coverage.is_none() {
            let others = self.others();
            let is_total_exact = self.listed.is_some();
            self.coverage = Some(Arc::new(self.namespaces.coverage(&others, is_total_exact)));
        }
        self.coverage.clone()
    }

    /// Looks for namespaces by files, by processes and on the kernel's own list; returns the ended ones.
    pub(super) fn scan(&mut self) -> Vec<Namespace> {
        let before = self.list();
        let ended = self.namespaces.scan(self.access.as_ref());
        self.take_listed(before);
        ended
    }

    /// Reads the kernel's own list for the first time, and looks again for what is on it and was not found.
    pub(super) fn begin_coverage(&mut self) {
        let before = self.list();
        let is_found = |inode: &u64| self.namespaces.get(*inode, None).is_some();
        let is_whole = before.iter().flatten().all(|((inode, _), _)| is_found(inode));
        if !is_whole {
            self.namespaces.scan(self.access.as_ref());
        }
        self.take_listed(before);
    }

    /// Keeps what is on the list before and after a scan: that scan could have found it.
    fn take_listed(&mut self, before: Option<Listed>) {
        self.coverage = None;
        self.settled_slots = self.slots.iter().map(|slot| slot.number).collect();
        let after = self.list();
        self.listed = before.zip(after).map(|(before, mut after)| {
            after.retain(|netns, _| before.contains_key(netns));
            after
        });
    }

    /// The kernel's own list; none where it cannot be read.
    fn list(&self) -> Option<Listed> {
        let all = self.counter.programs()?.list_netns().ok()?;
        let entries = |netns: &ListedNetns| u64::try_from(netns.entries).ok();
        let one = |netns: &ListedNetns| ((netns.inode.into(), netns.cookie), entries(netns));
        Some(all.iter().map(one).collect())
    }

    /// Namespaces that programs or the kernel's own list show, and that are not read. One that is on the list alone and has
    /// no entry is none of them: its table is empty.
    fn others(&self) -> Vec<Other> {
        let mut others: HashMap<(u64, u64), Other> = HashMap::new();
        let other = |inode: u64, cookie: u64| {
            let id = NetnsId { cookie: self.cookie(cookie), inode };
            let is_read = self.namespaces.get(id.inode, id.cookie).is_some();
            (!is_read).then_some(Other { id, is_counted: true, entries: None })
        };
        let slots = self.slots.iter().filter(|slot| !slot.ended);
        for slot in slots.filter(|slot| self.settled_slots.contains(&slot.number)) {
            let found = other(slot.inode, slot.cookie);
            others.extend(found.map(|found| ((slot.inode, slot.cookie), found)));
        }
        for (&(inode, cookie), &entries) in self.listed.iter().flatten() {
            let Some(found) = other(inode, cookie) else { continue };
            match others.get_mut(&(inode, cookie)) {
                Some(known) => known.entries = entries,
                None if entries == Some(0) => {}
                None => {
                    let found = Other { is_counted: entries.is_some(), entries, ..found };
                    others.insert((inode, cookie), found);
                }
            }
        }
        let mut others: Vec<Other> = others.into_values().collect();
        others.sort_by_key(|other| other.id.inode);
        others
    }
}

/// Answers that are not available for want of coverage, with the reasons.
pub(super) fn unavailable(coverage: &Coverage) -> Vec<Unavailable> {
    let mut reasons: Vec<(String, u64)> = Vec::new();
    for netns in &coverage.not_read {
        let reason = netns.reason.to_string();
        match reasons.iter_mut().find(|(one, _)| *one == reason) {
            Some((_, number)) => *number += 1,
            None => reasons.push((reason, 1)),
        }
    }
    let not_read = reasons.into_iter().map(|(reason, number)| {
        let many = if number == 1 { "namespace".into() } else { format!("namespaces ({number})") };
        (format!("{NETNS_FILL} other network {many}"), reason)
    });
    let blind_spots = coverage.blind_spots.iter().map(|spot| {
        let what = format!("{NETNS_FILL} network namespaces that are not seen");
        (what, format!("{spot}; {}", spot.advice()))
    });
    let all = not_read.chain(blind_spots);
    all.map(|(what, reason)| Unavailable { what, reason }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::coverage::{BlindSpot, NetnsNotRead, Reason};

    #[test]
    fn namespaces_that_are_not_read_are_named_by_their_reason() {
        assert_eq!(unavailable(&Coverage { read: 1, ..Coverage::default() }), []);
        let mut coverage = Coverage::default();
        for (inode, reason) in [
            (1, Reason::Refused("it takes CAP_SYS_ADMIN".into())),
            (2, Reason::NoPath),
            (3, Reason::Refused("it takes CAP_SYS_ADMIN".into())),
        ] {
            let id = NetnsId { cookie: None, inode };
            coverage.add(NetnsNotRead { id, name: None, is_counted: false, entries: None, reason });
        }
        coverage.blind_spots =
            vec![BlindSpot::HiddenProcesses(1), BlindSpot::HiddenProcesses(7), BlindSpot::Hidepid];
        let text = unavailable(&coverage)
            .iter()
            .map(|lost| format!("{}: {}\n", lost.what, lost.reason))
            .collect::<String>();
        let advice = "run ctmon as root, or with CAP_SYS_PTRACE and CAP_SYS_ADMIN";
        let expected = format!(
            "the fill level of other network namespaces (2): it takes CAP_SYS_ADMIN\n\
             the fill level of other network namespace: no process and no file leads to it\n\
             the fill level of network namespaces that are not seen: a process hides its own from who may not trace it \
             (CAP_SYS_PTRACE); {advice}\n\
             the fill level of network namespaces that are not seen: 7 processes hide theirs from who may not trace \
             them (CAP_SYS_PTRACE); {advice}\n\
             the fill level of network namespaces that are not seen: procfs hides processes of others (mount option \
             hidepid); {advice}\n"
        );
        assert_eq!(text, expected);
    }
}
