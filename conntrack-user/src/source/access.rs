//! What reading the kernel takes privileges for, and nothing else: whoever has them does it, and hands back
//! descriptors that can be read without.

use std::{fmt, os::fd::OwnedFd, path::PathBuf, sync::Mutex};

use anyhow::{Context as _, Result};

use super::{
    ebpf::{self, parts::Parts},
    netlink::socket,
    procfs::{
        discover::Scanner,
        enter::{self, Entered, Target, Visit},
        seen::Sight,
        statistics::Reader,
    },
};
use crate::{lock::lock, model::reading::KernelStat};

/// Who has the privileges.
pub trait Access: fmt::Debug + Send + Sync {
    /// Loads the programs and attaches them.
    ///
    /// # Errors
    /// As [`ebpf::attach::attach`], and where somebody else was to do it, that it did not.
    fn attach(&self, options: &ebpf::Options) -> Result<(Parts, Box<dyn Attachment>)>;

    /// Has the programs timed, until the descriptor is closed.
    ///
    /// # Errors
    /// The kernel's.
    fn time_programs(&self) -> Result<OwnedFd>;

    /// All network namespaces that can be seen.
    ///
    /// # Errors
    /// Nobody could be asked.
    fn discover(&self) -> Result<Sight>;

    /// Opens the files of those of `inodes` that the last [`Access::discover`] saw and in which connections are
    /// tracked, or tells why that cannot be done.
    ///
    /// # Errors
    /// As [`Access::discover`].
    fn enter(&self, inodes: &[u64]) -> Result<Vec<Visit<Entered>>>;

    /// Opens a socket in each of those of `inodes` that the last [`Access::discover`] saw, on which the events of ctnetlink
    /// arrive, with room for `receive_bytes` of messages, as [`socket::open`].
    ///
    /// # Errors
    /// As [`Access::discover`].
    fn listen(&self, inodes: &[u64], receive_bytes: u32) -> Result<Vec<Visit<OwnedFd>>>;

    /// Reads the kernel's own counters in each of those of `inodes` that the last [`Access::discover`] saw: from procfs, or
    /// where the kernel has none there, from ctnetlink.
    ///
    /// # Errors
    /// The other process has ended.
    fn statistics(&self, inodes: &[u64]) -> Result<Vec<Visit<KernelStat>>>;

    /// Whether it can still be asked. Where it cannot, the programs are no longer attached.
    fn is_there(&self) -> bool;
}

/// Keeps programs attached until it is dropped, or where they are pinned until [`Attachment::detach`].
pub trait Attachment {
    /// Detaches the programs, also where they are pinned.
    ///
    /// # Errors
    /// They are pinned, and the pins cannot be removed.
    fn detach(self: Box<Self>) -> Result<()>;

    /// Connects the programs' debug log with the crate `log`; the caller polls and flushes it.
    ///
    /// # Errors
    /// Those of aya-log, and that it cannot be read here.
    fn debug_log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>>;
}

impl Attachment for ebpf::attach::Attachment {
    fn detach(self: Box<Self>) -> Result<()> {
        (*self).detach()
    }

    fn debug_log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>> {
        self.debug_log()
    }
}

/// The privileges that this process itself has.
#[derive(Debug)]
pub struct Own {
    procfs: PathBuf,
    scanner: Mutex<Scanner>,
    statistics: Reader,
}

impl Own {
    /// `procfs`: where procfs is mounted.
    #[must_use]
    pub fn new(procfs: PathBuf) -> Self {
        let statistics = Reader::new(procfs.clone());
        Self { scanner: Mutex::new(Scanner::new(procfs.clone())), procfs, statistics }
    }

    /// Those of `inodes` that were seen last.
    fn targets(&self, inodes: &[u64]) -> Vec<Target> {
        let scanner = lock(&self.scanner);
        let wanted = scanner.found.iter().filter(|one| inodes.contains(&one.seen.inode));
        wanted.map(|one| (one.seen.inode, one.path.clone())).collect()
    }
}

impl Access for Own {
    fn attach(&self, options: &ebpf::Options) -> Result<(Parts, Box<dyn Attachment>)> {
        let (parts, attachment) = ebpf::attach::attach(options)?;
        Ok((parts, Box::new(attachment)))
    }

    fn time_programs(&self) -> Result<OwnedFd> {
        ebpf::bpf::enable_statistics().context("the kernel does not time programs")
    }

    fn discover(&self) -> Result<Sight> {
        let mut scanner = lock(&self.scanner);
        let unseen = scanner.scan();
        Ok(Sight { seen: scanner.found.iter().map(|one| one.seen.clone()).collect(), unseen })
    }

    fn enter(&self, inodes: &[u64]) -> Result<Vec<Visit<Entered>>> {
        Ok(enter::all(self.targets(inodes), &self.procfs))
    }

    fn listen(&self, inodes: &[u64], receive_bytes: u32) -> Result<Vec<Visit<OwnedFd>>> {
        let open = || socket::open(&self.procfs, receive_bytes);
        let opened = enter::within(self.targets(inodes), open);
        Ok(opened.into_iter().map(Visit::from).collect())
    }

    fn statistics(&self, inodes: &[u64]) -> Result<Vec<Visit<KernelStat>>> {
        let read = enter::within(self.targets(inodes), || self.statistics.read());
        Ok(read.into_iter().map(Visit::from).collect())
    }

    fn is_there(&self) -> bool {
        true
    }
}
