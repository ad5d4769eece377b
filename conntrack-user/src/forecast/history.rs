//! Entries of one protocol by the time of their insert: how many came, and how many of them are alive.
//!
//! Recent times are told apart finely, earlier ones coarsely: neighbouring spans are joined as long as they
//! together are short beside their age. So there are at most some 110 spans for any length of time.

use std::collections::VecDeque;

/// Kinds of entries by what becomes of them: those that stay unanswered, and all others.
pub(super) const KINDS: usize = 2;
pub(super) const UNREPLIED: usize = 0;
pub(super) const REPLIED: usize = 1;

/// A span is at least so long, in seconds.
const SHORTEST: f64 = 0.95;
/// Two spans are joined when they are together not longer than this part of their age.
const FINENESS: f64 = 0.12;
/// Earlier ones are joined whatever they are.
const SPANS: usize = 112;

/// What came within a span of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span {
    /// Seconds on the source's clock.
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) inserts: f64,
    /// Whether the inserts were counted, and not supposed.
    pub(super) is_counted: bool,
    pub(super) alive: [f64; KINDS],
    /// How many were when ages were last learnt from.
    pub(super) before: [f64; KINDS],
}

impl Span {
    /// What has just come.
    pub(super) fn new(
        from: f64,
        to: f64,
        inserts: f64,
        is_counted: bool,
        alive: [f64; KINDS],
    ) -> Self {
        Self { from, to, inserts, is_counted, alive, before: alive }
    }

    /// So many times as many are alive: not because they died.
    pub(super) fn scale(&mut self, kind: usize, by: f64) {
        self.alive[kind] *= by;
        self.before[kind] *= by;
    }

    /// So many were of another kind than supposed.
    pub(super) fn turn(&mut self, from: usize, entries: f64) {
        let to = 1 - from;
        self.alive[from] -= entries;
        self.alive[to] += entries;
        let before = entries.min(self.before[from]);
        self.before[from] -= before;
        self.before[to] += before;
    }

    pub(super) fn seconds(&self) -> f64 {
        self.to - self.from
    }

    /// Mean age of its entries.
    pub(super) fn age(&self, now: f64) -> f64 {
        (now - 0.5 * (self.from + self.to)).max(0.0)
    }

    /// Takes out `deaths` of a kind, then of the others: they were of another kind than supposed. Returns for how many
    /// there was no room.
    pub(super) fn take(&mut self, kind: usize, deaths: f64) -> f64 {
        let own = deaths.min(self.alive[kind]);
        self.alive[kind] -= own;
        let other = (deaths - own).min(self.alive[1 - kind]);
        self.alive[1 - kind] -= other;
        let before = other.min(self.before[1 - kind]);
        self.before[1 - kind] -= before;
        self.before[kind] += before;
        deaths - own - other
    }

    fn joined(&self, later: &Self) -> Self {
        Self {
            from: self.from,
            to: later.to,
            inserts: self.inserts + later.inserts,
            is_counted: self.is_counted && later.is_counted,
            alive: [self.alive[0] + later.alive[0], self.alive[1] + later.alive[1]],
            before: [self.before[0] + later.before[0], self.before[1] + later.before[1]],
        }
    }
}

/// The spans, the earliest first.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    spans: VecDeque<Span>,
}

impl History {
    pub(super) fn spans(&self) -> impl DoubleEndedIterator<Item = &Span> + Clone {
        self.spans.iter()
    }

    pub(super) fn spans_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut Span> {
        self.spans.iter_mut()
    }

    /// The place of the span that a time lies in.
    pub(super) fn place(&self, time: f64) -> Option<usize> {
        let at = self.spans.partition_point(|span| span.to < time);
        self.spans.get(at).filter(|span| span.from <= time).map(|_| at)
    }

    /// Entries alive, by kind.
    pub(super) fn alive(&self) -> [f64; KINDS] {
        self.spans
            .iter()
            .fold([0.0; KINDS], |sum, span| [sum[0] + span.alive[0], sum[1] + span.alive[1]])
    }

    /// Takes in the latest span. A short one is added to the one before while that is short, too.
    pub(super) fn push(&mut self, span: Span) {
        match self.spans.back_mut() {
            Some(last)
                if last.seconds() + 1e-6 < SHORTEST && last.is_counted == span.is_counted =>
            {
                *last = last.joined(&span);
            }
            _ => {
                self.spans.push_back(span);
                self.join(span.to);
            }
        }
    }

    fn join(&mut self, now: f64) {
        let mut at = 0;
        while at + 1 < self.spans.len() {
            let (one, next) = (self.spans[at], self.spans[at + 1]);
            let is_fine = next.to - one.from > FINENESS * (now - next.to);
            if (is_fine || one.is_counted != next.is_counted) && self.spans.len() <= SPANS {
                at += 1;
                continue;
            }
            self.spans[at] = one.joined(&next);
            self.spans.remove(at + 1);
            at += 1;
        }
    }

    /// When the first span begins.
    pub(super) fn begin(&self) -> Option<f64> {
        Some(self.spans.front()?.from)
    }

    /// Adds spans that end where the first one begins.
    pub(super) fn put_before(&mut self, spans: Vec<Span>) {
        for span in spans.into_iter().rev() {
            self.spans.push_front(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_and_spans_stay_few() {
        let mut history = History::default();
        for tick in 0..72_000 {
            let from = f64::from(tick) * 0.1;
            history.push(Span::new(from, from + 0.1, 3.0, true, [1.0, 2.0]));
        }
        let spans: Vec<&Span> = history.spans().collect();
        assert!(spans.len() <= SPANS, "{}", spans.len());
        assert!(spans.windows(2).all(|pair| (pair[0].to - pair[1].from).abs() < 1e-6));
        assert_eq!(spans.iter().map(|span| span.inserts).sum::<f64>(), 216_000.0);
        assert_eq!(history.alive(), [72_000.0, 144_000.0]);
        // The last seconds are told apart.
        assert!(spans.iter().rev().take(8).all(|span| span.seconds() < 1.2));
    }
}
