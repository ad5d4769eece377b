//! How the programs attach: they really are, and are detached at once.

use std::path::Path;

use crate::{
    doctor::facts::{Attach, Fact, Hook},
    source::ebpf::{self, EbpfSource, plan::HookReport},
};

/// Of the ring buffer, which nobody reads: a page of any kernel.
const RING_BYTES: u32 = 64 << 10;

/// Attaches, looks and detaches.
pub(super) fn attach(sysfs: &Path) -> Attach {
    let options = ebpf::Options {
        sysfs: sysfs.into(),
        ring_bytes: RING_BYTES,
        events: false,
        ..ebpf::Options::default()
    };
    match EbpfSource::attach(&options) {
        Ok(programs) => Attach {
            hooks: Fact::Known(programs.hooks().iter().map(Hook::from).collect()),
            is_refused: false,
        },
        Err(error) => Attach {
            is_refused: ebpf::is_refused(&error),
            hooks: Fact::Unknown(format!("{error:#}")),
        },
    }
}

/// Nothing to attach to.
pub(super) fn untried(why: &str) -> Attach {
    Attach { hooks: Fact::Unknown(why.into()), is_refused: false }
}

impl From<&HookReport> for Hook {
    fn from(report: &HookReport) -> Self {
        Self {
            hook: report.hook.name().into(),
            function: report.hook.function().into(),
            attached_via: report.outcome.as_ref().ok().map(ToString::to_string),
            reason: report.outcome.as_ref().err().map(ToString::to_string),
        }
    }
}
