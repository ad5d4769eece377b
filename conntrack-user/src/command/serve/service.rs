//! What the service manager is told (sd_notify(3)); nothing where there is none.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use conntrack_user::{
    daemon::log::{Level, Logger},
    privilege::helper::ANSWERED_IN,
};
use sd_notify::NotifyState;

use super::manager::Manager;
use crate::command::busy::Busy;

/// Between two changes of the status line.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// Between two signs of life, at most: the helper may keep the loop waiting right before the next one is due.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// Time in which the service manager is to expect a sign of life, at least: the helper's time for an answer, and half as
/// much for ticks and a slow machine.
const WATCHDOG_LEAST: Duration = Duration::from_secs(ANSWERED_IN.as_secs() * 3 / 2);

/// Tells that the service is there, alive, and how the node does.
#[derive(Debug, Default)]
pub(super) struct Service {
    is_ready: bool,
    /// Between two signs of life, where the service manager expects them.
    alive_every: Option<Duration>,
    alive: Option<Instant>,
    /// Time of the last status line.
    reported: Option<Instant>,
    doing: Option<Doing>,
}

/// Subject of the status line: a change of it is reported at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Watching,
    Waiting,
}

impl Service {
    /// Reads the settings of the service manager. Logs a warning if its watchdog is too short.
    pub(super) fn new(logger: &Logger) -> Self {
        let watchdog = sd_notify::watchdog_enabled();
        if let Some(warning) = watchdog.and_then(too_short) {
            logger.log(Level::Warning, &warning, &[]);
        }
        let alive_every = watchdog.map(|time| ALIVE_EVERY.min(time / 2));
        Self { alive_every, ..Self::default() }
    }

    /// A source is open, and the tables were read: `status` in a line.
    pub(super) fn works(&mut self, status: impl FnOnce() -> String) {
        self.report(Doing::Watching, status);
    }

    /// There is no source yet, or none any more, for `reason`. The service is ready all the same: it does what it is there
    /// for, and whoever starts it does not wait for a module that a first rule may load much later.
    pub(super) fn waits(&mut self, reason: &str) {
        self.report(Doing::Waiting, || reason.to_owned());
        self.is_alive();
    }

    fn report(&mut self, doing: Doing, status: impl FnOnce() -> String) {
        let is_new = self.doing.replace(doing) != Some(doing);
        let is_due = self.reported.is_none_or(|reported| reported.elapsed() >= STATUS_EVERY);
        let is_first = !std::mem::replace(&mut self.is_ready, true);
        if !is_new && !is_due {
            return;
        }
        let status = status();
        let status = NotifyState::Status(&status);
        let was_told = if is_first { tell(&[NotifyState::Ready, status]) } else { tell(&[status]) };
        self.reported = was_told.then(Instant::now);
    }

    /// A sign of life while the loop cannot turn; none where nobody watches.
    pub(super) fn busy(&self) -> Option<Busy> {
        Busy::begin(self.alive_every?, || {
            tell(&[NotifyState::Watchdog]);
        })
    }

    /// The loop that reads and answers still turns.
    pub(super) fn is_alive(&mut self) {
        if let Some(every) = self.alive_every
            && self.alive.is_none_or(|alive| alive.elapsed() >= every)
        {
            self.alive = Some(Instant::now());
            tell(&[NotifyState::Watchdog]);
        }
    }
}

/// Warning about a watchdog time that is too short; none if it is long enough.
fn too_short(watchdog: Duration) -> Option<String> {
    let [is, least, helper] =
        [watchdog, WATCHDOG_LEAST, ANSWERED_IN].map(|time| time.as_secs_f64());
    (watchdog < WATCHDOG_LEAST).then(|| {
        format!(
            "WatchdogSec={is} is too short: the privileged helper has {helper} s for an answer, for which the service \
             waits; set {least} or more"
        )
    })
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

/// The service manager; none: there is none, or it cannot be reached.
static MANAGER: OnceLock<Option<Manager>> = OnceLock::new();

/// Connects to the service manager: call it before the sandbox is entered, which makes no sockets.
pub(super) fn connect() {
    MANAGER.get_or_init(Manager::open);
}

/// Tells it; false: it has not taken it, and is to be told again.
fn tell(state: &[NotifyState<'_>]) -> bool {
    MANAGER.get().and_then(Option::as_ref).is_none_or(|manager| manager.tell(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_outlasts_the_helper() {
        let cases = [(20, true), (44, true), (45, false), (60, false)];
        for (seconds, expected) in cases {
            let warning = too_short(Duration::from_secs(seconds));
            assert_eq!(warning.is_some(), expected, "{seconds}: {warning:?}");
        }
        assert!(too_short(Duration::from_secs(20)).unwrap().contains("WatchdogSec=20 "));
        // The longest time without a sign of life: the last one, a tick, the helper's time.
        assert!(ALIVE_EVERY * 2 + ANSWERED_IN < WATCHDOG_LEAST);
    }

    #[test]
    fn the_unit_has_a_watchdog_that_is_long_enough() {
        let unit = include_str!("../../../../contrib/systemd/ctmon.service");
        let time = unit.lines().find_map(|line| line.strip_prefix("WatchdogSec=")).unwrap();
        assert_eq!(too_short(humantime::parse_duration(time).unwrap()), None);
    }
}
