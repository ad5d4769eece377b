//! The feed as it follows a source, and what the service manager is told of it.

use std::borrow::Cow;

use anyhow::Result;
use conntrack_user::{
    daemon::{alerts::Alerts, feed, latest::Latest, log::Logger, shared::Shared},
    model::{flows::Flows, monitor::Monitor, tick::NetnsTick},
    source::{Unavailable, item::Item},
    view::units,
};

use super::service::Service;
use crate::command::{busy::Busy, follow::Sink, output::Reader};

/// Takes in what the source tells.
pub(super) struct Feed {
    shared: Shared,
    feed: feed::Feed,
    service: Service,
    /// Answers that every source lacks here.
    unavailable: Vec<Unavailable>,
}

impl Feed {
    /// Begins. `unavailable`: answers that every source lacks here.
    pub(super) fn new(
        shared: Shared,
        logger: Logger,
        alerts: Alerts,
        unavailable: Vec<Unavailable>,
    ) -> Self {
        let service = Service::new(&logger);
        let feed = feed::Feed::new(shared.clone(), logger, alerts);
        Self { shared, feed, service, unavailable }
    }

    /// `item`, where a start has [`Self::unavailable`] besides its own.
    fn with_unavailable<'a>(&self, item: &'a Item) -> Cow<'a, Item> {
        match item {
            Item::Start(start) if !self.unavailable.is_empty() => {
                let mut start = start.clone();
                start.origin.unavailable.extend(self.unavailable.iter().cloned());
                Cow::Owned(Item::Start(start))
            }
            item => Cow::Borrowed(item),
        }
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
            let Some(ratio) = netns.fill_ratio() else {
                return format!("{source}; the fill of no table is known");
            };
            format!("{source}; fullest table {name}, {} full", units::percent(ratio))
        }
        None => format!("{source}; no tables"),
    }
}

impl Sink for Feed {
    fn take(&mut self, item: &Item) -> Result<Reader> {
        let item = self.with_unavailable(item);
        if self.feed.take(&item) {
            let shared = &self.shared;
            self.service.works(|| status(&shared.latest()));
        }
        Ok(Reader::Reading)
    }

    fn pass_time(&mut self) -> Result<Reader> {
        self.service.is_alive();
        Ok(Reader::Reading)
    }

    fn busy(&self) -> Option<Busy> {
        self.service.busy()
    }

    fn pass_waiting(&mut self, reason: &str) {
        self.service.waits(reason);
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
