//! Shows runs to forecasters and judges them, on all cores.

use std::{
    borrow::Cow,
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;

use super::{
    alarm::Rule,
    estimate::{Estimate, estimate},
    memory,
    recorded::Recorded,
    registry::{CLAIRVOYANT, Entry},
    said::Said,
    scenario::Scenario,
    score::{Judge, METRICS, Scores},
    simulator::{Run, Simulator},
    truth::Truth,
};
use crate::{forecast::outlook::Quantiles, lock::lock};

/// Something that forecasters are tried on.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name: that of the file, without its extension.
    pub name: String,
    /// What it is.
    pub input: Input,
}

/// What forecasters are tried on.
#[derive(Debug, Clone)]
pub enum Input {
    /// A scenario that was written.
    Written(Scenario),
    /// One of many that might have been drawn.
    Drawn(Scenario),
    /// What happened once.
    Recorded(Recorded),
}

/// Where a case comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As [`Input::Written`].
    Written,
    /// As [`Input::Drawn`].
    Drawn,
    /// As [`Input::Recorded`].
    Recorded,
}

impl Case {
    /// Where it comes from.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self.input {
            Input::Written(_) => Kind::Written,
            Input::Drawn(_) => Kind::Drawn,
            Input::Recorded(_) => Kind::Recorded,
        }
    }

    /// It in a few words.
    #[must_use]
    pub fn title(&self) -> &str {
        match &self.input {
            Input::Written(scenario) | Input::Drawn(scenario) => &scenario.title,
            Input::Recorded(recorded) => &recorded.title,
        }
    }

    /// What it imitates; empty of a recording.
    #[must_use]
    pub fn imitates(&self) -> &str {
        match &self.input {
            Input::Written(scenario) | Input::Drawn(scenario) => &scenario.imitates,
            Input::Recorded(_) => "",
        }
    }

    /// How often it is tried where others are `seeds` times: nothing of a recording is left to chance.
    const fn seeds(&self, seeds: u64) -> u64 {
        match self.input {
            Input::Written(_) | Input::Drawn(_) => seeds,
            Input::Recorded(_) => 1,
        }
    }
}

/// What came of a case.
#[derive(Debug)]
pub struct Outcome {
    /// Which one.
    pub case: Case,
    /// Each forecaster's scores; the clairvoyant first, but of recordings, which have none.
    pub forecasters: Vec<Judged>,
    /// Trace of the first seed: the truth and each forecaster's predictions. Kept of the first [`TRACES`] cases that are
    /// not very long.
    pub first: Option<Trace>,
}

