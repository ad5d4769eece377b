//! From what the source tells to what is shown.

use anyhow::Result;
use conntrack_user::{
    daemon::latest::Latest,
    model::{
        flows::Flows,
        monitor::Monitor,
        tick::{NetnsTick, Tick},
    },
    source::{item::Item, listener::Listener},
};

use super::{Shared, flight, say, service::Service};
use crate::command::{follow::Sink, output::Reader};

/// Takes in what the source tells.
pub(super) struct Feed {
    shared: Shared,
    listener: Listener,
    service: Service,
    /// Whether the last item could not be recorded.
    is_lost: bool,
}

impl Feed {
    /// Begins.
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared, listener: Listener::default(), service: Service::new(), is_lost: false }
    }

    /// Keeps it, before the model takes it in.
    fn record(&mut self, item: &Item) {
        let Some(recorder) = &self.shared.flight else { return };
        let outcome = flight::lock(recorder).take(item, || self.listener.standing());
        let was_lost = std::mem::replace(&mut self.is_lost, outcome.is_err());
        if let (Err(error), false) = (outcome, was_lost) {
            say(&format!("the last minutes are lost, and kept from now on: {error}"));
        }
    }

    fn tick(&mut self, tick: Tick) {
        for text in &tick.notices {
            say(text);
        }
        self.shared.history().take(&tick);
        self.shared.latest().take(tick);
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
            Item::Notice(notice) => say(&notice.text),
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

    fn is_settled(&self) -> bool {
        self.listener.monitor().is_some_and(Monitor::is_settled)
    }

    fn flows(&self) -> Option<&Flows> {
        self.listener.monitor()?.flows()
    }
}
