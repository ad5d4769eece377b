//! Inserts that failed, by reason, from the kernel's own counters.

use super::{counts::Totals, reading::KernelStat};

/// What the kernel has counted of them in a namespace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FailedInserts {
    /// For all reasons (`insert_failed`).
    all: u64,
    /// For a chain that is too long (`chaintoolong`).
    chain_too_long: u64,
}

impl FailedInserts {
    /// None where the kernel does not count them by reason.
    #[must_use]
    pub fn of(stat: &KernelStat) -> Option<Self> {
        Some(Self { all: stat.insert_failed?, chain_too_long: stat.chaintoolong? })
    }
}

/// Follows the counters of a namespace.
#[derive(Debug, Clone, Copy)]
pub struct Follow {
    /// When counting began.
    begin: FailedInserts,
    chain_too_long: u64,
    dying: u64,
}

impl Follow {
    /// From there on.
    #[must_use]
    pub const fn from(begin: FailedInserts) -> Self {
        Self { begin, chain_too_long: 0, dying: 0 }
    }

    /// Takes in what the kernel has counted by now. `clashes`: those that cost a packet, counted since
    /// counting began and read later, so that none is taken for another reason.
    pub fn observe(&mut self, now: FailedInserts, clashes: u64) {
        let since = |now: u64, begin: u64| u64::from((now as u32).wrapping_sub(begin as u32));
        self.chain_too_long = since(now.chain_too_long, self.begin.chain_too_long);
        let others = since(now.all, self.begin.all).saturating_sub(self.chain_too_long);
        // Nothing that was counted is taken back.
        self.dying = others.saturating_sub(clashes).max(self.dying);
    }

    /// `totals` with them.
    #[must_use]
    pub const fn fill(&self, totals: Totals) -> Totals {
        Totals { failed_chain_too_long: self.chain_too_long, failed_dying: self.dying, ..totals }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(all: u64, chain_too_long: u64) -> FailedInserts {
        let stat = KernelStat {
            insert_failed: Some(all),
            chaintoolong: Some(chain_too_long),
            ..KernelStat::default()
        };
        FailedInserts::of(&stat).unwrap()
    }

    #[test]
    fn each_has_one_reason_and_counts_from_the_beginning() {
        let mut follow = Follow::from(counted(100, 40));
        // (all, chain too long, clashes) to (chain too long, dying)
        for (all, chain, clashes, expected) in [
            (100, 40, 0, (0, 0)),
            (103, 42, 0, (2, 1)),
            (103, 42, 5, (2, 1)),
            (108, 42, 5, (2, 1)),
            (109, 42, 5, (2, 2)),
        ] {
            follow.observe(counted(all, chain), clashes);
            let totals = follow.fill(Totals::default());
            assert_eq!((totals.failed_chain_too_long, totals.failed_dying), expected, "{all}");
        }
    }

    #[test]
    fn the_kernels_numbers_wrap() {
        let mut follow = Follow::from(counted(u64::from(u32::MAX), u64::from(u32::MAX)));
        follow.observe(counted(4, 2), 0);
        let totals = follow.fill(Totals::default());
        assert_eq!((totals.failed_chain_too_long, totals.failed_dying), (3, 2));
    }

    #[test]
    fn a_kernel_without_reasons_tells_nothing() {
        let stat = KernelStat { insert_failed: Some(1), ..KernelStat::default() };
        assert_eq!(FailedInserts::of(&stat), None);
    }
}
