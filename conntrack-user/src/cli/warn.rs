//! When `ctmon serve` warns, and whom it tells.

use std::{path::PathBuf, time::Duration};

use anyhow::{Result, anyhow};
use clap::Args;
use conntrack_user::daemon::notify::config::{self, Command, Retry, Webhook};
use conntrack_user::severity::{THRESHOLDS, Thresholds};

use super::values::{parse_duration, parse_ratio};

#[derive(Debug, Args)]
pub(super) struct Warn {
    /// Critical from this share of nf_conntrack_max on, whatever is forecast
    #[arg(long = "warn.critical-fill", value_name = "RATIO", value_parser = parse_ratio, default_value_t = THRESHOLDS.critical_fill)]
    critical_fill: f64,
    /// No longer critical for its fill below this share
    #[arg(long = "warn.critical-fill-clear", value_name = "RATIO", value_parser = parse_ratio, default_value_t = THRESHOLDS.critical_fill_clear)]
    critical_fill_clear: f64,
    /// A warning from this share on, whatever is forecast
    #[arg(long = "warn.warning-fill", value_name = "RATIO", value_parser = parse_ratio, default_value_t = THRESHOLDS.warning_fill)]
    warning_fill: f64,
    /// No warning for its fill below this share
    #[arg(long = "warn.warning-fill-clear", value_name = "RATIO", value_parser = parse_ratio, default_value_t = THRESHOLDS.warning_fill_clear)]
    warning_fill_clear: f64,
    /// Critical when a table is probably full within this time, 3h at most
    #[arg(long = "warn.critical-within", value_name = "TIME", value_parser = parse_duration, default_value = time(THRESHOLDS.critical_within_seconds))]
    critical_within: Duration,
    /// A warning when a table is probably full within this time, 3h at most
    #[arg(long = "warn.warning-within", value_name = "TIME", value_parser = parse_duration, default_value = time(THRESHOLDS.warning_within_seconds))]
    warning_within: Duration,
    /// From this share on it is looked further ahead
    #[arg(long = "warn.high-fill", value_name = "RATIO", value_parser = parse_ratio, default_value_t = THRESHOLDS.high_fill)]
    high_fill: f64,
    /// No longer below this share
    #[arg(long = "warn.high-fill-clear", value_name = "RATIO", value_parser = parse_ratio, default_value_t = THRESHOLDS.high_fill_clear)]
    high_fill_clear: f64,
    /// A warning when such a table is probably full within this time, 3h at most
    #[arg(long = "warn.high-within", value_name = "TIME", value_parser = parse_duration, default_value = time(THRESHOLDS.high_within_seconds))]
    high_within: Duration,
    /// What is probable
    #[arg(long = "warn.probability", value_name = "RATIO", value_parser = parse_ratio, default_value_t = THRESHOLDS.probability)]
    probability: f64,
    /// What is no longer probable, if it is less
    #[arg(long = "warn.probability-clear", value_name = "RATIO", value_parser = parse_ratio, default_value_t = THRESHOLDS.probability_clear)]
    probability_clear: f64,
    /// For how long a forecast must say so
    #[arg(long = "warn.hold", value_name = "TIME", value_parser = humantime::parse_duration, default_value = time(THRESHOLDS.hold_seconds))]
    hold: Duration,
    /// For how long fill or forecast must be low again
    #[arg(long = "warn.quiet", value_name = "TIME", value_parser = humantime::parse_duration, default_value = time(THRESHOLDS.quiet_seconds))]
    quiet: Duration,
    /// For how long nothing must have been dropped or evicted
    #[arg(long = "warn.quiet-after-loss", value_name = "TIME", value_parser = humantime::parse_duration, default_value = time(THRESHOLDS.quiet_after_loss_seconds))]
    quiet_after_loss: Duration,
    #[command(flatten)]
    notify: Notify,
}

#[derive(Debug, Args)]
struct Notify {
    /// A program and its arguments, one each time this is given, started at each change of severity
    #[arg(long = "notify.command", value_name = "WORD")]
    command: Vec<String>,
    /// A folder in which that program may write; without it, it may write nowhere where the kernel has landlock
    #[arg(long = "notify.command-writes", value_name = "DIR")]
    command_writes: Vec<PathBuf>,
    /// The time after which it is killed
    #[arg(long = "notify.command-timeout", value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    command_timeout: Duration,
    /// Webhook URL that receives each change of severity: http://... or https://...
    #[arg(long = "notify.webhook", value_name = "URL", default_value = "", hide_env_values = true)]
    webhook: String,
    /// The time for the whole exchange
    #[arg(long = "notify.webhook-timeout", value_name = "TIME", value_parser = parse_duration, default_value = "10s")]
    webhook_timeout: Duration,
    /// PEM file of the certificates that are trusted instead of those that this machine trusts
    #[arg(long = "notify.webhook-ca", value_name = "FILE")]
    webhook_ca: Option<PathBuf>,
    /// File whose first line is the value of the header Authorization
    #[arg(long = "notify.webhook-authorization", value_name = "FILE")]
    webhook_authorization: Option<PathBuf>,
    /// How often a change is told that is not taken
    #[arg(long = "notify.attempts", value_name = "N", default_value = "6")]
    attempts: u32,
    /// The wait before the second time; each further one is twice as long, and each up to half as short by chance
    #[arg(long = "notify.first-wait", value_name = "TIME", value_parser = parse_duration, default_value = "1s")]
    first_wait: Duration,
    /// The longest wait
    #[arg(long = "notify.longest-wait", value_name = "TIME", value_parser = parse_duration, default_value = "1m")]
    longest_wait: Duration,
}

