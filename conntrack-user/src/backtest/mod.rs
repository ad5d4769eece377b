//! How good forecasts are: forecasters look at tables that are simulated or were recorded, and what they said is compared
//! with what came. `docs/backtest.md` says how to read the scores.

pub mod alarm;
pub mod baselines;
pub mod bounds;
pub mod class;
pub mod collector;
#[cfg(test)]
mod corpus_tests;
mod draw;
pub mod drawn;
pub mod estimate;
#[cfg(test)]
mod fixtures_tests;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod law;
#[cfg(test)]
mod laws_tests;
pub mod measured;
mod memory;
pub mod recorded;
pub mod registry;
pub mod said;
pub mod scenario;
pub mod score;
pub mod simulator;
#[cfg(test)]
mod simulator_tests;
mod stream;
pub mod trial;
pub mod truth;
pub mod verdict;
