//! What the numbers mean. Pure: no clock, no input or output; time comes in with the data.

pub mod baseline;
pub mod class;
pub mod counts;
pub mod detail;
pub mod estimate;
pub mod evictable;
pub mod failed_inserts;
pub mod flow;
pub mod flow_summary;
pub mod flows;
pub mod forecasts;
pub mod full;
pub mod lifetimes;
pub mod live_state;
pub mod monitor;
pub mod name;
pub mod probe;
pub mod random;
pub mod reading;
mod recent;
mod reconcile;
pub mod sampling;
pub mod tick;
pub mod unheard;
pub mod windows;
