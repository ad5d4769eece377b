//! A real table, as it was measured, and how well the simulated one follows it.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::{
    class::Class,
    law::Law,
    scenario::{Arrivals, Scenario, SetTimeouts},
    simulator::Simulator,
};

/// What was measured on a real kernel, from shortly after a pass of its garbage collector on. One JSON object.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// `uname -r`
    pub kernel: String,
    /// Its jiffies a second.
    pub hz: u32,
    /// Buckets of its hash table.
    pub buckets: u32,
    /// Seconds from one look to the next.
    pub tick: f64,
    /// Seconds since the collector's pass, at the first look.
    pub collected: f64,
    /// Who came.
    pub arrivals: Vec<Came>,
    /// `nf_conntrack_count` at each look.
    pub entries: Vec<u64>,
}

/// Entries that came.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Came {
    /// What they are.
    pub class: Class,
    /// Seconds that they stay after their last packet.
    pub timeout: f64,
    /// How many came between each two looks.
    pub came: Vec<u32>,
}

/// How far the simulated level is from the measured one, as part of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The mean, without regard to the sign.
    pub mean: f64,
    /// The most. A pass of the collector that is simulated between the looks before or after those between which it was
    /// is no difference.
    pub most: f64,
    /// That of the means of both levels.
    pub of_means: f64,
}

impl Measured {
    /// The same, to be simulated: of each tick exactly what came in it.
    #[must_use]
    pub fn scenario(&self) -> Scenario {
        let arrivals = self.arrivals.iter().map(|came| {
            let rate = came.came.iter().zip(1..).flat_map(|(number, at)| {
                let rate = f64::from(*number) / self.tick;
                [(f64::from(at - 1) * self.tick, rate), (f64::from(at) * self.tick, rate)]
            });
            // The first ticks stand for those before.
            let first = &came.came[..came.came.len().min((came.timeout / self.tick) as usize)];
            Arrivals {
                class: came.class,
                rate: rate.collect(),
                sine: None,
                dispersion: 0.0,
                active: None::<Law>,
                timeout: Some(came.timeout),
                at_start: Some(first.iter().map(|number| u64::from(*number)).sum()),
            }
        });
        Scenario {
            title: format!("measured on {}", self.kernel),
            imitates: String::new(),
            seconds: (self.entries.len() - 1) as f64 * self.tick,
            tick: self.tick,
            max: 1_000_000,
            buckets: Some(self.buckets),
            hz: self.hz,
            collected: Some(self.collected),
            timeouts: SetTimeouts::default(),
            arrivals: arrivals.collect(),
            events: vec![],
        }
    }

    /// Simulates it.
    ///
    /// # Errors
    /// When numbers are missing or make no sense.
    pub fn compare(&self, seed: u64) -> Result<Difference> {
        let looks = self.entries.len();
        ensure!(looks > 1, "there are no two looks at the table");
        ensure!(
            self.arrivals.iter().all(|came| came.came.len() == looks - 1),
            "arrivals are not those between two looks each"
        );
        let scenario = self.scenario();
        scenario.check()?;
        let run = Simulator::new(scenario)?.run(seed);
        let level = &run.truth.level[..looks];
        let mut difference = Difference { mean: 0.0, most: 0.0, of_means: 0.0 };
        for (at, simulated) in level.iter().enumerate() {
            let off = |of: usize| {
                let measured = self.entries[of];
                simulated.abs_diff(measured) as f64 / measured.max(1) as f64
            };
            difference.mean += off(at) / looks as f64;
            let beside = at.saturating_sub(1)..=(at + 1).min(looks - 1);
            difference.most = difference.most.max(beside.map(off).fold(f64::INFINITY, f64::min));
        }
        let sum = |levels: &[u64]| levels.iter().sum::<u64>() as f64;
        difference.of_means = (sum(level) / sum(&self.entries) - 1.0).abs();
        Ok(difference)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Measured {
        let text = include_str!("../../../tests/fixtures/level-6.12.json");
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_simulator_follows_a_real_kernel() {
        let measured = measured();
        for seed in 0..5 {
            let difference = measured.compare(seed).unwrap();

            let Difference { mean, most, of_means } = difference;
            assert!(mean < 0.03 && most < 0.05 && of_means < 0.02, "{difference:?}");
        }
    }

    #[test]
    fn one_that_does_not_know_the_collector_does_not() {
        let mut measured = measured();
        // With as many buckets nobody meets what has expired.
        measured.buckets = 100_000_000;
        let difference = measured.compare(1).unwrap();
        assert!(difference.mean > 0.05, "{difference:?}");
    }

    #[test]
    fn numbers_that_are_missing_are_told() {
        let mut measured = measured();
        measured.arrivals[0].came.pop();
        assert!(measured.compare(1).is_err());
    }
}
