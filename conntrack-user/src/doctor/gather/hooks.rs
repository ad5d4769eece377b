//! How the programs attach: they really are, and are detached at once.

use std::time::Duration;

use conntrack_ebpf::ListedNetns;

use super::Roots;
use crate::{
    doctor::facts::{Attach, Fact},
    model::counts::Totals,
    source::{
        ebpf::{self, EbpfSource, attach::Attachment, plan::HookReport},
        item::ProbedHook,
    },
};

/// Of the ring buffer, which nobody reads: a page of any kernel.
const RING_BYTES: u32 = 64 << 10;

/// Programs that are attached until this is dropped.
pub(super) struct Programs {
    source: EbpfSource,
    _attachment: Attachment,
}

impl Programs {
    /// Namespaces on the kernel's own list; none where it cannot be read.
    pub(super) fn list(&self) -> Option<Vec<ListedNetns>> {
        self.source.list_netns().ok()
    }
}

/// Attaches and looks; for `observe` the programs run meanwhile, and are timed. None where they cannot be attached.
pub(super) fn attach(roots: &Roots, observe: Option<Duration>) -> (Attach, Option<Programs>) {
    let options = ebpf::Options {
        procfs: roots.procfs.clone(),
        sysfs: roots.sysfs.clone(),
        btf: roots.btf.clone(),
        ring_bytes: RING_BYTES,
        events: false,
        ..ebpf::Options::default()
    };
    let attached = ebpf::attach::attach(&options)
        .and_then(|(parts, attachment)| Ok((EbpfSource::new(parts)?, attachment)));
    let (mut programs, attachment) = match attached {
        Ok(attached) => attached,
        Err(error) => {
            let is_refused = ebpf::is_refused(&error);
            let hooks = Fact::Unavailable(format!("{error:#}"));
            return (Attach { is_refused, without: vec![], hooks }, None);
        }
    };
    // Without the right to time them, the other numbers are worth having.
    let timed = observe.and_then(|time| {
        let timed = ebpf::bpf::enable_statistics().ok();
        std::thread::sleep(time);
        timed
    });
    let slots = programs.active();
    let counted = slots.iter().map(|(slot, _)| programs.counters(*slot));
    let counted = counted.fold(Totals::default(), |sum, one| sum.plus(&one));
    let mut probes = programs.probes().unwrap_or_default();
    programs.set_hits(&mut probes, &counted);
    drop(timed);
    let hook = |report: &HookReport| ProbedHook::new(report.into(), &probes);
    let attach = Attach {
        hooks: Fact::Known(programs.hooks().iter().map(hook).collect()),
        is_refused: false,
        without: programs.without().iter().map(|one| one.why.clone()).collect(),
    };
    (attach, Some(Programs { source: programs, _attachment: attachment }))
}

/// Nothing to attach to.
pub(super) fn untried(why: &str) -> Attach {
    Attach { hooks: Fact::Unavailable(why.into()), is_refused: false, without: vec![] }
}
