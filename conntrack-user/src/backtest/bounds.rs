//! What a scenario may cost: files come from anywhere.

use anyhow::{Result, ensure};

use super::{
    law::Law,
    memory,
    scenario::{Arrivals, Scenario, What},
    simulator::AFTER,
};

/// `[[arrivals]]`, `[[events]]`, and laws in one that is mixed, at the most.
const ARRIVALS: usize = 32;
const EVENTS: usize = 200;
const LAWS: usize = 64;
/// Entries that come and go: some 20 ns each.
const ENTRIES: f64 = 1e9;

/// Says what is too much.
pub(super) fn check(scenario: &Scenario) -> Result<()> {
    let (arrivals, events) = (scenario.arrivals.len(), scenario.events.len());
    ensure!(arrivals <= ARRIVALS, "{arrivals} [[arrivals]] are more than {ARRIVALS}");
    ensure!(events <= EVENTS, "{events} [[events]] are more than {EVENTS}");
    for arrivals in &scenario.arrivals {
        let laws = arrivals.active.as_ref().map_or(0, laws);
        ensure!(laws <= LAWS, "a mixture of {laws} laws is of more than {LAWS}");
    }
    let (bytes, most) = (memory::of_scenario(scenario) / 1_000_000, memory::RUN / 1_000_000);
    ensure!(
        bytes <= most,
        "it takes {bytes} MB of memory, more than {most}: shorten it, make its ticks longer, or have fewer [[arrivals]]"
    );
    let entries = entries(scenario);
    ensure!(entries <= ENTRIES, "{entries:.0} entries in all are more than {ENTRIES}");
    Ok(())
}

/// So many entries come at the most, with those at the start, and those that are opened anew.
#[must_use]
pub fn entries(scenario: &Scenario) -> f64 {
    let seconds = scenario.seconds + AFTER;
    let start: f64 = scenario.arrivals.iter().map(|arrivals| at_start(scenario, arrivals)).sum();
    let come: f64 = scenario.arrivals.iter().map(|arrivals| come(arrivals, seconds)).sum();
    let limits = scenario.events.iter().filter_map(|event| match event.what {
        What::Max(max) => Some(max),
        _ => None,
    });
    let most = limits.fold(scenario.max, u32::max);
    let again = scenario.events.iter().filter(|event| matches!(event.what, What::Reconnect(_)));
    start + come + again.count() as f64 * start.max(f64::from(most))
}

fn at_start(scenario: &Scenario, arrivals: &Arrivals) -> f64 {
    let seconds = arrivals.active.as_ref().map_or(0.0, Law::mean) + arrivals.timeouts(scenario).0;
    arrivals.at_start.map_or(arrivals.rate_at(0.0) * seconds, |entries| entries as f64)
}

/// As if each line of the rate were at its higher end.
pub(super) fn come(arrivals: &Arrivals, seconds: f64) -> f64 {
    let ends = |pair: &[(f64, f64)]| {
        let width = pair[1].0.min(seconds) - pair[0].0.max(0.0);
        width.max(0.0) * pair[0].1.max(pair[1].1)
    };
    let lines: f64 = arrivals.rate.windows(2).map(ends).sum();
    let before = arrivals.rate.first().map_or(0.0, |first| first.0.clamp(0.0, seconds) * first.1);
    let after =
        arrivals.rate.last().map_or(0.0, |last| (seconds - last.0.max(0.0)).max(0.0) * last.1);
    (before + lines + after) * (1.0 + arrivals.sine.map_or(0.0, |sine| sine.amplitude))
}

fn laws(law: &Law) -> usize {
    match law {
        Law::Mixture(parts) => parts.iter().map(|part| laws(&part.law)).sum(),
        _ => 1,
    }
}

/// The same with few and long ticks, for who has many to simulate; none where there is still too much to do.
#[must_use]
pub fn shortened(mut scenario: Scenario) -> Option<Scenario> {
    scenario.tick = scenario.tick.max(10.0);
    scenario.seconds = scenario.seconds.clamp(scenario.tick, 60.0_f64.max(scenario.tick));
    let seconds = scenario.seconds;
    scenario.events.retain(|event| event.at <= seconds);
    (entries(&scenario) <= 100_000.0 && scenario.check().is_ok()).then_some(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_take_for_ever_is_refused() {
        let head = "title = ''\nimitates = ''\nmax = 1000\nseconds = ";
        let one = "{ class = 'icmp', rate = [[0, 1]] }";
        let law = "{ share = 1, law = { fixed = 1 } },";
        let deep = (0..70).fold("{ fixed = 1 }".to_owned(), |law, _| {
            format!("{{ mixture = [{{ share = 1, law = {law} }}] }}")
        });
        let cases = [
            (format!("{head}80000\narrivals = [{}]", [one; 20].join(",")), "MB of memory"),
            (format!("{head}60\narrivals = [{}]", [one; 33].join(",")), "more than 32"),
            (
                format!(
                    "{head}60\narrivals = [{one}]\nevents = [{}]",
                    "{ at = 1, do = 'flush' },".repeat(201)
                ),
                "more than 200",
            ),
            (
                format!("{head}86400\narrivals = [{}]", one.replace("1]]", "100000]]")),
                "entries in all",
            ),
            (
                // They would live for years.
                format!(
                    "{head}60\narrivals = [{}]",
                    one.replace(
                        "1]]",
                        "1000]], active = { lognormal = { median = 1e7, sigma = 3 } }"
                    )
                ),
                "entries in all",
            ),
            (
                format!(
                    "{head}60\narrivals = [{}]",
                    one.replace(
                        "]]",
                        &format!("]], active = {{ mixture = [{}] }}", law.repeat(65))
                    )
                ),
                "mixture of 65",
            ),
            (
                format!(
                    "{head}60\narrivals = [{}]",
                    one.replace("]]", &format!("]], active = {deep}"))
                ),
                "recursion",
            ),
            (format!("{head}60\narrivals = [{}]", one.replace("[0,", "[nan,")), "a second"),
            (format!("{head}60\ntimeouts = {{ udp = inf }}\narrivals = [{one}]"), "udp is inf"),
        ];
        for (text, expected) in cases {
            let error = format!("{:#}", Scenario::parse(&text).unwrap_err());
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn entries_are_bounded_from_above() {
        let text = "title = ''\nimitates = ''\nmax = 1000\nseconds = 100
            arrivals = [{ class = 'udp_unreplied', rate = [[10, 5], [20, 5], [20, 100], [30, 50], [30, 0]] }]
            events = [{ at = 1, do = { reconnect = { class = 'icmp', share = 1, over = 1 } } }]";
        let scenario = Scenario::parse(text).unwrap();
        // 30 s of 5/s at the start; 20 s of 5/s and 10 s of up to 100/s; the whole table once more.
        assert_eq!(entries(&scenario), 150.0 + 100.0 + 1000.0 + 1000.0);
    }
}
