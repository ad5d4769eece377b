//! The socket pair between the halves: whole messages, with descriptors beside them.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::{
    cmsg_space,
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
        recvmsg, send, sendmsg, shutdown, socketpair,
        sockopt::{Timeout, set_socket_timeout},
    },
};

/// Descriptors beside one message, at most; the kernel allows 253 (`SCM_MAX_FD`, include/net/scm.h).
pub(super) const DESCRIPTORS: usize = 192;

/// One end.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

/// A message.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Descriptors,
}

/// Descriptors of a message.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    pub(super) all: Vec<OwnedFd>,
    /// Set if the kernel dropped some: this process may open no more.
    pub(super) is_cut: bool,
}

impl Channel {
    /// Both ends, which a program that is executed does not inherit.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(one), Self(other)))
    }

    /// From now on, waiting for a message, or for room for one, takes so long at the most.
    pub(super) fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(time))?;
        Ok(set_socket_timeout(&self.0, Timeout::Send, Some(time))?)
    }

    /// Sends a message.
    pub(super) fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        if descriptors.is_empty() {
            // The serving half has no sendmsg(2), which takes the address of another socket.
            return loop {
                match send(&self.0, bytes, SendFlags::NOSIGNAL) {
                    Err(Errno::INTR) => {}
                    other => break Ok(other.map(drop)?),
                }
            };
        }
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{} descriptors are too many for a message", descriptors.len()),
            ));
        }
        loop {
            match sendmsg(&self.0, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                other => return Ok(other.map(drop)?),
            }
        }
    }

    /// The next message of at most `most` bytes; none once the other end is closed. `with_descriptors`: else one that
    /// has some is an error, and they are not taken. With them: fewer where this process may open no more.
    pub(super) fn receive(
        &self,
        most: usize,
        with_descriptors: bool,
    ) -> io::Result<Option<Message>> {
        let mut bytes = vec![0; most];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut beside = match with_descriptors {
            true => RecvAncillaryBuffer::new(&mut space),
            false => RecvAncillaryBuffer::default(),
        };
        let received = loop {
            let room = &mut [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, room, &mut beside, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                // Closed before it has read what it was sent.
                Err(Errno::CONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        let mut all = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                all.extend(received);
            }
        }
        let lost = match with_descriptors {
            true => ReturnFlags::TRUNC,
            false => ReturnFlags::TRUNC | ReturnFlags::CTRUNC,
        };
        if received.flags.intersects(lost) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "a message is longer than {most} bytes, or has descriptors that it may not have"
                ),
            ));
        }
        bytes.truncate(received.bytes);
        let is_cut = received.flags.intersects(ReturnFlags::CTRUNC);
        let descriptors = Descriptors { all, is_cut };
        // No half sends an empty message.
        Ok((received.bytes > 0).then_some(Message { bytes, descriptors }))
    }

    /// Ends the connection, for both ends and whoever waits at them.
    pub(super) fn shut_down(&self) {
        // It is ended already where it cannot be.
        let _ = shutdown(&self.0, Shutdown::Both);
    }

    /// Returns once the other end is closed, or the process at it has ended, of which `peer` is a pidfd: a copy of that process
    /// may hold the end open.
    pub(super) fn wait_until_closed(&self, peer: Option<&OwnedFd>) {
        loop {
            let mut ends = vec![PollFd::new(&self.0, PollFlags::empty())];
            ends.extend(peer.map(|peer| PollFd::new(peer, PollFlags::IN)));
            let is_over = |end: &PollFd<'_>| !end.revents().is_empty();
            // An interruption is one more look.
            if poll(&mut ends, None).is_ok() && ends.iter().any(is_over) {
                return;
            }
        }
    }

    /// Whether the other end is open.
    pub(super) fn is_open(&self) -> bool {
        let mut ends = [PollFd::new(&self.0, PollFlags::empty())];
        let polled = poll(&mut ends, Some(&Timespec::default()));
        polled.is_err() || !ends[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
