//! A log that nobody reads must not stop the counting: a full pipe, a terminal that was stopped, a container's engine that hangs.

use std::{
    io::{self, ErrorKind, Write},
    os::fd::AsFd,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The longest wait for a reader, once: after it nothing waits until something was written again.
const WAIT: Duration = Duration::from_millis(100);
/// Bytes that a pipe which is ready for any takes without a wait (`pipe_poll` and `pipe_write` in fs/pipe.c: it has a free page).
const READY_FOR: usize = 4096;

/// Writer that never blocks for long: bytes that the reader does not accept are an error (`WouldBlock`).
#[derive(Debug)]
pub(super) struct Patient<W> {
    inner: W,
    /// Set if the reader accepted the last write.
    is_read: bool,
}

impl<W: Write + AsFd> Patient<W> {
    pub(super) const fn new(inner: W) -> Self {
        Self { inner, is_read: true }
    }
}

impl<W: Write + AsFd> Write for Patient<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let wait = if self.is_read { WAIT } else { Duration::ZERO };
        let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
        let mut all = [PollFd::new(&self.inner, PollFlags::OUT)];
        self.is_read = poll(&mut all, Some(&wait))? > 0;
        if !self.is_read {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.inner.write(bytes.get(..READY_FOR).unwrap_or(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
