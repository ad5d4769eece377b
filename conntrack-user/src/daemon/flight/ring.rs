//! The last minutes, packed as a recording is: segments, of which the oldest is given up first.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    model::reading::Time,
    source::{
        item::Item,
        recording::{
            encoder::{Encoder, Frame, PLACE_BYTES, Packing},
            writer::WriteError,
        },
    },
};

/// How much is kept, whichever is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory.
    pub bytes: usize,
    /// Nanoseconds; up to a segment more are there.
    pub ns: u64,
}

/// Time after which a segment is complete, at the most, and as a share of all.
const SEGMENT_NS: u64 = 10_000_000_000;
const SEGMENTS_OF_TIME: u64 = 10;
/// Share of the memory after which it is complete before its time.
const SEGMENTS_OF_MEMORY: usize = 8;
/// Level of zstd, and what its tables take (`ZSTD_estimateCStreamSize`): higher levels take more than they save.
const LEVEL: u32 = 1;
const ZSTD_BYTES: usize = 1_400_000;
/// Entries that are told apart from each other, at the most: about as many as the model keeps.
const ENTRIES: usize = 114_688;
/// Bytes that a chunk and a segment take besides what is in them, at the most.
const CHUNK_BYTES: usize = 128;

/// The last minutes.
pub struct Ring {
    limits: Limits,
    packing: Packing,
    kernel: String,
    closed: VecDeque<Segment>,
    open: Option<Segment>,
    encoder: Encoder,
    /// The time of the last item.
    latest: Time,
}

/// A part of a recording that can be read without those before it.
struct Segment {
    since: Time,
    /// What has to be told before it.
    head: Vec<Bytes>,
    chunks: Vec<Bytes>,
    bytes: usize,
}

/// A recording that is shared with the ring: it takes memory of its own only for what the ring gives up meanwhile.
#[derive(Debug, Clone)]
pub struct Snapshot {
    parts: Vec<Bytes>,
    /// When it ends.
    pub until: Time,
}

impl Snapshot {
    /// The recording, part after part.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(|part| &part[..])
    }

    /// Bytes that it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.parts().map(|part| part.len() as u64).sum()
    }
}

impl Segment {
    fn new(since: Time) -> Self {
        Self { since, head: vec![], chunks: vec![], bytes: CHUNK_BYTES }
    }

    /// Counts a chunk, without the room that it was given in advance.
    fn count(&mut self, chunk: Vec<u8>) -> Bytes {
        let chunk = Bytes::from(chunk.into_boxed_slice());
        self.bytes += chunk.len() + CHUNK_BYTES;
        chunk
    }

    fn push(&mut self, chunk: Vec<u8>) {
        let chunk = self.count(chunk);
        self.chunks.push(chunk);
    }
}

