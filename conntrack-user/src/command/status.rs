//! `ctmon status`

use std::time::Instant;

use anyhow::Result;
use conntrack_user::{
    model::monitor::Monitor,
    source::live::{Live, Purpose},
    view::{coverage, json::Line, metrics, plugin, status},
};

use super::{kernel_release, output, settle, shutdown::Shutdown, start};
use crate::cli::{LOOK_ON, Report, Status};

pub(crate) async fn run(options: &Status) -> Result<u8> {
    let limits = options.limits()?;
    let mut shutdown = Shutdown::listen()?;
    let mut live = Live::open(&options.options())?;
    let kernel = kernel_release(options.common.procfs());
    let start = start(&live, &kernel);
    let mut monitor = Monitor::new(start.cpus);
    settle(&mut live, |reading| {
        monitor.settle(&reading);
        Ok(monitor.is_settled())
    })
    .await?;
    monitor.observe(&live.read(Purpose::Settle));
    let begun = Instant::now();
    let tick = loop {
        tokio::select! {
            () = shutdown.requested() => anyhow::bail!("interrupted before there was an answer"),
            () = tokio::time::sleep(options.interval) => {}
        }
        let tick = monitor.observe(&live.read(Purpose::Tick));
        let is_over = begun.elapsed() + options.interval > LOOK_ON;
        if is_over || status::is_decided(&tick, limits) {
            break tick;
        }
    };

    let mut judged = status::judge(&tick, limits);
    judged.severity = coverage::judge(judged.severity, tick.coverage.as_deref(), options.unread.0);
    // Whether somebody reads it or not: the exit code is an answer too.
    let _ = match options.output {
        Report::Text => {
            let text = status::text(&tick, &start.origin, judged, output::columns());
            let unnamed = options.common.unnamed_netns();
            output::text(&plugin::with_performance_data(&text, &tick, limits, unnamed))?
        }
        Report::Json => {
            output::Json::default().write(&Line::status(&tick, &start.origin, judged))?
        }
        Report::Prometheus => output::text(&metrics::once(&start, tick, judged)?)?,
    };
    Ok(judged.severity.exit_code())
}
