//! Scenarios: tables to be simulated, as TOML. `tests/scenarios/forecast/README.md` describes the keys.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::{bounds, class::Class, law::Law};
use crate::{forecast::snapshot::Timeouts, text::one_line};

/// What a table goes through.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// In a few words.
    pub title: String,
    /// Which real trouble it stands for.
    pub imitates: String,
    /// How long it is, in seconds.
    pub seconds: f64,
    /// Seconds between two snapshots.
    #[serde(default = "one")]
    pub tick: f64,
    /// Entries that the table may have at the start.
    pub max: u32,
    /// Buckets of the hash table; as many as `max` where not given, the kernel's default.
    pub buckets: Option<u32>,
    /// Jiffies a second (`CONFIG_HZ`), in which the garbage collector counts.
    #[serde(default = "hz")]
    pub hz: u32,
    /// Seconds since the garbage collector's last pass; by chance where not given.
    pub collected: Option<f64>,
    /// Where the kernel's defaults do not hold.
    #[serde(default)]
    pub timeouts: SetTimeouts,
    /// Who comes.
    pub arrivals: Vec<Arrivals>,
    /// What else happens.
    #[serde(default)]
    pub events: Vec<Event>,
}

/// Timeouts in seconds that are not the kernel's defaults.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetTimeouts {
    /// UDP without an answer.
    pub udp: Option<f64>,
    /// UDP that goes to and fro.
    pub udp_stream: Option<f64>,
    /// TCP without an answer.
    pub tcp_syn_sent: Option<f64>,
    /// Closed TCP.
    pub tcp_time_wait: Option<f64>,
    /// ICMP
    pub icmp: Option<f64>,
    /// Other protocols.
    pub generic: Option<f64>,
}

/// Entries of a class that come by a law of their own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arrivals {
    /// What they are.
    pub class: Class,
    /// New entries a second, as pairs of second and rate: straight lines between them, level before the first and
    /// after the last.
    pub rate: Vec<(f64, f64)>,
    /// A wave on top.
    pub sine: Option<Sine>,
    /// Variance of the arrivals in any span of time, divided by their mean; 1 is Poisson, and 0 as many as the rate
    /// says.
    #[serde(default = "one")]
    pub dispersion: f64,
    /// How long packets pass; then its timeout runs, then the garbage collector comes by.
    pub active: Option<Law>,
    /// Its timeout in seconds, where it is not that of its class.
    pub timeout: Option<f64>,
    /// Entries that are there at the start, with ages as after a long time; where not given, as many as follow
    /// from the first rate.
    pub at_start: Option<u64>,
}

/// A wave that multiplies a rate.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sine {
    /// Seconds from crest to crest.
    pub period: f64,
    /// Height of the crest above the mean, as a share of it.
    pub amplitude: f64,
    /// Seconds by which it is ahead; at 0 it starts at the mean, rising.
    #[serde(default)]
    pub phase: f64,
}

/// Something that happens once.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When, in seconds.
    pub at: f64,
    /// What.
    #[serde(rename = "do")]
    pub what: What,
}

/// What happens.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum What {
    /// The limit is set.
    Max(u32),
    /// All entries are deleted.
    Flush,
    /// Connections are opened anew.
    Reconnect(Reconnect),
    /// No snapshots for so many seconds.
    Pause(f64),
    /// The forecasters start anew.
    Restart,
}

/// Connections that end and are opened anew.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconnect {
    /// Of which class.
    pub class: Class,
    /// Which share of them, 0 to 1.
    pub share: f64,
    /// Seconds over which they come again.
    pub over: f64,
    /// The old entries stay for their timeout, as closed connections do; else they are deleted at once.
    #[serde(default)]
    pub lingers: bool,
}

impl Scenario {
    /// From the text of a file.
    pub fn parse(text: &str) -> Result<Self> {
        let mut scenario: Self = toml::from_str(text)?;
        for text in [&mut scenario.title, &mut scenario.imitates] {
            *text = one_line(text);
        }
        scenario.check()?;
        Ok(scenario)
    }

