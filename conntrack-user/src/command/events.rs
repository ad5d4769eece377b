//! `ctmon events`

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use conntrack_user::{
    source::live::{Live, Purpose, utc_offset_ns},
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
/// Between two looks for namespaces that are new, or have ended.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Events written at once.
const BATCH: u64 = 1024;

pub(crate) async fn run(options: &Events) -> Result<u8> {
    let mut shutdown = Shutdown::listen()?;
    let mut live = Live::open(&options.options())?;
    if let Some(lost) = live.lost().iter().find(|_| live.name() == "procfs") {
        bail!("events come from kernel programs or ctnetlink only: {}", lost.reason);
    }
    if live.name() == "netlink" {
        lost(&live).for_each(output::say);
    }
    tokio::select! {
        () = shutdown.requested() => {}
        outcome = follow(&mut live, options) => outcome?,
    }
    let lost = live.read(Purpose::Settle).events.map_or(0, |events| events.lost);
    if lost > 0 {
        output::say(format_args!("{lost} events were lost because there was no room for them"));
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
    if options.output == Output::Text && output::text(flow::LEGEND)? == Reader::Gone {
        return Ok(());
    }
    let mut left = options.count.unwrap_or(u64::MAX);
    // Finds the namespaces that there are; new ones are found as time passes.
    let _ = live.read(Purpose::Settle);
    let mut looked = Instant::now();
    while left > 0 {
        let mut events = Vec::new();
        left -= live.drain(left.min(BATCH), |event| events.push(event));
        if !events.is_empty() {
            // After the events: a namespace that is new with one of them is known by then.
            live.collect();
        }
        let offset_ns = utc_offset_ns();
        for event in &events {
            let reader = match options.output {
                Output::Text => output::text(&flow::text(event, live.netns_of(event), offset_ns))?,
                Output::Json => {
                    json.write(&flow::json_at(event, live.netns_of(event), offset_ns))?
                }
            };
            if reader == Reader::Gone {
                return Ok(());
            }
        }
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            let _ = live.read(Purpose::Tick);
        }
        if events.is_empty() {
            tokio::time::sleep(COLLECT_EVERY).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
