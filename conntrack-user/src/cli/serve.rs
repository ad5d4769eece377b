//! `ctmon serve`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use conntrack_user::{
    daemon::{
        log::Format,
        notify::{
            self,
            config::{Command, Retry, Webhook},
        },
    },
    http::{Address, Hosts, Web},
    privilege::{
        Account,
        sandbox::{Sandbox, User},
    },
    severity::Thresholds,
    source::live,
    view::metrics::NETNS_APART,
};

use super::{Plan, docs::page, flight::Flight, follow::Observe, in_force::Settings, warn::Warn};

pub(super) const SERVE_SIGNALS: &str = "\
Each setting is also a key of the file that --config names, and a variable of the environment: --event-budget is
event-budget and CTMON_EVENT_BUDGET. The command line comes first, then the environment, then the file.

SIGUSR1 writes the last minutes into a file in --flight-dir, which `ctmon replay` reads.
--check tries a settings file before SIGHUP or a restart, --test-notify a command and a webhook.
SIGHUP reads the settings again, and says which of those that changed take a restart.
SIGUSR2 detaches the programs, so that nf_conntrack can be unloaded; a second one, or loading it again, attaches them.
Ends with exit code 0 on SIGINT and SIGTERM; 3 on errors. A second signal ends it at once, and after 10 s it ends whatever it
waits for: with exit code 130 or 143.";

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Settings, in TOML
    #[arg(long, value_name = "FILE", env = "CTMON_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Print a settings file that has every key with its meaning and default, and end
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Check the settings, and the files that they name, and end: exit code 0 where they are valid, else 3
    #[arg(long, conflicts_with_all = ["print_config", "test_notify"])]
    pub(crate) check: bool,
    /// Send a test notification to each target, print what came back, and end: exit code 0 where each has taken it, else 3
    #[arg(long, conflicts_with = "print_config")]
    pub(crate) test_notify: bool,
    /// Where HTTP is answered: ADDRESS:PORT, :PORT on all addresses, or unix:PATH; several with commas between them
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', default_value = "127.0.0.1:12620")]
    pub(crate) listen: Vec<Address>,
    #[arg(long, value_name = "FILE", help = format!(
        "TLS and passwords, in the file that exporters for Prometheus share: {}", page("http.md")
    ))]
    pub(crate) web_config: Option<PathBuf>,
    #[arg(long, value_name = "NAME", value_delimiter = ',', help = format!(
        "Additional Host header accepted besides addresses, localhost and --node (guards against DNS rebinding); * accepts all; \
         several with commas between them: {}", page("http.md")
    ))]
    allow_host: Vec<String>,
    /// Network namespaces that /metrics has series of their own for; those beyond are counted together
    #[arg(long, value_name = "N", default_value_t = NETNS_APART)]
    pub(crate) metrics_netns: usize,
    /// User, or USER:GROUP, by name or number, that the half that serves becomes [default: ctmon if there is such a user, else
    /// 65534:65534; who is not root stays who it is]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Keep the programs attached and counting when this ends, and go on with their counts when it is started again:
    /// a folder in a BPF file system, such as /sys/fs/bpf/ctmon
    #[arg(long, value_name = "DIR")]
    pin: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) flight: Flight,
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
    pub(crate) settings: Settings,
    /// Warnings about the environment, for the log.
    #[arg(skip)]
    pub(crate) warnings: Vec<String>,
}

impl Serve {
    /// Whether settings make sense together.
    ///
    /// # Errors
    /// Names the first one that does not.
    pub(super) fn check(&self) -> Result<()> {
        self.thresholds()?;
        let (command, webhook, _) = self.notify()?;
        notify::command::Command::check(&command).map_err(|why| anyhow!(why))?;
        notify::webhook::Webhook::check(&webhook)?;
        self.flight.folder()?;
        Ok(())
    }

    /// When a table is warned of.
    ///
    /// # Errors
    /// Where the thresholds make no sense together.
    pub(crate) fn thresholds(&self) -> Result<Thresholds> {
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
        // Not by procfs, which the sandbox may hide.
        let host_name = || rustix::system::uname().nodename().to_str().ok().map(str::to_owned);
        self.node.clone().or_else(host_name)
    }

    /// By which names it is asked.
    pub(crate) fn hosts(&self) -> Hosts {
        Hosts::new(self.allow_host.iter().cloned().chain(self.node()).collect())
    }

    /// What is watched.
    pub(crate) fn plan(&self) -> Plan {
        // It may be started before anything needs the module, or allows programs.
        let mut plan = Plan { wait: true, tries_again: true, ..self.observe.plan(false) };
        plan.options.ebpf.pins.clone_from(&self.pin);
        plan
    }

    /// What the half that serves may: read what `options` and `web` name, remove its sockets, and write the last
    /// minutes.
    ///
    /// # Errors
    /// Settings of notifications that contradict each other, or an unknown user.
    pub(crate) fn sandbox(&self, options: &live::Options, web: &Web) -> Result<Sandbox> {
        let (command, webhook, _) = self.notify()?;
        let system = [&options.procfs, &options.ebpf.sysfs].into_iter().cloned();
        // The folders: who changes a file may put another one in its place.
        let btf = options.ebpf.btf.iter().cloned();
        let files = self.reread(web)?.into_iter().chain(btf);
        let sockets = self.listen.iter().filter_map(|listen| match listen {
            Address::Unix(path) => Some(folder(path)),
            Address::Ip(_) | Address::All(_) => None,
        });
        // What the C library and TLS need to find another machine and to trust it.
        let network =
            ["/etc", "/run/systemd/resolve", "/usr/share/ca-certificates", "/usr/lib/ssl"];
        let network = network.iter().filter(|_| !webhook.url.is_empty()).map(PathBuf::from);
        Ok(Sandbox {
            read: system.chain(files.map(|file| folder(&file))).chain(network).collect(),
            // What pods log stays theirs.
            list: vec![options.pods.clone()],
            write: sockets.chain(self.written()).collect(),
            commands: !command.run.is_empty(),
            connects: !webhook.url.is_empty(),
            user: match self.user {
                Some(_) => User::Required(self.account()?),
                None => User::UnlessOther(self.account()?),
            },
            helper: None,
        })
    }

    /// The user that root becomes.
    ///
    /// # Errors
    /// There is no such user, or it is root.
    pub(crate) fn account(&self) -> Result<Account> {
        match &self.user {
            // Not when settings are read: SIGHUP reads them where /etc/passwd is out of reach.
            Some(user) => Account::parse(user).context("--user"),
            None => Ok(Account::unprivileged()),
        }
    }

    /// Folders into which files are written as long as it serves.
    pub(crate) fn written(&self) -> Vec<PathBuf> {
        self.flight.dir().into_iter().chain(self.warn.command_writes()).cloned().collect()
    }

    /// Files that SIGHUP reads again: those of the settings and of `web`.
    ///
    /// # Errors
    /// Settings of notifications that contradict each other.
    pub(crate) fn reread(&self, web: &Web) -> Result<Vec<PathBuf>> {
        let (_, webhook, _) = self.notify()?;
        let files = self.config.iter().cloned().chain(web.files());
        Ok(files.chain(webhook.ca_file).chain(webhook.authorization_file).collect())
    }
}

/// The folder that `file` is in.
fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => ".".into(),
    }
}