    /// Says what makes no sense.
    pub fn check(&self) -> Result<()> {
        let within = |name: &str, value: f64, low: f64, high: f64| {
            ensure!(
                (low..=high).contains(&value),
                "{name} is {value}, not within {low} and {high}"
            );
            Ok(())
        };
        within("seconds", self.seconds, 1.0, 86_400.0)?;
        within("tick", self.tick, 0.05, 60.0)?;
        within("max", f64::from(self.max), 1.0, 1e8)?;
        within("buckets", f64::from(self.buckets(self.max)), 1.0, 1e8)?;
        within("hz", f64::from(self.hz), 100.0, 1000.0)?;
        within("collected", self.collected.unwrap_or(0.0), 0.0, 60.0)?;
        let ticks = self.seconds / self.tick;
        ensure!(ticks <= 200_000.0, "{ticks} ticks are more than 200,000: shorten it or its ticks");
        ensure!(!self.arrivals.is_empty(), "there is no [[arrivals]]");
        let set = &self.timeouts;
        for (name, seconds) in [
            ("udp", set.udp),
            ("udp_stream", set.udp_stream),
            ("tcp_syn_sent", set.tcp_syn_sent),
            ("tcp_time_wait", set.tcp_time_wait),
            ("icmp", set.icmp),
            ("generic", set.generic),
        ] {
            within(name, seconds.unwrap_or(0.0), 0.0, 1e6).context("timeouts")?;
        }
        for (place, arrivals) in self.arrivals.iter().enumerate() {
            arrivals
                .check()
                .with_context(|| format!("[[arrivals]] {} ({:?})", place + 1, arrivals.class))?;
        }
        for (place, event) in self.events.iter().enumerate() {
            let check = || {
                within("at", event.at, 0.0, self.seconds)?;
                match event.what {
                    What::Reconnect(reconnect) => {
                        within("share", reconnect.share, 0.0, 1.0)?;
                        within("over", reconnect.over, 0.0, self.seconds)
                    }
                    What::Pause(seconds) => within("pause", seconds, 0.0, self.seconds),
                    What::Max(max) => within("max", f64::from(max), 1.0, 1e8),
                    What::Flush | What::Restart => Ok(()),
                }
            };
            check().with_context(|| format!("[[events]] {}", place + 1))?;
        }
        bounds::check(self)
    }

    /// Buckets of the hash table where the limit was `max` at the start.
    #[must_use]
    pub fn buckets(&self, max: u32) -> u32 {
        self.buckets.unwrap_or(max)
    }

    /// All timeouts.
    #[must_use]
    pub fn timeouts(&self) -> Timeouts {
        let kernel = Timeouts::default();
        let set = &self.timeouts;
        Timeouts {
            udp: set.udp.unwrap_or(kernel.udp),
            udp_stream: set.udp_stream.unwrap_or(kernel.udp_stream),
            tcp_syn_sent: set.tcp_syn_sent.unwrap_or(kernel.tcp_syn_sent),
            tcp_time_wait: set.tcp_time_wait.unwrap_or(kernel.tcp_time_wait),
            icmp: set.icmp.unwrap_or(kernel.icmp),
            generic: set.generic.unwrap_or(kernel.generic),
            ..kernel
        }
    }
}

