//! The scale of severities.

use serde::{Deserialize, Serialize};

/// Severity of a finding, in rising order. The numbers are the exit codes of monitoring plugins (Monitoring Plugins
/// Development Guidelines, "Plugin Return Codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing to do.
    Ok,
    /// Worth knowing; nothing is lost by it.
    Info,
    /// Could not be judged.
    Unknown,
    /// Look at it today.
    Warning,
    /// Connections fail, or will within minutes.
    Critical,
}

impl Severity {
    /// Severities that a table can have in `ctmon serve`.
    pub const OF_TABLES: [Self; 3] = [Self::Ok, Self::Warning, Self::Critical];

    /// Name in JSON, metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// Exit code of `status` and `doctor`, and the value of `ctmon_severity`: 0 to 3.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ok | Self::Info => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_weight_and_the_codes_are_those_of_plugins() {
        use Severity::{Critical, Info, Ok, Unknown, Warning};
        assert!(Ok < Info && Info < Unknown && Unknown < Warning && Warning < Critical);
        assert_eq!(
            [Ok, Info, Warning, Critical, Unknown].map(Severity::exit_code),
            [0, 0, 1, 2, 3]
        );
    }

    #[test]
    fn json_has_the_same_names() {
        for severity in Severity::OF_TABLES.into_iter().chain([Severity::Info, Severity::Unknown]) {
            assert_eq!(serde_json::json!(severity), severity.name());
        }
    }
}
