//! What the service manager is told (sd_notify(3)); nothing where there is none.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Between two changes of the status line.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// Tells that the service is there, alive, and how the node does.
#[derive(Debug, Default)]
pub(super) struct Service {
    is_ready: bool,
    /// Half of the time after which it is taken for dead, where somebody looks.
    watchdog: Option<Duration>,
    alive: Option<Instant>,
    said: Option<Instant>,
}

impl Service {
    /// As the service manager wants it.
    pub(super) fn new() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled().map(|time| time / 2), ..Self::default() }
    }

    /// A source is open, and the tables were read: `status` in a line.
    pub(super) fn works(&mut self, status: impl FnOnce() -> String) {
        if !std::mem::replace(&mut self.is_ready, true) {
            tell(&[NotifyState::Ready]);
        }
        if self.said.is_none_or(|said| said.elapsed() >= STATUS_EVERY) {
            self.said = Some(Instant::now());
            tell(&[NotifyState::Status(&status())]);
        }
    }

    /// The loop that reads and answers still turns.
    pub(super) fn is_alive(&mut self) {
        if let Some(every) = self.watchdog
            && self.alive.is_none_or(|alive| alive.elapsed() >= every)
        {
            self.alive = Some(Instant::now());
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// The settings are being read again.
pub(super) fn reloading() {
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        tell(&[NotifyState::Reloading, now]);
    }
}

/// They were.
pub(super) fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// It ends.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    // A service manager that cannot be reached is no reason to end.
    let _ = sd_notify::notify(state);
}
