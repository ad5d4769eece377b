//! Output formats of `status`.

use clap::ValueEnum;

/// Output format of `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Report {
    /// For people and monitoring plugins
    Text,
    /// One JSON object
    Json,
    /// Metrics, for the textfile collector of node_exporter: names as `serve` has them
    Prometheus,
}
