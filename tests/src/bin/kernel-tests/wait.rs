//! Waiting for something, but never forever. The limits are wide: emulated machines are slow.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// For what takes a few intervals, or a command.
pub(crate) const SHORT: Duration = Duration::from_secs(60);
/// For what takes all traffic of a test.
pub(crate) const LONG: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(20);

/// Calls `found` until it has something.
///
/// # Errors
/// Its own errors, and that nothing was found in time.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut found: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(value) = found()? {
            return Ok(value);
        }
        if began.elapsed() > limit {
            bail!("waited {} s in vain: {what}", limit.as_secs());
        }
        thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_waited_for_is_in_the_error() {
        let error = until("the end", Duration::ZERO, || Ok(None::<()>)).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s in vain: the end");
    }
}
