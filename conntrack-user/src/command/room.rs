//! Limits of this process under which a command can do nothing: it says so before it begins.

use anyhow::{Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::cli::Command;

/// Descriptors of a command that reads a file or asks a service.
const OF_FILES: u64 = 32;
/// Descriptors of a command that reads the tables: programs, maps and links take some 60.
const OF_TABLES: u64 = 128;
/// Bytes of the main thread's stack: reading the command line takes some hundred kilobytes in a debug build.
const STACK: u64 = 1 << 20;
/// Bytes of address space of any command: none takes more memory for a file.
const ADDRESS_SPACE: u64 = 256 << 20;

/// Requires the descriptors and the address space that `command` takes. Raises the soft limits as far as needed.
///
/// # Errors
/// Names the limit that is too low, and what is needed.
pub(crate) fn require(command: &Command) -> Result<()> {
    let descriptors = match command {
        Command::Replay(_) | Command::Export(_) | Command::Backtest(_) | Command::Probe(_) => {
            OF_FILES
        }
        Command::Watch(_)
        | Command::Record(_)
        | Command::Status(_)
        | Command::Events(_)
        | Command::Serve(_)
        | Command::Doctor(_) => OF_TABLES,
    };
    require_of(Resource::Nofile, descriptors, "open files", "ulimit -n, LimitNOFILE=")?;
    require_of(Resource::As, ADDRESS_SPACE, "bytes of address space", "ulimit -v, LimitAS=")
}

/// Requires the stack that any command takes, before the command line is read. Raises the soft limit as far as needed: the stack
/// of the main thread grows up to it.
///
/// # Errors
/// As [`require`].
pub(crate) fn require_stack() -> Result<()> {
    require_of(Resource::Stack, STACK, "bytes of stack", "ulimit -s, LimitSTACK=")
}

fn require_of(resource: Resource, least: u64, what: &str, names: &str) -> Result<()> {
    let Some(raised) = raised(getrlimit(resource), least) else { return Ok(()) };
    let raised = raised.and_then(|limit| Ok(setrlimit(resource, limit)?));
    if let Err(error) = raised {
        let now = getrlimit(resource).current.unwrap_or(u64::MAX);
        bail!("the limit is {now} {what} ({names}), and at least {least} are needed: {error:#}");
    }
    Ok(())
}

/// The limit to be set for `least`; none: it is high enough.
///
/// # Errors
/// The hard limit is lower.
fn raised(limit: Rlimit, least: u64) -> Option<Result<Rlimit>> {
    let allows = |bound: Option<u64>| bound.is_none_or(|bound| bound >= least);
    match (allows(limit.current), allows(limit.maximum)) {
        (true, _) => None,
        (false, true) => Some(Ok(Rlimit { current: Some(least), ..limit })),
        (false, false) => Some(Err(anyhow::anyhow!("raise it and start ctmon again"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_soft_limit_is_raised_as_far_as_the_hard_one_allows() {
        let limit = |current, maximum| Rlimit { current, maximum };
        let of = |current, maximum| raised(limit(current, maximum), 128).map(Result::ok);
        assert_eq!(of(Some(1024), Some(4096)), None);
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some(64), Some(128)), Some(Some(limit(Some(128), Some(128)))));
        assert_eq!(of(Some(64), None), Some(Some(limit(Some(128), None))));
        assert_eq!(of(Some(64), Some(127)), Some(None));
    }
}
