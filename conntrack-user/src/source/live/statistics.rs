//! The kernel's own counters of namespaces whose processes do not show them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::super::{Unavailable, access::Access, procfs::Namespaces};
use crate::model::reading::KernelStat;

/// Namespaces that are entered for them in one reading, at the most: each costs some 0.1 ms.
const MOST: usize = 64;
/// Time for which nobody is asked any more once all was refused.
const PAUSE: Duration = Duration::from_secs(60);

/// Counters of the kernel that were read within namespaces.
#[derive(Debug, Default)]
pub(super) struct Entered {
    stats: HashMap<u64, KernelStat>,
    /// Time at which entering was last refused everywhere.
    refused: Option<Instant>,
}

impl Entered {
    /// Reads those of `inodes` that take entering, the first [`MOST`].
    pub(super) fn read(
        &mut self,
        inodes: impl Iterator<Item = u64>,
        namespaces: &Namespaces,
        access: &dyn Access,
        now: Instant,
    ) {
        self.stats.clear();
        if self.refused.is_some_and(|at| now.saturating_duration_since(at) < PAUSE) {
            return;
        }
        let inodes = inodes.filter(|inode| namespaces.takes_entering(*inode)).take(MOST);
        let inodes: Vec<u64> = inodes.collect();
        if inodes.is_empty() {
            return;
        }
        let visits = access.statistics(&inodes).unwrap_or_default();
        let read = visits.into_iter().filter_map(|visit| Some((visit.inode, visit.outcome.ok()?)));
        self.stats.extend(read);
        self.refused = self.stats.is_empty().then_some(now);
    }

    /// Counters last read in the namespace `inode`.
    pub(super) fn get(&self, inode: u64) -> Option<KernelStat> {
        self.stats.get(&inode).copied()
    }
}

/// Reason why not even the counters of this process's namespace, `own`, can be read.
pub(super) fn unread(
    own: Option<u64>,
    namespaces: &Namespaces,
    access: &dyn Access,
) -> Option<Unavailable> {
    let own = own.filter(|own| namespaces.takes_entering(*own))?;
    let visits = access.statistics(&[own]).unwrap_or_default();
    let reason = visits.into_iter().find_map(|visit| visit.outcome.err())?;
    let what = "the kernel's own counters, such as that of INVALID packets".into();
    Some(Unavailable { what, reason })
}
