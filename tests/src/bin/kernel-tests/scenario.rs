//! Scenarios: tests that are files. `README.md` in the tests' folder describes their keys.

use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context as _, Result, ensure};
use conntrack_tests::traffic::{Exchange, Family, Plan, Protocol};
use serde::Deserialize;

use crate::{expression::Expectation, netns};

/// Name and text of every scenario.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("fifty-thousand-flows", include_str!("../../../scenarios/fifty-thousand-flows.toml")),
    ("masquerade-to-a-peer", include_str!("../../../scenarios/masquerade-to-a-peer.toml")),
    ("attach-during-a-flood", include_str!("../../../scenarios/attach-during-a-flood.toml")),
    ("attach-during-evictions", include_str!("../../../scenarios/attach-during-evictions.toml")),
    (
        "chain-too-long-by-program",
        include_str!("../../../scenarios/chain-too-long-by-program.toml"),
    ),
    (
        "missed-deletes-are-freed-undeleted",
        include_str!("../../../scenarios/missed-deletes-are-freed-undeleted.toml"),
    ),
    ("missed-frees-are-drift", include_str!("../../../scenarios/missed-frees-are-drift.toml")),
    (
        "missed-inserts-stay-unhashed",
        include_str!("../../../scenarios/missed-inserts-stay-unhashed.toml"),
    ),
    (
        "table-full-default-buckets",
        include_str!("../../../scenarios/table-full-default-buckets.toml"),
    ),
    ("table-full-512-buckets", include_str!("../../../scenarios/table-full-512-buckets.toml")),
    ("table-full-of-assured", include_str!("../../../scenarios/table-full-of-assured.toml")),
    ("dropped-before-confirm", include_str!("../../../scenarios/dropped-before-confirm.toml")),
    ("ring-of-one-page", include_str!("../../../scenarios/ring-of-one-page.toml")),
    ("a-quarter-of-the-flows", include_str!("../../../scenarios/a-quarter-of-the-flows.toml")),
    ("two-rings", include_str!("../../../scenarios/two-rings.toml")),
    ("causes-and-statuses", include_str!("../../../scenarios/causes-and-statuses.toml")),
    ("reset-deletes-at-once", include_str!("../../../scenarios/reset-deletes-at-once.toml")),
    ("clash-resolved", include_str!("../../../scenarios/clash-resolved.toml")),
    ("clash-beside-the-winner", include_str!("../../../scenarios/clash-beside-the-winner.toml")),
    ("clash-dropped", include_str!("../../../scenarios/clash-dropped.toml")),
    ("chain-too-long", include_str!("../../../scenarios/chain-too-long.toml")),
    ("dump-during-a-flood", include_str!("../../../scenarios/dump-during-a-flood.toml")),
    ("expired-until-reaped", include_str!("../../../scenarios/expired-until-reaped.toml")),
];

/// A scenario's file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) title: String,
    /// What it proves; for people, printed by `--list`.
    pub(crate) shows: String,
    #[serde(default)]
    pub(crate) table: Table,
    pub(crate) ruleset: String,
    /// Below `net.netfilter`, of the test's namespace.
    #[serde(default)]
    pub(crate) sysctl: BTreeMap<String, i64>,
    /// Added to the loopback interface.
    #[serde(default)]
    pub(crate) addresses: Vec<String>,
    /// A second namespace, joined by a veth pair.
    #[serde(default)]
    pub(crate) peer: bool,
    /// Names taken from the kernel that a kernel may not have; without them the test is skipped.
    #[serde(default)]
    pub(crate) needs: Vec<String>,
    /// Arguments of `ctmon watch`.
    #[serde(default)]
    pub(crate) ctmon: Vec<String>,
    #[serde(rename = "sender")]
    pub(crate) senders: Vec<Sender>,
    #[serde(rename = "step")]
    pub(crate) steps: Vec<Step>,
}

/// The table's limits, where they differ from the kernel's defaults.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    pub(crate) max: Option<i64>,
    pub(crate) buckets: Option<i64>,
}

/// One thread that opens flows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sender {
    pub(crate) name: String,
    protocol: Protocol,
    #[serde(default)]
    family: Family,
    flows: u64,
    rate: Option<u32>,
    cpu: Option<usize>,
    from: Option<IpAddr>,
    to: Option<IpAddr>,
    listen: Option<IpAddr>,
    #[serde(default)]
    hold: bool,
    #[serde(default)]
    exchange: Exchange,
    /// Sends to the peer, where TCP then listens.
    #[serde(default)]
    pub(crate) far: bool,
}

/// One thing to do, then what is expected.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    #[serde(rename = "do")]
    pub(crate) action: Action,
    /// Names of the senders that `send` and `start-senders` mean; all by default.
    pub(crate) senders: Option<Vec<String>>,
    /// How long `sleep` takes.
    #[serde(default)]
    pub(crate) seconds: f64,
    /// What `run` runs, in the test's namespace.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    #[serde(default)]
    expect: Vec<String>,
    /// `expect`, parsed.
    #[serde(skip)]
    pub(crate) expectations: Vec<Expectation>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// Starts `ctmon watch`.
    StartCtmon,
    /// Stops `ctmon watch` by SIGSTOP: it reads nothing until it goes on.
    StopCtmon,
    /// Lets it go on.
    ContinueCtmon,
    /// Waits for the baseline.
    Baseline,
    /// Starts the senders, all at once, and waits for their end.
    Send,
    /// Starts the senders and goes on.
    StartSenders,
    /// Stops them.
    StopSenders,
    /// Waits until two ticks show the same.
    Quiet,
    /// `conntrack -F`
    Flush,
    /// `conntrack -L`, which reaps expired entries.
    Dump,
    /// Runs a command, which must end with 0.
    Run,
    /// Lets time pass.
    Sleep,
}

