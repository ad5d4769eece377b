//! What the numbers mean. Pure: no clock, no input or output; time comes in with the data.

pub mod counts;
