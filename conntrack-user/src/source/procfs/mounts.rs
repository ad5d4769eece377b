//! Network namespaces that are mounted on files, in any mount namespace.
//!
//! Each mount namespace is looked through once when it is found, and again in turn, a few at a time: the text of
//! /proc/PID/mountinfo is long on a node with many containers. Those of this process and of process 1, in which services of
//! the node mount theirs, are looked through every time.

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _},
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Between two looks for new mount namespaces, each of which costs a readlink(2) a process.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Mount namespaces that are looked through again in one scan.
const AGAIN: usize = 4;
/// New mount namespaces that are looked through in one scan, and the time that they may take together.
const NEW: usize = 4096;
const NEW_TIME: Duration = Duration::from_millis(500);
/// Mounts of namespaces that are kept of one mount namespace.
const MOUNTS: usize = 4096;
/// Bytes that the mounts of all mount namespaces but ours may take together ([`Known::bytes`]): anybody makes as many as he
/// likes, with paths as long as he likes, and each costs time in every scan.
const BYTES: usize = 16 << 20;
/// Bytes that a mount counts for besides its path: 32,768 mounts at most are kept.
const MOUNT_BYTES: usize = 512;
/// Bytes of a path, with the 0 at its end (`PATH_MAX`, include/uapi/linux/limits.h). Nothing can be opened by a longer one.
const PATH_BYTES: usize = 4096;
/// Time after which no other mount namespace is looked through again in one scan.
const AGAIN_TIME: Duration = Duration::from_millis(50);

/// Bytes of one /proc/PID/mountinfo that are read, whole lines: some 40,000 mounts.
const TEXT_BYTES: u64 = 4 << 20;

/// A network namespace that is mounted on a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    /// `net->ns.inum`
    pub(super) inode: u64,
    /// The file, as processes of the mount namespace see it; not always UTF-8.
    pub(super) file: PathBuf,
}

/// Mounts by mount namespace.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    known: HashMap<u64, Known>,
    looked: Option<Instant>,
    /// Inodes of mount namespaces, the one that is due next first.
    turn: VecDeque<u64>,
    /// Mount namespaces of this process and of process 1.
    ours: Vec<u64>,
    /// Bytes of the mounts of the others.
    bytes: usize,
    /// Mount namespaces that are known and were not, or not wholly, looked through.
    left: u64,
}

#[derive(Debug)]
struct Known {
    /// The folder of a process that is in it.
    process: PathBuf,
    mounts: Option<Vec<Mount>>,
    /// Bytes of the paths of `mounts`, and [`MOUNT_BYTES`] for each.
    bytes: usize,
    /// Set if it has more mounts than are kept.
    is_cut: bool,
}

/// A mount, and how to get to it.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) mount: &'a Mount,
    /// Path by which this process can open it.
    pub(super) path: PathBuf,
    /// Set in the mount namespaces of this process and of process 1.
    pub(super) is_ours: bool,
}

