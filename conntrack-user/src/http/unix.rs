//! Connections to unix sockets that do not wait.

use std::{io, os::unix::net::UnixStream, path::Path};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Connects to the socket at `path`. Where its queue of connections is full this is [`io::ErrorKind::WouldBlock`]:
/// [`UnixStream::connect`] waits until its owner takes one, which may be never.
///
/// # Errors
/// Errors of socket(2) and connect(2).
pub fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Fills the queue of a listener; it stays full while the connections are held.
    pub(in crate::http) fn fill(path: &Path) -> (UnixListener, Vec<UnixStream>) {
        let listener = UnixListener::bind(path).unwrap();
        // Fewer than the standard library asks for.
        rustix::net::listen(&listener, 0).unwrap();
        let mut waiting = Vec::new();
        let error = loop {
            match connect_unix(path) {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
            assert!(waiting.len() < 10, "the queue has no end");
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
        (listener, waiting)
    }

    #[test]
    fn a_full_queue_is_no_reason_to_wait() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let (listener, waiting) = fill(&path);
        assert!(!waiting.is_empty());
        listener.accept().unwrap();
        connect_unix(&path).unwrap();
        let nobody = connect_unix(&folder.path().join("nobody")).unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::NotFound);
    }
}
