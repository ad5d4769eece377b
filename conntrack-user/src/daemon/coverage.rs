//! Log lines about coverage that changes while the service runs: tables that are not read any more, and tables that are again.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::log::{Level, Logger};
use crate::{
    model::{
        coverage::{Coverage, LISTED_NETNS},
        tick::Tick,
    },
    view::coverage,
};

/// Time for which something has to be as it is before it is logged: a namespace that comes and goes is none that is not
/// read. Three scans.
const SETTLED_NS: u64 = 15_000_000_000;
/// Time between two lines, at least.
const APART_NS: u64 = 60_000_000_000;
/// Reasons in a line, at most.
const REASONS: usize = 4;

/// Something that keeps coverage from being whole: a namespace that is not read, or what may hide others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    /// Namespace that is not read: cookie and inode.
    Netns(Option<u64>, u64),
    /// More namespaces than are listed.
    Many,
    /// Blind spot, by its name.
    BlindSpot(&'static str),
}

/// Gaps of `coverage`.
fn gaps(coverage: &Coverage) -> BTreeSet<Gap> {
    let spots = coverage.blind_spots.iter().map(|spot| Gap::BlindSpot(spot.name()));
    let not_read = coverage.counted + coverage.unread;
    let is_listed = not_read <= LISTED_NETNS as u64;
    let listed = coverage.not_read.iter().filter(|_| is_listed);
    let listed = listed.map(|netns| Gap::Netns(netns.id.cookie, netns.id.inode));
    spots.chain(listed).chain((!is_listed).then_some(Gap::Many)).collect()
}

/// A line of the log: its level, its text and its fields.
type Line = (Level, &'static str, Vec<(&'static str, Value)>);

/// Gaps that are known and since when they are there, or are not.
#[derive(Debug, Default)]
pub(super) struct CoverageLog {
    /// Gaps that were logged, those at the start among them; none before the first tick.
    logged: Option<BTreeSet<Gap>>,
    /// Gaps that differ from those, and since when they do without a break.
    differing: BTreeMap<Gap, u64>,
    /// Set where the last line, or that of the start, is about gaps.
    is_said: bool,
    last_ns: Option<u64>,
}

impl CoverageLog {
    /// A source was opened: what is not read is logged with it.
    pub(super) fn open(&mut self) {
        *self = Self::default();
    }

    /// Takes in a tick, and logs what has changed for good.
    pub(super) fn observe(&mut self, tick: &Tick, logger: &Logger) {
        if let Some((level, text, fields)) = self.change(tick) {
            logger.log(level, text, &fields);
        }
    }

    /// The line about what has changed, where one is due.
    fn change(&mut self, tick: &Tick) -> Option<Line> {
        let coverage = tick.coverage.as_deref()?;
        let now_ns = tick.time.monotonic_ns;
        let current = gaps(coverage);
        let Some(logged) = &mut self.logged else {
            self.is_said = !current.is_empty();
            self.logged = Some(current);
            return None;
        };
        let differ: BTreeSet<Gap> = current.symmetric_difference(logged).cloned().collect();
        self.differing.retain(|gap, _| differ.contains(gap));
        for gap in differ {
            self.differing.entry(gap).or_insert(now_ns);
        }
        let is_settled = |since: &u64| now_ns.saturating_sub(*since) >= SETTLED_NS;
        let is_due = self.last_ns.is_none_or(|last| now_ns.saturating_sub(last) >= APART_NS);
        let settled: Vec<Gap> = self
            .differing
            .iter()
            .filter(|(_, since)| is_settled(since))
            .map(|(gap, _)| gap.clone())
            .collect();
        if !is_due {
            return None;
        }
        let mut is_worse = false;
        for gap in settled {
            self.differing.remove(&gap);
            if !logged.remove(&gap) {
                is_worse = true;
                logged.insert(gap);
            }
        }
        let (level, text) = if is_worse {
            (Level::Warning, "coverage: tables are not read that were, or may be hidden")
        } else if self.is_said && logged.is_empty() && current.is_empty() {
            (Level::Notice, "coverage: all known tables are read")
        } else {
            return None;
        };
        self.is_said = is_worse;
        self.last_ns = Some(now_ns);
        Some((level, text, fields(tick, coverage)))
    }
}

