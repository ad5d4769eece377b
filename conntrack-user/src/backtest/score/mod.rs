//! How good a forecaster was in one run.

mod ahead;
mod fills;
mod likely;
mod settled;

use super::{
    alarm::Rule,
    said::Said,
    simulator::{AFTER, Run},
    truth::{Fill, Truth},
};
use crate::forecast::outlook::AHEAD;

/// Error of a time to full that was never said, and the highest that counts.
pub const NEVER: f64 = 10.0;
/// Seconds before a fill at which the time to full is judged.
pub const BEFORE: [f64; 5] = [300.0, 120.0, 60.0, 30.0, 10.0];
/// A lead that is a smaller share of the clairvoyant's is short.
pub const SHORT: f64 = 0.8;

/// What is measured, in the order of [`Scores`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// As in JSON.
    pub name: &'static str,
    /// As in the table.
    pub heading: &'static str,
    /// Decimals in the table.
    pub decimals: usize,
}

/// How many there are.
pub const METRICS: usize = 29;

const fn metric(name: &'static str, heading: &'static str, decimals: usize) -> Metric {
    Metric { name, heading, decimals }
}

/// All metrics. None in [`Scores`] is what a run cannot tell.
///
/// - `lead_s`: seconds from the alarm to the fill; the alarm pauses for 60 s at the most until then, and is at
///   most 900 s old. The mean of the fills of which the clairvoyant gave the alarm; 0 where none came before it.
/// - `lead_share`: of the clairvoyant's lead, 1 at the most.
/// - `missed`: share of those fills without an alarm before them.
/// - `false_min`: minutes of alarm that no fill follows within 900 s, and in which the table is not full.
/// - `eta_*`: the time to full so many seconds before it is, |said - true| / true, [`NEVER`] at the most and where
///   none was said; only where the fill was foreseeable by then. `eta_half`: the same in the middle between when it was
///   foreseeable first and the fill. `eta`: the mean of those with a distance, or `eta_half` where there is none.
/// - `pinball_60s`, `crps_60s`: of the entries 60 s later, per cent of the limit: pinball loss of the three quantiles,
///   and the score of the whole law, which is taken to be a line between them; not while the table is full. What is forecast beyond the limit is
///   taken as the limit, as the level cannot go there. Where a forecaster is silent for a while, the present level is
///   what it says.
/// - `covers_60s`, `covers_full`: how often the 80 % interval held, of entries and of the time to full; the latter at
///   the ticks at which a fill is foreseeable. `covers95_60s`: the same of the 95 % interval of entries.
/// - `fills`: how many there were.
/// - `drop`: as `eta`, of the time to the first dropped packet, said at the same ticks, where that is not the fill's.
///   Where no packet was dropped, any time beyond the end of the fill is right.
/// - `evictable_entries`: entries that can be evicted when the table becomes full, |said - true|, per cent of the limit.
/// - `steady_state`: the level at which it settles against the clairvoyant's, |said - true| / true, [`NEVER`] at the most;
///   at ticks at which the clairvoyant sees it settled within half an hour, and the table is not full. `steady_state_told`:
///   share of those ticks at which a level was said.
/// - `brier_*`: of the probability that it is full within so many seconds, (said - came)², 0 at best; a forecaster that
///   gives none says 0 until its median, then 1. Not while the table is full, nor later than so long before the end.
/// - `alarmable`: fills of which the clairvoyant gave the alarm; `short_leads`: those of which the share of its lead
///   was below [`SHORT`].
/// - `forecasts`: ticks that count for `covers_60s`.
/// - `undecided_min`: minutes of alarm that `false_min` leaves out because the recording ends less than 900 s later, before
///   a fill that would excuse them; 0 of a simulated table.
pub const ALL: [Metric; METRICS] = [
    metric("lead_s", "LEAD", 0),
    metric("lead_share", "SHARE", 2),
    metric("missed", "MISS", 2),
    metric("false_min", "FALSE", 1),
    metric("eta_300s", "E300", 2),
    metric("eta_120s", "E120", 2),
    metric("eta_60s", "E60", 2),
    metric("eta_30s", "E30", 2),
    metric("eta_10s", "E10", 2),
    metric("eta_half", "E1/2", 2),
    metric("eta", "ETA", 2),
    metric("pinball_60s", "PINB", 2),
    metric("crps_60s", "CRPS", 2),
    metric("covers_60s", "COV", 2),
    metric("covers95_60s", "COV95", 2),
    metric("covers_full", "COVF", 2),
    metric("fills", "FILLS", 1),
    metric("drop", "DROP", 2),
    metric("evictable_entries", "EVICT", 1),
    metric("steady_state", "SETT", 2),
    metric("steady_state_told", "TOLD", 2),
    metric("brier_60s", "B1M", 3),
    metric("brier_300s", "B5M", 3),
    metric("brier_900s", "B15M", 3),
    metric("brier_3600s", "B60M", 3),
    metric("alarmable", "ALARM", 1),
    metric("short_leads", "SHORT", 1),
    metric("forecasts", "TICKS", 0),
    metric("undecided_min", "UNDEC", 1),
];

