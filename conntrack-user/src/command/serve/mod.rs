//! `ctmon serve`

mod alerts;
mod feed;
mod flight;
#[cfg(test)]
mod page_tests;
mod recent;
mod reload;
mod routes;
mod server;
mod service;

use std::{ffi::OsString, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use conntrack_user::{
    daemon::{
        flight::Flight,
        latest::Latest,
        log::{Level, Logger},
        shared::Shared,
    },
    http::{Counters, Web},
    privilege,
    source::live::Choice,
    view::metrics::Metrics,
};

use super::{follow, output, shutdown::Shutdown};
use crate::cli::{Cli, Serve};
use feed::Feed;
use flight::Files;
use reload::Reload;
use routes::Routes;
use server::Bound;

/// `arguments`: the command line, to be read again.
pub(crate) fn run(serve: &Serve, arguments: &[OsString]) -> Result<u8> {
    if serve.print_config {
        let _ = output::text(&Cli::settings_example())?;
        return Ok(0);
    }
    let shared =
        Shared::new(Latest::new(serve.metrics_netns), serve.flight.limits().map(Flight::new));
    let folder = serve.flight.folder()?;
    let mut plan = serve.plan();
    // Before there is anything that the helper would hold, too.
    let helper = privilege::start(privilege::helper::Options {
        ebpf: plan.options.ebpf.clone(),
        probe_stats: plan.options.probe_stats,
        listen: (plan.options.choice == Choice::Netlink)
            .then_some(plan.options.netlink.receive_bytes),
    })?;
    let web = serve.web_config.as_deref().map_or_else(|| Ok(Web::none()), Web::load)?;
    // Before programs are attached in vain.
    let bound = Bound::listen(&serve.listen, web.clone(), serve.hosts())?;
    let logger = Logger::open(serve.log_format).context("--log-format")?;
    for missing in privilege::sandbox::enter(&serve.sandbox(&plan.options, &web)?)? {
        logger.log(Level::Warning, &missing, &[]);
    }
    // With the threads that it starts they are in the sandbox, too.
    let alerts = alerts::open(serve, &logger)?;
    plan.options.access = Arc::new(helper);
    let counters = Arc::new(Counters::default());
    let metrics = Metrics::new(shared.clone(), counters.clone());
    let routes = Routes::new(shared.clone(), metrics, stale_ns(plan.interval));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut shutdown = Shutdown::listen()?;
        let reload = Reload::listen(arguments, serve, web, alerts.clone(), logger.clone())?;
        let answering = bound.answer(routes, counters, logger.clone())?;
        let mut files = Files::new(shared.clone(), folder, logger.clone())?;
        let mut feed = Feed::new(shared, logger, alerts);
        let outcome = tokio::select! {
            () = shutdown.requested() => Ok(()),
            outcome = follow::run(&plan, &mut feed) => outcome,
            outcome = reload.whenever_asked() => outcome,
            never = files.run() => match never {},
        };
        service::stopping();
        files.finish().await;
        feed.close();
        outcome.and(answering.finish())
    });
    outcome.map(|()| 0)
}

/// Age in nanoseconds beyond which what was read last is no longer what is: three ticks, and time for a slow one.
fn stale_ns(interval: Duration) -> u64 {
    let stale = 3 * interval + Duration::from_secs(2);
    u64::try_from(stale.as_nanos()).unwrap_or(u64::MAX)
}
