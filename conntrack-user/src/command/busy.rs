//! A sign of life while the loop that usually gives it cannot turn.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

/// Longest time for which it is given: who hangs is to be noticed.
const LONGEST: Duration = Duration::from_secs(30);

/// Gives a sign of life until it is dropped, and for [`LONGEST`] at most.
#[derive(Debug)]
pub(crate) struct Busy {
    /// Its thread ends when this is dropped.
    _until: Sender<()>,
}

impl Busy {
    /// Calls `tell` at once and then every so often. None where there is no thread for it.
    pub(super) fn begin(every: Duration, tell: impl Fn() + Send + 'static) -> Option<Self> {
        Self::begin_for(LONGEST, every, tell)
    }

    fn begin_for(
        longest: Duration,
        every: Duration,
        tell: impl Fn() + Send + 'static,
    ) -> Option<Self> {
        let (until, over) = channel();
        let work = move || give(longest, every, &over, tell);
        thread::Builder::new().name("ctmon-alive".into()).spawn(work).ok()?;
        Some(Self { _until: until })
    }
}

fn give(longest: Duration, every: Duration, over: &Receiver<()>, tell: impl Fn()) {
    let begun = Instant::now();
    loop {
        tell();
        let is_over = over.recv_timeout(every) != Err(RecvTimeoutError::Timeout);
        if is_over || begun.elapsed() >= longest {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Far more than any of this takes.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn it_is_told_as_long_as_it_is_held() {
        let (signs, heard) = channel();
        let tell = move || _ = signs.send(());
        let busy = Busy::begin(Duration::from_millis(1), tell).unwrap();
        (0..5).for_each(|_| heard.recv_timeout(PATIENCE).unwrap());
        drop(busy);
        // The thread ends, and with it the sender.
        while heard.recv_timeout(PATIENCE).is_ok() {}
        assert_eq!(heard.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn one_that_hangs_is_noticed() {
        let (signs, heard) = channel();
        let tell = move || _ = signs.send(());
        let every = Duration::from_millis(1);
        let _held = Busy::begin_for(Duration::ZERO, every, tell).unwrap();
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(()));
        assert_eq!(heard.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    }
}
