//! Who is warned, as the settings say.

use anyhow::{Context as _, Result};
use conntrack_user::daemon::{
    alerts::{Alerts, Revision},
    log::Logger,
    notify::{Notifier, Target, command::Command, webhook::Webhook},
    warning::Warnings,
};

use crate::cli::Serve;

/// Starts a thread for each target of `revision`.
pub(super) fn open(revision: Revision, logger: &Logger) -> Result<Alerts> {
    let Revision { thresholds, targets, retry, node } = revision;
    let start = |target| Notifier::start(target, retry, logger.clone());
    let notifiers = targets.into_iter().map(start).collect::<std::io::Result<_>>();
    let notifiers = notifiers.context("no thread for notifications")?;
    Ok(Alerts::new(Warnings::new(thresholds), notifiers, logger.clone(), node))
}

/// What the settings say; reads the files that a webhook needs. `may_be`: whether the one that a setting names may be
/// told.
pub(super) fn revision(serve: &Serve, may_be: impl Fn(&str) -> bool) -> Result<Revision> {
    let (command, webhook, retry) = serve.notify()?;
    let mut targets: Vec<Box<dyn Target>> = Vec::new();
    if may_be("notify.command")
        && let Some(command) = Command::new(&command)
    {
        targets.push(Box::new(command));
    }
    if may_be("notify.webhook")
        && let Some(webhook) = Webhook::new(&webhook)?
    {
        targets.push(Box::new(webhook));
    }
    Ok(Revision { thresholds: serve.thresholds()?, targets, retry, node: serve.node() })
}
