//! Scenarios of the backtest: any text is refused with an error, or can be simulated.

#![no_main]

use conntrack_user::backtest::{bounds, scenario::Scenario, simulator::Simulator};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(scenario) = Scenario::parse(text) else { return };
    let Some(scenario) = bounds::shortened(scenario) else { return };
    // A panic is how a fuzz target reports that `parse` let through what cannot be simulated.
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
});
