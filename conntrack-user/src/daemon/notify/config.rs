//! What is to be told of changes, and how often it is tried.

use std::path::PathBuf;

/// A program that is started at each change.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// The program and its arguments; no shell reads them. Empty, which is the default: none is started.
    pub run: Vec<String>,
    /// Seconds after which it is killed, and all processes of its group. Default 10.
    pub timeout_seconds: f64,
}

impl Default for Command {
    fn default() -> Self {
        Self { run: vec![], timeout_seconds: 10.0 }
    }
}

/// An address that is sent each change.
#[derive(Debug, Clone, PartialEq)]
pub struct Webhook {
    /// `http://` or `https://`. Empty, which is the default: nothing is sent.
    pub url: String,
    /// Seconds for the whole exchange. Default 10.
    pub timeout_seconds: f64,
    /// PEM file of the certificates that are trusted instead of those that this machine trusts.
    pub ca_file: Option<PathBuf>,
    /// File whose first line is the value of the header `Authorization`.
    pub authorization_file: Option<PathBuf>,
}

impl Default for Webhook {
    fn default() -> Self {
        Self { url: String::new(), timeout_seconds: 10.0, ca_file: None, authorization_file: None }
    }
}

/// How often a change is told that nobody takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Times in all. Default 6.
    pub attempts: u32,
    /// Seconds before the second time; each further wait is twice as long, and each is up to half as short by chance.
    /// Default 1.
    pub first_seconds: f64,
    /// The longest wait in seconds. Default 60.
    pub longest_seconds: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 6, first_seconds: 1.0, longest_seconds: 60.0 }
    }
}

impl Retry {
    /// Seconds to wait after so many attempts. `chance`: 0 to 1.
    #[must_use]
    pub fn wait_seconds(&self, attempts: u32, chance: f64) -> f64 {
        let doublings = attempts.saturating_sub(1).min(30);
        let longest = self.first_seconds * f64::from(1u32 << doublings);
        longest.min(self.longest_seconds) * (1.0 - chance / 2.0)
    }
}

/// The longest time-out and wait, in seconds.
const LONGEST: f64 = 3600.0;

/// Says which value makes no sense: its key and what was expected.
///
/// # Errors
///
/// The first one.
pub fn check(command: &Command, webhook: &Webhook, retry: &Retry) -> Result<(), String> {
    let spans = [
        ("notify.command-timeout", command.timeout_seconds),
        ("notify.webhook-timeout", webhook.timeout_seconds),
        ("notify.first-wait", retry.first_seconds),
        ("notify.longest-wait", retry.longest_seconds),
    ];
    for (key, seconds) in spans {
        if !(seconds > 0.0 && seconds <= LONGEST) {
            return Err(format!("{key} = {seconds}: more than 0 and at most {LONGEST}"));
        }
    }
    if !(1..=100).contains(&retry.attempts) {
        return Err(format!("notify.attempts = {}: 1 to 100", retry.attempts));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let retry = Retry { attempts: 9, first_seconds: 1.0, longest_seconds: 10.0 };
        let waits: Vec<f64> = (1..=6).map(|attempts| retry.wait_seconds(attempts, 0.0)).collect();
        assert_eq!(waits, [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
        assert_eq!(retry.wait_seconds(3, 1.0), 2.0);
        assert_eq!(retry.wait_seconds(u32::MAX, 0.5), 7.5);
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        let (command, webhook) = (Command::default(), Webhook::default());
        assert_eq!(check(&command, &webhook, &Retry::default()), Ok(()));
        let never = Command { timeout_seconds: f64::NAN, ..command.clone() };
        let said = check(&never, &webhook, &Retry::default());
        assert_eq!(said, Err("notify.command-timeout = NaN: more than 0 and at most 3600".into()));
        let none = Retry { attempts: 0, ..Retry::default() };
        assert_eq!(check(&command, &webhook, &none), Err("notify.attempts = 0: 1 to 100".into()));
    }
}
