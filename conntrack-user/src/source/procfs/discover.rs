//! Search for network namespaces: those of processes, and those that are mounted on a file.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    mounts::{Mounts, mount_namespace},
    names::folders,
    nsfs::{OnFile, on_file},
    seen::{self, MARKS, STALE_CHARS, STALE_FILES, Seen, Unseen},
};
use crate::text::printable;

/// A network namespace that was found.
#[derive(Debug)]
pub(in crate::source) struct Found {
    pub(in crate::source) seen: Seen,
    /// What to open to enter it; none: this process is in it.
    pub(in crate::source) path: Option<PathBuf>,
}

/// The inode of the namespace this process is in.
pub(super) fn own(procfs: &Path) -> io::Result<u64> {
    let link = procfs.join("self/ns/net");
    inode_of_link(&link)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot read {}", link.display())))
}

/// Looks for namespaces, and keeps what costs too much to look up each time.
#[derive(Debug)]
pub(in crate::source) struct Scanner {
    procfs: PathBuf,
    mounts: Mounts,
    /// Namespaces that the last scan found.
    pub(in crate::source) found: Vec<Found>,
}

impl Scanner {
    /// One that has found nothing yet. `procfs`: where procfs is mounted.
    pub(in crate::source) fn new(procfs: PathBuf) -> Self {
        Self { procfs, mounts: Mounts::default(), found: Vec::new() }
    }

    /// Looks for all namespaces. What cannot be read for another reason than a missing right is passed over: processes end
    /// meanwhile.
    pub(in crate::source) fn scan(&mut self) -> Unseen {
        let procfs = self.procfs.clone();
        let first = inode_of_link(&procfs.join("1/ns/net")).ok();
        let new = |inode, process, path| Found {
            seen: Seen {
                inode,
                is_own: false,
                is_first: first == Some(inode),
                process,
                name: None,
            },
            path,
        };
        let mut found: HashMap<u64, Found> = HashMap::new();
        let mut processes = Processes::default();
        if let Ok(inode) = own(&procfs) {
            let mut own = new(inode, None, None);
            own.seen.is_own = true;
            found.insert(inode, own);
        }
        let now = Instant::now();
        let with_mounts = self.mounts.is_due(now);
        for entry in fs::read_dir(&procfs).into_iter().flatten().flatten() {
            let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let folder = entry.path();
            let link = folder.join("ns/net");
            match inode_of_link(&link) {
                Ok(inode) => {
                    found.entry(inode).or_insert_with(|| new(inode, Some(process), Some(link)));
                    if with_mounts && let Some(mounts) = mount_namespace(&folder) {
                        processes.mount_namespaces.entry(mounts).or_insert(folder);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    processes.hide(&folder);
                }
                Err(_) => {}
            }
        }
        if with_mounts {
            self.mounts.take(std::mem::take(&mut processes.mount_namespaces), now);
        }
        self.mounts.look(&[procfs.join("self"), procfs.join("1")]);
        let add = |found: &mut HashMap<u64, Found>, inode, file: &Path, path: PathBuf| {
            let named = found.entry(inode).or_insert_with(|| new(inode, None, Some(path)));
            // A better one than it has; of several files the same one each time.
            let name = folders::of_file(&file.to_string_lossy());
            if name.is_some() && (named.seen.name.is_none() || name < named.seen.name) {
                named.seen.name = name;
            }
        };
        let mut stale_files = Vec::new();
        for folder in folders::listed() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                match on_file(&path) {
                    Some(OnFile::Netns(inode)) => add(&mut found, inode, &path, path.clone()),
                    Some(OnFile::None) if stale_files.len() < STALE_FILES => {
                        let file = path.to_string_lossy();
                        stale_files.push(printable(&file, STALE_CHARS).into_owned());
                    }
                    Some(OnFile::None | OnFile::Other) | None => {}
                }
            }
        }
        // Something may be mounted over a file, or its mount namespace be gone: then another file may lead there.
        let mut covered = Vec::new();
        for (mount, path) in self.mounts.all() {
            if found.contains_key(&mount.inode) || leads_to(&path, mount.inode) {
                add(&mut found, mount.inode, &mount.file, path);
            } else {
                covered.push((mount, path));
            }
        }
        for (mount, path) in covered {
            add(&mut found, mount.inode, &mount.file, path);
        }
        self.found = found.into_values().collect();
        stale_files.sort();
        Unseen {
            // There always is a first process: not to see it is the mount option hidepid.
            hidden: procfs.join("1").exists().then_some(processes.hidden),
            marks: processes.marks.into_iter().collect(),
            is_in_pid_namespace: is_in_pid_namespace(&procfs),
            mount_namespaces: self.mounts.left(),
            stale_files,
        }
    }
}

