//! What a monitor that runs for years does, besides the model. But for [`alerts`], [`feed`], [`log`], [`notify`] and [`process`]
//! pure: time comes with the data.

pub mod alerts;
pub mod coverage;
pub mod feed;
pub mod flight;
pub mod high_water;
pub mod history;
mod kernel_sum;
pub mod latest;
pub mod lifecycle;
pub mod log;
pub mod notify;
pub mod process;
pub mod shared;
pub mod warning;
