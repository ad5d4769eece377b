//! Programs that are run by asking, not by what the kernel does: the kernel's clocks, and live entries read
//! again.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use aya::{Ebpf, programs::RawTracePoint};
use conntrack_ebpf::{Clock, REREADS, Reread};

use super::{bpf, mapped::Mapped, maps::Maps};

/// The programs, loaded and attached to nothing.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) clock: OwnedFd,
    pub(super) reread: OwnedFd,
}

/// Loads them.
///
/// # Errors
/// When the kernel refuses them, or does not run such programs by asking (before 5.10).
pub(super) fn load(object: &mut Ebpf, maps: &Maps) -> Result<Programs> {
    let mut load = |name: &str| -> Result<OwnedFd> {
        let missing = || format!("the object file has no program {name}");
        let program: &mut RawTracePoint =
            object.program_mut(name).with_context(missing)?.try_into()?;
        program.load().with_context(|| format!("the kernel refuses the program {name}"))?;
        Ok(program.fd()?.as_fd().try_clone_to_owned()?)
    };
    let asked =
        Asked::new(Programs { clock: load("ctmon_clock")?, reread: load("ctmon_reread")? }, maps)?;
    asked.clock()?;
    Ok(asked.programs)
}

/// The programs, with the maps through which they are asked and answer.
#[derive(Debug)]
pub(super) struct Asked {
    programs: Programs,
    clock_map: Mapped<Clock>,
    reread_map: Mapped<Reread>,
}

impl Asked {
    /// Maps the maps.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub(super) fn new(programs: Programs, maps: &Maps) -> Result<Self> {
        Ok(Self {
            programs,
            clock_map: Mapped::new(maps, "CLOCK", 1)?,
            reread_map: Mapped::new(maps, "REREAD", REREADS as usize)?,
        })
    }

    /// What the kernel's clocks show now; one system call.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn clock(&self) -> Result<Clock> {
        bpf::test_run(self.programs.clock.as_fd()).context("cannot run the program ctmon_clock")?;
        Ok(self.clock_map.read(0))
    }

    /// Reads live entries again, [`REREADS`] at most; one system call.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn reread(&self, entries: &mut [Reread]) -> Result<()> {
        let entries = &mut entries[..];
        let count = entries.len().min(REREADS as usize);
        for (index, entry) in entries.iter().take(count).enumerate() {
            self.reread_map.write(index, *entry);
        }
        if count < REREADS as usize {
            self.reread_map.write(count, Reread::default());
        }
        bpf::test_run(self.programs.reread.as_fd())
            .context("cannot run the program ctmon_reread")?;
        for (index, entry) in entries.iter_mut().take(count).enumerate() {
            *entry = self.reread_map.read(index);
        }
        Ok(())
    }
}
