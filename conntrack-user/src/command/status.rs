//! `ctmon status`

use anyhow::Result;
use conntrack_user::{
    source::live::{Live, Purpose},
    view::{json::Line, status},
};

use super::{kernel_release, new_monitor, output, settle, shutdown::Shutdown, start};
use crate::cli::{Output, Status};

pub(crate) async fn run(options: &Status) -> Result<u8> {
    let limits = options.limits()?;
    let mut shutdown = Shutdown::listen()?;
    let mut live = Live::open(&options.options())?;
    let mut monitor = new_monitor();
    settle(&mut live, &mut monitor).await;
    monitor.observe(&live.read(Purpose::Settle));
    tokio::select! {
        () = shutdown.requested() => anyhow::bail!("interrupted before there was an answer"),
        () = tokio::time::sleep(options.interval) => {}
    }
    let tick = monitor.observe(&live.read(Purpose::Tick));

    let judged = status::judge(&tick, limits);
    let kernel = kernel_release(options.common.procfs());
    let start = start(&live, &kernel);
    // Whether somebody reads it or not: the exit code is an answer too.
    let _ = match options.common.output {
        Output::Text => output::text(&status::text(&tick, &start, judged))?,
        Output::Json => output::Json::default().write(&Line::status(&tick, &start, judged))?,
    };
    Ok(judged.verdict.exit_code())
}
