//! Shows runs to forecasters and judges them, on all cores.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use serde::Serialize;

use super::{
    alarm::Rule,
    registry::{CLAIRVOYANT, Entry},
    said::Said,
    scenario::Scenario,
    score::{Judge, METRICS, Scores},
    simulator::{Run, Simulator},
    truth::Truth,
};
use crate::forecast::outlook::Quantiles;

/// A scenario to be tried.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name: that of the file, without its extension.
    pub name: String,
    /// The scenario.
    pub scenario: Scenario,
    /// It is one of many that might have been drawn.
    pub drawn: bool,
}

/// What came of a scenario.
#[derive(Debug)]
pub struct Outcome {
    /// Which one.
    pub case: Case,
    /// Each forecaster's scores; the clairvoyant first.
    pub forecasters: Vec<Judged>,
    /// What happened with the first seed, and what each forecaster said; of the first [`TRACES`] scenarios.
    pub first: Option<Trace>,
}

/// What a forecaster is worth.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Its name.
    pub name: &'static str,
    /// Over all seeds, by metric.
    pub metrics: [Option<Estimate>; METRICS],
}

/// A mean over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// It is so exact, up and down, with 95 % probability; none of one seed.
    pub within: Option<f64>,
    /// Seeds that could tell.
    pub seeds: usize,
}

/// One run, to be drawn.
#[derive(Debug)]
pub struct Trace {
    /// What happened.
    pub truth: Truth,
    /// What each forecaster said of the entries in 60 s, in the order of [`Outcome::forecasters`].
    pub ahead: Vec<Vec<Option<Quantiles<f64>>>>,
    /// When its alarm was on.
    pub alarms: Vec<Vec<bool>>,
}

/// Scenarios whose first run is kept: a few megabytes each.
pub const TRACES: usize = 60;

/// What a forecaster says at each tick of a run.
#[must_use]
pub fn listen(run: &Run, entry: &Entry) -> Vec<Said> {
    let mut forecaster = (entry.make)();
    let mut said = Said::default();
    let mut all = Vec::with_capacity(run.snapshots.len());
    for (at, snapshot) in run.snapshots.iter().enumerate() {
        if run.restarts.contains(&at) {
            forecaster = (entry.make)();
        }
        // In a gap what was said last stands.
        if let Some(snapshot) = snapshot {
            forecaster.observe(snapshot);
            said = Said::of(&forecaster.outlook());
        }
        all.push(said);
    }
    all
}

/// Tries the `entries` on all `cases` with `seeds` seeds each; `progress` is told how many runs are done and of how
/// many.
pub fn run(
    cases: Vec<Case>,
    entries: &[Entry],
    seeds: u64,
    progress: impl Fn(usize, usize) + Sync,
) -> Result<Vec<Outcome>> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let all = cases.len() * seeds as usize;
    // Each core its part of a scenario's seeds; of few seeds, each a scenario of its own.
    let parts = seeds.min(cores as u64);
    let bound = |part| part * seeds / parts;
    let jobs: Vec<(usize, Range<u64>)> = (0..cases.len())
        .flat_map(|case| (0..parts).map(move |part| (case, bound(part)..bound(part + 1))))
        .collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Done::new(cases.len()));
    let work = || -> Result<()> {
        while let Some((case, range)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let simulator = Simulator::new(cases[*case].scenario.clone())?;
            for seed in range.clone() {
                let (scores, trace) = judge(simulator.run(seed), entries);
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                done.scores[*case].push((seed, scores));
                if seed == 0 && *case < TRACES {
                    done.first[*case] = Some(trace);
                }
                done.runs += 1;
                progress(done.runs, all);
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        // A thread that panicked has said why; what it did is missing.
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })?;
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let outcomes = cases.into_iter().zip(done.scores).zip(done.first);
    Ok(outcomes.map(|((case, scores), first)| outcome(case, entries, scores, first)).collect())
}

/// What is done, by scenario.
struct Done {
    runs: usize,
    /// By seed and forecaster.
    scores: Vec<Vec<(u64, Vec<Scores>)>>,
    first: Vec<Option<Trace>>,
}

impl Done {
    fn new(cases: usize) -> Self {
        Self { runs: 0, scores: vec![vec![]; cases], first: (0..cases).map(|_| None).collect() }
    }
}

