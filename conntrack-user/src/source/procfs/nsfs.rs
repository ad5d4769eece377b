//! Files that stand for namespaces. Who made a mount namespace chooses what is at a path in it: nothing but a namespace is ever
//! opened there, as a FIFO would keep the one who opens it waiting, and a device may do anything.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

use rustix::fs::{Mode, OFlags, open, statfs};

/// `f_type` of the file system of namespaces (`NSFS_MAGIC`, include/uapi/linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Kind of what is mounted on a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OnFile {
    /// The network namespace with this inode.
    Netns(u64),
    /// A namespace of another type.
    Other,
    /// No namespace.
    None,
}

/// Opens the namespace that the file at `path` stands for; none where it stands for none.
///
/// # Errors
/// The file cannot be reached.
pub(super) fn namespace(path: &Path) -> io::Result<Option<File>> {
    let there = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    // The same file, whatever comes to that path meanwhile.
    let there_path = format!("/proc/self/fd/{}", there.as_raw_fd());
    if statfs(&there_path)?.f_type as u64 != NSFS_MAGIC {
        return Ok(None);
    }
    File::open(there_path).map(Some)
}

/// Looks up the mount on the file at `path`; none if the path cannot be reached.
pub(super) fn on_file(path: &Path) -> Option<OnFile> {
    let Some(file) = namespace(path).ok()? else { return Some(OnFile::None) };
    // SAFETY: the request takes no argument and returns a number.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) };
    // Where the type is not told, the folder has to do.
    let is_other = kind >= 0 && kind != libc::CLONE_NEWNET;
    Some(if is_other { OnFile::Other } else { OnFile::Netns(file.metadata().ok()?.ino()) })
}

#[cfg(test)]
mod tests {
    use std::{ffi::CString, fs, os::unix::ffi::OsStrExt as _};

    use super::*;

    #[test]
    fn only_namespaces_are_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let [fifo, plain, missing] =
            ["fifo", "plain", "missing"].map(|name| folder.path().join(name));
        let name = CString::new(fifo.as_os_str().as_bytes()).unwrap();
        // SAFETY: a string that ends with 0.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o666) }, 0);
        fs::write(&plain, "").unwrap();
        for path in [&fifo, &plain, Path::new("/dev/null")] {
            assert!(namespace(path).unwrap().is_none(), "{}", path.display());
            assert_eq!(on_file(path), Some(OnFile::None), "{}", path.display());
        }
        assert_eq!(on_file(&missing), None);
        let own = Path::new("/proc/self/ns/net");
        assert_eq!(on_file(own), Some(OnFile::Netns(fs::metadata(own).unwrap().ino())));
        assert_eq!(on_file(Path::new("/proc/self/ns/uts")), Some(OnFile::Other));
    }
}
