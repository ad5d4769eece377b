//! From what the source tells to what is shown.

use std::time::Duration;

use anyhow::Result;
use conntrack_user::{
    daemon::{
        alerts::Alerts,
        latest::Latest,
        log::{Level, Logger},
    },
    model::{
        flows::Flows,
        monitor::Monitor,
        tick::{NetnsTick, Tick},
    },
    source::{item::Item, listener::Listener},
};

use super::{Shared, flight, service::Service};
use crate::command::{follow::Sink, output::Reader};

/// Takes in what the source tells.
pub(super) struct Feed {
    shared: Shared,
    listener: Listener,
    service: Service,
    /// Whether the last item could not be recorded.
    is_lost: bool,
    logger: Logger,
    alerts: Alerts,
}

/// For how long those who are told of warnings are waited for at the end, each.
const GRACE: Duration = Duration::from_secs(2);

impl Feed {
    /// Begins.
    pub(super) fn new(shared: Shared, logger: Logger, alerts: Alerts) -> Self {
        let (listener, service) = (Listener::default(), Service::new());
        Self { shared, listener, service, is_lost: false, logger, alerts }
    }

    /// Keeps it, before the model takes it in.
    fn record(&mut self, item: &Item) {
        let Some(recorder) = &self.shared.flight else { return };
        let outcome = flight::lock(recorder).take(item, || self.listener.standing());
        let was_lost = std::mem::replace(&mut self.is_lost, outcome.is_err());
        if let (Err(error), false) = (outcome, was_lost) {
            let text = format!("the last minutes are lost, and kept from now on: {error}");
            self.logger.log(Level::Warning, &text, &[]);
        }
    }

    /// Ends; changes that still wait are told.
    pub(super) fn close(self) {
        self.alerts.close(GRACE);
    }

    fn tick(&mut self, tick: Tick) {
        for text in &tick.notices {
            self.say(text);
        }
        let worse = self.alerts.observe(&tick);
        if let (Some(level), Some(recorder)) = (worse, &self.shared.flight) {
            flight::lock(recorder).warn(level.name(), tick.time.monotonic_ns);
        }
        self.shared.history().take(&tick);
        let mut latest = self.shared.latest();
        latest.take(tick);
        latest.warn(self.alerts.told());
        drop(latest);
        let shared = &self.shared;
        self.service.works(|| status(&shared.latest()));
    }
}

/// In a line: the source, and the fullest table.
fn status(latest: &Latest) -> String {
    let source = latest.source().map_or("none", |start| &start.origin.source);
    let fill = |netns: &&NetnsTick| netns.fill_ratio().unwrap_or(0.0);
    let fullest = latest.netns().max_by(|a, b| fill(a).total_cmp(&fill(b)));
    match fullest {
        Some(netns) => {
            let inode = netns.id.inode.to_string();
            let name = netns.name.as_ref().map_or(&inode, |name| &name.text);
            format!("{source}; fullest table {name}, {:.0} %", 100.0 * fill(&netns))
        }
        None => format!("{source}; no tables"),
    }
}

impl Sink for Feed {
    fn take(&mut self, item: &Item) -> Result<Reader> {
        self.record(item);
        let tick = self.listener.take(item);
        match item {
            Item::Start(start) => {
                self.shared.history().clear();
                self.shared.latest().open(start);
            }
            Item::Reading(_, reading) => self.shared.latest().read(reading),
            Item::Notice(notice) => self.say(&notice.text),
            Item::Flows(_) | Item::Threshold(_) | Item::Standing(_) => {}
        }
        if let Some(tick) = self.listener.take_first().or(tick) {
            self.tick(tick);
        }
        Ok(Reader::Reading)
    }

    fn pass_time(&mut self) -> Result<Reader> {
        self.service.is_alive();
        Ok(Reader::Reading)
    }

    fn say(&mut self, text: &str) {
        self.logger.log(Level::Notice, text, &[]);
    }

    fn is_settled(&self) -> bool {
        self.listener.monitor().is_some_and(Monitor::is_settled)
    }

    fn flows(&self) -> Option<&Flows> {
        self.listener.monitor()?.flows()
    }
}
