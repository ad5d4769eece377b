//! Search for network namespaces: those of processes, and those that are mounted on a file.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    mounts::{Mount, Mounts, Place, mount_namespace},
    names::folders,
    nsfs::{OnFile, on_file},
    seen::{self, MARKS, STALE_CHARS, STALE_FILES, Seen, Unseen},
};
use crate::{file, model::name::NameKind, text::printable};

/// Files that are looked at in one scan for namespaces that no process leads to. Of one beyond, entering it shows whether its
/// first file leads there.
const LOOKS: usize = 4096;
/// Time that these looks may take together: a scan has to end long before who waits for it gives it up (30 s).
const LOOKS_TIME: Duration = Duration::from_millis(500);

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
        let mut names = Names::default();
        let mut stale_files = Vec::new();
        for folder in folders::listed() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                match on_file(&path) {
                    Some(OnFile::Netns(inode)) => {
                        names.take(inode, &path, true);
                        found.entry(inode).or_insert_with(|| new(inode, None, Some(path)));
                    }
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
        let mut looks = LOOKS;
        let looking = Instant::now();
        for Place { mount: Mount { inode, file }, path, is_ours } in self.mounts.all() {
            let inode = *inode;
            names.take(inode, file, is_ours);
            if found.contains_key(&inode) {
                continue;
            }
            let may_look = looks > 0 && looking.elapsed() < LOOKS_TIME;
            looks -= usize::from(may_look);
            if may_look && leads_to(&path, inode) {
                found.insert(inode, new(inode, None, Some(path)));
            } else {
                covered.push((inode, path));
            }
        }
        for (inode, path) in covered {
            found.entry(inode).or_insert_with(|| new(inode, None, Some(path)));
        }
        self.found = found.into_values().map(|found| names.give(found)).collect();
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

/// Names of the files on which namespaces are mounted, by inode: whether it is a file of another mount namespace, the kind and
/// the text.
#[derive(Debug, Default)]
struct Names(HashMap<u64, (bool, NameKind, String)>);

impl Names {
    /// Takes in a file. Of several names the best is kept, the same one each time.
    fn take(&mut self, inode: u64, file: &Path, is_ours: bool) {
        let file = file.to_string_lossy();
        let name = match is_ours {
            true => folders::of_file(&file),
            false => folders::of_file_elsewhere(&file),
        };
        let Some((kind, text)) = name else { return };
        let name = (!is_ours, kind, text);
        match self.0.entry(inode) {
            Entry::Occupied(mut best) if name < *best.get() => drop(best.insert(name)),
            Entry::Occupied(_) => {}
            Entry::Vacant(none) => drop(none.insert(name)),
        }
    }

    fn give(&mut self, mut found: Found) -> Found {
        found.seen.name = self.0.remove(&found.seen.inode).map(|(_, kind, text)| (kind, text));
        found
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
    if let Ok(stat) = file::read_text(&procfs.join("2/stat"), file::KERNEL) {
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
    use std::{
        io::{BufRead as _, BufReader},
        process::{Child, Command, Stdio},
    };

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

    /// A mount namespace of its own in which a network namespace of its own is mounted on `file`; and its inode.
    fn mounted_elsewhere(file: &str) -> Option<(Child, u64)> {
        // Nothing of it is seen from here: /run is another one in it.
        let script = format!(
            "mount -t tmpfs none /run && mkdir -p $(dirname {file}) && touch {file} && \
             mount --bind /proc/self/ns/net {file} && readlink /proc/self/ns/net && exec sleep 600"
        );
        let mut child = Command::new("unshare")
            .args(["-mn", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
        let inode = line.trim().strip_prefix("net:[").and_then(|rest| rest.strip_suffix(']'));
        let Some(inode) = inode.and_then(|inode| inode.parse().ok()) else {
            let _ = child.kill().and_then(|()| child.wait());
            return None;
        };
        Some((child, inode))
    }

    #[test]
    fn a_name_of_another_mount_namespace_is_marked() {
        for (file, expected) in
            [("/run/netns/host", "mnt:host"), ("/run/docker/netns/one", "mnt:one")]
        {
            let Some((mut child, inode)) = mounted_elsewhere(file) else {
                println!("skipped: mounting takes root");
                return;
            };
            let mut scanner = Scanner::new("/proc".into());
            scanner.scan();
            let _ = child.kill().and_then(|()| child.wait());
            let found = scanner.found.iter().find(|found| found.seen.inode == inode).unwrap();
            // Nor does it stand before what says a pod's or a container's processes.
            let expected = Some((NameKind::Mounted, expected.to_owned()));
            assert_eq!(found.seen.name, expected);
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
