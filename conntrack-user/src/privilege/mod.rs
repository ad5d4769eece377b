//! Two halves of one program: what faces the network or parses what others wrote has no capabilities; a small
//! [`helper`] process, started before any other thread, keeps those that attaching the kernel programs and entering
//! network namespaces take. It answers a fixed list of requests ([`message`]) with descriptors and plain data, and
//! ends with whom it was started for.

pub mod account;
mod capabilities;
mod channel;
pub mod dumps;
mod ended;
mod filter;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod helper;
pub mod inherited;
pub mod message;
mod pace;
mod remote;
pub mod sandbox;

pub use account::Account;
pub use ended::Ended;
pub use helper::start;
pub use remote::Remote;
