//! From what the source tells to what is shown, warned of and kept.

use std::time::Duration;

use super::{
    alerts::Alerts,
    coverage::CoverageLog,
    lifecycle,
    log::{Level, Logger},
    shared::Shared,
};
use crate::{
    model::tick::Tick,
    source::{item::Item, listener::Listener},
};

/// Takes in what the source tells.
pub struct Feed {
    shared: Shared,
    listener: Listener,
    /// Whether the last item could not be recorded.
    is_lost: bool,
    logger: Logger,
    alerts: Alerts,
    coverage: CoverageLog,
}

/// For how long those who are told of warnings are waited for at the end, each.
const GRACE: Duration = Duration::from_secs(2);

impl Feed {
    /// Begins.
    #[must_use]
    pub fn new(shared: Shared, logger: Logger, alerts: Alerts) -> Self {
        Self {
            shared,
            listener: Listener::default(),
            is_lost: false,
            logger,
            alerts,
            coverage: CoverageLog::default(),
        }
    }

    /// Takes in the next item. Whether a tick came of it.
    pub fn take(&mut self, item: &Item) -> bool {
        self.record(item);
        let tick = self.listener.take(item);
        match item {
            Item::Start(start) => {
                self.shared.history().clear();
                self.shared.latest().open(start);
                lifecycle::opened(&start.origin, &self.logger);
                self.coverage.open();
            }
            Item::Reading(_, reading) => self.shared.latest().read(reading),
            Item::Notice(notice) => self.say(&notice.text),
            Item::Flows(_) | Item::Threshold(_) | Item::Standing(_) => {}
        }
        let tick = self.listener.take_first().or(tick);
        let is_tick = tick.is_some();
        tick.into_iter().for_each(|tick| self.tick(tick));
        is_tick
    }

    /// Keeps it, before the model takes it in.
    fn record(&mut self, item: &Item) {
        let Some(mut recorder) = self.shared.flight() else { return };
        let outcome = recorder.take(item, || self.listener.standing());
        drop(recorder);
        let was_lost = std::mem::replace(&mut self.is_lost, outcome.is_err());
        if let (Err(error), false) = (outcome, was_lost) {
            let text = format!("the last minutes are lost, and kept from now on: {error}");
            self.logger.log(Level::Warning, &text, &[]);
        }
    }

    fn tick(&mut self, tick: Tick) {
        for text in &tick.notices {
            self.say(text);
        }
        self.coverage.observe(&tick, &self.logger);
        let worse = self.alerts.observe(&tick);
        if let (Some(level), Some(mut recorder)) = (worse, self.shared.flight()) {
            recorder.warn(level.name(), tick.time.monotonic_ns);
        }
        self.shared.history().take(&tick);
        let mut latest = self.shared.latest();
        latest.take(tick);
        latest.warn(self.alerts.told());
    }

    /// Logs something that is said once.
    pub fn say(&self, text: &str) {
        self.logger.log(Level::Notice, text, &[]);
    }

    /// The model.
    #[must_use]
    pub const fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Ends; changes that still wait are told.
    pub fn close(self) {
        self.alerts.close(GRACE);
    }
}
