//! `ctmon serve`

mod access;
mod alerts;
mod check;
mod feed;
mod flight;
mod lease;
mod manager;
mod minutes;
#[cfg(test)]
mod page_tests;
mod recent;
mod reload;
mod routes;
mod server;
mod service;
#[cfg(test)]
mod slow_readers_tests;

use std::{
    ffi::OsString,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use conntrack_user::{
    daemon::{
        flight::Flight,
        latest::Latest,
        lifecycle,
        log::{Level, Logger},
        notify::orphans,
        shared::Shared,
    },
    http::Counters,
    privilege,
    source::{
        live::{self, Choice},
        procfs::statistics::takes_ctnetlink,
    },
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
    if serve.check {
        return check::settings(serve);
    }
    privilege::inherited::keep_from_programs().context("cannot keep descriptors from commands")?;
    if serve.test_notify {
        return check::notifications(serve);
    }
    let started = Instant::now();
    privilege::dumps::forbid().context("cannot forbid core dumps")?;
    let shared =
        Shared::new(Latest::new(serve.metrics_netns), serve.flight.limits().map(Flight::new));
    let folder = serve.flight.folder()?;
    let mut plan = serve.plan();
    // Before a socket is made: without procfs its mode cannot be set, and nothing is to be seen.
    live::require_sysctls(&plan.options.procfs)?;
    // Before there is anything that the helper would hold, too.
    let helper = privilege::start(privilege::helper::Options {
        ebpf: plan.options.ebpf.clone(),
        probe_stats: plan.options.probe_stats,
        listen: (plan.options.choice == Choice::Netlink)
            .then_some(plan.options.netlink.receive_bytes),
        asks_ctnetlink: takes_ctnetlink(&plan.options.procfs),
    })?;
    let web = access::web(serve)?;
    // Before programs are attached in vain.
    let mut sandbox = serve.sandbox(&plan.options, &web)?;
    sandbox.helper = helper.process();
    let bound = Bound::listen(&serve.listen, sandbox.user.becomes(), web.clone(), serve.hosts())?;
    let logger = Logger::open(serve.log_format).context("--log-format")?;
    service::connect();
    // Its files may be for root alone.
    let revision = alerts::revision(serve, |_| true)?;
    // After the helper, which is none of a command's, and before the filter, which does not have it.
    orphans::adopt().context("cannot adopt what a command leaves")?;
    let entered = privilege::sandbox::enter(&sandbox)?;
    access::log(serve, &web, &entered, &logger)?;
    // With the threads that it starts they are in the sandbox, too.
    let alerts = alerts::open(revision, &logger)?;
    check::start(serve, &alerts).log(&logger);
    bound.announce(&logger);
    for warning in &serve.warnings {
        logger.log(Level::Warning, warning, &[]);
    }
    plan.options.access = Arc::new(helper.clone());
    let counters = Arc::new(Counters::default());
    let metrics = Metrics::new(shared.clone(), counters.clone());
    let routes = Routes::new(shared.clone(), metrics, stale_ns(plan.interval));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let mut shutdown = Shutdown::listen_with(move || helper.cut())?;
        let reload = Reload::listen(arguments, serve, web, alerts.clone(), logger.clone())?;
        let answering = bound.answer(routes, counters, logger.clone())?;
        let mut files = Files::new(shared.clone(), folder, logger.clone())?;
        let mut feed = Feed::new(shared, logger.clone(), alerts, access::unavailable(&entered));
        let outcome = tokio::select! {
            signal = shutdown.signal() => Ok(signal),
            outcome = follow::run(&plan, &mut feed) => outcome.map(|()| "the source has ended"),
            outcome = reload.whenever_asked() => outcome.map(|()| "no more signals"),
            never = files.run() => match never {},
        };
        service::stopping();
        files.finish().await;
        feed.close();
        outcome.and_then(|reason| answering.finish().map(|()| reason))
    });
    outcome.map(|reason| {
        lifecycle::stopped(reason, started.elapsed(), &logger);
        0
    })
}

/// Age in nanoseconds beyond which what was read last is no longer what is: three ticks, and time for a slow one.
fn stale_ns(interval: Duration) -> u64 {
    let stale = 3 * interval + Duration::from_secs(2);
    u64::try_from(stale.as_nanos()).unwrap_or(u64::MAX)
}
