//! `ctmon serve`

mod feed;
mod routes;
mod service;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use conntrack_user::daemon::{history::History, latest::Latest};

use super::{follow, output, shutdown::Shutdown};
use crate::cli::{Cli, Serve};
use feed::Feed;

/// What the feed writes and requests read.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    latest: Arc<Mutex<Latest>>,
    history: Arc<Mutex<History>>,
}

impl Shared {
    // Whoever panicked meanwhile has left it whole: each call changes it at once.
    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn run(serve: &Serve) -> Result<u8> {
    if serve.print_config {
        let _ = output::text(&Cli::settings_example())?;
        return Ok(0);
    }
    let shared = Shared {
        latest: Arc::new(Mutex::new(Latest::new(serve.metrics_netns))),
        history: Arc::default(),
    };
    let plan = serve.plan();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut shutdown = Shutdown::listen()?;
        let mut feed = Feed::new(shared);
        tokio::select! {
            () = shutdown.requested() => {}
            outcome = follow::run(&plan, &mut feed) => outcome?,
        }
        service::stopping();
        Ok(0)
    })
}
