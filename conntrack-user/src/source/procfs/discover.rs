//! Which network namespaces there are: those of processes, and those that have a name.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::seen::Seen;

/// Where `ip netns` keeps names.
const NAMED: &str = "/run/netns";

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

/// All namespaces that can be seen, and how many processes hide theirs, as those of others do from whoever may not trace
/// them; none where processes themselves are hidden. What cannot be read for another reason is passed over: processes end meanwhile.
pub(in crate::source) fn all(procfs: &Path) -> (Vec<Found>, Option<u64>) {
    let first = inode_of_link(&procfs.join("1/ns/net")).ok();
    let seen = |inode, process| Seen {
        inode,
        is_own: false,
        is_first: first == Some(inode),
        process,
        name: None,
    };
    let mut found: HashMap<u64, Found> = HashMap::new();
    let mut hidden = 0;
    if let Ok(inode) = own(procfs) {
        let own = Seen { is_own: true, ..seen(inode, None) };
        found.insert(inode, Found { seen: own, path: None });
    }
    for entry in fs::read_dir(procfs).into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let link = entry.path().join("ns/net");
        match inode_of_link(&link) {
            Ok(inode) => {
                let new = || Found { seen: seen(inode, Some(process)), path: Some(link) };
                found.entry(inode).or_insert_with(new);
            }
            Err(error) => hidden += u64::from(error.kind() == io::ErrorKind::PermissionDenied),
        }
    }
    for entry in fs::read_dir(NAMED).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(inode) = fs::metadata(&path).map(|metadata| metadata.ino()) else {
            continue;
        };
        let named = found
            .entry(inode)
            .or_insert_with(|| Found { seen: seen(inode, None), path: Some(path) });
        let name = || entry.file_name().to_string_lossy().into_owned();
        named.seen.name.get_or_insert_with(name);
    }
    // There always is a first process: not to see it is the mount option hidepid.
    let hidden = procfs.join("1").exists().then_some(hidden);
    (found.into_values().collect(), hidden)
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
