//! SIGHUP: the settings are read again.

use std::ffi::OsString;

use anyhow::{Context as _, Result, bail};
use conntrack_user::{
    daemon::log::{Level, Logger},
    http::Web,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::service;
use crate::cli::{Cli, Command, Serve};

/// What there is to read again.
pub(super) struct Reload<'a> {
    hangup: Signal,
    arguments: &'a [OsString],
    settings: &'a Serve,
    web: Web,
    logger: Logger,
}

impl<'a> Reload<'a> {
    /// Listens from now on. `arguments`: the command line, which names the file; `settings`: what holds.
    pub(super) fn listen(
        arguments: &'a [OsString],
        settings: &'a Serve,
        web: Web,
        logger: Logger,
    ) -> Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
        Ok(Self { hangup, arguments, settings, web, logger })
    }

    /// Reads the settings whenever it is asked to.
    pub(super) async fn whenever_asked(mut self) -> Result<()> {
        while self.hangup.recv().await.is_some() {
            service::reloading();
            let said =
                self.once().unwrap_or_else(|error| format!("{error:#}; all stays as it was"));
            self.logger.log(Level::Notice, &format!("SIGHUP: {said}"), &[]);
            service::reloaded();
        }
        Ok(())
    }

    /// What came of it.
    fn once(&self) -> Result<String> {
        let settings = match Cli::read(self.arguments) {
            Ok(Cli { command: Command::Serve(settings) }) => settings,
            Ok(_) => bail!("this is no `serve` any more"),
            Err(error) => bail!("{}", error.to_string().trim_end()),
        };
        self.web.reload()?;
        let changed = settings.changed(self.settings).join(", ");
        Ok(if changed.is_empty() {
            "the settings were read again, and are as at the start".into()
        } else {
            format!("the settings were read again; it takes a restart to change {changed}")
        })
    }
}