/// Signs that processes show besides their network namespaces.
#[derive(Debug, Default)]
struct Processes {
    /// Number of processes that hide their namespace.
    hidden: u64,
    /// Number of those by the mark of the namespace.
    marks: BTreeMap<u64, u64>,
    /// Mount namespaces, each with the folder of a process.
    mount_namespaces: HashMap<u64, PathBuf>,
}

impl Processes {
    fn hide(&mut self, folder: &Path) {
        self.hidden += 1;
        let Some(mark) = seen::mark(folder) else { return };
        if self.marks.len() < MARKS || self.marks.contains_key(&mark) {
            *self.marks.entry(mark).or_default() += 1;
        }
    }
}

/// Reports whether the file at `path` is the namespace with this inode.
fn leads_to(path: &Path, inode: u64) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.ino() == inode)
}

/// Reports whether procfs shows the processes of another PID namespace than the machine's.
pub(crate) fn is_in_pid_namespace(procfs: &Path) -> bool {
    /// `PROC_PID_INIT_INO` (include/linux/proc_ns.h)
    const INITIAL: &str = "pid:[4026531836]";
    // procfs of the node may be mounted into a container.
    if let Ok(stat) = fs::read_to_string(procfs.join("2/stat")) {
        return !is_kernel_thread(&stat);
    }
    fs::read_link(procfs.join("self/ns/pid")).is_ok_and(|link| link.as_os_str() != INITIAL)
}

/// Reports whether a line of /proc/PID/stat is of a thread of the kernel (`PF_KTHREAD`), which other PID namespaces than the
/// machine's do not show. Process 2 is one on every machine (`kthreadd`).
pub(super) fn is_kernel_thread(stat: &str) -> bool {
    const PF_KTHREAD: u64 = 0x0020_0000;
    // The name may have anything in it. State, parent, group, session, terminal, its group, flags.
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let flags = after_name.split(' ').nth(6).and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & PF_KTHREAD != 0)
}

/// The number in a link such as `net:[4026531840]`.
fn inode_of_link(link: &Path) -> io::Result<u64> {
    let target = fs::read_link(link)?;
    // Linux 5.10 shows nothing where later ones refuse to show it.
    if target.as_os_str().is_empty() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let inode = |text: &str| text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok();
    target.to_str().and_then(inode).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_the_kernel() {
        let kthreadd = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 7 0 0";
        assert!(is_kernel_thread(kthreadd));
        for other in [
            "2 (kthreadd) S 1 2 2 34816 2 4194304 100 0 0 0 0 0 0 0 20 0 1 0 7 0 0",
            "2 (a) S 0 0 0 0 -1 2129984) S 1 2 2 34816 2 4194304 100 0 0",
            "",
        ] {
            assert!(!is_kernel_thread(other), "{other}");
        }
    }

    #[test]
    fn a_path_leads_to_a_namespace_by_its_inode() {
        let own = Path::new("/proc/self/ns/net");
        let inode = fs::metadata(own).unwrap().ino();
        assert!(leads_to(own, inode) && !leads_to(own, inode + 1));
    }

    #[test]
    fn a_process_that_hides_its_namespace_has_a_mark() {
        let mut processes = Processes::default();
        processes.hide(Path::new("/proc/self"));
        processes.hide(Path::new("/proc/self"));
        processes.hide(Path::new("/nowhere"));
        assert_eq!(processes.hidden, 3);
        assert_eq!(processes.marks.into_values().collect::<Vec<_>>(), [2]);
    }
}