impl Scenario {
    /// # Errors
    /// When the text is not TOML, has unknown keys, or an expectation does not follow the grammar.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut scenario: Self = toml::from_str(text)?;
        for (index, step) in scenario.steps.iter_mut().enumerate() {
            let parsed =
                step.expect.iter().map(|text| Expectation::parse(text)).collect::<Result<_>>();
            step.expectations = parsed.with_context(|| format!("step {}", index + 1))?;
            for name in step.senders.iter().flatten() {
                let known = scenario.senders.iter().any(|sender| sender.name == *name);
                ensure!(known, "step {}: there is no sender {name:?}", index + 1);
            }
            ensure!(
                (step.action == Action::Run) != step.command.is_empty(),
                "step {}: `run`, and only that, has a command",
                index + 1
            );
        }
        Ok(scenario)
    }
}

impl Sender {
    /// What it sends.
    ///
    /// # Errors
    /// When an address is not of its family.
    pub(crate) fn plan(&self) -> Result<Plan> {
        let mut plan = Plan::new(self.protocol, self.family, self.flows);
        if self.far {
            (plan.from, plan.to) = netns::ends(self.family);
        }
        plan.from = self.from.unwrap_or(plan.from);
        plan.to = self.to.unwrap_or(plan.to);
        (plan.rate, plan.cpu, plan.listen, plan.hold, plan.exchange) =
            (self.rate, self.cpu, self.listen, self.hold, self.exchange);
        let addresses = [Some(plan.from), Some(plan.to), plan.listen];
        let alike = addresses
            .into_iter()
            .flatten()
            .all(|address| address.is_ipv6() == (self.family == Family::Ipv6));
        ensure!(alike, "sender {:?}: an address is not of its family", self.name);
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;
    use crate::values::{ALWAYS, FROM_CTMON, FROM_KERNEL, FROM_SENDERS};

    fn all() -> Vec<(&'static str, Scenario)> {
        FILES
            .iter()
            .map(|(name, text)| {
                (*name, Scenario::parse(text).unwrap_or_else(|error| panic!("{name}: {error:#}")))
            })
            .collect()
    }

    #[test]
    fn every_file_is_a_test() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let stem =
            |path: std::path::PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        // Those of forecasts are in a folder of their own.
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let there: BTreeSet<String> = paths.filter(|path| path.is_file()).map(stem).collect();
        let listed: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(there, listed);
    }

    #[test]
    fn expectations_use_known_names() {
        for (name, scenario) in all() {
            let mut known: BTreeSet<String> = [FROM_CTMON, FROM_KERNEL, FROM_SENDERS]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect();
            for sender in &scenario.senders {
                known.extend(FROM_SENDERS.iter().map(|word| format!("{word}_{}", sender.name)));
            }
            for expectation in scenario.steps.iter().flat_map(|step| &step.expectations) {
                for used in expectation.names() {
                    assert!(known.contains(used), "{name}: {expectation}: what is {used}?");
                }
            }
            for needed in &scenario.needs {
                assert!(FROM_KERNEL.contains(&needed.as_str()), "{name}: what is {needed}?");
            }
        }
    }

    #[test]
    fn what_always_holds_uses_known_names() {
        for text in ALWAYS {
            let expectation = Expectation::parse(text).unwrap();
            for used in expectation.names() {
                assert!(FROM_CTMON.contains(&used), "{expectation}: what is {used}?");
            }
        }
    }

    #[test]
    fn senders_have_addresses_of_their_family_and_names_of_their_own() {
        for (name, scenario) in all() {
            let names: BTreeSet<&str> =
                scenario.senders.iter().map(|sender| sender.name.as_str()).collect();
            assert_eq!(names.len(), scenario.senders.len(), "{name}");
            for sender in &scenario.senders {
                sender.plan().unwrap_or_else(|error| panic!("{name}: {error:#}"));
                assert!(scenario.peer || !sender.far, "{name}: {} has no peer", sender.name);
            }
        }
    }

    #[test]
    fn every_scenario_expects_something_after_its_last_action() {
        for (name, scenario) in all() {
            assert!(!scenario.shows.trim().is_empty(), "{name}");
            assert!(
                scenario.steps.last().is_some_and(|step| !step.expectations.is_empty()),
                "{name}"
            );
        }
    }

    #[test]
    fn mistakes_are_named() {
        let scenario = |step: &str| {
            format!("title = 't'\nshows = 's'\nruleset = ''\nsender = []\n[[step]]\n{step}")
        };
        for (text, why) in [
            ("title = 1".to_owned(), "title"),
            (scenario("do = 'jump'"), "jump"),
            (scenario("do = 'send'\nexpekt = []"), "expekt"),
            (scenario("do = 'send'\nexpect = ['a = b']"), "step 1"),
            (scenario("do = 'send'\nsenders = ['nobody']"), "nobody"),
            (scenario("do = 'run'"), "command"),
        ] {
            let error = format!("{:#}", Scenario::parse(&text).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }
}
