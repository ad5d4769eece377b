//! What clients may take.

use std::time::Duration;

/// What clients may take of the server, all of them together and each connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are open at the same time. One more is taken all the same, and an older one closed for it: one
    /// of a client that has more than a quarter of them, if there is one; rather one whose answer is not read than one that has
    /// not sent its request, rather that than an idle one, rather an idle one than one that is being answered,
    /// rather one of whom has many, rather one that has been so for long.
    pub connections: usize,
    /// Bytes that the kernel holds of answers that clients have not read yet, of all connections together.
    pub send_bytes: usize,
    /// Bytes of an answer that make it a large one.
    pub large_bytes: usize,
    /// Large answers that are being sent at the same time. For one more, one of them is closed: rather one of whom has
    /// many, rather one that has been sent for long.
    pub large_answers: usize,
    /// Bytes of a request's line and header fields together.
    pub head_bytes: usize,
    /// Time for them, from their first byte on; for the first request from when TLS is there.
    pub head_time: Duration,
    /// Time for the TLS handshake.
    pub handshake_time: Duration,
    /// Time from a request to the last byte of its answer, which a client may be slow to read. Of requests that are sent
    /// at once: from the first whose answer is not sent.
    pub answer_time: Duration,
    /// Time in which a client takes 8 KiB of an answer that waits for it.
    pub stall_time: Duration,
    /// Time without a request between two.
    pub idle_time: Duration,
    /// Requests on one connection.
    pub requests: u64,
}

impl Limits {
    /// Value of `SO_SNDBUF` for each connection. The kernel takes twice as much, for its own structures, and a packet
    /// of up to 64 KiB beyond.
    pub(super) fn send_buffer(&self) -> usize {
        const PACKET: usize = 64 << 10;
        const LEAST: usize = 16 << 10;
        let each = self.send_bytes / self.connections.max(1);
        (each.saturating_sub(PACKET) / 2).max(LEAST)
    }
}

impl Default for Limits {
    /// For a few scrapers that come every 15 to 60 s and keep their connection, and a few people.
    fn default() -> Self {
        Self {
            connections: 128,
            send_bytes: 32_000_000,
            large_bytes: 256 << 10,
            large_answers: 16,
            head_bytes: 8192,
            head_time: Duration::from_secs(5),
            handshake_time: Duration::from_secs(5),
            answer_time: Duration::from_secs(30),
            stall_time: Duration::from_secs(10),
            idle_time: Duration::from_secs(75),
            requests: 10_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn send_buffers_keep_to_their_sum() {
        let limits = Limits::default();
        let most = (2 * limits.send_buffer() + (64 << 10)) * limits.connections;
        assert!(most <= 32_000_000, "{most}");
        assert!(
            limits.send_buffer() >= 64 << 10,
            "{}: too little for a fast network",
            limits.send_buffer()
        );
        let many = Limits { connections: 1 << 20, ..limits };
        assert_eq!(many.send_buffer(), 16 << 10);
        assert!(Limits { connections: 0, ..limits }.send_buffer() > limits.send_buffer());
    }
}
