//! What knows the kernel: programs in it, its procfs, and the two joined as one source of readings;
//! and recordings of what that source has told.

pub mod access;
pub mod clean;
pub mod ebpf;
pub mod item;
pub(crate) mod limits;
pub mod listener;
pub mod live;
pub mod netlink;
pub mod procfs;
pub mod recording;

use std::sync::OnceLock;

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

/// Beginning of [`Unavailable::what`] where the tables of namespaces are not read, which coverage says in full.
pub const NETNS_FILL: &str = "the fill level of";

/// Joins an error and its causes in one line, without a cause that the text before it ends with.
#[must_use]
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text += ": ";
        }
        text += &cause;
    }
    text
}

/// Reports whether this process was root at the first call, which the serving half makes before it changes its user.
pub fn began_as_root() -> bool {
    static WAS_ROOT: OnceLock<bool> = OnceLock::new();
    *WAS_ROOT.get_or_init(|| rustix::process::geteuid().is_root())
}

/// An error of attaching programs in one line, with what to do where the kernel refuses BPF.
#[must_use]
pub fn explain(error: &anyhow::Error) -> String {
    let text = chain(error);
    if !ebpf::is_refused(error) {
        return text;
    }
    let advice = if began_as_root() {
        "this kernel, a container or a security policy refuses BPF to this process: it takes \
         CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN, and a kernel that allows tracing programs"
    } else {
        "run it as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN"
    };
    format!("{text}; {advice}")
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context as _;

    use super::*;

    #[test]
    fn no_cause_is_said_twice() {
        let io = || io::Error::from(io::ErrorKind::NotFound);
        let error =
            anyhow::Error::new(recording::reader::ReadError::from(io())).context("cannot read x");
        assert_eq!(chain(&error), "cannot read x: entity not found");
        assert_eq!(format!("{error:#}"), "cannot read x: entity not found");
        let error = anyhow::anyhow!("no x").context("cannot read it: no x");
        assert_eq!(chain(&error), "cannot read it: no x");
        let error = Err::<(), _>(io()).context("a").context("b").unwrap_err();
        assert_eq!(chain(&error), "b: a: entity not found");
    }
}
