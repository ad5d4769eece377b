//! Warns: has each tick judged, and tells each change of severity to the log and to whoever else is to know.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use super::{
    log::Logger,
    notify::{Counts, Message, Notifier, Target, config::Retry},
    warning::Warnings,
};
use crate::{
    lock::lock,
    model::tick::Tick,
    severity::{Severity, Thresholds},
    view,
};

/// What there is to warn with; its clones are the same.
#[derive(Clone)]
pub struct Alerts(Arc<Mutex<Inner>>);

struct Inner {
    warnings: Warnings,
    notifiers: Vec<Notifier>,
    logger: Logger,
    /// What this machine is called, where that is known.
    node: Option<String>,
    changes: BTreeMap<Severity, u64>,
}

/// What may change while it runs.
pub struct Revision {
    /// When a table is warned of.
    pub thresholds: Thresholds,
    /// Who is told, among those who were told before: who is missing is told nothing more.
    pub targets: Vec<Box<dyn Target>>,
    /// How often.
    pub retry: Retry,
    /// What this machine is called, where that is known.
    pub node: Option<String>,
}

/// What was warned of, for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// Severity of each table that is watched, by inode.
    pub severities: BTreeMap<u64, Severity>,
    /// Changes to each severity.
    pub changes: BTreeMap<Severity, u64>,
    /// Namespaces that are not watched, because there are too many.
    pub untracked: u64,
    /// By the name of who is told.
    pub notifications: Vec<(&'static str, Counts)>,
}

