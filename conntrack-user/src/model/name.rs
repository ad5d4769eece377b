//! What people call a network namespace.

use serde::{Deserialize, Serialize};

/// Characters of a name at the most: those of the name of a file (`NAME_MAX`), which each is or is part of, but for one
/// thing within another. A column of a table wants less.
pub const LONGEST: usize = 255;

/// What to call a network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    /// Not empty, 255 characters at most, fit for a terminal: letters and digits, what ASCII has to
    /// print, and `?` for all else.
    pub text: String,
    /// What the name names.
    pub kind: NameKind,
}

/// What a name names; the better one first, which is how they are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NameKind {
    /// The namespace of the machine's process 1, which is called `host`.
    Host,
    /// The namespace itself: somebody chose this name under /run/netns.
    IpNetns,
    /// A pod of Kubernetes: `namespace/name`, or `pod` and the start of its UID.
    Pod,
    /// A container: its name, or the first 12 characters of its id.
    Container,
    /// A unit of systemd, as `systemctl status` takes it; of a user's manager
    /// `user@UID.service/unit`.
    Service,
    /// The namespace itself, by the name of a file elsewhere on which it is mounted.
    Mounted,
    /// The namespace itself, by a random name that a container runtime chose under /run/netns.
    Generated,
    /// A process. The last resort: it may be called anything.
    Process,
}

impl NameKind {
    /// As JSON and metrics name it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::IpNetns => "ip_netns",
            Self::Pod => "pod",
            Self::Container => "container",
            Self::Service => "service",
            Self::Mounted => "mounted",
            Self::Generated => "generated",
            Self::Process => "process",
        }
    }
}
