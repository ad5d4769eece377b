//! Which forecasters there are to be tried.

use anyhow::{Result, bail};

use super::{
    alarm::Rule,
    baselines::{growth::NetGrowth, holt::Holt, predict_linear::PredictLinear, silent::Silent},
};
use crate::forecast::{Forecaster, table::Table};

/// A forecaster to be tried.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// When it gives the alarm.
    pub rule: Rule,
    /// Makes one that knows nothing yet.
    pub make: fn() -> Box<dyn Forecaster>,
}

/// All of them, in the order in which they are shown; one line a forecaster.
pub const ALL: &[Entry] = &[
    entry("ctmon", Rule::Median, || Box::new(Table::default())),
    entry("predict-linear", Rule::For(60.0), || Box::new(PredictLinear::usual())),
    entry("predict-linear-1m", Rule::For(60.0), || Box::new(PredictLinear::fast())),
    entry("holt", Rule::Median, || Box::new(Holt::default())),
    entry("growth", Rule::Median, || Box::new(NetGrowth::default())),
    entry("static-75", Rule::Level(0.75), || Box::new(Silent)),
    entry("static-80", Rule::Level(0.80), || Box::new(Silent)),
    entry("static-90", Rule::Level(0.90), || Box::new(Silent)),
    entry("static-95", Rule::Level(0.95), || Box::new(Silent)),
];

/// The name of the one that knows more than any forecaster can; it is always judged.
pub const CLAIRVOYANT: &str = "clairvoyant";

/// Name of the forecaster that the verdict is on.
pub const OURS: &str = "ctmon";

const fn entry(name: &'static str, rule: Rule, make: fn() -> Box<dyn Forecaster>) -> Entry {
    Entry { name, rule, make }
}

/// Those with the given names; all where none is given.
pub fn named(names: &[String]) -> Result<Vec<Entry>> {
    if names.is_empty() {
        return Ok(ALL.to_vec());
    }
    let find = |name: &String| {
        let Some(entry) = ALL.iter().find(|entry| entry.name == name) else {
            let known: Vec<&str> = ALL.iter().map(|entry| entry.name).collect();
            bail!("there is no forecaster {name}; there are {}", known.join(", "));
        };
        Ok(*entry)
    };
    names.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_on_a_forecaster_that_exists() {
        assert!(named(&[OURS.to_owned()]).is_ok());
        assert!(named(&["oracle".to_owned()]).is_err());
    }
}
