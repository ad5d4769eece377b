//! Hands what a source tells to the model: what is live and what was recorded go the same way.

use super::item::{Item, Start, Use};
use crate::{
    forecast::snapshot::Snapshot,
    model::{monitor::Monitor, reading::NetnsId, tick::Tick},
};

/// The model of the source that was opened last.
#[derive(Default)]
pub struct Listener {
    source: Option<(Start, Monitor)>,
    keeps_snapshots: bool,
    first: Option<Tick>,
}

impl Listener {
    /// One whose model keeps what its forecasts are made from.
    #[must_use]
    pub fn keeping_snapshots() -> Self {
        Self { keeps_snapshots: true, ..Self::default() }
    }

    /// Takes in the next item; a tick where it is one. What comes before a source says that it was opened, as in a
    /// recording whose beginning is damaged, is left out.
    pub fn take(&mut self, item: &Item) -> Option<Tick> {
        if let Item::Start(start) = item {
            let mut monitor = Monitor::new(start.cpus);
            if self.keeps_snapshots {
                monitor.keep_snapshots();
            }
            self.source = Some((start.clone(), monitor));
            return None;
        }
        let (_, monitor) = self.source.as_mut()?;
        match item {
            Item::Start(_) | Item::Notice(_) => {}
            Item::Threshold(set) => {
                monitor.observe_threshold(set.threshold, set.time.monotonic_ns);
            }
            Item::Flows(flows) => {
                let events = flows.events.iter();
                events.for_each(|event| monitor.observe_event(event.netns, &event.flow));
            }
            Item::Standing(standing) => monitor.resume(standing),
            Item::Reading(Use::Settle, reading) => monitor.settle(reading),
            Item::Reading(Use::First, reading) => self.first = Some(monitor.observe(reading)),
            Item::Reading(Use::Tick, reading) => return Some(monitor.observe(reading)),
        }
        None
    }

    /// What another one has to take in to go on from here as this one does, but for single flows and forecasts, which it
    /// learns anew. Nothing before a source was opened.
    #[must_use]
    pub fn standing(&self) -> Vec<Item> {
        let Some((start, monitor)) = &self.source else { return vec![] };
        let standing = monitor.standing();
        let time = standing.time().unwrap_or(start.time);
        let start = Start { time, ..start.clone() };
        vec![Item::Start(start), Item::Standing(Box::new(standing))]
    }

    /// What was there before the first tick: all namespaces, without rates. Once.
    pub fn take_first(&mut self) -> Option<Tick> {
        self.first.take()
    }

    /// The source; none before it was opened.
    #[must_use]
    pub fn start(&self) -> Option<&Start> {
        self.source.as_ref().map(|(start, _)| start)
    }

    /// The model; none before the source was opened.
    #[must_use]
    pub fn monitor(&self) -> Option<&Monitor> {
        self.source.as_ref().map(|(_, monitor)| monitor)
    }

    /// The snapshots that were kept since the call before, in the order of time.
    pub fn take_snapshots(&mut self) -> Vec<(NetnsId, Snapshot)> {
        self.source.as_mut().map_or_else(Vec::new, |(_, monitor)| monitor.take_snapshots())
    }
}
