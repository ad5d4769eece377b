//! Who is warned, as the settings say.

use anyhow::{Context as _, Result};
use conntrack_user::daemon::{
    alerts::Alerts,
    log::Logger,
    notify::{Notifier, command::Command, webhook::Webhook},
    warning::Warnings,
};

use crate::cli::Serve;

/// Starts a thread for each one that is to be told.
pub(super) fn open(serve: &Serve, logger: &Logger) -> Result<Alerts> {
    const WHY: &str = "no thread for notifications";
    let warnings = Warnings::new(serve.thresholds()?);
    let (command, webhook, retry) = serve.notify()?;
    let mut notifiers = Vec::new();
    if let Some(command) = Command::new(&command) {
        notifiers.push(Notifier::start(command, retry, logger.clone()).context(WHY)?);
    }
    if let Some(webhook) = Webhook::new(&webhook)? {
        notifiers.push(Notifier::start(webhook, retry, logger.clone()).context(WHY)?);
    }
    Ok(Alerts::new(warnings, notifiers, logger.clone(), serve.node()))
}
