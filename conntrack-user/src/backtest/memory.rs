//! Memory that trying forecasters takes: files come from anywhere, and machines have many cores.

use std::mem::size_of;

use super::{
    bounds,
    said::Said,
    scenario::Scenario,
    simulator::AFTER,
    stream,
    trial::{Case, Input},
    truth::Clairvoyant,
};
use crate::forecast::{
    outlook::Quantiles,
    snapshot::{Ended, Snapshot},
};

/// Bytes that the runs of one scenario may take at a time.
pub(super) const RUN: u64 = 160 << 20;
/// Bytes of the runs that are kept to be drawn, all together.
pub(super) const TRACES: u64 = 32 << 20;
/// Bytes a tick and `[[arrivals]]`: laws of lives (44), entries that are due, opened anew and watched (32), and the block of
/// memory for the watched entries (48).
const SLOT: u64 = 124;
/// Bytes a tick of what happens, of the alarms and of what a judge keeps.
const MOMENT: u64 = 80;

/// Bytes that one run of a scenario takes, from above.
pub(super) fn of_scenario(scenario: &Scenario) -> u64 {
    let ticks = (scenario.seconds / scenario.tick).ceil() as u64;
    let simulated = ticks + (AFTER / scenario.tick).ceil() as u64;
    let slots =
        (simulated + Clairvoyant::ticks(scenario.tick) as u64) * scenario.arrivals.len() as u64;
    let watched = stream::watched(scenario).0;
    slots * SLOT
        + watched * size_of::<Ended>() as u64
        + ticks * size_of::<Option<Snapshot>>() as u64
        // What the clairvoyant said, and what one forecaster after the other says.
        + (simulated + ticks) * size_of::<Said>() as u64
        + simulated * MOMENT
}

/// Bytes of a run that is kept to be drawn, of `ticks` ticks and so many forecasters.
pub(super) fn of_trace(ticks: usize, forecasters: usize) -> u64 {
    let said = size_of::<Option<Quantiles<f64>>>() + size_of::<bool>();
    let each = size_of::<Said>() as u64 + MOMENT + (forecasters * said) as u64;
    ticks as u64 * each
}

/// Runs at a time that take less than `bytes` together, at least one.
pub(super) fn runs(cases: &[Case], bytes: u64) -> usize {
    let of = |case: &Case| match &case.input {
        Input::Written(scenario) | Input::Drawn(scenario) => of_scenario(scenario),
        // It is there already.
        Input::Recorded(recorded) => {
            recorded.run.snapshots.len() as u64 * (size_of::<Said>() as u64 + MOMENT)
        }
    };
    let largest = cases.iter().map(of).max().unwrap_or(0);
    (bytes / largest.max(1)).max(1) as usize
}

/// Entries that come in the mean, of all `[[arrivals]]`, each with no more than `most` a tick.
pub(super) fn come(scenario: &Scenario, most: u64) -> f64 {
    let seconds = scenario.seconds + AFTER;
    let ticks = seconds / scenario.tick;
    let of = |arrivals| bounds::come(arrivals, seconds).min(ticks * most as f64);
    scenario.arrivals.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(seconds: u32, arrivals: usize, rate: u32) -> Result<Scenario, String> {
        let one = format!("{{ class = 'udp_unreplied', rate = [[0, {rate}]] }},");
        let text = format!(
            "title = ''\nimitates = ''\nmax = 1000\nseconds = {seconds}\narrivals = [{}]",
            one.repeat(arrivals)
        );
        Scenario::parse(&text).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_day_fits_and_a_day_of_many_does_not() {
        assert!(of_scenario(&scenario(86_400, 1, 1000).unwrap()) <= RUN);
        let error = scenario(86_400, 8, 1000).unwrap_err();
        assert!(error.contains("MB of memory"), "{error}");
    }

    #[test]
    fn fewer_runs_at_a_time_where_each_is_large() {
        let case = |seconds| Case {
            name: String::new(),
            input: Input::Written(scenario(seconds, 1, 1000).unwrap()),
        };
        assert_eq!(runs(&[case(86_400)], RUN), 1);
        let some = runs(&[case(900)], RUN);
        assert!((10..1000).contains(&some), "{some}");
        assert_eq!(runs(&[case(900), case(86_400)], RUN), 1);
        assert_eq!(runs(&[], RUN), RUN as usize);
    }
}
