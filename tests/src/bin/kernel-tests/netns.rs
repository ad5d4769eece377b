//! Network namespaces. A namespace lives as long as something holds it: a [`Netns`], a thread, a
//! process, a socket.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::{
        fd::{AsFd, AsRawFd as _},
        unix::fs::MetadataExt as _,
    },
    sync::mpsc::channel,
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use conntrack_tests::traffic::Family;
use rustix::thread::{
    LinkNameSpaceType, UnshareFlags, gettid, move_into_link_name_space, unshare_unsafe,
};

use crate::{command, netlink};

const OWN: &str = "/proc/thread-self/ns/net";

/// A hold on a network namespace.
#[derive(Debug)]
pub(crate) struct Netns {
    file: File,
    inode: u64,
}

impl Netns {
    /// The calling thread's.
    pub(crate) fn own() -> Result<Self> {
        let file = File::open(OWN).with_context(|| format!("cannot open {OWN}"))?;
        let inode = file.metadata().with_context(|| format!("cannot stat {OWN}"))?.ino();
        Ok(Self { file, inode })
    }

    /// A new one, with loopback up. The calling thread stays where it is.
    pub(crate) fn new() -> Result<Self> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter_new()?;
                Self::own()
            });
            thread
                .join()
                .map_err(|_| anyhow!("the thread that makes a network namespace panicked"))?
        })
    }

    /// What `/proc/PID/ns/net` shows.
    pub(crate) fn inode(&self) -> u64 {
        self.inode
    }

    /// Where this hold can be mounted from.
    pub(crate) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.file.as_raw_fd())
    }

    /// Runs `work` in a thread that has moved into the namespace.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))
                    .with_context(|| {
                        format!("cannot enter the network namespace {}", self.inode)
                    })?;
                work()
            });
            thread
                .join()
                .map_err(|_| anyhow!("a thread in the network namespace {} panicked", self.inode))?
        })
    }
}

/// Moves the calling thread into a new network namespace, with loopback up.
///
/// # Errors
/// Without `CAP_SYS_ADMIN`.
pub(crate) fn enter_new() -> Result<()> {
    unshare()?;
    netlink::loopback_up()
}

/// Moves the calling thread into a new network namespace, in which everything is down.
///
/// # Errors
/// Without `CAP_SYS_ADMIN`.
pub(crate) fn unshare() -> Result<()> {
    // SAFETY: NEWNET touches nothing that Rust's types rely on; it is FILES that would.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.context("cannot make a network namespace")
}

const NEAR: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 99, 0, 1), Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1));
const FAR: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(10, 99, 0, 2), Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2));

/// The addresses of the veth pair that [`join`] makes: the near one and the far one.
pub(crate) fn ends(family: Family) -> (IpAddr, IpAddr) {
    match family {
        Family::Ipv4 => (NEAR.0.into(), FAR.0.into()),
        Family::Ipv6 => (NEAR.1.into(), FAR.1.into()),
    }
}

/// Joins the calling thread's namespace with another one by a veth pair; see [`ends`].
///
/// # Errors
/// When the kernel has no veth.
pub(crate) fn join(peer: &Netns) -> Result<()> {
    command::run("ip", &["link", "add", "near", "type", "veth"])?;
    let (to_peer, tid) = channel();
    let (moved, wait) = channel::<()>();
    thread::scope(|scope| {
        // `ip` knows a namespace by what lives in it: a thread will do.
        let inside = scope.spawn(move || {
            peer.run(move || {
                to_peer.send(gettid().as_raw_nonzero().to_string())?;
                // Ends when the other side has moved the interface, or has failed to.
                let _ = wait.recv();
                address("veth0", FAR)
            })
        });
        let result = tid.recv().context("no thread in the peer's namespace").and_then(|tid| {
            command::run("ip", &["link", "set", "veth0", "netns", &tid])?;
            address("near", NEAR)
        });
        drop(moved);
        inside
            .join()
            .map_err(|_| anyhow!("the thread in the peer's namespace panicked"))?
            .and(result)
    })
}

fn address(interface: &str, (ipv4, ipv6): (Ipv4Addr, Ipv6Addr)) -> Result<()> {
    // Without a look for duplicates, an IPv6 address can be used at once.
    write(&format!("/proc/sys/net/ipv6/conf/{interface}/accept_dad"), "0")?;
    command::run("ip", &["addr", "add", &format!("{ipv4}/24"), "dev", interface])?;
    command::run("ip", &["-6", "addr", "add", &format!("{ipv6}/64"), "dev", interface])?;
    command::run("ip", &["link", "set", interface, "up"]).map(drop)
}

/// Writes a file of procfs or sysfs.
///
/// # Errors
/// The kernel's.
pub(crate) fn write(path: &str, value: &str) -> Result<()> {
    let file = OpenOptions::new().write(true).open(path);
    file.and_then(|mut file| file.write_all(value.as_bytes()))
        .with_context(|| format!("cannot write {value} to {path}"))
}
