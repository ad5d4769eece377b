//! The kernel's own numbers of each network namespace, from procfs.

mod coverage;
pub(crate) mod discover;
pub mod enter;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod mounts;
pub mod names;
mod nsfs;
mod queue;
pub mod seen;
pub mod stat;
pub mod statistics;
mod timeouts;

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit};

use super::access::Access;
use crate::{
    file,
    forecast::snapshot::Timeouts,
    model::{
        coverage::Coverage,
        name::{Name, NameKind},
        reading::KernelStat,
    },
};
pub use coverage::Other;
use coverage::Scan;
use enter::{Entered, Visit};
use names::Pods;
use seen::{Seen, Sight, Unseen};

/// All network namespaces that this process can find, with files open on each one's numbers.
#[derive(Debug)]
pub struct Namespaces {
    procfs: PathBuf,
    pods: PathBuf,
    known: HashMap<u64, Namespace>,
    problems: Vec<Problem>,
    unseen: Unseen,
    /// Set where the kernel has statistics in procfs.
    has_stat: bool,
}

/// A network namespace and its numbers.
#[derive(Debug)]
pub struct Namespace {
    /// `net->ns.inum`
    pub inode: u64,
    /// `net->net_cookie`, from 5.14 on (`SO_NETNS_COOKIE`).
    pub cookie: Option<u64>,
    /// What it is called.
    pub name: Option<Name>,
    found: Instant,
    /// Whether the last scan saw it.
    is_seen: bool,
    files: Files,
    timeouts: timeouts::Told,
    /// The folder of a process that is in the namespace.
    process: Option<PathBuf>,
    /// How to tell whether it still is.
    mark: Option<u64>,
}

/// The sysctls of a namespace. A file under /proc/sys belongs to the namespace it was opened in, may
/// be read from any other, and does not keep the namespace alive.
#[derive(Debug)]
struct Files {
    count: File,
    max: File,
}

/// A namespace that was seen and could not be entered, or all that no look showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `net->ns.inum`; 0 where the look for namespaces failed.
    pub inode: u64,
    /// Name, where one is known.
    pub name: Option<String>,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Descriptors that each namespace takes.
const DESCRIPTORS: u64 = 3;
/// Part of all descriptors that namespaces leave to connections and files: one in so many.
const LEFT: u64 = 4;
/// Reason why a namespace is not entered for which there is no descriptor.
pub(crate) const NO_DESCRIPTORS: &str = "too many open files (ulimit -n, LimitNOFILE=)";

/// Reason why others than the known namespaces are not read: the look for them failed.
const NOT_LOOKED_FOR: &str = "network namespaces could not be looked for";

/// Number of namespaces that may be open where `limit` descriptors may be.
const fn most_open(limit: u64) -> u64 {
    (limit - limit / LEFT) / DESCRIPTORS
}

/// Time in which a namespace gets the name that it keeps.
const NAMED_BY: Duration = Duration::from_secs(60);

impl Namespaces {
    /// None known yet. `procfs`: where procfs is mounted; `pods`: the folder whose names tell those of
    /// pods, /var/log/pods on a node of Kubernetes.
    #[must_use]
    pub fn new(procfs: PathBuf, pods: PathBuf) -> Self {
        let has_stat = procfs.join("self").join(stat::FILE).exists();
        Self {
            procfs,
            pods,
            known: HashMap::new(),
            problems: Vec::new(),
            unseen: Unseen { hidden: Some(0), ..Unseen::default() },
            has_stat,
        }
    }

