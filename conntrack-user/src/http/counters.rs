//! What the server counts of itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ::http::StatusCode;

/// Why a connection was closed, or not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// In favour of a newer one, because there were too many.
    Limit,
    /// The TLS handshake failed.
    Handshake,
    /// The TLS handshake took too long.
    HandshakeTime,
    /// The head of a request took too long.
    HeadTime,
    /// The client took too long to read an answer.
    AnswerTime,
    /// No connection could be taken: for want of descriptors or memory.
    Accept,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Limit,
        Self::Handshake,
        Self::HandshakeTime,
        Self::HeadTime,
        Self::AnswerTime,
        Self::Accept,
    ];

    /// As a label's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Limit => "limit",
            Self::Handshake => "tls_handshake",
            Self::HandshakeTime => "tls_handshake_time",
            Self::HeadTime => "head_time",
            Self::AnswerTime => "answer_time",
            Self::Accept => "accept",
        }
    }
}

/// The codes that the server itself answers with, and those that handlers are expected to.
const CODES: [u16; 15] =
    [200, 204, 304, 400, 401, 403, 404, 405, 408, 413, 429, 431, 500, 503, 505];

/// Connections and requests, since the start.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    closed: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    answered: [AtomicU64; CODES.len()],
    others: AtomicU64,
}

impl Counters {
    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        let closed = self.closed.load(Relaxed);
        self.accepted.load(Relaxed).saturating_sub(closed)
    }

    /// Connections that were taken.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Relaxed)
    }

    /// Connections that were refused or closed, by reason.
    #[must_use]
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refused.get(why as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// Requests by the code of their answer; none stands for codes that are not expected. Only those that came.
    pub fn answered(&self) -> impl Iterator<Item = (Option<u16>, u64)> {
        let named = CODES.iter().copied().map(Some).zip(&self.answered);
        let all = named.chain([(None, &self.others)]);
        all.map(|(code, count)| (code, count.load(Relaxed))).filter(|(_, count)| *count > 0)
    }

    pub(super) fn accept(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    pub(super) fn close(&self) {
        self.closed.fetch_add(1, Relaxed);
    }

    pub(super) fn refuse(&self, why: Refusal) {
        if let Some(count) = self.refused.get(why as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn answer(&self, code: StatusCode) {
        let at = CODES.iter().position(|known| *known == code.as_u16());
        let count = at.and_then(|at| self.answered.get(at)).unwrap_or(&self.others);
        count.fetch_add(1, Relaxed);
    }
}
