//! What is left once the helper is gone.

use std::{os::fd::OwnedFd, path::PathBuf};

use anyhow::{Result, bail};

use crate::{
    model::reading::KernelStat,
    source::{
        access::{Access, Attachment, Own},
        ebpf::{self, parts::Parts},
        procfs::{
            enter::{Entered, Visit},
            seen::Sight,
        },
    },
};

/// What this process may by itself: to look at its own network namespace.
#[derive(Debug)]
pub struct Ended(Own);

impl Ended {
    /// `procfs`: where procfs is mounted.
    #[must_use]
    pub fn new(procfs: PathBuf) -> Self {
        Self(Own::new(procfs))
    }
}

impl Access for Ended {
    fn attach(&self, _: &ebpf::Options) -> Result<(Parts, Box<dyn Attachment>)> {
        bail!("the privileged helper has ended; a restart brings it back")
    }

    fn time_programs(&self) -> Result<OwnedFd> {
        bail!("the privileged helper has ended; a restart brings it back")
    }

    fn discover(&self) -> Result<Sight> {
        self.0.discover()
    }

    fn enter(&self, inodes: &[u64]) -> Result<Vec<Visit<Entered>>> {
        self.0.enter(inodes)
    }

    fn listen(&self, _: &[u64], _: u32) -> Result<Vec<Visit<OwnedFd>>> {
        bail!("the privileged helper has ended; a restart brings it back")
    }

    fn statistics(&self, inodes: &[u64]) -> Result<Vec<Visit<KernelStat>>> {
        self.0.statistics(inodes)
    }

    fn is_there(&self) -> bool {
        true
    }
}
