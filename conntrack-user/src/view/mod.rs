//! Writing down what the model says.

pub mod backtest;
pub mod causes;
pub mod coverage;
pub mod doctor;
pub mod export;
pub mod flow;
pub mod flows;
pub mod forecast;
pub mod full;
pub mod history;
pub mod in_flight;
pub mod json;
pub mod metrics;
pub mod names;
pub mod page;
pub mod plugin;
pub mod status;
pub mod style;
pub mod text;
pub mod units;
pub mod warning;