/// Seconds as an argument.
fn time(seconds: f64) -> String {
    humantime::format_duration(Duration::from_secs_f64(seconds)).to_string()
}

impl Warn {
    /// The thresholds.
    ///
    /// # Errors
    /// Where they make no sense together.
    pub(super) fn thresholds(&self) -> Result<Thresholds> {
        let thresholds = Thresholds {
            critical_fill: self.critical_fill,
            critical_fill_clear: self.critical_fill_clear,
            warning_fill: self.warning_fill,
            warning_fill_clear: self.warning_fill_clear,
            on_demand_fill: THRESHOLDS.on_demand_fill,
            critical_within_seconds: self.critical_within.as_secs_f64(),
            warning_within_seconds: self.warning_within.as_secs_f64(),
            high_fill: self.high_fill,
            high_fill_clear: self.high_fill_clear,
            high_within_seconds: self.high_within.as_secs_f64(),
            probability: self.probability,
            probability_clear: self.probability_clear,
            hold_seconds: self.hold.as_secs_f64(),
            quiet_seconds: self.quiet.as_secs_f64(),
            quiet_after_loss_seconds: self.quiet_after_loss.as_secs_f64(),
        };
        thresholds.check()?;
        Ok(thresholds)
    }

    /// The folders in which the command may write.
    pub(super) fn command_writes(&self) -> &[PathBuf] {
        &self.notify.command_writes
    }

    /// Who is told, and how often it is tried.
    ///
    /// # Errors
    /// Where that makes no sense.
    pub(super) fn notify(&self) -> Result<(Command, Webhook, Retry)> {
        let notify = &self.notify;
        let command = Command {
            run: notify.command.clone(),
            timeout_seconds: notify.command_timeout.as_secs_f64(),
        };
        let webhook = Webhook {
            url: notify.webhook.clone(),
            timeout_seconds: notify.webhook_timeout.as_secs_f64(),
            ca_file: notify.webhook_ca.clone(),
            authorization_file: notify.webhook_authorization.clone(),
        };
        let retry = Retry {
            attempts: notify.attempts,
            first_seconds: notify.first_wait.as_secs_f64(),
            longest_seconds: notify.longest_wait.as_secs_f64(),
        };
        config::check(&command, &webhook, &retry).map_err(|why| anyhow!(why))?;
        Ok((command, webhook, retry))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        warn: Warn,
    }

    fn read(arguments: &[&str]) -> Warn {
        Alone::try_parse_from([&["ctmon"], arguments].concat()).unwrap().warn
    }

    #[test]
    fn without_settings_it_is_as_documented() {
        let warn = read(&[]);
        assert_eq!(warn.thresholds().unwrap(), THRESHOLDS);
        let expected = (Command::default(), Webhook::default(), Retry::default());
        assert_eq!(warn.notify().unwrap(), expected);
        let document = include_str!("../../../docs/warnings.md");
        let example = crate::cli::Cli::settings_example();
        let keys = example.lines().filter_map(|line| line.strip_prefix('#')?.split(" = ").next());
        for key in keys.filter(|key| key.starts_with("warn.") || key.starts_with("notify.")) {
            let forms = [format!("`{key}`"), format!("{key} = ")];
            assert!(forms.iter().any(|form| document.contains(form)), "{key}");
        }
    }

    #[test]
    fn what_makes_no_sense_together_is_named() {
        let error = read(&["--warn.high-fill-clear=0.8"]).thresholds().unwrap_err().to_string();
        assert!(error.starts_with("warn.high-fill-clear = 0.8: "), "{error}");
        let error = read(&["--notify.attempts=0"]).notify().unwrap_err().to_string();
        assert!(error.starts_with("notify.attempts = 0: "), "{error}");
    }

    #[test]
    fn a_command_is_a_list_of_words() {
        let words = ["--notify.command=/bin/x", "--notify.command=-a b"];
        assert_eq!(read(&words).notify().unwrap().0.run, ["/bin/x", "-a b"]);
    }
}
