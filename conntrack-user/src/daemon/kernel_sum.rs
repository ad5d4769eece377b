//! The kernel's counters of namespaces that are counted together.

use std::collections::BTreeMap;

use crate::model::reading::{KernelStat, NetnsId};

/// Sums what is counted in each namespace from its first read on. Never shrinks: a namespace that ends, or that cannot be
/// read for a while, takes nothing back.
#[derive(Debug, Default)]
pub(super) struct KernelSum {
    last: BTreeMap<NetnsId, KernelStat>,
    sum: Option<KernelStat>,
}

impl KernelSum {
    /// Takes in the totals of a namespace.
    pub(super) fn add(&mut self, id: NetnsId, totals: &KernelStat) {
        let before = self.last.insert(id, *totals).unwrap_or(*totals);
        let more = totals.zip(&before, u64::saturating_sub);
        self.sum = Some(self.sum.map_or(more, |sum| sum.zip(&more, |sum, more| sum + more)));
    }

    /// The namespace has ended.
    pub(super) fn end(&mut self, id: NetnsId) {
        self.last.remove(&id);
    }

    /// All together; none where none could be read.
    pub(super) const fn sum(&self) -> Option<KernelStat> {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_never_shrinks() {
        let invalid = |invalid| KernelStat { invalid: Some(invalid), ..KernelStat::default() };
        let id = |inode| NetnsId { cookie: None, inode };
        let mut sum = KernelSum::default();
        assert_eq!(sum.sum(), None);
        sum.add(id(1), &invalid(1_000));
        assert_eq!(sum.sum(), Some(invalid(0)));
        sum.add(id(1), &invalid(1_010));
        sum.add(id(2), &invalid(70));
        sum.end(id(1));
        sum.add(id(2), &invalid(75));
        assert_eq!(sum.sum(), Some(invalid(15)));
    }
}
