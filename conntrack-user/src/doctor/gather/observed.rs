//! Changes while `doctor` looks: what tables lose, and whether something sets the limit.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{Roots, file};
use crate::{
    doctor::facts::{Fact, NetnsLosses, Observed},
    source::{access::Own, procfs},
};

/// Shortest time that is looked at: a table that drops now does so within it.
const SHORTEST: Duration = Duration::from_secs(1);
/// Time between two looks at the limit.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Statistics of a namespace that count losses: packets dropped, entries evicted.
type Losses = [Option<u64>; 2];

/// A look that has begun.
pub(super) struct Look {
    begun: Instant,
    procfs: PathBuf,
    before: BTreeMap<u64, Losses>,
    limits: JoinHandle<Vec<u32>>,
    is_over: Arc<AtomicBool>,
    pods: PathBuf,
}

impl Look {
    /// Begins to look.
    pub(super) fn begin(roots: &Roots) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let path = roots.procfs.join("sys/net/netfilter/nf_conntrack_max");
        let until = Arc::clone(&is_over);
        Self {
            begun: Instant::now(),
            procfs: roots.procfs.clone(),
            pods: roots.pods.clone(),
            before: losses(&roots.procfs, &roots.pods),
            limits: thread::spawn(move || limits(&path, &until)),
            is_over,
        }
    }

    /// Ends it, after [`SHORTEST`] at the soonest.
    pub(super) fn end(self) -> Fact<Observed> {
        thread::sleep(SHORTEST.saturating_sub(self.begun.elapsed()));
        let after = losses(&self.procfs, &self.pods);
        let interval = self.begun.elapsed();
        self.is_over.store(true, Ordering::Relaxed);
        let Ok(limits) = self.limits.join() else {
            return Fact::Unavailable("the limit could not be looked at".into());
        };
        if limits.is_empty() {
            return Fact::Unavailable("nf_conntrack_max cannot be read".into());
        }
        Fact::Known(Observed {
            interval_ns: interval.as_nanos() as u64,
            limits,
            losing: losing(&self.before, &after),
        })
    }
}

/// Values of the limit, one after the other, until it is over.
fn limits(path: &std::path::Path, is_over: &AtomicBool) -> Vec<u32> {
    let mut limits = Vec::new();
    loop {
        let is_last = is_over.load(Ordering::Relaxed);
        if let Some(now) = file::number::<u32>(path).known()
            && limits.last() != Some(now)
        {
            limits.push(*now);
        }
        if is_last {
            return limits;
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn losses(procfs: &std::path::Path, pods: &std::path::Path) -> BTreeMap<u64, Losses> {
    let mut found = procfs::Namespaces::new(procfs.to_owned(), pods.to_owned());
    found.scan(&Own::new(procfs.to_owned()));
    let with = found.iter().filter_map(|netns| {
        let stat = netns.stat()?;
        Some((netns.inode, [stat.drop, stat.early_drop]))
    });
    with.collect()
}

/// Namespaces that lost something between the two.
fn losing(before: &BTreeMap<u64, Losses>, after: &BTreeMap<u64, Losses>) -> Vec<NetnsLosses> {
    let since = |now: Option<u64>, before: Option<u64>| match (now, before) {
        // Sums of 32-bit numbers, each of which wraps.
        (Some(now), Some(before)) => u64::from((now as u32).wrapping_sub(before as u32)),
        _ => 0,
    };
    let of = |(inode, now): (&u64, &Losses)| {
        let before = before.get(inode)?;
        let [drop, early_drop] = [0, 1].map(|at| since(now[at], before[at]));
        (drop > 0 || early_drop > 0).then_some(NetnsLosses { inode: *inode, drop, early_drop })
    };
    after.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_those_of_the_time_between() {
        let before =
            BTreeMap::from([(7, [Some(5), Some(1)]), (8, [Some(9), None]), (9, [None, None])]);
        let after = BTreeMap::from([
            (7, [Some(8), Some(1)]),
            (8, [Some(9), None]),
            (9, [Some(4), Some(4)]),
            // It came meanwhile.
            (10, [Some(3), Some(0)]),
        ]);
        assert_eq!(losing(&before, &after), [NetnsLosses { inode: 7, drop: 3, early_drop: 0 }]);
    }

    #[test]
    fn a_limit_that_is_set_back_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("max");
        std::fs::write(&path, "20000\n").unwrap();
        let is_over = Arc::new(AtomicBool::new(false));
        let (to, until) = (path.clone(), Arc::clone(&is_over));
        let looks = thread::spawn(move || limits(&to, &until));
        for value in ["50000\n", "20000\n"] {
            thread::sleep(Duration::from_millis(200));
            // As the kernel does: at no time is it empty.
            let other = folder.path().join("other");
            std::fs::write(&other, value).unwrap();
            std::fs::rename(&other, &path).unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(looks.join().unwrap(), [20000, 50000, 20000]);
    }
}
