//! What clients may take.

use std::time::Duration;

/// What clients may take of the server, all of them together and each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are open at the same time. One more is taken all the same, and an older one closed for it:
    /// rather one that has not sent its request than an idle one, rather an idle one than one that is being answered,
    /// rather one of whom has many, rather one that has been so for long.
    pub connections: usize,
    /// Bytes of a request's line and header fields together.
    pub head_bytes: usize,
    /// Time for them, from their first byte on; for the first request from when TLS is there.
    pub head_time: Duration,
    /// Time for the TLS handshake.
    pub handshake_time: Duration,
    /// Time from a request to the last byte of its answer, which a client may be slow to read.
    pub answer_time: Duration,
    /// Time without a request between two.
    pub idle_time: Duration,
    /// Requests on one connection.
    pub requests: u64,
}

impl Default for Limits {
    /// For a few scrapers that come every 15 to 60 s and keep their connection, and a few people.
    fn default() -> Self {
        Self {
            connections: 128,
            head_bytes: 8192,
            head_time: Duration::from_secs(5),
            handshake_time: Duration::from_secs(5),
            answer_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(75),
            requests: 10_000,
        }
    }
}
