//! Log lines about the service itself: its start, each source, its end.

use std::{path::Path, time::Duration};

use serde_json::{Value, json};

use super::log::{Level, Logger};
use crate::source::item::Origin;

/// Facts about a service that starts.
#[derive(Debug, Clone, Default)]
pub struct Start<'a> {
    /// Addresses at which it answers, as they are configured.
    pub listen: Vec<String>,
    /// Settings file; none: command line and environment alone.
    pub config: Option<&'a Path>,
    /// Names of the targets of notifications: `command`, `webhook`.
    pub targets: Vec<&'static str>,
}

impl Start<'_> {
    /// Logs the start.
    pub fn log(&self, logger: &Logger) {
        logger.log(Level::Notice, "started", &self.fields());
    }

    /// Fields of that line.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, Value)> {
        let or_none = |all: String| if all.is_empty() { "none".to_owned() } else { all };
        let config = self.config.map_or_else(String::new, |path| path.display().to_string());
        vec![
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("listen", json!(or_none(self.listen.join(",")))),
            ("config", json!(or_none(config))),
            ("targets", json!(or_none(self.targets.join(",")))),
        ]
    }
}

/// Logs a source that was opened.
pub fn opened(origin: &Origin, logger: &Logger) {
    logger.log(Level::Notice, "source opened", &source(origin));
}

/// Fields of that line.
#[must_use]
pub fn source(origin: &Origin) -> Vec<(&'static str, Value)> {
    vec![
        ("source", json!(origin.source)),
        ("kernel_release", json!(origin.kernel_release)),
        ("unavailable", json!(origin.unavailable.len())),
    ]
}

/// Logs the end, which `reason` brought about: a signal.
pub fn stopped(reason: &str, uptime: Duration, logger: &Logger) {
    logger.log(Level::Notice, "stopped", &end(reason, uptime));
}

/// Fields of that line.
#[must_use]
pub fn end(reason: &str, uptime: Duration) -> Vec<(&'static str, Value)> {
    vec![("reason", json!(reason)), ("uptime_seconds", json!(uptime.as_secs()))]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::log::tests::Written;

    #[test]
    fn a_start_is_one_line_with_all_that_somebody_asks_for() {
        let written = Written::default();
        let logger = written.logger();
        Start {
            listen: vec!["127.0.0.1:12620".into(), "unix:/run/ctmon.sock".into()],
            config: Some(Path::new("/etc/ctmon.toml")),
            targets: vec!["command", "webhook"],
        }
        .log(&logger);
        Start::default().log(&logger);
        opened(&Origin::example(), &logger);
        stopped("SIGTERM", Duration::from_millis(61_900), &logger);
        let lines: Vec<String> = written
            .lines()
            .iter()
            .map(|line| line.split_once(" notice ").unwrap().1.to_owned())
            .collect();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            lines[0],
            format!(
                "started version={version} listen=127.0.0.1:12620,unix:/run/ctmon.sock \
                 config=/etc/ctmon.toml targets=command,webhook"
            )
        );
        assert_eq!(
            lines[1],
            format!("started version={version} listen=none config=none targets=none")
        );
        assert!(lines[2].starts_with("source opened source="), "{}", lines[2]);
        assert_eq!(lines[3], "stopped reason=SIGTERM uptime_seconds=61");
    }
}