fn outcome(
    case: Case,
    entries: &[Entry],
    mut scores: Vec<(u64, Vec<Scores>)>,
    first: Option<Trace>,
) -> Outcome {
    // The order in which they are added up is that of the seeds, not that in which the threads were done.
    scores.sort_by_key(|(seed, _)| *seed);
    let names = std::iter::once(CLAIRVOYANT).chain(entries.iter().map(|entry| entry.name));
    let forecasters = names.enumerate().map(|(place, name)| {
        let of =
            |metric: usize| estimate(scores.iter().filter_map(|(_, seed)| seed[place][metric]));
        Judged { name, metrics: std::array::from_fn(of) }
    });
    Outcome { case, forecasters: forecasters.collect(), first }
}

fn judge(run: Run, entries: &[Entry]) -> (Vec<Scores>, Trace) {
    let clairvoyant = run.truth.clairvoyant[..run.snapshots.len()].to_vec();
    let listened = entries.iter().map(|entry| (listen(&run, entry), entry.rule));
    let all: Vec<(Vec<Said>, Rule)> =
        std::iter::once((clairvoyant, Rule::Median)).chain(listened).collect();
    let alarms: Vec<Vec<bool>> =
        all.iter().map(|(said, rule)| rule.alarms(said, &run.truth)).collect();
    let judge = Judge::new(&run);
    let scores =
        all.iter().zip(&alarms).map(|((said, _), alarms)| judge.score(said, alarms)).collect();
    let ahead = all.iter().map(|(said, _)| said.iter().map(|said| said.ahead).collect()).collect();
    (scores, Trace { truth: run.truth, ahead, alarms })
}

/// The mean of some numbers, with its confidence interval by Student's law.
pub fn estimate(values: impl Iterator<Item = f64>) -> Option<Estimate> {
    let values: Vec<f64> = values.collect();
    let n = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let within = (values.len() > 1).then(|| {
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        student(n - 1.0) * (squares / (n - 1.0) / n).sqrt()
    });
    Some(Estimate { mean, within, seeds: values.len() })
}

/// The 97.5 % quantile of Student's law (Cornish-Fisher; to 1 % from 3 degrees of freedom on).
fn student(freedom: f64) -> f64 {
    match freedom as u64 {
        0 | 1 => return 12.706,
        2 => return 4.303,
        _ => {}
    }
    const Z: f64 = 1.959_964;
    let first = (Z.powi(3) + Z) / 4.0;
    let second = (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0;
    let third = (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0;
    Z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Vec<Case> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/scenarios/forecast");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let files = files.filter(|path| path.extension().is_some_and(|end| end == "toml"));
        let case = |path: std::path::PathBuf| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let scenario = Scenario::parse(&std::fs::read_to_string(&path).unwrap());
            let scenario = scenario.unwrap_or_else(|error| panic!("{name}: {error:#}"));
            Case { name, scenario, drawn: false }
        };
        files.map(case).collect()
    }

    #[test]
    fn all_written_scenarios_can_be_used() {
        let cases = written();
        assert!(cases.len() >= 19);
        for case in cases {
            Simulator::new(case.scenario).unwrap();
        }
    }

    #[test]
    fn scores_do_not_depend_on_the_threads() {
        let mut cases = written();
        cases.retain(|case| case.name == "cold-start");
        let entries = crate::backtest::registry::named(&["holt".into()]).unwrap();
        let scores = |cases: Vec<Case>| {
            let outcomes = run(cases, &entries, 2, |_, _| ()).unwrap();
            assert!(outcomes[0].first.is_some());
            outcomes[0].forecasters.iter().map(|judged| judged.metrics).collect::<Vec<_>>()
        };
        let first = scores(cases.clone());
        assert_eq!(first, scores(cases));
        let lead = first[0][0].unwrap();
        assert!(lead.seeds == 2 && (80.0..110.0).contains(&lead.mean), "{lead:?}");
    }

    #[test]
    fn intervals_are_students() {
        for (freedom, expected) in [(3.0, 3.182), (9.0, 2.262), (29.0, 2.045)] {
            assert!((student(freedom) / expected - 1.0).abs() < 0.01, "{freedom}");
        }
        let of = estimate([1.0, 2.0, 3.0].into_iter()).unwrap();
        assert!(
            (of.mean - 2.0).abs() < 1e-9
                && (of.within.unwrap() - 4.303 / 3_f64.sqrt()).abs() < 1e-3
        );
    }
}