/// One number for each of [`ALL`].
pub type Scores = [Option<f64>; METRICS];

/// The place of a metric in [`ALL`]; the first where there is none of that name.
#[must_use]
pub fn place(name: &str) -> usize {
    ALL.iter().position(|metric| metric.name == name).unwrap_or(0)
}

/// What is the same for all forecasters of a run.
#[derive(Debug)]
pub struct Judge<'a> {
    run: &'a Run,
    fills: Vec<Fill>,
    /// Those that begin within the scenario.
    judged: Vec<Fill>,
    /// When the clairvoyant's alarm was on, where there is one.
    best: Option<Vec<bool>>,
    /// At each tick the next one at which the table is full.
    next_full: Vec<Option<usize>>,
}

impl<'a> Judge<'a> {
    /// Of a run.
    #[must_use]
    pub fn new(run: &'a Run) -> Self {
        let (truth, ticks) = (&run.truth, run.snapshots.len());
        let fills = truth.fills();
        // One that is there from the start was not to be foreseen.
        let judged =
            fills.iter().copied().filter(|fill| (1..ticks).contains(&fill.start)).collect();
        let best = truth.clairvoyant.get(..ticks);
        let best = best.map(|said| Rule::Median.alarms(said, truth));
        Self { run, fills, judged, best, next_full: likely::next_full(truth) }
    }

    /// What was said at the ticks of the scenario, of which the last is that of its end, and when the alarm was on.
    #[must_use]
    pub fn score(&self, said: &[Said], alarms: &[bool]) -> Scores {
        let truth = &self.run.truth;
        let leads = fills::leads(self, alarms);
        let errors = fills::eta(self, said);
        // Of a recording's last minute it is not known what came.
        let known = truth.level.len().saturating_sub(truth.ticks(AHEAD)).min(said.len());
        let ahead = ahead::score(self.run, &said[..known]);
        let settled = settled::score(self.run, said);
        let likely = likely::score(self, said);
        let minutes = false_minutes(alarms, &self.fills, truth);
        [
            leads.seconds.get(),
            leads.shares.get(),
            leads.missed.get(),
            minutes.known,
            errors.before[0],
            errors.before[1],
            errors.before[2],
            errors.before[3],
            errors.before[4],
            errors.half,
            errors.mean,
            ahead.pinball.get(),
            ahead.crps.get(),
            ahead.covers.get(),
            ahead.covers95.get(),
            fills::covers(self, said),
            Some(self.judged.len() as f64),
            fills::drop(self, said),
            fills::evictable_entries(self, said),
            settled.error.get(),
            settled.told.get(),
            likely[0],
            likely[1],
            likely[2],
            likely[3],
            self.best.as_ref().map(|_| leads.seconds.count),
            self.best.as_ref().map(|_| leads.short),
            Some(ahead.covers.count),
            Some(minutes.undecided),
        ]
    }
}

/// A mean that may be of nothing.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: f64,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1.0;
    }

    fn get(self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }
}