    /// Looks for namespaces that came, and forgets those that ended; these it returns. Costs a
    /// readlink(2) a process and a read(2) a namespace. `access` is for seeing processes of other users
    /// (`CAP_SYS_PTRACE`) and for entering namespaces (`CAP_SYS_ADMIN`); where it fails, none comes, which is a problem.
    pub fn scan(&mut self, access: &dyn Access) -> Vec<Namespace> {
        // An inode number is reused at once: what can no longer be read has ended, even if the
        // number is there again. And one that no process is in any more may be alive.
        let ended = self.known.extract_if(|_, netns| netns.count().is_err());
        let ended = ended.map(|(_, netns)| netns).collect();
        self.problems.clear();
        let found = match access.discover() {
            Ok(Sight { seen, unseen }) => {
                self.unseen = unseen;
                seen
            }
            // Of others nothing is known; those that are known stay as they were.
            Err(error) => {
                let reason = format!("{NOT_LOOKED_FOR}: {error:#}");
                self.problems.push(Problem { inode: 0, name: None, reason });
                return ended;
            }
        };
        self.known.values_mut().for_each(|netns| netns.is_seen = false);
        for one in &found {
            if let Some(netns) = self.known.get_mut(&one.inode) {
                netns.is_seen = true;
                // The process that was found first may have ended while others stay.
                netns.process = one.folder(&self.procfs);
            }
        }
        self.name(&found);
        let new: HashMap<u64, Seen> = found
            .into_iter()
            .filter(|one| !self.known.contains_key(&one.inode))
            .map(|one| (one.inode, one))
            .collect();
        let mut inodes: Vec<u64> = new.keys().copied().collect();
        // The own one and that of process 1 first, in case there is no room for all.
        let order = |inode: &u64| new.get(inode).map(|one| (!one.is_own, !one.is_first, *inode));
        inodes.sort_by_key(order);
        let most = getrlimit(Resource::Nofile).current.map_or(u64::MAX, most_open);
        let room = most.saturating_sub(self.known.len() as u64);
        let beyond =
            inodes.split_off(inodes.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        let refused = |inode| Visit { inode, outcome: Err(NO_DESCRIPTORS.into()) };
        let visits = access.enter(&inodes).unwrap_or_default();
        let mut pods = None;
        for visit in visits.into_iter().chain(beyond.into_iter().map(refused)) {
            if let Some(seen) = new.get(&visit.inode) {
                self.take_in(seen, visit, &mut pods);
            }
        }
        ended
    }

    fn take_in(&mut self, seen: &Seen, visit: Visit<Entered>, pods: &mut Option<Pods>) {
        let entered = match visit.outcome {
            Ok(entered) => entered,
            Err(reason) => {
                let name = self.name_of(seen, None, pods).map(|name| name.text);
                return self.problems.push(Problem { inode: seen.inode, name, reason });
            }
        };
        let netns = Namespace {
            inode: seen.inode,
            cookie: entered.cookie,
            name: self.name_of(seen, entered.mark, pods),
            found: Instant::now(),
            is_seen: true,
            files: Files { count: entered.count.into(), max: entered.max.into() },
            timeouts: timeouts::Told::new(timeouts::Folder::new(entered.folder.into())),
            process: seen.folder(&self.procfs),
            mark: entered.mark,
        };
        self.known.insert(seen.inode, netns);
    }

    /// Gives better names to those that came lately: a process may be about to become another program,
    /// and a container's namespace is there before anybody is in it.
    fn name(&mut self, found: &[Seen]) {
        let mut pods = None;
        for one in found {
            let due = self.known.get(&one.inode).filter(|netns| {
                netns.found.elapsed() < NAMED_BY
                    && netns.name.as_ref().is_none_or(|name| name.kind >= NameKind::Generated)
            });
            if let Some(mark) = due.map(|netns| netns.mark) {
                let name = self.name_of(one, mark, &mut pods);
                if let Some(netns) = self.known.get_mut(&one.inode) {
                    netns.name = name.or(netns.name.take());
                }
            }
        }
    }

    /// Name of `seen`. No process is asked for the own namespace and that of process 1: nearly every service is in it.
    /// `mark`: its mark, where it was entered.
    fn name_of(&self, seen: &Seen, mark: Option<u64>, pods: &mut Option<Pods>) -> Option<Name> {
        let first = || seen::mark(&self.procfs.join("1"));
        // Process 1 may hide its namespace, but not its mark.
        let is_first = seen.is_first || (mark.is_some() && first() == mark);
        if is_first && !self.unseen.is_in_pid_namespace {
            return Some(names::host());
        }
        let is_shared = seen.is_own || is_first;
        let process = seen.folder(&self.procfs).filter(|_| !is_shared).and_then(|process| {
            let pods = pods.get_or_insert_with(|| Pods::read(&self.pods));
            let name = names::of_process(&process, pods)?;
            // The process may have gone and its number been given to another one.
            (mark.is_some() && seen::mark(&process) == mark).then_some(name)
        });
        names::best(seen.name.as_ref(), process)
    }

    /// The namespace with this inode, and with this cookie where both are known.
    #[must_use]
    pub fn get(&self, inode: u64, cookie: Option<u64>) -> Option<&Namespace> {
        let netns = self.known.get(&inode)?;
        let is_other = netns.cookie.zip(cookie).is_some_and(|(one, other)| one != other);
        (!is_other).then_some(netns)
    }

    /// The timeouts of the entries of the namespace with this inode: the first time that they are asked for, and when
    /// they have changed since. None otherwise, and where they cannot be read. To ask costs nothing but every 10 s.
    pub fn changed_timeouts(&mut self, inode: u64, now: Instant) -> Option<Timeouts> {
        self.known.get_mut(&inode)?.timeouts.changed(now, inode)
    }

    /// Reports whether the statistics of a namespace can be read only from within: it has no process, or the kernel does not have
    /// them in procfs.
    #[must_use]
    pub fn takes_entering(&self, inode: u64) -> bool {
        let is_without = |netns: &Namespace| netns.process.is_none() || !self.has_stat;
        self.known.get(&inode).is_some_and(is_without)
    }

    /// How many are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The namespaces that track connections, or could.
    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        self.known.values()
    }

