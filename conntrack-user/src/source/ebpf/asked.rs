//! Programs that are run by asking, not by what the kernel does: the kernel's clocks, and live entries read
//! again.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{Ebpf, programs::RawTracePoint};
use conntrack_ebpf::{Clock, LISTED_NETNS, ListedNetns, REREADS, REREADS_A_CALL, Reread, listed};

use super::{bpf, mapped::Mapped, maps::Maps};

/// The programs, loaded and attached to nothing.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) clock: OwnedFd,
    pub(super) reread: OwnedFd,
    /// Lists network namespaces; or why not.
    pub(super) list: Result<OwnedFd, String>,
}

/// Loads them. `can_list`: the layout of the list of network namespaces is known.
///
/// # Errors
/// When the kernel refuses them, or does not run such programs by asking (before 5.10).
pub(super) fn load(object: &mut Ebpf, maps: &Maps, can_list: bool) -> Result<Programs> {
    let mut load = |name: &str| -> Result<OwnedFd> {
        let missing = || format!("the object file has no program {name}");
        let program: &mut RawTracePoint =
            object.program_mut(name).with_context(missing)?.try_into()?;
        program.load().with_context(|| format!("the kernel refuses the program {name}"))?;
        Ok(program.fd()?.as_fd().try_clone_to_owned()?)
    };
    let (clock, reread) = (load("ctmon_clock")?, load("ctmon_reread")?);
    let list = if can_list {
        load("ctmon_netns").map_err(|error| format!("{error:#}"))
    } else {
        Err("this kernel's BTF does not say where its list of network namespaces is".into())
    };
    let asked = Asked::new(Programs { clock, reread, list }, maps)?;
    asked.clock()?;
    Ok(asked.programs)
}

/// The programs, with the maps through which they are asked and answer.
#[derive(Debug)]
pub(super) struct Asked {
    programs: Programs,
    clock_map: Mapped<Clock>,
    reread_map: Mapped<Reread>,
    list_map: Mapped<ListedNetns>,
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
            reread_map: Mapped::new(maps, "REREAD", REREADS_A_CALL as usize)?,
            list_map: Mapped::new(maps, "NETNS_LIST", LISTED_NETNS as usize)?,
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

    /// Reads live entries again, [`REREADS`] at most; a system call for each [`REREADS_A_CALL`] of them.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn reread(&self, entries: &mut [Reread]) -> Result<()> {
        let count = entries.len().min(REREADS as usize);
        for part in entries[..count].chunks_mut(REREADS_A_CALL as usize) {
            for (index, entry) in part.iter().enumerate() {
                self.reread_map.write(index, *entry);
            }
            if part.len() < REREADS_A_CALL as usize {
                self.reread_map.write(part.len(), Reread::default());
            }
            bpf::test_run(self.programs.reread.as_fd())
                .context("cannot run the program ctmon_reread")?;
            for (index, entry) in part.iter_mut().enumerate() {
                *entry = self.reread_map.read(index);
            }
        }
        Ok(())
    }

    /// All network namespaces on the kernel's own list; a system call for each [`LISTED_NETNS`] of them.
    ///
    /// # Errors
    /// The kernel's, and that the list changes all the time or is too long.
    pub(super) fn list(&self) -> Result<Vec<ListedNetns>> {
        let program = self.programs.list.as_ref().map_err(|why| anyhow!("{why}"))?;
        'attempts: for _ in 0..ATTEMPTS {
            let mut all = Vec::new();
            for call in 0..CALLS {
                let state = if call == 0 { listed::BEGIN } else { listed::CONTINUE };
                self.list_map.write(0, ListedNetns { state, ..ListedNetns::default() });
                bpf::test_run(program.as_fd()).context("cannot run the program ctmon_netns")?;
                for index in 0..LISTED_NETNS as usize {
                    let netns = self.list_map.read(index);
                    match netns.state {
                        listed::NETNS => all.push(netns),
                        listed::HEAD => {}
                        listed::END => return Ok(all),
                        _ => continue 'attempts,
                    }
                }
            }
            bail!("there are more than {} network namespaces", CALLS * LISTED_NETNS);
        }
        bail!("the list of network namespaces has changed {ATTEMPTS} times while it was read")
    }
}

/// Readings of the list from its beginning where it changes meanwhile, and calls for each, at most.
const ATTEMPTS: u32 = 5;
const CALLS: u32 = 1024;

#[cfg(test)]
mod tests {
    use conntrack_ebpf::{MISSES_PER_SECOND, Misses, Tuple};

    use super::*;

    #[test]
    fn guesses_are_answered_so_often_a_second() {
        let mut misses = Misses::default();
        // All that are read again, and as many that are gone, in one second.
        for _ in 0..REREADS {
            assert!(misses.admit(7, false));
        }
        for miss in 0..MISSES_PER_SECOND {
            assert!(misses.admit(7, true), "{miss}");
        }
        assert_eq!((misses.misses, misses.refused), (2 * REREADS, 0));
        // Nothing is said of a hit either: it would be one that was guessed.
        assert!(!misses.admit(7, true) && !misses.admit(7, false));
        assert_eq!(misses.refused, 2);
        assert!(misses.admit(8, true));
        assert_eq!((misses.misses, misses.refused), (1, 2));
    }

    #[test]
    fn the_tuples_of_an_entry_belong_together() {
        let original = Tuple { family: 2, protocol: 6, direction: 0, ..Tuple::default() };
        let reply = Tuple { direction: 1, ..original };
        assert!(original.is_answered_by(&reply));
        let (original6, reply6) = (Tuple { family: 10, ..original }, Tuple { family: 10, ..reply });
        assert!(original6.is_answered_by(&reply6));
        for (one, other) in [
            (original, original),
            (reply, original),
            (original, reply6),
            (original, Tuple { protocol: 17, ..reply }),
            (Tuple { family: 0, ..original }, Tuple { family: 0, ..reply }),
            (Tuple { direction: 2, ..original }, reply),
            (Tuple::default(), Tuple::default()),
        ] {
            assert!(!one.is_answered_by(&other), "{one:?} {other:?}");
        }
    }
}
