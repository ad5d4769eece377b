//! The kernel's own numbers of each network namespace, from procfs.

mod discover;
mod enter;
pub mod names;
pub mod stat;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

use crate::model::reading::KernelStat;
use discover::Found;

/// All network namespaces that this process can find, with files open on each one's numbers.
#[derive(Debug)]
pub struct Namespaces {
    procfs: PathBuf,
    known: HashMap<u64, Namespace>,
    problems: Vec<Problem>,
}

/// A network namespace and its numbers.
#[derive(Debug)]
pub struct Namespace {
    /// `net->ns.inum`
    pub inode: u64,
    /// `net->net_cookie`, from 5.14 on (`SO_NETNS_COOKIE`).
    pub cookie: Option<u64>,
    /// The name under /run/netns.
    pub name: Option<String>,
    files: Files,
    /// Where the statistics are, through a process that is in the namespace.
    stat: Option<PathBuf>,
}

/// The sysctls of a namespace. A file under /proc/sys belongs to the namespace it was opened in, may
/// be read from any other, and does not keep the namespace alive.
#[derive(Debug)]
struct Files {
    count: File,
    max: File,
}

/// A namespace that was seen and could not be entered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `net->ns.inum`
    pub inode: u64,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Namespaces {
    /// None known yet. `procfs`: where procfs is mounted.
    #[must_use]
    pub fn new(procfs: PathBuf) -> Self {
        Self { procfs, known: HashMap::new(), problems: Vec::new() }
    }

    /// Looks for namespaces that came, and forgets those that ended. Costs a readlink(2) a process;
    /// entering another namespace takes `CAP_SYS_ADMIN`.
    pub fn scan(&mut self) {
        let found = discover::all(&self.procfs);
        let inodes: HashSet<u64> = found.iter().map(|one| one.inode).collect();
        // An inode number is reused at once: what can no longer be read has ended, even if the
        // number is there again.
        self.known.retain(|inode, netns| inodes.contains(inode) && netns.count().is_ok());
        self.problems.clear();
        let new: Vec<Found> =
            found.into_iter().filter(|one| !self.known.contains_key(&one.inode)).collect();
        for (found, entered) in enter::all(new, &self.procfs) {
            match entered {
                Ok(entered) => {
                    let netns = Namespace {
                        inode: found.inode,
                        cookie: entered.cookie,
                        name: found.name,
                        files: Files { count: entered.count, max: entered.max },
                        stat: found.process.map(|process| process.join("net/stat/nf_conntrack")),
                    };
                    self.known.insert(found.inode, netns);
                }
                Err(reason) => self.problems.push(Problem { inode: found.inode, reason }),
            }
        }
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

    /// The inode of the namespace that this process is in.
    ///
    /// # Errors
    /// procfs is not what it should be.
    pub fn own(&self) -> io::Result<u64> {
        discover::own(&self.procfs)
    }
}

impl Namespace {
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
        let path = self.stat.as_ref()?;
        // The process may have gone and its number been given to another one.
        let netns = path.ancestors().nth(3)?.join("ns/net");
        if discover::inode_of_link(&netns) != Some(self.inode) {
            return None;
        }
        stat::parse(&std::fs::read_to_string(path).ok()?)
    }
}

/// A sysctl that is a number.
fn read_number(file: &File) -> io::Result<u32> {
    let mut buffer = [0; 16];
    let len = file.read_at(&mut buffer, 0)?;
    let text = std::str::from_utf8(&buffer[..len]).unwrap_or_default().trim();
    text.parse().map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} where a number should be"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs no privilege: a process may read its own namespace.
    #[test]
    fn the_own_namespace_is_found_and_read() {
        let mut all = Namespaces::new("/proc".into());
        all.scan();
        let own = all.own().unwrap();
        match std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max") {
            Ok(max) => {
                let netns = all.iter().find(|netns| netns.inode == own).unwrap();
                assert_eq!(netns.max().unwrap().to_string(), max.trim());
                assert!(netns.count().is_ok());
                assert!(netns.cookie.is_none_or(|cookie| cookie > 0));
            }
            Err(error) => {
                println!("skipped: this kernel has no conntrack: {error}");
                assert!(all.iter().next().is_none());
            }
        }
    }
}
