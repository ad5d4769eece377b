//! What a monitor that runs for years keeps, besides the model: pure, time comes with the data.

pub mod history;
pub mod latest;
pub mod process;
pub mod warning;
