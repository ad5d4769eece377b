//! `serve --check` and `serve --test-notify`: tries settings without serving.

use std::{fs, time::Instant};

use anyhow::{Context as _, Result, bail, ensure};
use conntrack_user::{
    daemon::{
        alerts::Alerts,
        lifecycle,
        notify::{Message, orphans},
    },
    model::reading::NetnsId,
    privilege::sandbox,
    text::one_line,
    view::warning,
};

use super::{access, alerts};
use crate::{
    cli::Serve,
    command::{now_ns, output},
};

/// Exit code where a target does not take a test: as for every error.
const FAILED: u8 = 3;

/// Facts about the start, for the log. Settings were read already: what they say alone is valid.
pub(super) fn start<'a>(serve: &'a Serve, alerts: &Alerts) -> lifecycle::Start<'a> {
    let targets = alerts.told().notifications.into_iter().map(|(name, _)| name);
    describe(serve, targets.collect())
}

fn describe<'a>(serve: &'a Serve, targets: Vec<&'static str>) -> lifecycle::Start<'a> {
    lifecycle::Start {
        listen: serve.listen.iter().map(ToString::to_string).collect(),
        config: serve.config.as_deref(),
        targets,
    }
}

/// Reads each file that the settings name, opens no socket and attaches nothing.
pub(super) fn settings(serve: &Serve) -> Result<u8> {
    let web = access::web(serve)?;
    let revision = alerts::revision(serve, |_| true)?;
    if let Some(folder) = serve.flight.folder()? {
        let path = folder.path.display();
        let about = fs::metadata(&folder.path).with_context(|| format!("--flight-dir {path}"))?;
        ensure!(about.is_dir(), "--flight-dir {path} is no folder");
    }
    access::check(serve, &web)?;
    let targets = revision.targets.iter().map(|target| target.name()).collect();
    let mut text = "settings are valid\n".to_owned();
    for (key, value) in describe(serve, targets).fields() {
        if let Some(value) = warning::plain(&value) {
            text += &format!("  {key:<8} {}\n", one_line(&value));
        }
    }
    for warning in &serve.warnings {
        text += &format!("  warning: {}\n", one_line(warning));
    }
    let _ = output::text(&text)?;
    Ok(0)
}

/// Delivers a test to each target, with the rights that the service has when it delivers a change.
pub(super) fn notifications(serve: &Serve) -> Result<u8> {
    let web = access::web(serve)?;
    orphans::adopt().context("cannot adopt what a command leaves")?;
    let revision = alerts::revision(serve, |_| true)?;
    // As in the service: a command that must write where it may not fails here, too.
    let missing = sandbox::enter(&serve.sandbox(&serve.plan().options, &web)?)?.warnings();
    if revision.targets.is_empty() {
        bail!("no target of notifications: set notify.command or notify.webhook");
    }
    let fields = warning::test(now_ns(), revision.node.as_deref());
    let message = Message { netns: NetnsId { cookie: None, inode: 0 }, fields };
    let mut code = 0;
    let mut text: String = missing.iter().map(|missing| format!("note: {missing}\n")).collect();
    for target in &revision.targets {
        let begun = Instant::now();
        let outcome = target.try_out(&message);
        let millis = begun.elapsed().as_millis();
        for line in target.take_lines() {
            text += &format!("{}: {line}\n", target.name());
        }
        text += &match outcome {
            Ok(answer) => {
                format!("{}: ok, {} ({millis} ms)\n", target.name(), one_line(&answer))
            }
            Err(failure) => {
                code = FAILED;
                let why = one_line(&failure.why);
                format!("{}: failed, {why} ({millis} ms)\n", target.name())
            }
        };
    }
    let _ = output::text(&text)?;
    Ok(code)
}
