//! What takes privileges: loading the programs and attaching them.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{Ebpf, programs::kprobe::KProbeLink};
use conntrack_ebpf::{ABSENT, EVERY_FLOW, MAX_NETNS, RINGS};
use serde::{Deserialize, Serialize};

use super::{
    Options, asked, bears,
    hook::{Family, Hook},
    kernel::{self, Kernel, MODULE},
    load,
    mapped::Mapped,
    maps::Maps,
    memory,
    parts::{Head, Parts, Without},
    pins::{self, Pins},
    plan::{self, HookReport, Lack, NotAttached, Way},
    rungs::Rung,
    table, windows,
};
use crate::source::limits;

/// Keeps the programs attached, until it is dropped or this process ends, however it ends. Where they are pinned they
/// stay attached without it.
pub struct Attachment {
    links: Vec<Link>,
    /// None: another process has loaded them.
    object: Option<Ebpf>,
    pins: Option<Pins>,
}

/// Keeps a program attached.
pub(super) enum Link {
    Tracing(OwnedFd),
    /// Where the kernel has links of kprobes, theirs are among the parts, too.
    Kprobe {
        _link: KProbeLink,
    },
}

/// Why the programs are not attached, where the error itself cannot be handed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{text}")]
pub struct Failure {
    /// All reasons.
    pub text: String,
    /// Whether the kernel said no for want of permission.
    pub is_refused: bool,
}

impl From<&anyhow::Error> for Failure {
    fn from(error: &anyhow::Error) -> Self {
        Self { text: format!("{error:#}"), is_refused: is_refused(error) }
    }
}

/// Loads and attaches.
///
/// # Errors
/// Says what is missing and what it was for: BTF, a function, a capability, the kernel's consent.
pub fn attach(options: &Options) -> Result<(Parts, Attachment)> {
    ensure!(
        options.rings.is_none_or(|rings| rings.is_power_of_two() && rings as usize <= RINGS),
        "there are 1, 2, 4 or {RINGS} ring buffers"
    );
    load::require(load::OBJECT)?;
    // Before 5.11 maps count as locked memory.
    limits::raise(libc::RLIMIT_MEMLOCK);
    let kernel = Kernel::read(options)?;
    let Some(folder) = &options.pins else {
        return attach_to(options, &kernel);
    };
    match Pins::lock(folder, pins::layout(options, &kernel)) {
        Ok(pins) => attach_pinned(options, &kernel, pins),
        // It counts all the same, as long as it runs.
        Err(error) => {
            let (mut parts, attachment) = attach_to(options, &kernel)?;
            parts.facts.not_pinned = Some(format!("{error:#}"));
            Ok((parts, attachment))
        }
    }
}

/// Takes over what is pinned, or pins what it attaches.
fn attach_pinned(options: &Options, kernel: &Kernel, pins: Pins) -> Result<(Parts, Attachment)> {
    // What cannot be taken over is of no use: it is counted anew.
    if let Ok(Some(parts)) = pins.take() {
        return Ok((parts, Attachment { links: Vec::new(), object: None, pins: Some(pins) }));
    }
    pins.remove()?;
    let (mut parts, attachment) = attach_to(options, kernel)?;
    let tracing = attachment.links.iter().filter_map(|link| match link {
        Link::Tracing(link) => Some(link.as_fd()),
        Link::Kprobe { .. } => None,
    });
    if let Err(error) = pins.keep(&parts, tracing) {
        pins.remove()?;
        parts.facts.not_pinned = Some(format!("{error:#}"));
        return Ok((parts, attachment));
    }
    Ok((parts, Attachment { pins: Some(pins), ..attachment }))
}

fn attach_to(options: &Options, kernel: &Kernel) -> Result<(Parts, Attachment)> {
    if let Some(family) = options.family {
        return attach_family(options, kernel, family);
    }
    if let Some(why) = bears::no_trampolines(options, &kernel.symbols, &kernel.vmlinux) {
        let attached = attach_family(options, kernel, Family::Kprobe).with_context(|| why.clone());
        return attached.map(|(mut parts, attachment)| {
            parts.facts.without.push(Without { what: BEYOND_KPROBES.into(), why });
            (parts, attachment)
        });
    }
    let by_fentry = match attach_family(options, kernel, Family::Tracing) {
        Ok(attached) => return Ok(attached),
        Err(error) => error,
    };
    attach_family(options, kernel, Family::Kprobe).map_err(|by_kprobe| {
        let (fentry, kprobe) = (format!("{by_fentry:#}"), format!("{by_kprobe:#}"));
        if fentry == kprobe {
            return by_fentry;
        }
        let is_refused = is_refused(&by_fentry) || is_refused(&by_kprobe);
        Failure { text: format!("by fentry: {fentry}; by kprobe: {kprobe}"), is_refused }.into()
    })
}

/// What programs at kprobes do not see.
const BEYOND_KPROBES: &str = "refused allocations, resolved clashes and why inserts fail";

