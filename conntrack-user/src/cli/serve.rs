//! `ctmon serve`

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use clap::Args;
use conntrack_user::{
    daemon::{
        log::Format,
        notify::config::{Command, Retry, Webhook},
        warning::Config,
    },
    http::Address,
};

use super::{follow::Observe, warn::Warn};
use crate::command::follow::Plan;

pub(super) const SERVE_SIGNALS: &str = "\
Each setting is also a key of the file that --config names, and a variable of the environment: --event-budget is
event-budget and CTMON_EVENT_BUDGET. The command line comes first, then the environment, then the file.

SIGHUP reads the settings again; SIGUSR2 detaches the programs, so that nf_conntrack can be unloaded; a second
one, or loading it again, attaches them.
Ends with exit code 0 on SIGINT and SIGTERM; 3 on errors.";

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Settings, in TOML
    #[arg(long, value_name = "FILE", env = "CTMON_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Print a settings file that has every key with its meaning and default, and end
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Where HTTP is answered: ADDRESS:PORT, :PORT on all addresses, or unix:PATH; several with commas between them
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', default_value = "127.0.0.1:12620")]
    pub(crate) listen: Vec<Address>,
    /// TLS and passwords, as exporters for Prometheus have them: docs/http.md
    #[arg(long, value_name = "FILE")]
    pub(crate) web_config: Option<PathBuf>,
    /// Network namespaces that /metrics has series of their own for; those beyond are counted together
    #[arg(long, value_name = "N", default_value = "128")]
    pub(crate) metrics_netns: usize,
    /// How log lines are written
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    pub(crate) log_format: Format,
    /// What this machine is called in what a command and a webhook are told [default: its host name]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    #[command(flatten)]
    observe: Observe,
    #[command(flatten)]
    warn: Warn,
    /// What each setting is, wherever it is set.
    #[arg(skip)]
    pub(crate) settings: BTreeMap<String, Vec<String>>,
}

impl Serve {
    /// The settings that are others here than in `before`.
    pub(crate) fn changed(&self, before: &Self) -> Vec<String> {
        let is_other = |name: &&String| self.settings.get(*name) != before.settings.get(*name);
        self.settings.keys().filter(is_other).cloned().collect()
    }

    /// When a table is warned of.
    ///
    /// # Errors
    /// Where the thresholds make no sense together.
    pub(crate) fn thresholds(&self) -> Result<Config> {
        self.warn.thresholds()
    }

    /// Who is told of warnings, and how often it is tried.
    ///
    /// # Errors
    /// Where that makes no sense.
    pub(crate) fn notify(&self) -> Result<(Command, Webhook, Retry)> {
        self.warn.notify()
    }

    /// What this machine is called, where that is known.
    pub(crate) fn node(&self) -> Option<String> {
        let host_name = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        self.node.clone().or_else(|| Some(host_name()?.trim().to_owned()))
    }

    /// What is watched.
    pub(crate) fn plan(&self) -> Plan {
        // It may be started before anything needs the module, or allows programs.
        Plan { wait: true, tries_again: true, ..self.observe.plan(false) }
    }
}
