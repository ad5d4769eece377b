//! Programs that somebody has attached, as descriptors and plain data.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    asked::Programs,
    hook::{Family, Hook},
    maps::Maps,
    plan::HookReport,
    probes::{Attached, Misses},
};

/// What it takes to read programs that are attached. They stay so as long as the
/// [`Attachment`](super::attach::Attachment) that came with it.
#[derive(Debug)]
pub struct Parts {
    /// Plain data.
    pub facts: Facts,
    /// In the order in which `facts` names what they are of.
    pub descriptors: Vec<OwnedFd>,
}

/// What is known of programs that are attached.
#[derive(Debug, Serialize, Deserialize)]
pub struct Facts {
    pub(super) family: Family,
    pub(super) cookie_is_address: bool,
    /// One more than the highest number of a CPU.
    pub(super) cpus: u32,
    /// Copies of the programs that count by windows.
    pub(super) window_copies: u32,
    /// How many rings of events.
    pub(super) rings: u32,
    pub(super) hooks: Vec<HookReport>,
    /// When they were attached, in nanoseconds since 1970 UTC: they count since.
    pub(super) since_ns: u64,
    /// Bytes of memory that all maps take, also those that are not handed on.
    pub(super) bpf_map_memory_bytes: Option<u64>,
    /// Whether they send events.
    pub(super) sends_events: bool,
    /// Values that the way of attaching makes unavailable.
    pub(super) without: Vec<Without>,
    /// Why they are not pinned although that was asked for.
    pub(super) not_pinned: Option<String>,
    /// Names of maps, each with a descriptor.
    maps: Vec<String>,
    /// Two descriptors, or why there are no programs that run by being asked.
    asked: Result<(), String>,
    /// One descriptor more, or why network namespaces cannot be listed.
    list: Result<(), String>,
    /// A descriptor each, and one more where there is a link to ask for misses.
    attached: Vec<Known>,
}

/// Values that the way of attaching makes unavailable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Without {
    /// What cannot be told.
    pub what: String,
    /// Why.
    pub why: String,
}

/// What is known of a program that is attached.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    hook: Hook,
    is_last: bool,
    misses: Source,
}

/// Where calls that a program was skipped for are counted.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Source {
    Program,
    Link,
    Nowhere,
}

/// What is known of programs before their descriptors are.
pub(super) struct Head {
    pub(super) family: Family,
    pub(super) cookie_is_address: bool,
    pub(super) cpus: u32,
    pub(super) window_copies: u32,
    pub(super) rings: u32,
    pub(super) hooks: Vec<HookReport>,
    pub(super) since_ns: u64,
    pub(super) bpf_map_memory_bytes: Option<u64>,
    pub(super) sends_events: bool,
    pub(super) without: Vec<Without>,
}

/// Parts, told apart.
pub(super) struct Open {
    pub(super) facts: Facts,
    pub(super) maps: Maps,
    pub(super) asked: Result<Programs, String>,
    pub(super) attached: Vec<Attached>,
}

impl Facts {
    /// Whether a link of each program can be had.
    pub(super) fn has_links(&self) -> bool {
        !self.attached.iter().any(|known| matches!(known.misses, Source::Nowhere))
    }

    /// How many descriptors there are.
    pub(super) fn descriptors(&self) -> usize {
        let of = |known: &Known| match known.misses {
            Source::Link => 2,
            Source::Program | Source::Nowhere => 1,
        };
        let asked = match (&self.asked, &self.list) {
            (Ok(()), Ok(())) => 3,
            (Ok(()), Err(_)) => 2,
            (Err(_), _) => 0,
        };
        self.maps.len() + asked + self.attached.iter().map(of).sum::<usize>()
    }
}

impl Parts {
    /// Puts them together.
    pub(super) fn new(
        head: Head,
        maps: Maps,
        asked: Result<Programs, String>,
        attached: Vec<Attached>,
    ) -> Self {
        let (names, mut descriptors): (Vec<_>, Vec<_>) = maps.into_all().unzip();
        let mut list = Err(String::new());
        let asked = asked.map(|programs| {
            descriptors.extend([programs.clock, programs.reread]);
            list = programs.list.map(|program| descriptors.push(program));
        });
        let attached = attached.into_iter().map(|one| {
            descriptors.push(one.program);
            let misses = match one.misses {
                Misses::Program => Source::Program,
                Misses::Link(link) => {
                    descriptors.push(link);
                    Source::Link
                }
                Misses::Nowhere => Source::Nowhere,
            };
            Known { hook: one.hook, is_last: one.is_last, misses }
        });
        let attached = attached.collect();
        let Head {
            family,
            cookie_is_address,
            cpus,
            window_copies,
            rings,
            hooks,
            since_ns,
            bpf_map_memory_bytes,
            sends_events,
            without,
        } = head;
        let facts = Facts {
            family,
            cookie_is_address,
            cpus,
            window_copies,
            rings,
            hooks,
            since_ns,
            bpf_map_memory_bytes,
            sends_events,
            without,
            not_pinned: None,
            maps: names,
            asked,
            list,
            attached,
        };
        Self { facts, descriptors }
    }

    /// The map `name`.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn map(&self, name: &str) -> Result<BorrowedFd<'_>> {
        let place = self.facts.maps.iter().position(|one| one == name);
        let descriptor = place.and_then(|place| self.descriptors.get(place));
        Ok(descriptor.with_context(|| format!("there is no map {name}"))?.as_fd())
    }

    /// Tells the descriptors apart.
    ///
    /// # Errors
    /// There are not as many as there should be.
    pub(super) fn open(self) -> Result<Open> {
        let Self { facts, descriptors } = self;
        let mut left = descriptors.into_iter();
        let mut next = || left.next().context("a descriptor of the programs is missing");
        let maps: Vec<_> =
            facts.maps.iter().cloned().zip(std::iter::repeat_with(&mut next)).collect();
        let maps = maps.into_iter().map(|(name, descriptor)| Ok((name, descriptor?)));
        let maps = Maps::new(maps.collect::<Result<Vec<_>>>()?.into_iter());
        let asked = match &facts.asked {
            Ok(()) => {
                let (clock, reread) = (next()?, next()?);
                let list = match &facts.list {
                    Ok(()) => Ok(next()?),
                    Err(why) => Err(why.clone()),
                };
                Ok(Programs { clock, reread, list })
            }
            Err(why) => Err(why.clone()),
        };
        let attached = facts.attached.iter().map(|known| {
            let program = next()?;
            let misses = match known.misses {
                Source::Program => Misses::Program,
                Source::Link => Misses::Link(next()?),
                Source::Nowhere => Misses::Nowhere,
            };
            Ok(Attached { hook: known.hook, is_last: known.is_last, program, misses })
        });
        let attached = attached.collect::<Result<_>>()?;
        ensure!(left.next().is_none(), "a descriptor of the programs is of nothing");
        Ok(Open { facts, maps, asked, attached })
    }
}
