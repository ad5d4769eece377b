//! SIGHUP: the settings are read again, and what can be changed is: all of it, or nothing where something is wrong.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use conntrack_user::{
    daemon::{
        alerts::Alerts,
        log::{Level, Logger},
    },
    http::Web,
    privilege::account,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};

use super::{alerts, service};
use crate::cli::{Cli, Command, Serve, Settings};

/// Least time between two looks: a storm of signals costs no more, and is no more lines in the log.
const APART: Duration = Duration::from_secs(1);

/// What there is to read again.
pub(super) struct Reload<'a> {
    hangup: Signal,
    arguments: &'a [OsString],
    in_force: Settings,
    /// Files of the settings that were in force at the start.
    files: Vec<PathBuf>,
    web: Web,
    alerts: Alerts,
    logger: Logger,
}

impl<'a> Reload<'a> {
    /// Listens from now on. `arguments`: the command line, which names the file; `settings`: what holds.
    pub(super) fn listen(
        arguments: &'a [OsString],
        settings: &Serve,
        web: Web,
        alerts: Alerts,
        logger: Logger,
    ) -> Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("cannot listen for signals")?;
        let (in_force, files) = (settings.settings.clone(), settings.reread(&web)?);
        Ok(Self { hangup, arguments, in_force, files, web, alerts, logger })
    }

    /// Reads the settings whenever it is asked to.
    pub(super) async fn whenever_asked(mut self) -> Result<()> {
        while self.hangup.recv().await.is_some() {
            service::reloading();
            let (level, said) = match self.once() {
                Ok(said) => (Level::Notice, said),
                Err(error) => (Level::Error, self.failed(&error)),
            };
            self.logger.log(level, &format!("SIGHUP: {said}"), &[]);
            service::reloaded();
            // Signals that come meanwhile are one.
            sleep(APART).await;
        }
        Ok(())
    }

    /// Error of a reload, with the commands that let this user read the files.
    fn failed(&self, error: &anyhow::Error) -> String {
        let files: Vec<_> = self.files.iter().cloned().chain(self.web.files()).collect();
        let advice = account::unreadable(&files).map(|advice| format!(" ({advice})"));
        format!("{error:#}{}; all stays as it was", advice.unwrap_or_default())
    }

    /// What came of it.
    fn once(&mut self) -> Result<String> {
        let settings = match Cli::read(self.arguments) {
            Ok(Cli { command: Command::Serve(settings) }) => settings,
            Ok(_) => bail!("this is no `serve` any more"),
            Err(error) => {
                let text = error.to_string();
                bail!("{}", text.strip_prefix("error: ").unwrap_or(&text).trim_end())
            }
        };
        let logger = self.logger.reopen(settings.log_format).context("--log-format")?;
        let revision = alerts::revision(&settings, |name| self.in_force.is_set(name))?;
        // The last that may fail.
        self.web.reload()?;
        self.logger.revise(logger);
        self.alerts.revise(revision);
        let (changed, restart) = self.in_force.take(&settings.settings);
        Ok(said(&changed, &restart))
    }
}

/// In a line: the names of the settings that are others now, and of those that take a restart.
fn said(changed: &[String], restart: &[String]) -> String {
    let mut said = "the settings were read again".to_owned();
    if changed.is_empty() && restart.is_empty() {
        said += ", and are as they were";
    }
    if !changed.is_empty() {
        said += &format!("; in force now: {}", changed.join(", "));
    }
    if !restart.is_empty() {
        said += &format!("; it takes a restart to change {}", restart.join(", "));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_named_and_what_takes_a_restart() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let cases: [(&[&str], &[&str], &str); 4] = [
            (&[], &[], ", and are as they were"),
            (&["node", "warn.hold"], &[], "; in force now: node, warn.hold"),
            (&[], &["listen"], "; it takes a restart to change listen"),
            (&["node"], &["listen"], "; in force now: node; it takes a restart to change listen"),
        ];
        for (changed, restart, expected) in cases {
            let said = said(&names(changed), &names(restart));
            assert_eq!(said, format!("the settings were read again{expected}"));
        }
    }
}
