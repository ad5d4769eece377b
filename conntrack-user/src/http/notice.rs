//! What an operator should know.

use std::{fmt, io, path::PathBuf, sync::Arc};

use super::Address;

/// Is told what an operator should know, at once and from the server's thread: it should be quick.
pub type Say = Arc<dyn Fn(&Notice) + Send + Sync>;

/// What an operator should know.
#[derive(Debug)]
pub enum Notice {
    /// No connection can be taken; said once until one can.
    NotAccepting {
        /// Where.
        address: Address,
        /// Why.
        error: io::Error,
    },
    /// Connections are taken again.
    Accepting {
        /// Where.
        address: Address,
    },
    /// A web configuration, or a file that it names, was changed, and is in force.
    WebRead {
        /// The web configuration.
        file: PathBuf,
    },
    /// It was changed, and cannot be used: what was in force stays so.
    WebKept {
        /// What is wrong with it.
        error: anyhow::Error,
    },
}

impl Notice {
    /// Whether something is to be done about it.
    #[must_use]
    pub const fn is_warning(&self) -> bool {
        matches!(self, Self::NotAccepting { .. } | Self::WebKept { .. })
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAccepting { address, error } => {
                write!(f, "cannot take connections at {address}, trying on: {error}")
            }
            Self::Accepting { address } => write!(f, "takes connections at {address} again"),
            Self::WebRead { file } => write!(f, "{} was read anew", file.display()),
            Self::WebKept { error } => {
                write!(f, "{error:#}; the web configuration that was in force is kept")
            }
        }
    }
}
