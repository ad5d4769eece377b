//! The feed as it follows a source, and what the service manager is told of it.

use anyhow::Result;
use conntrack_user::{
    daemon::{alerts::Alerts, feed, latest::Latest, log::Logger, shared::Shared},
    model::{flows::Flows, monitor::Monitor, tick::NetnsTick},
    source::item::Item,
};

use super::service::Service;
use crate::command::{follow::Sink, output::Reader};

/// Takes in what the source tells.
pub(super) struct Feed {
    shared: Shared,
    feed: feed::Feed,
    service: Service,
}

impl Feed {
    /// Begins.
    pub(super) fn new(shared: Shared, logger: Logger, alerts: Alerts) -> Self {
        let feed = feed::Feed::new(shared.clone(), logger, alerts);
        Self { shared, feed, service: Service::new() }
    }

    /// Ends; changes that still wait are told.
    pub(super) fn close(self) {
        self.feed.close();
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
        if self.feed.take(item) {
            let shared = &self.shared;
            self.service.works(|| status(&shared.latest()));
        }
        Ok(Reader::Reading)
    }

    fn pass_time(&mut self) -> Result<Reader> {
        self.service.is_alive();
        Ok(Reader::Reading)
    }

    fn say(&mut self, text: &str) {
        self.feed.say(text);
    }

    fn is_settled(&self) -> bool {
        self.feed.listener().monitor().is_some_and(Monitor::is_settled)
    }

    fn flows(&self) -> Option<&Flows> {
        self.feed.listener().monitor()?.flows()
    }
}