/// Minutes of alarm that no fill excuses.
struct FalseMinutes {
    /// At ticks after which 900 s are known; none where there are none.
    known: Option<f64>,
    /// At the ticks after those.
    undecided: f64,
}

fn false_minutes(alarms: &[bool], fills: &[Fill], truth: &Truth) -> FalseMinutes {
    let before = truth.ticks(AFTER);
    let known = truth.level.len().saturating_sub(before).min(alarms.len());
    let excused = |at: usize| fills.iter().any(|fill| at + before >= fill.start && at < fill.end);
    let minutes = |ticks: std::ops::Range<usize>| {
        let count = ticks.filter(|at| alarms[*at] && !excused(*at)).count();
        count as f64 * truth.tick / 60.0
    };
    FalseMinutes {
        known: (known > 0).then(|| minutes(0..known)),
        undecided: minutes(known..alarms.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backtest::truth::Moment,
        forecast::outlook::{Quantiles, WITHIN},
    };

    /// Rises by one a second from 0, is full at 1000, and stays so; each tick seen by a clairvoyant.
    fn run() -> Run {
        let mut truth = Truth::new(1.0);
        for second in 0..=2100_u64 {
            truth.push(Moment {
                level: second.min(1000),
                max: 1000,
                evictable_entries: Some(100),
                // For 30 s there is something to evict.
                refused: Some(u64::from(second >= 1030)),
                found_full: second >= 1000,
                clairvoyant: Some(exact(1000.0 - second as f64)),
            });
        }
        Run { snapshots: snapshots(1200), earlier: vec![], restarts: vec![], truth }
    }

    fn snapshots(ticks: usize) -> Vec<Option<crate::forecast::snapshot::Snapshot>> {
        use crate::{forecast::snapshot::*, model::tick::Limit};
        let (limit, timeouts) = (Limit::Entries(1000), Timeouts::default());
        let one = Snapshot {
            time_ns: 0,
            entries: None,
            limit,
            change: None,
            live: None,
            ended: None,
            timeouts,
        };
        vec![Some(one); ticks]
    }

    #[test]
    fn alarms_of_a_table_that_is_full_from_the_start_are_not_false() {
        let mut run = run();
        // Evictions keep it a little below its limit every other tick.
        run.truth.level = (0..=2100).map(|second| 1000 - second % 2).collect();
        let said: Vec<Said> = (0..1200).map(|_| exact(1.0)).collect();
        let scores = score(&run, &said);
        assert_eq!([named(&scores, "false_min"), named(&scores, "fills")], [Some(0.0); 2]);
    }

    fn exact(seconds: f64) -> Said {
        let at = |seconds: f64| {
            let eta = Some(seconds.max(0.0));
            Some(Quantiles { low: eta, median: eta, high: eta })
        };
        let level = 1000.0 - seconds + 60.0;
        Said {
            full: at(seconds),
            drop: at(seconds + 30.0),
            within: Some(WITHIN.map(|within| f64::from(seconds <= within))),
            evictable_entries: Some(100.0),
            steady_state: Some(2000.0),
            ahead: Some(Quantiles { low: level, median: level, high: level }),
            ahead95: Some([level; 2]),
        }
    }

    fn named(scores: &Scores, name: &str) -> Option<f64> {
        scores[ALL.iter().position(|metric| metric.name == name).unwrap()]
    }

    fn score(run: &Run, said: &[Said]) -> Scores {
        Judge::new(run).score(said, &Rule::Median.alarms(said, &run.truth))
    }

    #[test]
    fn the_truth_scores_best() {
        let run = run();
        let said: Vec<Said> = (0..1200).map(|at| exact(1000.0 - f64::from(at))).collect();
        let scores = score(&run, &said);
        // From 400 s on it is within 600 s; two ticks are taken.
        assert_eq!(named(&scores, "lead_s"), Some(599.0));
        for (name, expected) in [
            ("lead_share", 1.0),
            ("missed", 0.0),
            ("false_min", 0.0),
            ("eta", 0.0),
            ("pinball_60s", 0.0),
            ("covers_60s", 1.0),
            ("covers_full", 1.0),
            ("fills", 1.0),
            ("drop", 0.0),
            ("evictable_entries", 0.0),
            ("steady_state", 0.0),
            ("steady_state_told", 1.0),
            ("brier_60s", 0.0),
            ("brier_900s", 0.0),
            ("alarmable", 1.0),
            ("short_leads", 0.0),
            ("forecasts", 1000.0),
            ("undecided_min", 0.0),
        ] {
            assert_eq!(named(&scores, name), Some(expected), "{name}");
        }
    }

    #[test]
    fn who_says_half_of_the_time_is_wrong_by_half() {
        let run = run();
        let said: Vec<Said> = (0..1200).map(|at| exact((1000.0 - f64::from(at)) / 2.0)).collect();
        let scores = score(&run, &said);
        assert_eq!(named(&scores, "eta"), Some(0.5));
        assert_eq!(named(&scores, "covers_full"), Some(0.0));
        // At 300, 120, 60, 30 and 10 s: 180 of 330, 90 of 150, 60 of 90, 45 of 60, 35 of 40.
        let expected: f64 =
            [150.0 / 330.0, 60.0 / 150.0, 30.0 / 90.0, 15.0 / 60.0, 5.0 / 40.0].iter().sum();
        assert!((named(&scores, "drop").unwrap() - expected / 5.0).abs() < 1e-9);
        // Of 1,000 ticks it is wrong in those of 60 to 120 s before, but for the first.
        assert_eq!(named(&scores, "brier_60s"), Some(0.06));
        // The alarm is on from the start: 900 s of it are before the fill, 99 s are not.
        assert_eq!(named(&scores, "lead_s"), Some(900.0));
        assert_eq!(named(&scores, "false_min"), Some(99.0 / 60.0));
    }

    #[test]
    fn silence_misses() {
        let run = run();
        let scores = score(&run, &vec![Said::default(); 1200]);
        assert_eq!(named(&scores, "missed"), Some(1.0));
        assert_eq!((named(&scores, "lead_s"), named(&scores, "eta")), (Some(0.0), Some(NEVER)));
        for name in
            ["crps_60s", "covers_full", "drop", "evictable_entries", "steady_state", "brier_60s"]
        {
            assert_eq!(named(&scores, name), None, "{name}");
        }
        assert_eq!(named(&scores, "short_leads"), Some(1.0));
    }

    #[test]
    fn of_a_recording_only_what_it_knows_is_judged() {
        let mut run = run();
        let (len, judged) = (1030, 1030);
        run.snapshots.truncate(judged);
        let truth = &mut run.truth;
        truth.clairvoyant.clear();
        truth.level.truncate(len);
        truth.max.truncate(len);
        truth.found_full.truncate(len);
        truth.evictable_entries = vec![None; len];
        truth.refused = vec![None; len];
        let said: Vec<Said> = (0..judged).map(|at| exact(1000.0 - at as f64)).collect();
        let scores = score(&run, &said);
        let told = [("lead_s", 599.0), ("missed", 0.0), ("false_min", 0.0), ("eta", 0.0)];
        // The first twentieth of the climb is not judged, nor the minute before the end.
        for (name, expected) in told.into_iter().chain([("fills", 1.0), ("forecasts", 970.0)]) {
            assert_eq!(named(&scores, name), Some(expected), "{name}");
        }
        let unknown = [
            "lead_share",
            "drop",
            "evictable_entries",
            "steady_state",
            "steady_state_told",
            "alarmable",
        ];
        for name in unknown.into_iter().chain(["short_leads"]) {
            assert_eq!(named(&scores, name), None, "{name}");
        }
        // A recording that ends within 900 s of its begin cannot tell a false alarm.
        run.truth.level.truncate(900);
        run.snapshots.truncate(900);
        let scores = score(&run, &said[..900]);
        assert_eq!(named(&scores, "false_min"), None);
        // The alarm is on from the second 401 on, and no fill is recorded.
        assert_eq!(named(&scores, "undecided_min"), Some(499.0 / 60.0));
    }
}
