//! What knows the kernel: programs in it, its procfs, and the two joined as one source of readings;
//! and recordings of what that source has told.

pub mod access;
pub mod ebpf;
pub mod item;
pub(crate) mod limits;
pub mod listener;
pub mod live;
pub mod netlink;
pub mod procfs;
pub mod recording;

use serde::{Deserialize, Serialize};

/// Something that is not available.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unavailable {
    /// Which answers.
    pub what: String,
    /// Why.
    #[serde(alias = "why")]
    pub reason: String,
}

/// An error and its causes in one line, with what to do where the kernel said no.
#[must_use]
pub fn explain(error: &anyhow::Error) -> String {
    if !ebpf::is_refused(error) {
        return format!("{error:#}");
    }
    // SAFETY: takes nothing and cannot fail.
    let is_root = unsafe { libc::geteuid() } == 0;
    let advice = if is_root {
        "this kernel, a container or a security policy refuses BPF to this process: it takes \
         CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN, and a kernel that allows tracing programs"
    } else {
        "run it as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN"
    };
    format!("{error:#}; {advice}")
}