    /// Namespaces that the last scan saw and could not enter.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Processes whose namespace the last scan could not see; none where it saw no processes of others.
    #[must_use]
    pub const fn hidden(&self) -> Option<u64> {
        self.unseen.hidden
    }

    /// Coverage of this machine's namespaces. `others`: namespaces that the kernel shows by other ways and that are not read;
    /// `is_total_exact`: there are no more.
    #[must_use]
    pub fn coverage(&self, others: &[Other], is_total_exact: bool) -> Coverage {
        let marks: Vec<u64> = self.known.values().filter_map(|netns| netns.mark).collect();
        let read = self.known.len();
        let scan = Scan { marks: &marks, read, problems: &self.problems, unseen: &self.unseen };
        coverage::of(scan, others, is_total_exact)
    }

    /// The inode of the namespace that this process is in.
    ///
    /// # Errors
    /// procfs is not what it should be.
    pub fn own(&self) -> io::Result<u64> {
        discover::own(&self.procfs)
    }
}

impl Namespace {
    /// Whether the last scan saw a process in it, or a name that stands for it. Otherwise it is about to end, or something
    /// else keeps it.
    #[must_use]
    pub const fn is_seen(&self) -> bool {
        self.is_seen
    }

    /// `nf_conntrack_count`: entries in the table. One system call.
    ///
    /// # Errors
    /// The namespace has ended, or the module was unloaded.
    pub fn count(&self) -> io::Result<u32> {
        read_number(&self.files.count)
    }

    /// `nf_conntrack_max`; 0 is no limit, which kernels up to 6.18 accept. One system call.
    ///
    /// # Errors
    /// As [`Namespace::count`].
    pub fn max(&self) -> io::Result<u32> {
        read_number(&self.files.max)
    }

    /// The statistics; none where the kernel keeps none (`CONFIG_NF_CONNTRACK_PROCFS`) or no process
    /// is left in the namespace. Opened anew each time: this file would keep the namespace alive.
    #[must_use]
    pub fn stat(&self) -> Option<KernelStat> {
        stat::parse(&self.read(stat::FILE, file::KERNEL).ok()?)
    }

    /// Packets that wait in queues for a program's verdict (NFQUEUE); none where no process is left in the namespace, or where it has
    /// more than some 14,000 queues. 0 without the module nfnetlink_queue.
    #[must_use]
    pub fn queued(&self) -> Option<u64> {
        match self.read("net/netfilter/nfnetlink_queue", queue::BYTES) {
            Ok(text) => queue::parse(&text),
            Err(error) => (error.kind() == io::ErrorKind::NotFound).then_some(0),
        }
    }

    /// Reads the file `path`, of at most `most` bytes, below the folder of a process that is in the namespace.
    fn read(&self, path: &str, most: u64) -> io::Result<String> {
        let process = self.process.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        // The process may have gone and its number been given to another one.
        if self.mark.is_none() || seen::mark(process) != self.mark {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        file::read_text(&process.join(path), most)
    }
}

/// A sysctl that is a number.
fn read_number(file: &File) -> io::Result<u32> {
    let mut buffer = [0; 16];
    let len = file.read_at(&mut buffer, 0)?;
    parse_number(std::str::from_utf8(&buffer[..len]).unwrap_or_default())
}

fn parse_number(text: &str) -> io::Result<u32> {
    let text = text.trim();
    text.parse().map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} where a number should be"))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn namespaces_leave_descriptors_to_others() {
        let most = [128, 1024, 65_536, u64::MAX].map(super::most_open);
        assert_eq!(most, [32, 256, 16_384, 1 << 62]);
    }

    use super::*;
    use crate::source::access::Own;

    /// Needs no privilege: a process may read its own namespace.
    #[test]
    fn the_own_namespace_is_found_and_read() {
        let mut all = Namespaces::new("/proc".into(), "/var/log/pods".into());
        all.scan(&Own::new("/proc".into()));
        let own = all.own().unwrap();
        match std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max") {
            Ok(max) => {
                let netns = all.iter().find(|netns| netns.inode == own).unwrap();
                assert_eq!(netns.max().unwrap().to_string(), max.trim());
                assert!(netns.count().is_ok());
                assert!(netns.cookie.is_none_or(|cookie| cookie > 0));
                let udp = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout";
                let udp = std::fs::read_to_string(udp).unwrap().trim().parse().unwrap();
                let now = Instant::now();
                let told = all.changed_timeouts(own, now);
                assert_eq!(told.map(|timeouts| timeouts.udp), Some(udp));
                assert_eq!(all.changed_timeouts(own, now), None, "as before");
            }
            Err(error) => {
                println!("skipped: this kernel has no conntrack: {error}");
                assert!(all.iter().next().is_none());
            }
        }
    }
}
