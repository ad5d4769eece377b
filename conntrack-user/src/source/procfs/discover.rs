//! Which network namespaces there are: those of processes, and those that have a name.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Where `ip netns` keeps names.
const NAMED: &str = "/run/netns";

/// A network namespace that was seen.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) inode: u64,
    /// What to open to enter it; none: this process is in it.
    pub(super) path: Option<PathBuf>,
    pub(super) name: Option<String>,
    /// The folder of a process that is in it.
    pub(super) process: Option<PathBuf>,
}

/// The inode of the namespace this process is in.
pub(super) fn own(procfs: &Path) -> io::Result<u64> {
    let link = procfs.join("self/ns/net");
    inode_of_link(&link).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("cannot read {}", link.display()))
    })
}

/// All namespaces that can be seen. What cannot be read is passed over: processes end meanwhile, and
/// those of others are hidden from whoever may not trace them.
pub(super) fn all(procfs: &Path) -> Vec<Found> {
    let mut found: HashMap<u64, Found> = HashMap::new();
    if let Ok(inode) = own(procfs) {
        let process = Some(procfs.join("self"));
        found.insert(inode, Found { inode, path: None, name: None, process });
    }
    for entry in fs::read_dir(procfs).into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let process = entry.path();
        let link = process.join("ns/net");
        if let Some(inode) = inode_of_link(&link) {
            found.entry(inode).or_insert_with(|| Found {
                inode,
                path: Some(link),
                name: None,
                process: Some(process),
            });
        }
    }
    for entry in fs::read_dir(NAMED).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(inode) = fs::metadata(&path).map(|metadata| metadata.ino()) else {
            continue;
        };
        let named = found.entry(inode).or_insert_with(|| Found {
            inode,
            path: Some(path),
            name: None,
            process: None,
        });
        named.name.get_or_insert_with(|| entry.file_name().to_string_lossy().into_owned());
    }
    found.into_values().collect()
}

/// The number in a link such as `net:[4026531840]`.
pub(super) fn inode_of_link(link: &Path) -> Option<u64> {
    let target = fs::read_link(link).ok()?;
    target.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}
