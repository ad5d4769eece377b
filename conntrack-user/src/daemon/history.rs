//! The last minutes of each table, second by second, for whoever opens the page: bounded, whatever traffic does.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    forecast::outlook::State,
    model::{
        reading::NetnsId,
        tick::{Limit, NetnsTick, Tick},
    },
};

/// Seconds that are kept.
pub const SECONDS: usize = 600;
/// Namespaces that are kept, those that came first: with [`SECONDS`], 3.1 MB at the most.
pub const NETNS: usize = 64;

/// The last minutes.
#[derive(Debug, Clone, Default)]
pub struct History {
    netns: BTreeMap<NetnsId, Series>,
    /// Counts changes.
    version: u64,
}

/// One namespace's.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Its name, where one is known.
    pub name: Option<String>,
    /// Its limit, as last told.
    pub limit: Option<Limit>,
    /// In the order of time; at most [`SECONDS`]. Where nothing happened there are none.
    pub points: VecDeque<Point>,
    /// What is not a whole second yet.
    open: Option<Open>,
}

/// One second, or one tick where those are longer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When it ended: nanoseconds since 1970 UTC.
    pub time_ns: u64,
    /// Entries at its end; at most so many where the start is still being counted.
    pub entries: Option<u32>,
    /// Inserts a second.
    pub insert_rate: Option<f32>,
    /// The highest rate of inserts by packets within about 10 ms.
    pub insert_rate_peak: Option<f32>,
    /// Deletes a second.
    pub delete_rate: Option<f32>,
    /// Packets dropped because the table was full; none where nobody counts them.
    pub table_full_drops: Option<u32>,
    /// Entries evicted; none where nobody counts them.
    pub early_drops: Option<u32>,
    /// Seconds to full as told at its end, the median; 0: it was full; infinite: not within three hours.
    pub seconds_to_full_p50: Option<f32>,
    /// Entries in 60 s, as forecast at its end, whatever the limit: 10, 50 and 90 %; none while it was full.
    pub ahead: Option<[f32; 3]>,
}

/// Ticks that are being made one point.
#[derive(Debug, Clone, Copy)]
struct Open {
    since_ns: u64,
    nanoseconds: u64,
    inserts: Option<f64>,
    deletes: Option<f64>,
    peak: Option<f64>,
    drops: Option<u64>,
    early_drops: Option<u64>,
}

/// Shortest time of a point. A tick is a little shorter or longer than its interval.
const POINT_NS: u64 = 950_000_000;

impl History {
    /// Takes in a tick.
    pub fn take(&mut self, tick: &Tick) {
        self.version += 1;
        for netns in &tick.netns {
            if netns.ended {
                self.netns.remove(&netns.id);
            } else if self.netns.len() < NETNS || self.netns.contains_key(&netns.id) {
                self.netns.entry(netns.id).or_default().take(tick, netns);
            }
        }
    }

    /// Another source counts: what was before is of no use for it.
    pub fn clear(&mut self) {
        self.version += 1;
        self.netns.clear();
    }

    /// Version: it changes with each tick. The same version means the same answer.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Points of all namespaces that are younger than `since_ns` (nanoseconds since 1970 UTC).
    #[must_use]
    pub fn points_since(&self, since_ns: u64) -> usize {
        self.netns.values().map(|series| series.points.len() - series.first(since_ns)).sum()
    }

    /// Each namespace with its points that are younger than `since_ns` (nanoseconds since 1970 UTC).
    pub fn since(
        &self,
        since_ns: u64,
    ) -> impl Iterator<Item = (NetnsId, &Series, impl Iterator<Item = &Point>)> {
        self.netns
            .iter()
            .map(move |(id, series)| (*id, series, series.points.range(series.first(since_ns)..)))
    }
}

impl Series {
    /// Index of the first point that is younger than `since_ns`.
    fn first(&self, since_ns: u64) -> usize {
        self.points.partition_point(|point| point.time_ns <= since_ns)
    }

