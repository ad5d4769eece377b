//! `ctmon events`

use std::time::Duration;

use anyhow::{Result, bail};
use conntrack_user::{
    source::live::{Live, Purpose},
    view::{flow, json::Line},
};

use super::{
    kernel_release, lost,
    output::{self, Json, Reader},
    shutdown::Shutdown,
    start,
};
use crate::cli::{Events, Output};

/// Between two looks into the ring.
const COLLECT_EVERY: Duration = Duration::from_millis(50);
/// Events written at once.
const BATCH: u64 = 1024;

pub(crate) async fn run(options: &Events) -> Result<u8> {
    let mut shutdown = Shutdown::listen()?;
    let mut live = Live::open(&options.options())?;
    if let Some(lost) = live.lost().iter().find(|_| live.name() == "procfs") {
        bail!("events come from kernel programs or ctnetlink only: {}", lost.reason);
    }
    if live.name() == "netlink" {
        lost(&live).for_each(|text| anstream::eprintln!("ctmon: {text}"));
    }
    tokio::select! {
        () = shutdown.requested() => {}
        outcome = follow(&mut live, options) => outcome?,
    }
    let lost = live.read(Purpose::Settle).events.map_or(0, |events| events.lost);
    if lost > 0 {
        anstream::eprintln!("ctmon: {lost} events were lost because there was no room for them");
    }
    Ok(0)
}

async fn follow(live: &mut Live, options: &Events) -> Result<()> {
    let mut json = Json::default();
    let kernel = kernel_release(options.common.procfs());
    if options.output == Output::Json
        && json.write(&Line::start(&start(live, &kernel)))? == Reader::Gone
    {
        return Ok(());
    }
    let mut left = options.count.unwrap_or(u64::MAX);
    while left > 0 {
        let mut events = Vec::new();
        left -= live.drain(left.min(BATCH), |event| events.push(event));
        for event in &events {
            let reader = match options.output {
                Output::Text => output::text(&flow::text(event, live.netns_of(event)))?,
                Output::Json => json.write(&flow::json(event, live.netns_of(event)))?,
            };
            if reader == Reader::Gone {
                return Ok(());
            }
        }
        if events.is_empty() {
            tokio::time::sleep(COLLECT_EVERY).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