impl Arrivals {
    fn check(&self) -> Result<()> {
        ensure!(!self.rate.is_empty(), "rate has no pair of second and rate");
        ensure!(
            self.rate.iter().all(|(second, _)| second.abs() <= 1e9),
            "a second of rate is not within a billion"
        );
        ensure!(
            self.rate.is_sorted_by(|before, after| before.0 <= after.0),
            "the seconds of rate do not ascend"
        );
        ensure!(
            self.rate.iter().all(|(_, rate)| (0.0..=1e6).contains(rate)),
            "a rate is not within 0 and 1,000,000"
        );
        ensure!(
            self.dispersion == 0.0 || (1.0..=10_000.0).contains(&self.dispersion),
            "dispersion is neither 0 nor within 1 and 10,000"
        );
        if let Some(sine) = self.sine {
            ensure!((0.001..=1e9).contains(&sine.period), "the period of sine is not above 0");
            ensure!(sine.phase.abs() <= 1e9, "the phase of sine is not within a billion seconds");
            ensure!((0.0..=1.0).contains(&sine.amplitude), "amplitude is not within 0 and 1");
        }
        if let Some(timeout) = self.timeout {
            ensure!((0.0..=1e6).contains(&timeout), "timeout is not within 0 and 1,000,000");
        }
        ensure!(self.at_start.is_none_or(|entries| entries <= 100_000_000), "at_start is too much");
        self.active.as_ref().map_or(Ok(()), |law| law.check().context("active"))
    }

    /// Seconds that an entry has left after its last packet, and before it.
    #[must_use]
    pub fn timeouts(&self, scenario: &Scenario) -> (f64, f64) {
        let all = scenario.timeouts();
        let timeout = self.timeout.unwrap_or_else(|| self.class.timeout(&all));
        (timeout, self.class.open(&all).unwrap_or(timeout))
    }

    /// New entries a second that are to be expected at a second.
    #[must_use]
    pub fn rate_at(&self, second: f64) -> f64 {
        let after = self.rate.partition_point(|(at, _)| *at <= second);
        let line =
            match (after.checked_sub(1).and_then(|at| self.rate.get(at)), self.rate.get(after)) {
                (Some(left), Some(right)) => {
                    left.1 + (right.1 - left.1) * (second - left.0) / (right.0 - left.0)
                }
                (Some(end), None) | (None, Some(end)) => end.1,
                (None, None) => 0.0,
            };
        let wave = self.sine.map_or(0.0, |sine| {
            let turns = (second + sine.phase) / sine.period;
            sine.amplitude * (turns * std::f64::consts::TAU).sin()
        });
        line * (1.0 + wave)
    }
}

fn one() -> f64 {
    1.0
}

/// That of Debian and Ubuntu.
fn hz() -> u32 {
    250
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "title = 'x'\nimitates = 'y'\nseconds = 60\nmax = 1000\n";

    #[test]
    fn a_rate_is_made_of_lines() {
        let text =
            format!("{HEAD}[[arrivals]]\nclass = 'icmp'\nrate = [[10, 0], [20, 100], [20, 50]]");
        let scenario = Scenario::parse(&text).unwrap();
        let rates = [0.0, 15.0, 20.0, 90.0].map(|second| scenario.arrivals[0].rate_at(second));
        assert_eq!(rates, [0.0, 50.0, 50.0, 50.0]);
    }

    #[test]
    fn errors_say_what_and_where() {
        let arrivals = "[[arrivals]]\nclass = 'icmp'\nrate = [[0, 1]]\n";
        let cases = [
            (HEAD.to_owned() + "speed = 3\n" + arrivals, "speed"),
            (HEAD.to_owned() + "arrivals = []", "no [[arrivals]]"),
            (HEAD.replace("60", "0") + arrivals, "seconds is 0"),
            (HEAD.to_owned() + arrivals + "dispersion = 0.5", "[[arrivals]] 1 (Icmp)"),
            (HEAD.to_owned() + arrivals + "active = { fixed = -1 }", "active"),
            (HEAD.to_owned() + &arrivals.replace("icmp", "igmp"), "igmp"),
            (
                HEAD.to_owned() + arrivals + "[[events]]\nat = 61\ndo = 'flush'",
                "[[events]] 1: at is 61",
            ),
            (HEAD.to_owned() + arrivals + "[[events]]\nat = 6\ndo = 'dance'", "dance"),
        ];
        for (text, expected) in cases {
            let error = format!("{:#}", Scenario::parse(&text).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
