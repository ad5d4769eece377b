//! What a monitor that runs for years does, besides the model. But for [`alerts`], [`feed`], [`log`], [`notify`] and [`process`]
//! pure: time comes with the data.

pub mod alerts;
pub mod feed;
pub mod flight;
pub mod history;
pub mod latest;
pub mod log;
pub mod notify;
pub mod process;
pub mod shared;
pub mod warning;