/// Fields of such a line.
#[must_use]
pub fn fields(tick: &Tick, coverage: &Coverage) -> Vec<(&'static str, Value)> {
    let lines = coverage::lines(tick);
    let lines: Vec<&str> = lines.iter().filter_map(|line| line.lines().next()).collect();
    let mut reasons = lines.iter().take(REASONS).copied().collect::<Vec<_>>().join("; ");
    if lines.len() > REASONS {
        reasons.push_str(&format!("; {} more", lines.len() - REASONS));
    }
    vec![
        ("read", json!(coverage.read)),
        ("counted", json!(coverage.counted)),
        ("unread", json!(coverage.unread)),
        ("reason", json!(reasons)),
    ]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        coverage::{BlindSpot, NetnsNotRead, Reason},
        reading::NetnsId,
        tick::NetnsTick,
    };

    const SECOND: u64 = 1_000_000_000;

    fn not_read(inode: u64) -> NetnsNotRead {
        let id = NetnsId { cookie: Some(inode), inode };
        NetnsNotRead { id, name: None, is_counted: false, entries: None, reason: Reason::NoPath }
    }

    fn tick(second: u64, inodes: &[u64]) -> Tick {
        let mut coverage = Coverage { read: 1, ..Coverage::default() };
        inodes.iter().for_each(|inode| coverage.add(not_read(*inode)));
        let mut tick = Tick::example(vec![NetnsTick::example(7, 1, 100)]);
        tick.time.monotonic_ns = second * SECOND;
        tick.coverage = Some(Arc::new(coverage));
        tick
    }

    /// Seconds at which a line is logged, with its level; one tick a second. `inodes`: namespaces unread at a second.
    fn lines(seconds: u64, inodes: impl Fn(u64) -> Vec<u64>) -> Vec<(u64, Level)> {
        let mut log = CoverageLog::default();
        let at = |second| Some((second, log.change(&tick(second, &inodes(second)))?.0));
        (0..seconds).filter_map(at).collect()
    }

    #[test]
    fn a_table_that_stays_unread_is_logged_once_and_again_when_it_is_read() {
        use Level::{Notice, Warning};
        assert_eq!(lines(300, |_| vec![]), []);
        // That of the start was said with the source.
        assert_eq!(lines(300, |_| vec![5]), []);
        assert_eq!(
            lines(300, |second| if second < 10 { vec![] } else { vec![5] }),
            [(25, Warning)]
        );
        let once = |second| if (10..200).contains(&second) { vec![5] } else { vec![] };
        assert_eq!(lines(300, once), [(25, Warning), (215, Notice)]);
        // One of two is read again: the metrics have that.
        let two = |second| if second < 200 { vec![5, 6] } else { vec![6] };
        assert_eq!(lines(300, two), []);
        assert_eq!(
            lines(300, |second| if second < 100 { vec![5] } else { vec![] }),
            [(115, Notice)]
        );
    }

    #[test]
    fn a_namespace_that_comes_and_goes_is_none_that_is_not_read() {
        // Each second another one, one every other second, and one for 14 s.
        assert_eq!(lines(300, |second| vec![1000 + second]), []);
        assert_eq!(lines(300, |second| if second % 2 == 0 { vec![5] } else { vec![] }), []);
        assert_eq!(
            lines(300, |second| if (10..24).contains(&second) { vec![5] } else { vec![] }),
            []
        );
        // One that stays beside such ones is logged.
        let beside =
            |second| if second < 10 { vec![1000 + second] } else { vec![5, 1000 + second] };
        assert_eq!(lines(300, beside), [(25, Level::Warning)]);
    }

    #[test]
    fn there_is_a_line_a_minute_at_most_and_it_has_all() {
        // One more every 10 s.
        let more = |second: u64| (0..second / 10).collect();
        let lines = lines(200, more);
        assert_eq!(lines.iter().map(|(second, _)| *second).collect::<Vec<_>>(), [25, 85, 145]);
    }

    #[test]
    fn more_than_are_listed_are_one_change() {
        let many = |second: u64| if second < 5 { vec![] } else { (0..100 + second).collect() };
        assert_eq!(lines(300, many), [(20, Level::Warning)]);
    }

    #[test]
    fn what_hides_others_is_a_gap_and_the_line_says_all() {
        let mut log = CoverageLog::default();
        let with = |second, spots: &[BlindSpot]| {
            let mut tick = tick(second, &[5, 6, 7, 8, 9]);
            let coverage = Coverage {
                blind_spots: spots.into(),
                ..Coverage::clone(tick.coverage.as_ref().unwrap())
            };
            tick.coverage = Some(Arc::new(coverage));
            tick
        };
        assert!(log.change(&with(0, &[])).is_none());
        // Another number of them is no other cause.
        assert!(log.change(&with(1, &[BlindSpot::HiddenProcesses(3)])).is_none());
        let line = log.change(&with(16, &[BlindSpot::HiddenProcesses(4)])).unwrap();
        assert_eq!(line.0, Level::Warning);
        let fields: BTreeMap<&str, Value> = line.2.into_iter().collect();
        assert_eq!((&fields["read"], &fields["unread"]), (&json!(1), &json!(5)));
        let reason = fields["reason"].as_str().unwrap();
        assert!(reason.starts_with("not read: 5: no process"), "{reason}");
        assert!(reason.ends_with("; 2 more"), "{reason}");
        // A source that is opened says its own.
        log.open();
        assert!(log.change(&with(100, &[])).is_none());
        assert!(log.change(&with(200, &[])).is_none());
    }
}