impl Mounts {
    /// Reports whether [`Mounts::take`] needs the processes this time.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK_EVERY)
    }

    /// Mount namespaces that were not, or not wholly, looked through.
    pub(super) const fn left(&self) -> u64 {
        self.left
    }

    /// Takes in which mount namespaces there are, by inode, each with the folder of a process.
    pub(super) fn take(&mut self, found: HashMap<u64, PathBuf>, now: Instant) {
        self.looked = Some(now);
        self.known.retain(|inode, _| found.contains_key(inode));
        for (inode, process) in found {
            match self.known.get_mut(&inode) {
                Some(known) => known.process = process,
                None => {
                    self.known
                        .insert(inode, Known { process, mounts: None, bytes: 0, is_cut: false });
                    self.turn.push_back(inode);
                }
            }
        }
        self.turn.retain(|inode| self.known.contains_key(inode));
    }

    /// Looks through the mount namespaces that are due, and always through those of the processes `always`.
    pub(super) fn look(&mut self, always: &[PathBuf]) {
        let started = Instant::now();
        let mut always: Vec<u64> =
            always.iter().filter_map(|process| mount_namespace(process)).collect();
        always.dedup();
        self.ours.clone_from(&always);
        let others = self.known.iter().filter(|(inode, _)| !always.contains(inode));
        self.bytes = others.map(|(_, known)| known.bytes).sum();
        let is_new = |known: &Known| known.mounts.is_none();
        let new = self.known.iter().filter(|(_, known)| is_new(known)).map(|(inode, _)| *inode);
        let mut new: Vec<u64> = new.take(NEW).collect();
        new.retain(|inode| !always.contains(inode));
        for inode in &always {
            self.look_through(*inode);
        }
        for inode in new {
            if started.elapsed() >= NEW_TIME {
                break;
            }
            self.look_through(inode);
        }
        let again = Instant::now();
        for _ in 0..AGAIN.min(self.turn.len()) {
            if again.elapsed() >= AGAIN_TIME {
                break;
            }
            let Some(inode) = self.turn.pop_front() else { break };
            if !always.contains(&inode) {
                self.look_through(inode);
            }
            self.turn.push_back(inode);
        }
        let is_left = |known: &&Known| is_new(known) || known.is_cut;
        self.left = self.known.values().filter(is_left).count() as u64;
    }

    fn look_through(&mut self, inode: u64) {
        let Some(known) = self.known.get_mut(&inode) else { return };
        // Its process may have ended: another one is found at the next look.
        let Ok((text, is_whole)) = read(&known.process.join("mountinfo")) else { return };
        let before = known.bytes;
        let (mounts, is_all) = parse(&text);
        known.is_cut = !is_whole || !is_all;
        known.keep(mounts);
        if !self.ours.contains(&inode) {
            self.bytes = self.bytes - before + known.bytes;
            self.cut();
        }
    }

    /// Cuts the largest of the others until all together are few enough: who has many mounts takes no room from who has few.
    fn cut(&mut self) {
        while self.bytes > BYTES {
            let others = self.known.iter_mut().filter(|(inode, _)| !self.ours.contains(inode));
            let Some((_, largest)) = others.max_by_key(|(_, known)| known.bytes) else { return };
            let before = largest.bytes;
            let mut mounts = largest.mounts.take().unwrap_or_default();
            mounts.truncate(mounts.len() / 2);
            mounts.shrink_to_fit();
            largest.keep(mounts);
            largest.is_cut = true;
            self.bytes = self.bytes - before + largest.bytes;
        }
    }

    /// Iterates over all mounts: ours first, then by mount namespace, the smallest first.
    pub(super) fn all(&self) -> impl Iterator<Item = Place<'_>> {
        let is_ours = |inode: &u64| self.ours.contains(inode);
        let mut known: Vec<(bool, &Known)> =
            self.known.iter().map(|(inode, known)| (is_ours(inode), known)).collect();
        known.sort_by_key(|(is_ours, known)| (!is_ours, known.bytes));
        known.into_iter().flat_map(|(is_ours, known)| {
            let root = known.process.join("root");
            known.mounts.iter().flatten().map(move |mount| {
                let path = root.join(mount.file.strip_prefix("/").unwrap_or(&mount.file));
                Place { mount, path, is_ours }
            })
        })
    }
}

impl Known {
    fn keep(&mut self, mounts: Vec<Mount>) {
        let bytes = |mount: &Mount| MOUNT_BYTES + mount.file.as_os_str().len();
        self.bytes = mounts.iter().map(bytes).sum();
        self.mounts = Some(mounts);
    }
}

/// The lines of a file, and whether these are all of them.
fn read(path: &Path) -> io::Result<(Vec<u8>, bool)> {
    let mut text = Vec::new();
    let bytes = File::open(path)?.take(TEXT_BYTES).read_to_end(&mut text)?;
    let is_whole = (bytes as u64) < TEXT_BYTES;
    if !is_whole {
        // Half a path would be another path.
        text.truncate(text.iter().rposition(|byte| *byte == b'\n').unwrap_or(0));
    }
    Ok((text, is_whole))
}

/// The inode of the mount namespace of the process with this folder.
pub(super) fn mount_namespace(process: &Path) -> Option<u64> {
    fs::metadata(process.join("ns/mnt")).map(|metadata| metadata.ino()).ok()
}