    fn take(&mut self, tick: &Tick, netns: &NetnsTick) {
        self.name = netns.name.as_ref().map(|name| name.text.clone());
        self.limit = Some(netns.limit);
        let interval_ns = tick.interval_ns.unwrap_or(0);
        let open = self.open.get_or_insert(Open {
            since_ns: tick.time.monotonic_ns.saturating_sub(interval_ns),
            nanoseconds: 0,
            inserts: Some(0.0),
            deletes: Some(0.0),
            peak: None,
            drops: Some(0),
            early_drops: Some(0),
        });
        let seconds = interval_ns as f64 / 1e9;
        let plus = |sum: Option<f64>, rate: Option<f64>| Some(sum? + rate? * seconds);
        open.nanoseconds += interval_ns;
        open.inserts = plus(open.inserts, netns.rates.insert);
        open.deletes = plus(open.deletes, netns.rates.delete);
        let peaks = [open.peak, netns.insert_rate_peak()];
        open.peak = peaks.into_iter().flatten().reduce(f64::max);
        let counted = &tick.counted;
        let drops = netns.change.filter(|_| counted.early_drops);
        let early_drops = drops.filter(|_| counted.deletes);
        open.drops = open.drops.zip(drops).map(|(sum, tick)| sum + tick.table_full_drops);
        open.early_drops =
            open.early_drops.zip(early_drops).map(|(sum, tick)| sum + tick.early_drops);
        if tick.time.monotonic_ns.saturating_sub(open.since_ns) < POINT_NS {
            return;
        }
        let rate = |sum: Option<f64>| {
            sum.filter(|_| open.nanoseconds > 0)
                .map(|sum| (sum * 1e9 / open.nanoseconds as f64) as f32)
        };
        let full = match netns.outlook.state {
            State::Full => Some(0.0),
            _ => netns.outlook.seconds_to_full.map(|full| full.median.unwrap_or(f64::INFINITY)),
        };
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let point = Point {
            time_ns: tick.time.unix_ns,
            entries: netns.entries.at_most().map(small),
            insert_rate: rate(open.inserts),
            insert_rate_peak: open.peak.map(|peak| peak as f32),
            delete_rate: rate(open.deletes),
            table_full_drops: open.drops.map(small),
            early_drops: open.early_drops.map(small),
            seconds_to_full_p50: full.map(|seconds| seconds as f32),
            ahead: netns
                .outlook
                .entries_in_60s
                .map(|a| [a.low, a.median, a.high].map(|n| n as f32)),
        };
        self.open = None;
        // The clock was set back: what is later by it cannot be told from what is now.
        while self.points.back().is_some_and(|last| last.time_ns >= point.time_ns) {
            self.points.pop_back();
        }
        if self.points.len() == SECONDS {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        forecast::outlook::{Outlook, Quantiles},
        model::{counts::Totals, reading::Time, tick::Rates},
    };

    const SECOND: u64 = 1_000_000_000;

    fn tick(now_ns: u64, interval_ns: u64, netns: Vec<NetnsTick>) -> Tick {
        let time = Time { monotonic_ns: now_ns, unix_ns: 1_000 * SECOND + now_ns };
        Tick { time, interval_ns: Some(interval_ns), ..Tick::example(netns) }
    }

    fn rated(inode: u64, entries: u64, insert: Option<f64>) -> NetnsTick {
        let change = Some(Totals { table_full_drops: 2, early_drops: 1, ..Totals::default() });
        let rates = Rates { insert, ..Rates::default() };
        NetnsTick { rates, change, ..NetnsTick::example(inode, entries, 1000) }
    }

    fn points(history: &History, since_ns: u64) -> Vec<Vec<Point>> {
        history.since(since_ns).map(|(_, _, points)| points.copied().collect()).collect()
    }

    #[test]
    fn short_ticks_are_made_seconds() {
        let mut history = History::default();
        for tenth in 1..=20_u32 {
            let rate = if tenth <= 10 { 100.0 } else { f64::from(tenth) * 10.0 };
            let netns = rated(1, tenth.into(), Some(rate));
            history.take(&tick(u64::from(tenth) * SECOND / 10, SECOND / 10, vec![netns]));
        }
        let all = points(&history, 0);
        let [first, second] = all[0][..] else { panic!("{all:?}") };
        assert_eq!((first.entries, second.entries), (Some(10), Some(20)));
        assert_eq!((first.insert_rate, second.insert_rate), (Some(100.0), Some(155.0)));
        assert_eq!((first.table_full_drops, first.early_drops), (Some(20), Some(10)));
        assert_eq!((first.delete_rate, first.seconds_to_full_p50), (None, None));
        assert_eq!(points(&history, first.time_ns), [vec![second]]);
    }

    #[test]
    fn losses_that_nobody_counts_are_not_nothing() {
        let mut history = History::default();
        let polled = NetnsTick { change: None, ..rated(1, 5, None) };
        history.take(&tick(100 * SECOND, SECOND, vec![polled]));
        let point = points(&history, 0)[0][0];
        assert_eq!((point.table_full_drops, point.early_drops), (None, None));
    }

    #[test]
    fn nothing_is_ahead_of_a_full_table() {
        let mut history = History::default();
        let ahead = Quantiles { low: 800.0, median: 1200.0, high: 3800.0 };
        let filling = Outlook {
            entries_in_60s: Some(ahead),
            seconds_to_full: Some(Quantiles { low: None, median: None, high: None }),
            ..Outlook::unknown(State::Filling, "")
        };
        let full = Outlook::unknown(State::Full, "");
        for (second, outlook) in (1..).zip([filling, full]) {
            let netns = NetnsTick { outlook, ..rated(1, 700, None) };
            history.take(&tick(second * SECOND, SECOND, vec![netns]));
        }
        let all = points(&history, 0);
        let [first, second] = all[0][..] else { panic!("{all:?}") };
        assert_eq!(first.ahead, Some([800.0, 1200.0, 3800.0]));
        assert_eq!(first.seconds_to_full_p50, Some(f32::INFINITY));
        assert_eq!((second.ahead, second.seconds_to_full_p50), (None, Some(0.0)));
    }

    #[test]
    fn it_is_bounded() {
        let mut history = History::default();
        for second in 1..=700 {
            let netns = (0..100).map(|inode| rated(inode, second, None)).collect();
            history.take(&tick(second * SECOND, SECOND, netns));
        }
        let all = points(&history, 0);
        assert_eq!((all.len(), all[0].len()), (NETNS, SECONDS));
        assert_eq!(all[0][0].entries, Some(101));
        assert!(size_of::<Point>() * NETNS * SECONDS < 3_100_000, "{}", size_of::<Point>());
    }

    #[test]
    fn one_that_ended_is_gone_and_a_clock_may_be_set_back() {
        let mut history = History::default();
        history.take(&tick(100 * SECOND, SECOND, vec![rated(1, 5, None), rated(2, 6, None)]));
        history.take(&tick(
            101 * SECOND,
            SECOND,
            vec![NetnsTick { ended: true, ..rated(2, 6, None) }],
        ));
        assert_eq!(points(&history, 0).len(), 1);
        let mut back = tick(102 * SECOND, SECOND, vec![rated(1, 7, None)]);
        back.time.unix_ns -= 500 * SECOND;
        history.take(&back);
        let entries: Vec<_> = points(&history, 0)[0].iter().map(|point| point.entries).collect();
        assert_eq!(entries, [Some(7)]);
    }
}