/// What a forecaster is worth.
#[derive(Debug, Clone)]
pub struct Judged {
    /// Its name.
    pub name: &'static str,
    /// Over all seeds, by metric.
    pub metrics: [Option<Estimate>; METRICS],
    /// Of each seed.
    pub seeds: Vec<Scores>,
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

/// Cases whose first run is kept, as far as there is room for them.
pub const TRACES: usize = 60;

/// What a forecaster says at each tick of a run.
#[must_use]
pub fn listen(run: &Run, entry: &Entry) -> Vec<Said> {
    let mut forecaster = (entry.make)();
    let mut said = Said::default();
    let mut all = Vec::with_capacity(run.snapshots.len());
    let mut earlier = run.earlier.iter().peekable();
    for (at, snapshot) in run.snapshots.iter().enumerate() {
        if run.restarts.contains(&at) {
            forecaster = (entry.make)();
        }
        while let Some((_, snapshot)) = earlier.next_if(|(tick, _)| *tick <= at) {
            forecaster.observe(snapshot);
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

/// Tries the `entries` on all `cases` with `seeds` seeds each. Runs in parallel take at most `bytes` of memory together.
/// `progress` gets the number of runs done and of all runs.
pub fn run(
    cases: Vec<Case>,
    entries: &[Entry],
    seeds: u64,
    bytes: u64,
    progress: impl Fn(usize, usize) + Sync,
) -> Result<Vec<Outcome>> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cores = cores.min(memory::runs(&cases, bytes));
    let all = cases.iter().map(|case| case.seeds(seeds) as usize).sum();
    // Each core its part of a scenario's seeds; of few seeds, each a scenario of its own.
    let parts = |(place, case): (usize, &Case)| {
        let seeds = case.seeds(seeds);
        let parts = seeds.min(cores as u64);
        let bound = move |part| part * seeds / parts;
        (0..parts).map(move |part| (place, bound(part)..bound(part + 1)))
    };
    let jobs: Vec<(usize, Range<u64>)> = cases.iter().enumerate().flat_map(parts).collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Done::new(cases.len()));
    let work = || -> Result<()> {
        while let Some((case, range)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let runs = Runs::new(&cases[*case].input)?;
            for seed in range.clone() {
                let run = runs.get(seed);
                let size = memory::of_trace(run.truth.level.len(), entries.len() + 1);
                let is_kept = seed == 0 && *case < TRACES && lock(&done).keep(size);
                let (scores, trace) = judge(run, entries, is_kept);
                let mut done = lock(&done);
                done.scores[*case].push((seed, scores));
                if is_kept {
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

/// The runs of a case.
enum Runs<'a> {
    Simulated(Box<Simulator>),
    Recorded(&'a Run),
}

impl<'a> Runs<'a> {
    fn new(input: &'a Input) -> Result<Self> {
        Ok(match input {
            Input::Written(scenario) | Input::Drawn(scenario) => {
                Self::Simulated(Box::new(Simulator::new(scenario.clone())?))
            }
            Input::Recorded(recorded) => Self::Recorded(&recorded.run),
        })
    }

    fn get(&self, seed: u64) -> Cow<'a, Run> {
        match self {
            Self::Simulated(simulator) => Cow::Owned(simulator.run(seed)),
            Self::Recorded(run) => Cow::Borrowed(run),
        }
    }
}

/// What is done, by case.
struct Done {
    runs: usize,
    /// Bytes that traces may still take.
    room: u64,
    /// By seed and forecaster.
    scores: Vec<Vec<(u64, Vec<Scores>)>>,
    first: Vec<Option<Trace>>,
}

impl Done {
    fn new(cases: usize) -> Self {
        Self {
            runs: 0,
            room: memory::TRACES,
            scores: vec![vec![]; cases],
            first: (0..cases).map(|_| None).collect(),
        }
    }

    /// Takes the room for a trace of `size` bytes, where there is enough.
    fn keep(&mut self, size: u64) -> bool {
        let left = self.room.checked_sub(size);
        self.room = left.unwrap_or(self.room);
        left.is_some()
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
    let clairvoyant = (case.kind() != Kind::Recorded).then_some(CLAIRVOYANT);
    let names = clairvoyant.into_iter().chain(entries.iter().map(|entry| entry.name));
    let forecasters = names.enumerate().map(|(place, name)| {
        let seeds: Vec<Scores> = scores.iter().map(|(_, seed)| seed[place]).collect();
        let of = |metric: usize| estimate(seeds.iter().filter_map(|seed| seed[metric]));
        Judged { name, metrics: std::array::from_fn(of), seeds }
    });
    Outcome { case, forecasters: forecasters.collect(), first }
}

/// Judges one forecaster after the other: what one says takes as much memory as a run. An empty trace unless it `is_kept`.
fn judge(run: Cow<'_, Run>, entries: &[Entry], is_kept: bool) -> (Vec<Scores>, Trace) {
    let mut scores = Vec::with_capacity(entries.len() + 1);
    let (mut ahead, mut all) = (vec![], vec![]);
    let judge = Judge::new(&run);
    let mut take = |said: &[Said], rule: Rule| {
        let alarms = rule.alarms(said, &run.truth);
        scores.push(judge.score(said, &alarms));
        if is_kept {
            ahead.push(said.iter().map(|said| said.ahead).collect());
            all.push(alarms);
        }
    };
    if let Some(said) = run.truth.clairvoyant.get(..run.snapshots.len()) {
        take(said, Rule::Median);
    }
    for entry in entries {
        take(&listen(&run, entry), entry.rule);
    }
    drop(judge);
    let truth = match run {
        _ if !is_kept => Truth::default(),
        Cow::Owned(run) => run.truth,
        Cow::Borrowed(run) => run.truth.clone(),
    };
    (scores, Trace { truth, ahead, alarms: all })
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
            Case { name, input: Input::Written(scenario) }
        };
        files.map(case).collect()
    }

    #[test]
    fn all_written_scenarios_can_be_used() {
        let cases = written();
        assert!(cases.len() >= 19);
        for case in cases {
            Runs::new(&case.input).unwrap();
        }
    }

    #[test]
    fn scores_do_not_depend_on_the_threads() {
        let mut cases = written();
        cases.retain(|case| case.name == "cold-start");
        let entries = crate::backtest::registry::named(&["holt".into()]).unwrap();
        let scores = |cases: Vec<Case>| {
            let outcomes = run(cases, &entries, 2, 160 << 20, |_, _| ()).unwrap();
            assert!(outcomes[0].first.is_some());
            outcomes[0].forecasters.iter().map(|judged| judged.metrics).collect::<Vec<_>>()
        };
        let first = scores(cases.clone());
        assert_eq!(first, scores(cases));
        let lead = first[0][0].unwrap();
        assert!(lead.seeds == 2 && (80.0..110.0).contains(&lead.mean), "{lead:?}");
    }
}
