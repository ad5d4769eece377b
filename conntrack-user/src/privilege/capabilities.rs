//! Which capabilities each half keeps.

use anyhow::{Context as _, Result};
use caps::{CapSet, Capability, CapsHashSet};

/// What the helper keeps.
const HELPER: [Capability; 5] = [
    // Loading programs and creating maps.
    Capability::CAP_BPF,
    // Programs that read kernel memory; kprobes.
    Capability::CAP_PERFMON,
    // Types of modules, timing, entering a namespace; kprobes where kernel.perf_event_paranoid is above 2.
    Capability::CAP_SYS_ADMIN,
    // Links to namespaces of processes of other users.
    Capability::CAP_SYS_PTRACE,
    // Addresses of functions, where kernel.kptr_restrict is 1.
    Capability::CAP_SYSLOG,
];

/// What the helper keeps, as far as it has them. `listens`: whether it opens sockets for the events of ctnetlink.
pub(super) fn helper(listens: bool) -> Vec<Capability> {
    let listening = listens.then_some(Capability::CAP_NET_ADMIN);
    HELPER.into_iter().chain(listening).collect()
}

/// Sees to it that no program which this thread executes gets a capability.
///
/// # Errors
/// Those of capset(2) and prctl(2).
pub(super) fn pass_none_on() -> Result<()> {
    // Without it the bounding set stays; no_new_privs keeps what is in it from being gained.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::runtime::thread_all_supported() {
            caps::drop(None, CapSet::Bounding, capability)
                .with_context(|| format!("cannot drop {capability}"))?;
        }
    }
    if caps::runtime::ambient_set_supported().is_ok() {
        caps::clear(None, CapSet::Ambient).context("cannot drop ambient capabilities")?;
    }
    caps::clear(None, CapSet::Inheritable).context("cannot drop inheritable capabilities")
}

/// Gives up all capabilities of this thread but `wanted`, of which it may have some.
///
/// # Errors
/// Those of capset(2).
pub(super) fn keep(wanted: &[Capability]) -> Result<()> {
    let permitted = caps::read(None, CapSet::Permitted).context("cannot read the capabilities")?;
    let kept: CapsHashSet =
        wanted.iter().filter(|wanted| permitted.contains(wanted)).copied().collect();
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).context("cannot drop capabilities")?;
    }
    Ok(())
}

/// Whether bpf(2) on a descriptor that is held takes CAP_BPF: before 5.19, where
/// kernel.unprivileged_bpf_disabled is set. Gives up the effective capabilities to try it.
///
/// # Errors
/// Those of capset(2).
pub(super) fn bpf_is_refused() -> Result<bool> {
    caps::clear(None, CapSet::Effective).context("cannot drop capabilities")?;
    Ok(crate::source::ebpf::bpf::is_refused())
}
