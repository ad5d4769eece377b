//! A socket on which the ctnetlink events of a network namespace arrive.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
};

use netlink_packet_core::NetlinkBuffer;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind,
        netlink::{self, SocketAddrNetlink},
        recvfrom, sendto, socket_with, sockopt,
    },
};

use crate::file;

/// `NFNLGRP_CONNTRACK_NEW` and `NFNLGRP_CONNTRACK_DESTROY` (enum nfnetlink_groups), a bit each.
const GROUPS: u32 = 1 | 1 << 2;
/// More than any message has: `NLMSG_GOODSIZE` is a page or 8 kB, whichever is less.
pub(super) const LONGEST: usize = 8192;

/// The kernel, as the one that is written to or that has written.
pub(super) const KERNEL: u32 = 0;
/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS`
const GET_STATS: u16 = 0x105;
const NLM_F_REQUEST: u16 = 1;
pub(super) const NLMSG_ERROR: u16 = 2;

/// Opens a socket in the namespace that the calling thread is in, with room for `receive_bytes` of messages, and listens. It
/// keeps the namespace alive as long as it is open. The kernel loads the module `nf_conntrack_netlink` for it, where it
/// has one.
///
/// # Errors
/// Without `CAP_NET_ADMIN` in the namespace, and where the kernel sends no events.
pub fn open(procfs: &Path, receive_bytes: u32) -> io::Result<OwnedFd> {
    require_events(procfs)?;
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            io::Error::other(format!("listening in it takes CAP_NET_ADMIN: {error}"))
        }
        _ => error,
    };
    require_ctnetlink().map_err(explain)?;
    let socket = unbound()?;
    let bytes = receive_bytes as usize;
    // Beyond net.core.rmem_max where that is allowed, else as far as it goes.
    if sockopt::set_socket_recv_buffer_size_force(&socket, bytes).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, bytes)?;
    }
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS)).map_err(|error| explain(error.into()))?;
    Ok(socket)
}

pub(super) fn unbound() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let protocol = Some(netlink::NETFILTER);
    Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?)
}

/// `nf_conntrack_events` of the namespace: not there without `CONFIG_NF_CONNTRACK_EVENTS`.
fn require_events(procfs: &Path) -> io::Result<()> {
    let path = procfs.join("sys/net/netfilter/nf_conntrack_events");
    let no_events = |why| Err(io::Error::new(io::ErrorKind::Unsupported, why));
    match file::read_text(&path, file::KERNEL) {
        Ok(text) if text.trim() == "0" => no_events(
            "nf_conntrack_events is 0 in it, so the kernel sends no events of it; `sysctl -w \
             net.netfilter.nf_conntrack_events=2`, in it, lets it",
        ),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            no_events("this kernel sends no events of entries (CONFIG_NF_CONNTRACK_EVENTS)")
        }
        Err(error) => Err(error),
    }
}

/// Asks ctnetlink for its statistics, which is answered at once: a listener would not learn that nobody is there to send
/// anything. The question loads the module.
fn require_ctnetlink() -> io::Result<()> {
    let socket = unbound()?;
    // struct nlmsghdr: length, type, flags, sequence number, port; struct nfgenmsg: family, version, resource.
    let mut question = 20_u32.to_ne_bytes().to_vec();
    question.extend(GET_STATS.to_ne_bytes());
    question.extend(NLM_F_REQUEST.to_ne_bytes());
    question.resize(20, 0);
    sendto(&socket, &question, SendFlags::empty(), &SocketAddrNetlink::new(KERNEL, 0))?;
    let mut buffer = [0; LONGEST];
    let (answer, ..) = recvfrom(&socket, &mut buffer[..], RecvFlags::empty())?;
    let answer = buffer.get(..answer).unwrap_or_default();
    let message = NetlinkBuffer::new_checked(answer).ok();
    match message.map(|message| (message.message_type(), message.payload())) {
        Some((GET_STATS, _)) => Ok(()),
        Some((NLMSG_ERROR, payload)) => {
            let errno = payload.first_chunk().map_or(0, |errno| i32::from_ne_bytes(*errno));
            let error = io::Error::from_raw_os_error(errno.saturating_neg());
            if error.kind() == io::ErrorKind::PermissionDenied {
                return Err(error);
            }
            Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("this kernel has no ctnetlink (CONFIG_NF_CT_NETLINK): {error}"),
            ))
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "ctnetlink's answer makes no sense")),
    }
}

/// An open socket, and what it lost.
#[derive(Debug)]
pub(super) struct Socket {
    socket: OwnedFd,
    buffer: Box<[u8; LONGEST]>,
}

/// What one look into the socket found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    /// A datagram of the kernel's.
    Datagram(&'a [u8]),
    /// Messages were lost since the last time that this was said (`ENOBUFS`).
    Overrun,
    /// Nothing waits.
    Nothing,
}

impl Socket {
    /// Takes over what [`open`] has opened.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, buffer: Box::new([0; LONGEST]) }
    }

    /// Takes out the next datagram.
    ///
    /// # Errors
    /// None is known that a socket which was opened could have.
    pub(super) fn receive(&mut self) -> io::Result<Received<'_>> {
        loop {
            match recvfrom(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((length, _, sender)) => {
                    let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
                    // Root can write to it, too.
                    if sender.is_some_and(|sender| sender.pid() == KERNEL) {
                        return Ok(Received::Datagram(
                            self.buffer.get(..length).unwrap_or_default(),
                        ));
                    }
                }
                Err(Errno::NOBUFS) => return Ok(Received::Overrun),
                Err(Errno::AGAIN) => return Ok(Received::Nothing),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Messages that found no room so far, modulo 2^32 (`sk->sk_drops`): an event each.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub(super) fn dropped(&self) -> io::Result<u32> {
        /// Where it stands in what `SO_MEMINFO` tells (`SK_MEMINFO_DROPS`).
        const DROPS: usize = 8;
        let mut memory = [0_u32; DROPS + 1];
        let mut length = size_of_val(&memory) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to `memory`, any of which are numbers.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                memory.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(memory[DROPS]) }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
