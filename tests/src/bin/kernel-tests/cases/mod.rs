//! The tests: the scenarios, and what is no scenario, one file a subject.

mod arguments;
mod btf;
mod bursts;
mod busy;
mod capabilities;
mod causes;
mod comes_true;
mod coverage;
mod ctnetlink;
mod doctor;
mod endings;
mod events;
mod exit_paths;
mod flight;
mod flows;
mod forecast;
mod kill;
mod limit;
mod many;
mod modules;
mod mounts;
mod namespaces;
mod netlink;
mod offload;
mod outlook;
mod output;
mod pin;
mod privilege;
mod privileges;
mod probes;
mod recording;
mod scrapes;
mod second_law;
mod serve;
mod shapes;
mod sleepers;
mod soak;
mod status;
mod survival;
mod system_calls;
mod victims;
mod warnings;
mod ways;

use anyhow::{Context as _, Result};

use crate::{
    checks::Checks,
    process::Ended,
    runner::{Place, Test},
    scenario::{FILES, Scenario},
    stage,
};

/// Tracks what this namespace sends, and spares the ICMP errors of closed UDP ports.
const TRACK: &str = "table inet track {
  chain output { type filter hook output priority 0; ct state new counter; }
  chain input { type filter hook input priority 0; meta l4proto udp drop; }
}
";

/// Every test, in the order in which they run. Those that unload modules come last.
///
/// # Errors
/// When a scenario's file is wrong.
pub(crate) fn all() -> Result<Vec<Test>> {
    let mut tests = Vec::new();
    for (name, text) in FILES {
        let scenario = Scenario::parse(text).with_context(|| format!("the scenario {name}"))?;
        let (title, shows) = (scenario.title.clone(), scenario.shows.clone());
        let test = Test::new(name, &title, move |env, checks| stage::play(env, &scenario, checks));
        tests.push(Test { shows, ..test });
    }
    tests.extend(ctnetlink::tests());
    tests.extend(causes::tests());
    tests.extend(victims::tests());
    tests.extend(probes::tests());
    tests.extend(ways::tests());
    tests.extend(events::tests());
    tests.extend(bursts::tests());
    tests.extend(busy::tests());
    tests.extend(second_law::tests());
    tests.extend(flows::tests());
    tests.extend(forecast::tests());
    tests.extend(offload::tests());
    tests.extend(namespaces::tests());
    tests.extend(coverage::tests());
    tests.extend(mounts::tests());
    tests.extend(many::tests());
    tests.extend(netlink::tests());
    tests.extend(limit::tests());
    tests.extend(kill::tests());
    let of_ctmon = [
        endings::tests(),
        status::tests(),
        outlook::tests(),
        comes_true::tests(),
        output::tests(),
        recording::tests(),
        scrapes::tests(),
        serve::tests(),
        pin::tests(),
        flight::tests(),
        warnings::tests(),
        privilege::tests(),
        shapes::tests(),
        capabilities::tests(),
        survival::tests(),
        exit_paths::tests(),
        soak::tests(),
        sleepers::tests(),
        system_calls::tests(),
        arguments::tests(),
    ];
    let of_ctmon = of_ctmon.into_iter().flatten();
    tests.extend(of_ctmon.map(|test| Test { of_ctmon: true, ..test }));
    tests.extend(btf::tests());
    tests.extend(privileges::tests());
    tests.extend(doctor::tests());
    tests.extend(modules::tests());
    tests.sort_by_key(|test| test.place == Place::WithoutConntrack);
    Ok(tests)
}

/// Expects an error text that a person can act on, with every one of `words` in it.
fn expect_error(checks: &mut Checks, what: &str, ended: &Ended, words: &[&str]) {
    checks.equal(&format!("{what}: exit code 3"), ended.status.code(), Some(3));
    // As monitoring plugins do, `status` writes its errors to standard output.
    let (error, other) = match what.starts_with("status") && !what.contains("json") {
        true => (&ended.stdout, &ended.stderr),
        false => (&ended.stderr, &ended.stdout),
    };
    checks.equal(&format!("{what}: nothing on the other output"), other.as_str(), "");
    if what.starts_with("status") {
        checks.that(&format!("{what}: UNKNOWN"), error.starts_with("UNKNOWN: "), error);
    }
    for word in words {
        let is_named = error.to_lowercase().contains(&word.to_lowercase());
        checks.that(&format!("{what}: a message with {word:?}"), is_named, error);
    }
    expect_no_panic(checks, what, &ended.stderr);
}

/// Expects that no bug shows.
fn expect_no_panic(checks: &mut Checks, what: &str, stderr: &str) {
    for word in ["panicked", "backtrace", ".rs:"] {
        checks.that(
            &format!("{what}: no {word:?} on standard error"),
            !stderr.contains(word),
            stderr,
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_fit_a_line() {
        let tests = all().unwrap();
        let names: BTreeSet<&str> = tests.iter().map(|test| test.name).collect();
        assert_eq!(names.len(), tests.len());
        for test in &tests {
            assert!(
                test.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)),
                "{}",
                test.name
            );
            assert!(!test.title.is_empty() && !test.title.contains('\n'), "{}", test.name);
        }
    }

    #[test]
    fn tests_that_unload_modules_are_last() {
        use crate::runner::Place;
        let places: Vec<Place> = all().unwrap().iter().map(|test| test.place).collect();
        let first = places.iter().position(|place| *place == Place::WithoutConntrack).unwrap();
        assert!(places[first..].iter().all(|place| *place == Place::WithoutConntrack));
    }
}
