//! How good a forecaster was in one run.

use super::{
    alarm::Rule,
    said::Said,
    simulator::{AFTER, Run},
    truth::{Fill, Truth},
};
use crate::forecast::outlook::{AHEAD, Quantiles};

/// Error of a time to full that was never said, and the highest that counts.
pub const NEVER: f64 = 10.0;
/// Seconds before a fill at which the time to full is judged.
pub const BEFORE: [f64; 5] = [300.0, 120.0, 60.0, 30.0, 10.0];
/// Seconds by which an alarm before a fill may pause.
const PAUSES: f64 = 60.0;

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
pub const METRICS: usize = 16;

const fn metric(name: &'static str, heading: &'static str, decimals: usize) -> Metric {
    Metric { name, heading, decimals }
}

/// All metrics. None in [`Scores`] is what a run cannot tell.
///
/// - `lead_s`: seconds from the alarm to the fill; the alarm pauses for `PAUSES` s at the most until then, and is at
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
///   the ticks at which a fill is foreseeable.
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
    metric("covers_full", "COVF", 2),
    metric("fills", "FILLS", 1),
];

/// One number for each of [`ALL`].
pub type Scores = [Option<f64>; METRICS];

/// Judges what was said at the ticks of a run, of which the last is that of the scenario's end.
#[must_use]
pub fn score(run: &Run, said: &[Said], rule: Rule) -> Scores {
    let truth = &run.truth;
    let fills = truth.fills();
    let alarms = rule.alarms(said, truth);
    let best = Rule::Median.alarms(&truth.clairvoyant[..said.len()], truth);
    let judged: Vec<Fill> = fills.iter().copied().filter(|fill| fill.start < said.len()).collect();

    let mut leads = Mean::default();
    let mut shares = Mean::default();
    let mut missed = Mean::default();
    for fill in &judged {
        let possible = lead(&best, fill, truth);
        if possible > 0.0 {
            let lead = lead(&alarms, fill, truth);
            leads.add(lead);
            shares.add((lead / possible).min(1.0));
            missed.add(f64::from(lead == 0.0));
        }
    }
    let mean_error = |at: &dyn Fn(&Fill) -> Option<usize>| {
        let mut errors = Mean::default();
        for fill in &judged {
            at(fill).into_iter().for_each(|at| errors.add(eta_error(said, fill, at, truth)));
        }
        errors.get()
    };
    let errors = BEFORE.map(|seconds| mean_error(&|fill| before(fill, truth.ticks(seconds))));
    let half = mean_error(&|fill| before(fill, (fill.start - fill.foreseeable) / 2));
    let mut eta = Mean::default();
    errors.iter().flatten().for_each(|error| eta.add(*error));
    let [pinball, crps, covers] = ahead(run, said);
    [
        leads.get(),
        shares.get(),
        missed.get(),
        Some(false_minutes(&alarms, &fills, truth)),
        errors[0],
        errors[1],
        errors[2],
        errors[3],
        errors[4],
        half,
        eta.get().or(half),
        pinball,
        crps,
        covers,
        covers_full(said, &judged, truth),
        Some(judged.len() as f64),
    ]
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

/// Seconds from the alarm to the fill; 0 without one.
fn lead(alarms: &[bool], fill: &Fill, truth: &Truth) -> f64 {
    let mut first = fill.start;
    for at in (fill.start.saturating_sub(truth.ticks(AFTER))..fill.start).rev() {
        if alarms[at] {
            first = at;
        } else if first - at > truth.ticks(PAUSES) {
            break;
        }
    }
    (fill.start - first) as f64 * truth.tick
}

fn false_minutes(alarms: &[bool], fills: &[Fill], truth: &Truth) -> f64 {
    let before = truth.ticks(AFTER);
    let excused = |at: usize| fills.iter().any(|fill| at + before >= fill.start && at < fill.end);
    let ticks = alarms.iter().enumerate().filter(|(at, on)| **on && !excused(*at)).count();
    ticks as f64 * truth.tick / 60.0
}

/// The tick that many before the fill; none where it was not foreseeable yet.
fn before(fill: &Fill, ticks: usize) -> Option<usize> {
    let at = fill.start.checked_sub(ticks)?;
    (at >= fill.foreseeable && ticks > 0).then_some(at)
}

fn eta_error(said: &[Said], fill: &Fill, at: usize, truth: &Truth) -> f64 {
    let left = (fill.start - at) as f64 * truth.tick;
    said[at].median().map_or(NEVER, |eta| ((eta - left).abs() / left).min(NEVER))
}

/// Pinball loss and CRPS in per cent of the limit, and how often the interval held.
fn ahead(run: &Run, said: &[Said]) -> [Option<f64>; 3] {
    if said.iter().all(|said| said.ahead.is_none()) {
        return [None; 3];
    }
    let truth = &run.truth;
    let later = truth.ticks(AHEAD);
    let (mut pinballs, mut scores, mut covered) =
        (Mean::default(), Mean::default(), Mean::default());
    for (at, said) in said.iter().enumerate() {
        // Nothing is said in a gap, and nothing is to be foreseen of a table that is full.
        if run.snapshots[at].is_none() || truth.is_full(at) {
            continue;
        }
        let (level, max) = (truth.level[at + later] as f64, f64::from(truth.max[at + later]));
        let now = truth.level[at] as f64;
        let Quantiles { low, median, high } =
            said.ahead.unwrap_or(Quantiles { low: now, median: now, high: now });
        let [low, median, high] =
            [low, median, high].map(|entries| entries.clamp(0.0, max.max(level)));
        let (percent, law) = (100.0 / max, [low, median, high]);
        let losses = [(0.1, low), (0.5, median), (0.9, high)].map(|(p, q)| pinball(p, q, level));
        pinballs.add(losses.iter().sum::<f64>() / 3.0 * percent);
        scores.add(crps(law, level) * percent);
        covered.add(f64::from((low..=high).contains(&level)));
    }
    [pinballs.get(), scores.get(), covered.get()]
}

/// What it costs to have said `quantile` for the share `p`.
fn pinball(p: f64, quantile: f64, is: f64) -> f64 {
    if is >= quantile { p * (is - quantile) } else { (1.0 - p) * (quantile - is) }
}

/// Continuous ranked probability score of a law whose quantile function is a line between those of 10, 50 and 90 %,
/// and goes on as it does there: twice the mean of the pinball losses of all its quantiles.
fn crps([low, median, high]: [f64; 3], is: f64) -> f64 {
    const STEPS: usize = 20;
    let quantile = |p: f64| {
        let slope = if p < 0.5 { median - low } else { high - median };
        median + slope * (p - 0.5) / 0.4
    };
    let at = |step: usize| (step as f64 + 0.5) / STEPS as f64;
    let losses = (0..STEPS).map(|step| pinball(at(step), quantile(at(step)), is));
    2.0 * losses.sum::<f64>() / STEPS as f64
}

fn covers_full(said: &[Said], fills: &[Fill], truth: &Truth) -> Option<f64> {
    let mut covered = Mean::default();
    for fill in fills {
        for (said, left) in said[fill.foreseeable..fill.start].iter().rev().zip(1..) {
            if let Some(full) = said.full {
                let left = f64::from(left) * truth.tick;
                let low = full.low.is_some_and(|low| low <= left);
                covered.add(f64::from(low && full.high.is_none_or(|high| left <= high)));
            }
        }
    }
    covered.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rises by one a second from 0, is full at 1000, and stays so; each tick seen by a clairvoyant.
    fn run() -> Run {
        let mut truth = Truth::new(1.0);
        for second in 0..=2100_u64 {
            truth.push(second.min(1000), 1000, 0, exact(1000.0 - second as f64));
        }
        Run { snapshots: snapshots(1200), restarts: vec![], truth }
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

    fn exact(seconds: f64) -> Said {
        let eta = Some(seconds.max(0.0));
        let level = 1000.0 - seconds + 60.0;
        Said {
            full: Some(Quantiles { low: eta, median: eta, high: eta }),
            ahead: Some(Quantiles { low: level, median: level, high: level }),
        }
    }

    fn named(scores: &Scores, name: &str) -> Option<f64> {
        scores[ALL.iter().position(|metric| metric.name == name).unwrap()]
    }

    #[test]
    fn the_truth_scores_best() {
        let run = run();
        let said: Vec<Said> = (0..1200).map(|at| exact(1000.0 - f64::from(at))).collect();
        let scores = score(&run, &said, Rule::Median);
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
        ] {
            assert_eq!(named(&scores, name), Some(expected), "{name}");
        }
    }

    #[test]
    fn who_says_half_of_the_time_is_wrong_by_half() {
        let run = run();
        let said: Vec<Said> = (0..1200).map(|at| exact((1000.0 - f64::from(at)) / 2.0)).collect();
        let scores = score(&run, &said, Rule::Median);
        assert_eq!(named(&scores, "eta"), Some(0.5));
        assert_eq!(named(&scores, "covers_full"), Some(0.0));
        // The alarm is on from the start: 900 s of it are before the fill, 99 s are not.
        assert_eq!(named(&scores, "lead_s"), Some(900.0));
        assert_eq!(named(&scores, "false_min"), Some(99.0 / 60.0));
    }

    #[test]
    fn silence_misses() {
        let run = run();
        let scores = score(&run, &vec![Said::default(); 1200], Rule::Median);
        assert_eq!(named(&scores, "missed"), Some(1.0));
        assert_eq!((named(&scores, "lead_s"), named(&scores, "eta")), (Some(0.0), Some(NEVER)));
        assert_eq!((named(&scores, "crps_60s"), named(&scores, "covers_full")), (None, None));
    }

    #[test]
    fn crps_is_the_error_of_a_point_and_a_quarter_of_a_wide_law() {
        assert!((crps([5.0; 3], 8.0) - 3.0).abs() < 1e-9);
        // Uniform from 0 to 1, and 0.5 comes: 1/12.
        assert!((crps([0.1, 0.5, 0.9], 0.5) - 1.0 / 12.0).abs() < 1e-3);
    }
}
