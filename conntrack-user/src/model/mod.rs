//! What the numbers mean. Pure: no clock, no input or output; time comes in with the data.

pub mod baseline;
pub mod counts;
pub mod flow;
pub mod monitor;
pub mod name;
pub mod probe;
pub mod reading;
pub mod tick;
pub mod windows;
