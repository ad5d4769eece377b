//! What counts, beside the kernel itself.

use std::{os::fd::BorrowedFd, time::Duration};

use anyhow::{Context as _, Result, anyhow};

use super::{
    super::{
        Unavailable,
        access::Attachment,
        ebpf::{
            EbpfSource,
            hook::Hook,
            plan::{HookReport, State},
        },
        netlink::{self, NetlinkSource},
        procfs::Namespaces,
    },
    Choice, Options, Selection, listening,
};
use crate::model::flow::FlowEvent;

/// What counts.
pub(super) enum Counter {
    /// Kernel programs, which are attached as long as `attachment` is there.
    Programs { source: Box<EbpfSource>, attachment: Box<dyn Attachment> },
    /// Sockets that hear the events of ctnetlink.
    Listeners(Box<NetlinkSource>),
    /// The kernel alone.
    Nobody,
}

impl Counter {
    /// As `options` want it, and what it cannot tell.
    ///
    /// # Errors
    /// What was asked for by name cannot be had, and why.
    pub(super) fn open(
        options: &Options,
        namespaces: &Namespaces,
        selection: Selection,
        own: Option<u64>,
    ) -> Result<(Self, Vec<Unavailable>)> {
        let polling = |why: String| {
            let what = "insert and delete rates, drops, evictions, drift and events";
            (Self::Nobody, vec![Unavailable { what: what.into(), reason: why }])
        };
        match options.choice {
            Choice::Procfs => Ok(polling("procfs was asked for".into())),
            Choice::Netlink => {
                let source = listening::open(options, namespaces, selection, own)?;
                let lost = listening::lost(&source);
                Ok((Self::Listeners(Box::new(source)), lost))
            }
            Choice::Ebpf => Self::attach(options)
                .map_err(|error| anyhow!(super::super::explain(&error)))
                .context("no kernel programs (--source procfs polls without them)"),
            Choice::Auto => Ok(Self::attach(options)
                .unwrap_or_else(|error| polling(super::super::explain(&error)))),
        }
    }

    fn attach(options: &Options) -> Result<(Self, Vec<Unavailable>)> {
        let (parts, attachment) = options.access.attach(&options.ebpf)?;
        let source = Box::new(EbpfSource::new(parts)?);
        let mut lost = lost_hooks(source.hooks());
        lost.extend(source.not_asked().map(|why| Unavailable {
            what: "peaks within a tick, and the state of live entries".into(),
            reason: why,
        }));
        let without = source.without().iter();
        lost.extend(
            without.map(|one| Unavailable { what: one.what.clone(), reason: one.why.clone() }),
        );
        lost.extend(source.not_pinned().map(|why| Unavailable {
            what: "the counts after a restart of ctmon".into(),
            reason: why.to_owned(),
        }));
        Ok((Self::Programs { source, attachment }, lost))
    }

    /// `ebpf`, `netlink` or `procfs`.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Programs { .. } => "ebpf",
            Self::Listeners(_) => "netlink",
            Self::Nobody => "procfs",
        }
    }

    pub(super) fn programs(&self) -> Option<&EbpfSource> {
        match self {
            Self::Programs { source, .. } => Some(source),
            Self::Listeners(_) | Self::Nobody => None,
        }
    }

    pub(super) fn programs_mut(&mut self) -> Option<&mut EbpfSource> {
        match self {
            Self::Programs { source, .. } => Some(source),
            Self::Listeners(_) | Self::Nobody => None,
        }
    }

    pub(super) fn listeners(&self) -> Option<&NetlinkSource> {
        match self {
            Self::Listeners(source) => Some(source),
            Self::Programs { .. } | Self::Nobody => None,
        }
    }

    pub(super) fn listeners_mut(&mut self) -> Option<&mut NetlinkSource> {
        match self {
            Self::Listeners(source) => Some(source),
            Self::Programs { .. } | Self::Nobody => None,
        }
    }

    /// Descriptors that are readable when there are events to be taken out.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        match self {
            Self::Programs { source, .. } => source.ring_descriptors().collect(),
            Self::Listeners(source) => vec![source.descriptor()],
            Self::Nobody => vec![],
        }
    }

    /// How long to wait for more when one of them is readable: a ring buffer is by then half full, and a socket has a single
    /// event.
    pub(super) const fn gathering(&self) -> Duration {
        match self {
            Self::Listeners(_) => netlink::GATHERING,
            Self::Programs { .. } | Self::Nobody => Duration::ZERO,
        }
    }

    /// Entries whose hash is below `threshold` are in the sample from now on; whether anybody takes a sample.
    pub(super) fn set_threshold(&mut self, threshold: u32) -> bool {
        match self {
            Self::Programs { source, .. } => source.set_threshold(threshold),
            Self::Listeners(source) => source.set_threshold(threshold),
            Self::Nobody => return false,
        }
        true
    }

    /// Hands at most `limit` waiting events to `take`; how many there were.
    pub(super) fn drain(&mut self, limit: u64, take: impl FnMut(FlowEvent)) -> u64 {
        match self {
            Self::Programs { source, .. } => source.drain(limit, take).received,
            Self::Listeners(source) => source.drain(limit, take),
            Self::Nobody => 0,
        }
    }

    /// Has programs detached, also where they are pinned: what is dropped leaves those attached.
    ///
    /// # Errors
    /// They are pinned, and the pins cannot be removed.
    pub(super) fn let_go(self) -> Result<()> {
        let Self::Programs { source, attachment } = self else {
            return Ok(());
        };
        // Descriptors of links are among what it reads.
        drop(source);
        attachment.detach()
    }
}

/// What cannot be told where `hook` is not attached.
#[must_use]
pub const fn lost_without(hook: Hook) -> &'static str {
    match hook {
        Hook::Alloc | Hook::Free => "entries",
        Hook::Insert => "inserts by packets",
        Hook::HashInsert => "inserts through ctnetlink",
        Hook::Delete => "deletes and evictions",
        Hook::DeleteCause => "which deletes users asked for",
        Hook::EarlyDrop => "evictions and drops because the table is full",
        Hook::Clash => "clashes",
        Hook::Confirm => "inserts that failed for a long chain or a dying entry",
        Hook::NetnsEnd => "when a namespace ends; its counters are not given back",
    }
}

/// What the hooks that are not attached would have told.
fn lost_hooks(hooks: &[HookReport]) -> Vec<Unavailable> {
    let missing = hooks.iter().filter(|report| report.state() != State::NotNeeded);
    let missing = missing.filter_map(|report| {
        let why = report.outcome.as_ref().err()?.reason.clone();
        Some(Unavailable { what: lost_without(report.hook).into(), reason: why })
    });
    let inexact = hooks.iter().filter_map(|report| {
        let what = format!("exact numbers of {}", lost_without(report.hook));
        Some(Unavailable { what, reason: report.not_exact.clone()? })
    });
    missing.chain(inexact).collect()
}