impl Ring {
    /// Nothing recorded yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let places = 1 << (limits.bytes / 4 / PLACE_BYTES).max(8).ilog2();
        let packing = Packing {
            chunk_ns: SEGMENT_NS.min(limits.ns / SEGMENTS_OF_TIME),
            // A reader refuses chunks that are much larger.
            chunk_bytes: (limits.bytes / 16).min(Packing::FILE.chunk_bytes),
            level: LEVEL,
            entries: ENTRIES.min(places / 8 * 7),
        };
        Self::with(limits, packing)
    }

    fn with(limits: Limits, packing: Packing) -> Self {
        Self {
            limits,
            packing,
            kernel: String::new(),
            closed: VecDeque::new(),
            open: None,
            encoder: Encoder::new(packing),
            latest: Time::default(),
        }
    }

    /// Takes in the next item. `before`: what has to be told before it to who has heard nothing yet.
    ///
    /// # Errors
    /// When it cannot be packed; then nothing is recorded any more.
    pub fn take(
        &mut self,
        item: &Item,
        before: impl FnOnce() -> Vec<Item>,
    ) -> Result<(), WriteError> {
        let outcome = self.put(item, before);
        if outcome.is_err() {
            self.clear();
        }
        self.shrink();
        outcome
    }

    fn put(&mut self, item: &Item, before: impl FnOnce() -> Vec<Item>) -> Result<(), WriteError> {
        // Events come nearly in the order of time.
        let is_later = |moment: &Time| moment.monotonic_ns > self.latest.monotonic_ns;
        self.latest = moment(item).filter(is_later).unwrap_or(self.latest);
        if self.is_due() {
            self.begin(&before())?;
        }
        if let Item::Start(start) = item {
            self.kernel.clone_from(&start.origin.kernel_release);
        }
        let complete = self.encoder.take(item)?;
        self.push(complete);
        Ok(())
    }

    fn push(&mut self, chunk: Option<Vec<u8>>) {
        if let (Some(chunk), Some(open)) = (chunk, &mut self.open) {
            open.push(chunk);
        }
    }

    /// Whether a segment is to begin.
    fn is_due(&self) -> bool {
        self.open.as_ref().is_none_or(|open| {
            let age_ns = self.latest.monotonic_ns.saturating_sub(open.since.monotonic_ns);
            age_ns >= self.packing.chunk_ns || open.bytes >= self.limits.bytes / SEGMENTS_OF_MEMORY
        })
    }

    fn begin(&mut self, before: &[Item]) -> Result<(), WriteError> {
        let rest = self.encoder.begin_part()?;
        self.push(rest);
        self.closed.extend(self.open.take());
        let mut segment = Segment::new(self.latest);
        let mut chunks = vec![];
        for item in before {
            chunks.extend(self.encoder.take(item)?);
        }
        chunks.extend(self.encoder.flush()?);
        for chunk in chunks {
            let chunk = segment.count(chunk);
            segment.head.push(chunk);
        }
        self.open = Some(segment);
        Ok(())
    }

    /// Gives up what is too old or too much.
    fn shrink(&mut self) {
        let is_old = |next: &Segment| {
            self.latest.monotonic_ns.saturating_sub(next.since.monotonic_ns) >= self.limits.ns
        };
        let segments = self.closed.iter().chain(&self.open);
        let old = segments.skip(1).take_while(|next| is_old(next)).count();
        self.closed.drain(..old.min(self.closed.len()));
        while self.bytes() > self.limits.bytes {
            if self.closed.pop_front().is_none() {
                return self.clear();
            }
        }
    }

    fn clear(&mut self) {
        self.closed.clear();
        self.open = None;
        self.encoder = Encoder::new(self.packing);
    }

    /// Whether nothing is recorded.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.open.is_none()
    }

    /// Bytes of memory in use: all segments, the chunk that is being filled as if it could not be packed, what packs it,
    /// and the entries that are told apart.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let segments = self.closed.iter().chain(&self.open).map(|segment| segment.bytes);
        let zstd = if self.is_empty() { 0 } else { ZSTD_BYTES };
        segments.sum::<usize>() + self.encoder.bytes() + zstd
    }

    /// From when to when it is recorded; none when nothing is.
    #[must_use]
    pub fn span(&self) -> Option<(Time, Time)> {
        let oldest = self.closed.front().or(self.open.as_ref())?;
        Some((oldest.since, self.latest))
    }

    /// What is recorded up to now; none when nothing is. The chunk that is being filled is closed for it if it is as old
    /// as `young_ns`, else left out: many small ones take more room.
    pub fn snapshot(&mut self, young_ns: u64) -> Option<Snapshot> {
        let pending_ns = self.encoder.pending_ns(self.latest.unix_ns);
        if pending_ns.is_some_and(|ns| ns >= young_ns) {
            match self.encoder.flush() {
                Ok(chunk) => self.push(chunk),
                Err(_) => self.clear(),
            }
        }
        let oldest = self.closed.front().or(self.open.as_ref())?;
        let frame = Frame::new(&self.kernel).ok()?;
        let mut parts = vec![Bytes::from(frame.head)];
        parts.extend(oldest.head.iter().cloned());
        parts.extend(self.closed.iter().chain(&self.open).flat_map(|one| one.chunks.clone()));
        parts.push(Bytes::from(frame.end));
        Some(Snapshot { parts, until: self.latest })
    }
}

/// When an item was told, as far as it says.
fn moment(item: &Item) -> Option<Time> {
    let Item::Flows(flows) = item else { return item.time() };
    let flow = &flows.events.first()?.flow;
    Some(Time { monotonic_ns: flow.time_ns, unix_ns: flows.unix_ns(flow) })
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
