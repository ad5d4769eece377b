//! What each setting of `serve` is, and which may change while it runs.

use std::collections::BTreeMap;

/// The values of each setting, wherever it is set, by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings(pub(super) BTreeMap<String, Vec<String>>);

impl Settings {
    /// Takes from `new` what may change. The names of those that did, and of those that take a restart.
    pub(crate) fn take(&mut self, new: &Self) -> (Vec<String>, Vec<String>) {
        let is_other = |name: &&String| self.0.get(*name) != new.0.get(*name);
        let others = new.0.keys().filter(is_other).cloned();
        let (changed, restart) = others.partition::<Vec<_>, _>(|name| self.may_change(name));
        for name in &changed {
            self.0.insert(name.clone(), new.0.get(name).cloned().unwrap_or_default());
        }
        (changed, restart)
    }

    fn may_change(&self, name: &str) -> bool {
        match name {
            "log-format" | "node" => true,
            // What the process may read, write and start was settled by its sandbox.
            "notify.command-writes" => false,
            "notify.command" | "notify.webhook" => self.is_set(name),
            _ => name.starts_with("warn.") || name.starts_with("notify."),
        }
    }

    /// Whether it has a value that says something.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|values| values.iter().any(|value| !value.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(values: &[(&str, &str)]) -> Settings {
        let one = |(name, value): &(&str, &str)| ((*name).to_owned(), vec![(*value).to_owned()]);
        Settings(values.iter().map(one).collect())
    }

    #[test]
    fn what_takes_a_restart_is_told_each_time() {
        let start = [
            ("interval", "1s"),
            ("notify.attempts", "6"),
            ("notify.command-writes", "/a"),
            ("notify.webhook", ""),
            ("warn.hold", "2s"),
        ];
        let mut in_force = settings(&start);
        assert_eq!(in_force.take(&settings(&start)), (vec![], vec![]));
        let new = settings(&[
            ("interval", "2s"),
            ("notify.attempts", "7"),
            ("notify.command-writes", "/b"),
            // There was none when the sandbox was made.
            ("notify.webhook", "http://x"),
            ("warn.hold", "3s"),
        ]);
        let restart = ["interval", "notify.command-writes", "notify.webhook"];
        let (changed, remaining) = in_force.take(&new);
        assert_eq!(changed, ["notify.attempts", "warn.hold"]);
        assert_eq!(remaining, restart);
        let (changed, remaining) = in_force.take(&new);
        assert!(changed.is_empty() && remaining == restart, "{changed:?}, {remaining:?}");
    }

    #[test]
    fn who_is_told_may_be_another_or_nobody() {
        for name in ["notify.command", "notify.webhook"] {
            let mut in_force = settings(&[(name, "a")]);
            for next in ["b", ""] {
                let (changed, restart) = in_force.take(&settings(&[(name, next)]));
                assert_eq!((changed.len(), restart.len()), (1, 0), "{name} {next}");
            }
            assert!(!in_force.is_set(name));
        }
    }
}
