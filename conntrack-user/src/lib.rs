//! ctmon as a library: [`source`] reads the kernel, [`model`] turns what it reads into counts and
//! rates, [`forecast`] says when a table is full, [`backtest`] how well, [`daemon`] keeps what a service shows and warns of
//! it, [`severity`] says how bad it is, [`view`] writes it down, [`http`] hands it out.

pub mod backtest;
pub mod daemon;
pub mod doctor;
pub mod file;
pub mod forecast;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod http;
pub mod lock;
pub mod model;
pub mod privilege;
pub mod severity;
pub mod source;
pub mod text;
pub mod view;
pub mod vocabulary;
