//! Programs that keep entries out of the table: a queue in which packets wait, and a listener that does not read.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind,
    netlink::{self, SocketAddrNetlink},
    socket_with, sockopt,
};

use crate::netlink::{NLM_F_ACK, NLM_F_REQUEST, ask_on, attribute, message};

// linux/netfilter/nfnetlink_queue.h
const NFQUEUE: u16 = 3;
const CONFIG: u16 = NFQUEUE << 8 | 2;
const CFG_CMD: u16 = 1;
const CMD_BIND: u8 = 1;
const CFG_PARAMS: u16 = 2;
const COPY_META: u8 = 1;

// linux/netlink.h
const SOL_NETLINK: i32 = 270;
const BROADCAST_ERROR: i32 = 4;
/// The group NFNLGRP_CONNTRACK_DESTROY (linux/netfilter/nfnetlink_compat.h), as a bit.
const DESTROYED: u32 = 1 << 2;

/// A program that lets packets wait in an NFQUEUE: the entries of new flows stay unhashed.
pub(crate) struct Queue {
    _socket: OwnedFd,
}

impl Queue {
    /// Binds the queue `number` of the calling thread's namespace until this is dropped.
    ///
    /// # Errors
    /// Errors of the kernel, which may lack nfnetlink_queue.
    pub(crate) fn bind(number: u16) -> Result<Self> {
        let socket = socket()?;
        let [high, low] = number.to_be_bytes();
        let config = |attribute: Vec<u8>| {
            message(CONFIG, NLM_F_REQUEST | NLM_F_ACK, &[vec![0, 0, high, low], attribute].concat())
        };
        let range = 0_u32.to_be_bytes();
        let params = [range.as_slice(), &[COPY_META]].concat();
        for attribute in [attribute(CFG_CMD, &[CMD_BIND, 0, 0, 0]), attribute(CFG_PARAMS, &params)]
        {
            ask_on(&socket, &config(attribute), 1).context("cannot bind a queue for packets")?;
        }
        Ok(Self { _socket: socket })
    }
}

/// A ctnetlink listener that must not lose an event, and does not read: once its buffer is full, entries that are deleted
/// are not freed.
pub(crate) struct DeafListener {
    _socket: OwnedFd,
}

impl DeafListener {
    /// Listens to the end of entries in the calling thread's namespace until this is dropped.
    ///
    /// # Errors
    /// Errors of the kernel.
    pub(crate) fn start() -> Result<Self> {
        let socket = socket()?;
        sockopt::set_socket_recv_buffer_size(&socket, 1).context("cannot set a small buffer")?;
        let on: i32 = 1;
        // SAFETY: the descriptor is open, and the kernel reads the four bytes of `on`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                SOL_NETLINK,
                BROADCAST_ERROR,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(std::io::Error::last_os_error()).context("cannot ask for reliable events");
        }
        bind(&socket, &SocketAddrNetlink::new(0, DESTROYED)).context("cannot listen")?;
        Ok(Self { _socket: socket })
    }
}

fn socket() -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))
        .context("no netlink socket")
}
