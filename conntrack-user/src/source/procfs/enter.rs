//! Opening a namespace's files, which takes being in it.

use std::{
    fs::File,
    io,
    net::UdpSocket,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    thread,
};

use super::{nsfs, seen, timeouts::Folder};

/// What came of a visit to a namespace.
#[derive(Debug)]
pub struct Visit<T> {
    /// Which one.
    pub inode: u64,
    /// What is brought back, or why nothing is.
    pub outcome: Result<T, String>,
}

impl<T> From<(u64, io::Result<T>)> for Visit<T> {
    fn from((inode, done): (u64, io::Result<T>)) -> Self {
        Self { inode, outcome: done.map_err(|error| error.to_string()) }
    }
}

/// What is brought back from a namespace.
#[derive(Debug)]
pub struct Entered {
    /// `net->net_cookie`, from 5.14 on (`SO_NETNS_COOKIE`).
    pub cookie: Option<u64>,
    /// The inode of /proc/net/stat in it.
    pub mark: Option<u64>,
    /// `nf_conntrack_count`
    pub count: OwnedFd,
    /// `nf_conntrack_max`
    pub max: OwnedFd,
    /// The folder that they are in (`O_PATH`).
    pub folder: OwnedFd,
}

/// What to enter: an inode, and what stands for it (none: the own namespace).
pub(crate) type Target = (u64, Option<PathBuf>);

/// Opens the files of all of `targets`. One whose files are not there, because conntrack is not, is left out.
pub(in crate::source) fn all(targets: Vec<Target>, procfs: &Path) -> Vec<Visit<Entered>> {
    let is_there = |error: &io::Error| error.kind() != io::ErrorKind::NotFound;
    within(targets, || open(procfs))
        .into_iter()
        .filter(|(_, entered)| entered.as_ref().err().is_none_or(is_there))
        .map(Visit::from)
        .collect()
}

/// Does `work` in all of `targets`, in a thread of its own: only that thread changes its namespace, and it ends with the
/// visit.
pub(crate) fn within<T: Send>(
    targets: Vec<Target>,
    work: impl Fn() -> io::Result<T> + Send,
) -> Vec<(u64, io::Result<T>)> {
    if targets.is_empty() {
        return Vec::new();
    }
    let visit = move || {
        // The own namespace first: the thread is still in it.
        let (own, others): (Vec<_>, Vec<_>) =
            targets.into_iter().partition(|(_, path)| path.is_none());
        let visited = own.into_iter().chain(others).map(|(inode, path)| {
            let done = enter(inode, path.as_deref()).and_then(|()| work());
            (inode, done)
        });
        visited.collect::<Vec<_>>()
    };
    thread::scope(|scope| scope.spawn(visit).join()).unwrap_or_default()
}

/// Reason why a namespace that is mounted on a file cannot be entered.
const COVERED: &str = "something else is mounted over its file";

/// Puts this thread into the namespace that `path` stands for.
fn enter(inode: u64, path: Option<&Path>) -> io::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            io::Error::other(format!("entering it takes CAP_SYS_ADMIN: {error}"))
        }
        _ => error,
    };
    let netns = nsfs::namespace(path).map_err(explain)?;
    let is_it = |netns: &File| netns.metadata().is_ok_and(|metadata| metadata.ino() == inode);
    let Some(netns) = netns.filter(is_it) else {
        // A process may have gone and its number been given to another one.
        let is_of_process = path.ends_with("ns/net");
        return Err(match is_of_process {
            true => io::ErrorKind::NotFound.into(),
            false => io::Error::other(COVERED),
        });
    };
    // SAFETY: a valid descriptor; only this thread's namespace changes.
    if unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) } < 0 {
        return Err(explain(io::Error::last_os_error()));
    }
    Ok(())
}

/// Opens the files of the namespace that this thread is in.
fn open(procfs: &Path) -> io::Result<Entered> {
    let folder: PathBuf = procfs.join("sys/net/netfilter");
    Ok(Entered {
        count: File::open(folder.join("nf_conntrack_count"))?.into(),
        max: File::open(folder.join("nf_conntrack_max"))?.into(),
        folder: Folder::open(&folder)?.into(),
        cookie: cookie(),
        mark: seen::mark(&procfs.join("thread-self")),
    })
}

/// `net->net_cookie` of the namespace that this thread is in.
fn cookie() -> Option<u64> {
    /// `SO_NETNS_COOKIE` (include/uapi/asm-generic/socket.h)
    const SO_NETNS_COOKIE: libc::c_int = 71;
    // Any socket will do; port 0 of the loopback address sends and receives nothing.
    let socket = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("0.0.0.0:0")).ok()?;
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `cookie`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    (result == 0 && cookie != 0).then_some(cookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_another_one_is_mounted_over_is_no_namespace_that_has_ended() {
        let own = Path::new("/proc/self/ns/uts");
        let error = enter(5, Some(own)).unwrap_err();
        assert_eq!(error.to_string(), COVERED);
        // The number of a process may be another one's by now.
        let error = enter(5, Some(Path::new("/proc/self/ns/net"))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = enter(5, Some(Path::new("/nowhere"))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
