//! Opening a namespace's files, which takes being in it.

use std::{
    fs::File,
    io,
    net::UdpSocket,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    thread,
};

use super::{discover::Found, timeouts::Folder};

/// What is brought back from a namespace.
pub(super) struct Entered {
    pub(super) cookie: Option<u64>,
    pub(super) count: File,
    pub(super) max: File,
    pub(super) folder: Folder,
}

/// Opens the files of all of `targets`. One whose files are not there, because conntrack is not, is left out.
pub(super) fn all(targets: Vec<Found>, procfs: &Path) -> Vec<(Found, Result<Entered, String>)> {
    let is_there = |error: &io::Error| error.kind() != io::ErrorKind::NotFound;
    within(targets, || open(procfs))
        .into_iter()
        .filter(|(_, entered)| entered.as_ref().err().is_none_or(is_there))
        .map(|(target, entered)| (target, entered.map_err(|error| error.to_string())))
        .collect()
}

/// Does `work` in all of `targets`, in a thread of its own: only that thread changes its namespace, and it ends with the
/// visit.
pub(super) fn within<T: Send>(
    targets: Vec<Found>,
    work: impl Fn() -> io::Result<T> + Send,
) -> Vec<(Found, io::Result<T>)> {
    if targets.is_empty() {
        return Vec::new();
    }
    let visit = move || {
        // The own namespace first: the thread is still in it.
        let (own, others): (Vec<_>, Vec<_>) =
            targets.into_iter().partition(|target| target.path.is_none());
        let visited = own.into_iter().chain(others).map(|target| {
            let done = enter(&target).and_then(|()| work());
            (target, done)
        });
        visited.collect::<Vec<_>>()
    };
    thread::scope(|scope| scope.spawn(visit).join()).unwrap_or_default()
}

/// Puts this thread into a namespace.
fn enter(target: &Found) -> io::Result<()> {
    let Some(path) = &target.path else { return Ok(()) };
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            io::Error::other(format!("entering it takes CAP_SYS_ADMIN: {error}"))
        }
        _ => error,
    };
    let netns = File::open(path).map_err(explain)?;
    // A process may have gone and its number been given to another one.
    if netns.metadata()?.ino() != target.inode {
        return Err(io::ErrorKind::NotFound.into());
    }
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
        count: File::open(folder.join("nf_conntrack_count"))?,
        max: File::open(folder.join("nf_conntrack_max"))?,
        folder: Folder::open(&folder)?,
        cookie: cookie(),
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
