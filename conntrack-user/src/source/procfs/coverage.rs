//! Coverage of what a scan found. Pure.

use std::cmp::Reverse;

use super::{Problem, seen::Unseen};
use crate::model::{
    coverage::{BlindSpot, Coverage, NetnsNotRead, Reason},
    reading::NetnsId,
};

/// A namespace that the kernel shows by other ways than files and processes, and that is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Other {
    /// Identity.
    pub id: NetnsId,
    /// Set where kernel programs count in it.
    pub is_counted: bool,
    /// Entries in its table, where that is known.
    pub entries: Option<u64>,
}

/// Results of a scan, with the signs of others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan<'a> {
    /// Marks of the namespaces that are read.
    pub(super) marks: &'a [u64],
    /// Number of namespaces that are read.
    pub(super) read: usize,
    /// Namespaces that could not be entered.
    pub(super) problems: &'a [Problem],
    /// Signs of others.
    pub(super) unseen: &'a Unseen,
}

/// `others`: none that is read. `is_total_exact`: there are no others than those of the scan and `others`.
pub(super) fn of(scan: Scan<'_>, others: &[Other], is_total_exact: bool) -> Coverage {
    let Scan { marks, read, problems, unseen } = scan;
    let mut coverage = Coverage {
        read: read as u64,
        is_total_exact,
        stale_files: unseen.stale_files.clone(),
        ..Coverage::default()
    };
    let mut not_read: Vec<NetnsNotRead> = Vec::new();
    for problem in problems {
        let other = others.iter().find(|other| other.id.inode == problem.inode);
        not_read.push(NetnsNotRead {
            id: NetnsId { cookie: other.and_then(|other| other.id.cookie), inode: problem.inode },
            name: problem.name.clone(),
            is_counted: other.is_some_and(|other| other.is_counted),
            entries: other.and_then(|other| other.entries),
            reason: Reason::Refused(problem.reason.clone()),
        });
    }
    // A process that hides its namespace is mostly in one that is read all the same.
    let hiding = unseen.marks.iter().filter(|(mark, _)| !marks.contains(mark)).count() as u64;
    let is_refused = |other: &&Other| problems.iter().any(|one| one.inode == other.id.inode);
    let others: Vec<&Other> = others.iter().filter(|other| !is_refused(other)).collect();
    let may_be_hidden = hiding > 0 && hiding >= others.len() as u64;
    let reason = if may_be_hidden { Reason::HiddenProcess } else { Reason::NoPath };
    for Other { id, is_counted, entries } in others {
        let (id, is_counted, entries) = (*id, *is_counted, *entries);
        not_read.push(NetnsNotRead { id, name: None, is_counted, entries, reason: reason.clone() });
    }
    // Not all are listed: of those that are counted the fullest must be.
    not_read.sort_by_key(|one| Reverse(one.entries));
    not_read.into_iter().for_each(|one| coverage.add(one));
    // One that is known and not read may be that of a process that hides it.
    for _ in coverage.counted + coverage.unread..hiding {
        coverage.add(NetnsNotRead {
            id: NetnsId { cookie: None, inode: 0 },
            name: None,
            is_counted: false,
            entries: None,
            reason: Reason::HiddenProcess,
        });
    }
    if is_total_exact {
        // Nothing is hidden; why those are not read is worth knowing.
        if unseen.is_in_pid_namespace && coverage.counted + coverage.unread > 0 {
            coverage.blind_spots.push(BlindSpot::PidNamespace);
        }
        return coverage;
    }
    if unseen.is_in_pid_namespace {
        coverage.blind_spots.push(BlindSpot::PidNamespace);
    }
    match unseen.hidden {
        None => coverage.blind_spots.push(BlindSpot::Hidepid),
        Some(hidden) => {
            let told: u64 = unseen.marks.iter().map(|(_, processes)| processes).sum();
            let untold = hidden.saturating_sub(told);
            coverage.blind_spots.extend((untold > 0).then_some(BlindSpot::HiddenProcesses(untold)));
        }
    }
    if unseen.mount_namespaces > 0 {
        coverage.blind_spots.push(BlindSpot::MountNamespaces(unseen.mount_namespaces));
    }
    coverage
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(inode: u64) -> Problem {
        Problem { inode, name: Some("blue".into()), reason: "it takes CAP_SYS_ADMIN".into() }
    }

    fn other(inode: u64, entries: Option<u64>) -> Other {
        Other { id: NetnsId { cookie: Some(inode), inode }, is_counted: true, entries }
    }

    fn unseen(hidden: Option<u64>, marks: &[(u64, u64)]) -> Unseen {
        Unseen { hidden, marks: marks.into(), ..Unseen::default() }
    }

    fn scan<'a>(problems: &'a [Problem], unseen: &'a Unseen) -> Scan<'a> {
        Scan { marks: &[7], read: 1, problems, unseen }
    }

    #[test]
    fn a_hidden_process_in_a_namespace_that_is_read_hides_nothing() {
        let coverage = of(scan(&[], &unseen(Some(90), &[(7, 90)])), &[], false);
        assert!(coverage.is_whole(), "{coverage:?}");
    }

    #[test]
    fn what_is_not_read_and_what_may_hide_others() {
        use BlindSpot::{HiddenProcesses, Hidepid, MountNamespaces, PidNamespace};
        let container =
            Unseen { is_in_pid_namespace: true, mount_namespaces: 2, ..unseen(Some(0), &[]) };
        // Signs, namespaces refused; unread, blind spots.
        let table: [(Unseen, u64, u64, &[BlindSpot]); 7] = [
            (unseen(Some(0), &[]), 0, 0, &[]),
            (unseen(Some(0), &[]), 2, 2, &[]),
            (unseen(Some(5), &[(7, 2), (8, 3)]), 0, 1, &[]),
            (unseen(Some(5), &[(8, 3)]), 0, 1, &[HiddenProcesses(2)]),
            // The one that was refused may be the one that is hidden.
            (unseen(Some(5), &[(8, 2), (9, 3)]), 1, 2, &[]),
            (unseen(None, &[]), 0, 0, &[Hidepid]),
            (container, 0, 0, &[PidNamespace, MountNamespaces(2)]),
        ];
        for (unseen, refused, unread, blind_spots) in table {
            let problems: Vec<Problem> = (0..refused).map(problem).collect();
            let coverage = of(scan(&problems, &unseen), &[], false);
            assert_eq!((coverage.read, coverage.unread), (1, unread), "{unseen:?}");
            assert_eq!(coverage.blind_spots, blind_spots, "{unseen:?}");
        }
    }

    #[test]
    fn programs_and_the_kernels_list_show_others() {
        let unseen = unseen(None, &[]);
        let problems = [problem(5)];
        let others = [other(5, Some(900)), other(6, None)];
        let coverage = of(scan(&problems, &unseen), &others, true);
        assert_eq!((coverage.read, coverage.counted, coverage.unread), (1, 2, 0));
        assert!(coverage.is_total_exact && coverage.blind_spots.is_empty());
        let entries: Vec<_> =
            coverage.not_read.iter().map(|one| (one.id.inode, one.entries)).collect();
        assert_eq!(entries, [(5, Some(900)), (6, None)]);
        assert_eq!(coverage.not_read[0].name.as_deref(), Some("blue"));
        assert_eq!(coverage.not_read[1].reason, Reason::NoPath);
        let container = Unseen { is_in_pid_namespace: true, ..unseen };
        let coverage = of(scan(&[], &container), &others, true);
        assert_eq!(coverage.blind_spots, [BlindSpot::PidNamespace]);
        assert!(of(scan(&[], &container), &[], true).is_whole(), "it sees all there is");
    }

    #[test]
    fn the_fullest_counted_table_is_listed_however_many_are_not_read() {
        let problems: Vec<Problem> = (100..200).map(problem).collect();
        let others: Vec<Other> =
            (0..50).map(|inode| other(inode, Some(100 + inode % 40))).collect();
        let coverage = of(scan(&problems, &unseen(Some(0), &[])), &others, true);
        assert_eq!((coverage.counted, coverage.unread), (50, 100));
        assert_eq!(coverage.not_read[0].entries, Some(139));
        assert!(coverage.not_read.is_sorted_by_key(|one| Reverse(one.entries)));
    }

    #[test]
    fn a_namespace_of_hidden_processes_is_known_beside_an_exact_list() {
        let unseen = unseen(Some(3), &[(8, 3)]);
        // It has no entry yet, so the list does not tell of it.
        let coverage = of(scan(&[], &unseen), &[], true);
        assert_eq!((coverage.unread, &coverage.not_read[0].reason), (1, &Reason::HiddenProcess));
        let coverage = of(scan(&[], &unseen), &[other(6, Some(5))], true);
        assert_eq!((coverage.counted, coverage.unread), (1, 0));
        assert_eq!(coverage.not_read[0].reason, Reason::HiddenProcess);
        let two = [other(6, Some(5)), other(7, Some(5))];
        assert_eq!(of(scan(&[], &unseen), &two, true).not_read[0].reason, Reason::NoPath);
    }
}