impl Alerts {
    /// Nobody is warned of anything yet.
    #[must_use]
    pub fn new(
        warnings: Warnings,
        notifiers: Vec<Notifier>,
        logger: Logger,
        node: Option<String>,
    ) -> Self {
        let changes = Severity::OF_TABLES.into_iter().map(|severity| (severity, 0)).collect();
        Self(Arc::new(Mutex::new(Inner { warnings, notifiers, logger, node, changes })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.0)
    }

    /// Warns by `revision` from now on. Tables keep their severities until it says otherwise.
    pub fn revise(&self, revision: Revision) {
        let mut inner = self.lock();
        inner.warnings.revise(revision.thresholds);
        inner.node = revision.node;
        let is_told = |name| revision.targets.iter().any(|target| target.name() == name);
        inner.notifiers.retain(|notifier| is_told(notifier.name()));
        for target in revision.targets {
            if let Some(one) = inner.notifiers.iter().find(|one| one.name() == target.name()) {
                one.revise(target, revision.retry);
            }
        }
    }

    /// Takes in a tick, and tells what has changed; does not wait for anybody. The worst severity of a table that has got
    /// worse; none where none has.
    pub fn observe(&self, tick: &Tick) -> Option<Severity> {
        let mut inner = self.lock();
        let mut worst = None;
        for change in inner.warnings.observe(tick) {
            worst = worst.max(Some(change.to).filter(|to| *to >= change.from));
            *inner.changes.entry(change.to).or_default() += u64::from(change.to != change.from);
            inner.logger.change(&change);
            for notifier in &inner.notifiers {
                let fields = view::warning::notification(&change, inner.node.as_deref());
                notifier.push(Message { netns: change.id, fields });
            }
        }
        worst
    }

    /// What was warned of so far.
    #[must_use]
    pub fn told(&self) -> Told {
        let inner = self.lock();
        let notifications =
            inner.notifiers.iter().map(|notifier| (notifier.name(), notifier.counts()));
        Told {
            severities: inner.warnings.severities().map(|(id, of)| (id.inode, of)).collect(),
            changes: inner.changes.clone(),
            untracked: inner.warnings.untracked(),
            notifications: notifications.collect(),
        }
    }

    /// Lets what waits be told, each for at most so long.
    pub fn close(self, grace: Duration) {
        let notifiers = std::mem::take(&mut self.lock().notifiers);
        notifiers.into_iter().for_each(|notifier| notifier.close(grace));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::{
        daemon::{log::tests::Written, notify::Failure},
        model::tick::NetnsTick,
    };

    struct Hears(Sender<Message>);

    impl Target for Hears {
        fn name(&self) -> &'static str {
            "command"
        }

        fn deliver(&self, message: &Message, _: &dyn Fn() -> bool) -> Result<(), Failure> {
            self.0.send(message.clone()).unwrap();
            Ok(())
        }
    }

    #[test]
    fn a_change_is_one_line_one_number_and_one_notification() {
        let (tell, heard) = channel();
        let written = Written::default();
        let notifier =
            Notifier::start(Box::new(Hears(tell)), Retry::default(), written.logger()).unwrap();
        let warnings = Warnings::new(Thresholds::default());
        let alerts = Alerts::new(warnings, vec![notifier], written.logger(), Some("n1".to_owned()));
        let almost_full = Tick::example(vec![NetnsTick::example(7, 96, 100)]);
        let worse: Vec<_> = (0..3).map(|_| alerts.observe(&almost_full)).collect();
        assert_eq!(worse, [Some(Severity::Critical), None, None]);
        let message = heard.recv().unwrap();
        let value = |key| message.fields.iter().find(|(one, _)| *one == key).unwrap().1.clone();
        assert_eq!((value("node"), value("severity")), ("n1".into(), "critical".into()));
        let told = alerts.told();
        assert_eq!(told.severities, BTreeMap::from([(7, Severity::Critical)]));
        assert_eq!(told.changes[&Severity::Critical], 1);
        assert_eq!(told.changes[&Severity::Ok], 0);
        alerts.close(Duration::from_secs(10));
        assert!(heard.try_recv().is_err());
        let lines = written.lines();
        assert!(lines.len() == 1 && lines[0].contains(" critical netns 7: critical: 96% full"));
        assert!(lines[0].contains(" severity=critical previous_severity=ok "), "{lines:?}");
    }

    #[test]
    fn a_revision_changes_who_is_warned_and_of_what_and_no_level() {
        let (tell, heard) = channel();
        let written = Written::default();
        let target = |tell: &Sender<Message>| Box::new(Hears(tell.clone()));
        let notifier = Notifier::start(target(&tell), Retry::default(), written.logger()).unwrap();
        let warnings = Warnings::new(Thresholds::default());
        let alerts = Alerts::new(warnings, vec![notifier], written.logger(), None);
        let mut now_ns = 0;
        let mut observe = |entries| {
            let mut tick = Tick::example(vec![NetnsTick::example(7, entries, 100)]);
            now_ns += 1_000_000_000;
            tick.time.monotonic_ns = now_ns;
            alerts.observe(&tick);
            alerts.told().severities[&7]
        };
        assert_eq!(observe(91), Severity::Warning);
        assert!(heard.recv().is_ok());
        let thresholds = Thresholds {
            warning_fill: 0.95,
            warning_fill_clear: 0.8,
            critical_fill: 0.98,
            quiet_seconds: 1.0,
            ..Thresholds::default()
        };
        let (other_tell, other_heard) = channel();
        let revision = |targets: Vec<Box<dyn Target>>| Revision {
            thresholds,
            targets,
            retry: Retry::default(),
            node: Some("n2".to_owned()),
        };
        alerts.revise(revision(vec![target(&other_tell)]));
        // Raised it would not be any more; to clear it takes less.
        for _ in 0..5 {
            assert_eq!(observe(91), Severity::Warning);
        }
        let mut come_to = |entries: &[u64], expected| {
            let levels: Vec<_> = entries.iter().map(|one| observe(*one)).collect();
            assert_eq!(levels.last(), Some(&expected), "{entries:?}: {levels:?}");
            let message = other_heard.recv().unwrap();
            assert!(message.fields.contains(&("node", "n2".into())), "{message:?}");
        };
        come_to(&[79, 79], Severity::Ok);
        come_to(&[79, 91, 96], Severity::Warning);
        alerts.revise(revision(vec![]));
        assert_eq!(alerts.told().notifications, []);
        assert_eq!(observe(99), Severity::Critical);
        drop(other_tell);
        // Its thread ends.
        assert!(other_heard.recv().is_err() && heard.try_recv().is_err());
    }
}
