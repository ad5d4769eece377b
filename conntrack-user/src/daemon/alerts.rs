//! Warns: has each tick judged, and tells each change of level to the log and to whoever else is to know.

use std::{collections::BTreeMap, time::Duration};

use super::{
    log::Logger,
    notify::{Counts, Message, Notifier},
    warning::{Level, Warnings},
};
use crate::{model::tick::Tick, view};

/// What there is to warn with.
pub struct Alerts {
    warnings: Warnings,
    notifiers: Vec<Notifier>,
    logger: Logger,
    /// What this machine is called, where that is known.
    node: Option<String>,
    changes: BTreeMap<Level, u64>,
}

/// What was warned of, for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The level of each namespace that is watched, by inode.
    pub levels: BTreeMap<u64, Level>,
    /// Changes to each level.
    pub changes: BTreeMap<Level, u64>,
    /// Namespaces that are not watched, because there are too many.
    pub overlooked: u64,
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
        let changes = Level::ALL.into_iter().map(|level| (level, 0)).collect();
        Self { warnings, notifiers, logger, node, changes }
    }

    /// Takes in a tick, and tells what has changed; does not wait for anybody. The worst level of a table that has got
    /// worse; none where none has.
    pub fn observe(&mut self, tick: &Tick) -> Option<Level> {
        let mut worst = None;
        for change in self.warnings.observe(tick) {
            worst = worst.max(Some(change.to).filter(|to| *to >= change.from));
            *self.changes.entry(change.to).or_default() += u64::from(change.to != change.from);
            self.logger.change(&change);
            for notifier in &self.notifiers {
                let fields = view::warning::notification(&change, self.node.as_deref());
                notifier.push(Message { netns: change.id, fields });
            }
        }
        worst
    }

    /// What was warned of so far.
    #[must_use]
    pub fn told(&self) -> Told {
        let notifications =
            self.notifiers.iter().map(|notifier| (notifier.name(), notifier.counts()));
        Told {
            levels: self.warnings.levels().map(|(id, level)| (id.inode, level)).collect(),
            changes: self.changes.clone(),
            overlooked: self.warnings.overlooked(),
            notifications: notifications.collect(),
        }
    }

    /// Lets what waits be told, each for at most so long.
    pub fn close(self, grace: Duration) {
        self.notifiers.into_iter().for_each(|notifier| notifier.close(grace));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::{
        daemon::{
            log::tests::Written,
            notify::{Failure, Target, config::Retry},
            warning::Config,
        },
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
        let notifier = Notifier::start(Hears(tell), Retry::default(), written.logger()).unwrap();
        let warnings = Warnings::new(Config::default());
        let mut alerts =
            Alerts::new(warnings, vec![notifier], written.logger(), Some("n1".to_owned()));
        let almost_full = Tick::example(vec![NetnsTick::example(7, 96, 100)]);
        let worse: Vec<_> = (0..3).map(|_| alerts.observe(&almost_full)).collect();
        assert_eq!(worse, [Some(Level::Critical), None, None]);
        let message = heard.recv().unwrap();
        let value = |key| message.fields.iter().find(|(one, _)| *one == key).unwrap().1.clone();
        assert_eq!((value("node"), value("state")), ("n1".into(), "critical".into()));
        let told = alerts.told();
        assert_eq!(told.levels, BTreeMap::from([(7, Level::Critical)]));
        assert_eq!(told.changes[&Level::Critical], 1);
        assert_eq!(told.changes[&Level::Ok], 0);
        alerts.close(Duration::from_secs(10));
        assert!(heard.try_recv().is_err());
        let lines = written.lines();
        assert!(lines.len() == 1 && lines[0].contains(" critical netns 7: critical: 96% full"));
        assert!(lines[0].contains(" state=critical previous_state=ok "), "{lines:?}");
    }
}
