//! Fuzz target of scenarios.

#![allow(clippy::expect_used, reason = "a panic is how a fuzz target reports")]

use super::{bounds, scenario::Scenario, simulator::Simulator};

/// Scenarios: any text is refused with an error, or can be simulated, and no entry is lost on the way.
pub fn scenario(bytes: &[u8]) -> bool {
    let scenario = str::from_utf8(bytes).ok().and_then(|text| Scenario::parse(text).ok());
    let Some(scenario) = scenario.and_then(bounds::shortened) else { return false };
    // A panic reports that `parse` let through what cannot be simulated.
    let simulator = Simulator::new(scenario).expect("what was checked can be simulated");
    let run = simulator.run(1);
    assert_eq!(run.snapshots.len(), simulator.ticks + 1);
    for pair in run.snapshots.windows(2) {
        let [Some(before), Some(after)] = pair else { continue };
        let Some(change) = after.change else { continue };
        let deletes: u64 = change.deletes.iter().flatten().sum();
        let inserts: u64 = change.inserts.iter().sum();
        assert_eq!(
            after.entries.map(|entries| entries + deletes),
            before.entries.map(|entries| entries + inserts)
        );
    }
    true
}