fn attach_family(
    options: &Options,
    kernel: &Kernel,
    family: Family,
) -> Result<(Parts, Attachment)> {
    let mut ways = Vec::new();
    for hook in Hook::ALL {
        let module = kernel.module.as_deref();
        let found = plan::needed(family, hook, kernel.has_reasons)
            .and_then(|()| plan::ways(family, hook, &kernel.vmlinux, module, &kernel.symbols));
        require(hook, family, &found)?;
        ways.push((hook, found));
    }
    let mut config = kernel::config(options, kernel, family)?;
    config.window_copies = window_copies(&ways, config.copies);
    config.is_shared = (config.window_copies > 1).into();
    let no_events = if family == Family::Kprobe {
        bears::no_events_by_kprobe(options, &kernel.vmlinux)
    } else {
        None
    };
    if no_events.is_some() {
        (config.events, config.victims) = (0, 0);
    }
    let netns = Some(options.fault.max_netns).filter(|netns| *netns > 0).unwrap_or(MAX_NETNS);
    let ring_bytes = kernel::ring_bytes(options.ring_bytes, config.rings);
    let mut object = load::create_maps(load::OBJECT, &config, ring_bytes, netns)?;
    let maps = Maps::of(&object, config.rings)?;
    // Before the programs are attached: they note the number of the tick.
    table::begin(&maps, config.cpus)?;
    // And which flows are in the sample.
    Mapped::new(&maps, "THRESHOLD", 1)?.write(0, EVERY_FLOW);
    let asked = asked::load(&mut object, &maps, config.net_list != ABSENT)
        .map_err(|error| format!("{error:#}"));
    // When a window was is told by the clocks that are asked for.
    if asked.is_ok() && windows::jiffy().is_some() {
        windows::begin(&maps, config.cpus)?;
    }
    let programs = match family {
        Family::Tracing => {
            let module = kernel.module.as_ref().map(|_| MODULE);
            Some(load::Programs::prepare(&object, module, config.copies)?)
        }
        Family::Kprobe => None,
    };
    let mut hooks = Vec::new();
    let mut attached = Vec::new();
    let mut links = Vec::new();
    for (hook, ways) in ways {
        let without = options.fault.without.contains(&hook);
        let outcome = ways.and_then(|ways| {
            plan::first_that_attaches(&ways, |way| match (way, &programs) {
                _ if without => Ok(Vec::new()),
                (Way::Tracing { image, rung, functions }, Some(programs)) => {
                    programs.attach(hook, *image, &hook.rungs()[*rung], functions)
                }
                (Way::Kprobe { functions }, _) => match hook.kprobe() {
                    Some((name, _)) => load::attach_kprobe(&mut object, hook, name, functions),
                    None => bail!("there is no kprobe for {hook}"),
                },
                (Way::Tracing { .. }, None) => bail!("there is no program for {hook}"),
            })
        });
        let outcome = outcome.map(|(way, new)| {
            for (one, link) in new {
                attached.push(one);
                links.push(link);
            }
            way
        });
        require(hook, family, &outcome)?;
        hooks.push(HookReport { hook, outcome, not_exact: None });
    }
    HookReport::note_exactness(&mut hooks);
    let head = Head {
        family,
        cookie_is_address: config.cookie_is_address == 1,
        cpus: config.cpus,
        window_copies: config.window_copies,
        rings: config.rings,
        hooks,
        since_ns: super::unix_ns(),
        bpf_map_memory_bytes: memory::of_maps(&object, &options.procfs),
        sends_events: config.events == 1,
        without: no_events
            .into_iter()
            .map(|why| Without { what: "events and victims".into(), why })
            .collect(),
    };
    let attachment = Attachment { links, object: Some(object), pins: None };
    Ok((Parts::new(head, maps, asked, attached), attachment))
}

/// The rungs that `hook` may be on by trampolines.
fn rungs(
    ways: &[(Hook, Result<Vec<Way>, NotAttached>)],
    hook: Hook,
) -> impl Iterator<Item = &'static Rung> {
    let of_hook = ways.iter().filter(move |(other, _)| *other == hook);
    let ways = of_hook.filter_map(|(_, ways)| ways.as_ref().ok()).flatten();
    ways.filter_map(move |way| match way {
        Way::Tracing { rung, .. } => hook.rungs().get(*rung),
        Way::Kprobe { .. } => None,
    })
}

/// Copies of the programs that count inserts and deletes, also by windows.
fn window_copies(ways: &[(Hook, Result<Vec<Way>, NotAttached>)], copies: u32) -> u32 {
    let both = [Hook::Insert, Hook::Delete].into_iter();
    let copies = both.flat_map(|hook| rungs(ways, hook)).map(|rung| rung.copies(copies));
    copies.max().unwrap_or(1)
}

impl Attachment {
    /// Connects the programs' debug log with the crate `log`; the caller polls and flushes it.
    ///
    /// # Errors
    /// Those of aya-log.
    pub fn debug_log(&mut self) -> Result<aya_log::EbpfLogger<&'static dyn log::Log>> {
        let object = self.object.as_mut().context("another process has loaded the programs")?;
        aya_log::EbpfLogger::init(object).context("cannot read the programs' debug log")
    }

    /// Detaches, also what is pinned, as soon as nobody else has it open.
    ///
    /// # Errors
    /// Those of removing the pins.
    pub fn detach(self) -> Result<()> {
        self.pins.map_or(Ok(()), |pins| pins.remove())
    }
}

/// An error where a hook is not attached that everything rests on.
fn require<T>(hook: Hook, family: Family, outcome: &Result<T, NotAttached>) -> Result<()> {
    match outcome {
        Err(error) if hook.is_required(family) => Err(anyhow::Error::new(error.clone())
            .context(format!("cannot attach to {}, which every count needs", hook.function()))),
        _ => Ok(()),
    }
}

/// Whether the kernel said no for want of permission.
#[must_use]
pub fn is_refused(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::PermissionDenied)
            || cause.downcast_ref::<Failure>().is_some_and(|error| error.is_refused)
            || cause.downcast_ref::<NotAttached>().is_some_and(|error| error.kind == Lack::Refused)
    })
}
