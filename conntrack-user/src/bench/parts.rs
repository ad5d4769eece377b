//! What each part of the serving half takes of a tick, and what answers take.

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result};
use conntrack_user::{
    daemon::{
        alerts::Alerts,
        flight::Flight,
        latest::Latest,
        log::{Format, Logger},
        shared::Shared,
        warning::Warnings,
    },
    http::Counters,
    model::tick::Tick,
    severity::THRESHOLDS,
    source::{item::Item, listener::Listener},
    view::{
        json::Line,
        metrics::{self, Metrics},
    },
};

use crate::{
    Record,
    node::Node,
    serving::{FLIGHT, METRICS_NETNS},
    usage,
};

/// Namespaces that count in each tick.
const NETNS: [u32; 3] = [1, 128, 2_000];
/// Ticks, one a second.
const TICKS: usize = 12;

/// All parts, in the order in which a tick passes them.
pub(crate) fn measure() -> Result<Vec<Record>> {
    let of = |netns| Parts::new(netns)?.measure();
    let all = NETNS.into_iter().map(of).collect::<Result<Vec<_>>>()?;
    Ok(all.into_iter().flatten().collect())
}

struct Parts {
    node: Node,
    listener: Listener,
    alerts: Alerts,
    shared: Shared,
    metrics: Metrics,
    /// Of each part in the order in which they were met, microseconds each time.
    times: Vec<(&'static str, Vec<f64>)>,
}

impl Parts {
    fn new(netns: u32) -> Result<Self> {
        let shared = Shared::new(Latest::new(METRICS_NETNS), Some(Flight::new(FLIGHT)));
        let logger = Logger::open(Format::Text)?;
        Ok(Self {
            node: Node::new(netns, 0, 1),
            listener: Listener::default(),
            alerts: Alerts::new(Warnings::new(THRESHOLDS), vec![], logger, None),
            metrics: Metrics::new(shared.clone(), Arc::new(Counters::default())),
            shared,
            times: Vec::new(),
        })
    }

    fn measure(mut self) -> Result<Vec<Record>> {
        for item in self.node.begin() {
            if let Item::Start(start) = &item {
                self.shared.latest().open(start);
            }
            self.listener.take(&item);
        }
        for _ in 0..TICKS {
            thread::sleep(Duration::from_secs(1));
            let item = self.node.tick();
            self.tick(&item)?;
        }
        let netns = self.node.busy;
        let record = |(part, us)| Record::Tick { netns, part, us };
        Ok(self.times.into_iter().map(record).collect())
    }

    fn tick(&mut self, item: &Item) -> Result<()> {
        let Self { listener, alerts, shared, metrics, times, .. } = self;
        let standing =
            time(times, "flight recorder: what a segment begins with", || listener.standing())?;
        // It is asked for at the first tick, and then each ten seconds.
        let recorded = time(times, "flight recorder: a reading", || {
            shared.flight().map(|mut flight| flight.take(item, || standing))
        })?;
        recorded.context("there is no flight recorder")??;
        let tick: Tick = time(times, "model and forecast", || listener.take(item))?
            .context("no tick came of it")?;
        time(times, "warnings", || alerts.observe(&tick))?;
        let told = time(times, "warnings: what metrics say of them", || alerts.told())?;
        time(times, "history", || shared.history().take(&tick))?;
        time(times, "what is shown", || {
            let mut latest = shared.latest();
            latest.take(tick);
            latest.warn(told);
        })?;
        time(times, "a scrape of /metrics", || metrics.text(metrics::Format::Prometheus))??;
        let latest = shared.latest();
        let start = latest.source().context("there is no source")?;
        let whole = time(times, "/api/v1/status: copying", || latest.whole())?
            .context("there is no tick")?;
        time(times, "/api/v1/status: writing", || {
            serde_json::to_vec(&Line::node(&whole, &start.origin, |_| None))
        })??;
        Ok(())
    }
}

/// Does something, and notes its CPU time.
fn time<T>(
    times: &mut Vec<(&'static str, Vec<f64>)>,
    part: &'static str,
    work: impl FnOnce() -> T,
) -> Result<T> {
    let before = usage::cpu_time()?;
    let result = work();
    let us = usage::cpu_time()?.saturating_sub(before).as_nanos() as f64 / 1e3;
    match times.iter_mut().find(|(name, _)| *name == part) {
        Some((_, times)) => times.push(us),
        None => times.push((part, vec![us])),
    }
    Ok(result)
}