/// The network namespaces among the mounts of /proc/PID/mountinfo (proc_pid_mountinfo(5)). Names of other mounts may be
/// anything but white space. And whether these are all: those are left out that no path can lead to.
pub(super) fn parse(text: &[u8]) -> (Vec<Mount>, bool) {
    let mut is_all = true;
    let mut mounts = text.split(|byte| *byte == b'\n').filter_map(netns).filter(|mount| {
        let is_path = mount.file.as_os_str().len() < PATH_BYTES;
        is_all &= is_path;
        is_path
    });
    let first = mounts.by_ref().take(MOUNTS).collect();
    let is_last = mounts.next().is_none();
    (first, is_all && is_last)
}

/// The network namespace that a line is of:
/// `36 35 0:4 net:[4026532277] /run/docker/netns/ingress_sbox rw shared:1 - nsfs nsfs rw`
fn netns(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let root = str::from_utf8(fields.nth(3)?).ok()?;
    let inode = root.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()?;
    let file = unescape(fields.next()?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    (kind == b"nsfs").then(|| Mount { inode, file: OsString::from_vec(file).into() })
}

/// `\NNN`, three octal digits, in place of white space and backslashes (`mangle`, lib/seq_file.c).
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw
600 25 0:4 net:[4026532277] /run/docker/netns/ingress_sbox rw shared:300 - nsfs nsfs rw
601 25 0:4 net:[4026532300] /run/netns/with\\040space rw - nsfs nsfs rw
602 25 0:4 mnt:[4026532400] /run/snapd/ns/one.mnt rw - nsfs nsfs rw
603 25 0:4 uts:[4026532401] /run/utsns/x rw - nsfs nsfs rw
604 25 8:1 /a /tmp/net:[5] rw - ext4 /dev/sda1 rw
605 25 0:4 net:[nonsense] /x rw - nsfs nsfs rw
606 25 8:1 / /media/net:[6] rw - ext4 /dev/sda1 rw
607 25 0:4 net:[7] /mnt/- rw shared:1 master:2 - nsfs nsfs rw
";

    #[test]
    fn network_namespaces_among_mounts() {
        let mount = |inode, file: &str| Mount { inode, file: file.into() };
        let expected = [
            mount(4_026_532_277, "/run/docker/netns/ingress_sbox"),
            mount(4_026_532_300, "/run/netns/with space"),
            mount(7, "/mnt/-"),
        ];
        assert_eq!(parse(TEXT.as_bytes()), (expected.into(), true));
        let long =
            |bytes| format!("600 25 0:4 net:[5] /{} rw - nsfs nsfs rw\n", "x".repeat(bytes - 1));
        let (found, is_all) = parse(long(PATH_BYTES - 1).as_bytes());
        assert_eq!((found.len(), is_all), (1, true));
        let (found, is_all) = parse((long(PATH_BYTES) + TEXT).as_bytes());
        assert_eq!((found.len(), is_all), (3, false));
        let many = TEXT.repeat(MOUNTS);
        let (found, is_all) = parse(many.as_bytes());
        assert_eq!((found.len(), is_all), (MOUNTS, false));
    }

    #[test]
    fn a_name_that_is_no_text_hides_no_other() {
        let mut text = b"600 25 8:1 / /media/\xff\xfe rw - ext4 /dev/sda1 rw\n".to_vec();
        text.extend_from_slice(b"601 25 0:4 net:[5] /run/netns/gr\xfcn rw - nsfs nsfs rw\n");
        text.extend_from_slice(TEXT.as_bytes());
        let (found, _) = parse(&text);
        assert_eq!(found.len(), 4);
        let file = OsString::from_vec(b"/run/netns/gr\xfcn".to_vec());
        assert_eq!(found[0], Mount { inode: 5, file: file.into() });
    }

    #[test]
    fn escapes_of_paths() {
        for (text, path) in [
            ("/a", "/a"),
            ("/a\\040b", "/a b"),
            ("/a\\134", "/a\\"),
            ("/a\\9", "/a\\9"),
            ("\\011", "\t"),
            ("/a\\", "/a\\"),
            ("/a\\777", "/a\\777"),
        ] {
            assert_eq!(unescape(text.as_bytes()), path.as_bytes());
        }
    }

    /// A procfs of one process in each of `count` mount namespaces, as far as it is read here.
    fn procfs(count: u64) -> (tempfile::TempDir, HashMap<u64, PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let processes = (1..=count).map(|number| {
            let process = folder.path().join(number.to_string());
            fs::create_dir_all(process.join("ns")).unwrap();
            let line = format!("1 2 0:4 net:[{number}] /run/x rw - nsfs nsfs rw\n");
            fs::write(process.join("mountinfo"), line).unwrap();
            (number, process)
        });
        let processes = processes.collect();
        (folder, processes)
    }

    #[test]
    fn each_mount_namespace_is_looked_through_once_and_then_in_turn() {
        let (_folder, processes) = procfs(20);
        let now = Instant::now();
        let mut mounts = Mounts::default();
        assert!(mounts.is_due(now));
        mounts.take(processes.clone(), now);
        mounts.look(&[]);
        assert_eq!((mounts.all().count(), mounts.left()), (20, 0));
        assert!(!mounts.is_due(now + LOOK_EVERY / 2));
        assert!(mounts.is_due(now + LOOK_EVERY));
        // All mounts go away, which is noticed in turn.
        for process in processes.values() {
            fs::write(process.join("mountinfo"), "").unwrap();
        }
        mounts.look(&[]);
        assert_eq!(mounts.all().count(), 20 - AGAIN);
        (0..20 / AGAIN).for_each(|_| mounts.look(&[]));
        assert_eq!(mounts.all().count(), 0);
        mounts.take(HashMap::new(), now);
        assert!(mounts.known.is_empty() && mounts.turn.is_empty());
    }

    /// Looks through mount namespaces of which all but number 7 have the mounts of `text`.
    fn beside_a_small_one(processes: HashMap<u64, PathBuf>, text: &str) -> Mounts {
        for (number, process) in &processes {
            if *number != 7 {
                fs::write(process.join("mountinfo"), text).unwrap();
            }
        }
        let mut mounts = Mounts::default();
        mounts.take(processes, Instant::now());
        while mounts.known.values().any(|known| known.mounts.is_none()) {
            mounts.look(&[]);
        }
        mounts
    }

    #[test]
    fn all_mounts_together_are_bounded_and_those_of_the_largest_are_cut() {
        let (_folder, processes) = procfs(40);
        // As somebody makes them who wants looks to take long; one beside is small.
        let line = |number| format!("1 2 0:4 net:[{number}] /run/x{number} rw - nsfs nsfs rw\n");
        let text: String = (1000..5000).map(line).collect();
        let mounts = beside_a_small_one(processes, &text);
        assert!(mounts.all().count() <= BYTES / MOUNT_BYTES, "{}", mounts.all().count());
        assert!(mounts.all().any(|place| place.mount.inode == 7), "the small one is whole");
        // All but the small one, which is said.
        assert_eq!(mounts.left(), 39);
    }

    #[test]
    fn all_paths_together_are_bounded_and_the_small_ones_stay() {
        let (_folder, processes) = procfs(12);
        let path = "x".repeat(4000);
        let line = |number| format!("1 2 0:4 net:[{number}] /{path} rw - nsfs nsfs rw\n");
        let text: String = (1000..1900).map(line).collect();
        let mounts = beside_a_small_one(processes, &text);
        let kept: usize = mounts.all().map(|place| place.mount.file.as_os_str().len()).sum();
        assert!((BYTES / 4..BYTES).contains(&kept), "{kept}");
        assert!(mounts.all().any(|place| place.mount.inode == 7), "the small one is whole");
        assert!(mounts.left() > 0);
    }

    #[test]
    fn what_cannot_be_read_is_left() {
        let mut mounts = Mounts::default();
        mounts.take(HashMap::from([(7, "/nowhere/1".into())]), Instant::now());
        mounts.look(&[]);
        assert_eq!((mounts.all().count(), mounts.left()), (0, 1));
    }
}
