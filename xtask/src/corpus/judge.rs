//! `cargo xtask corpus judge`: scores of `ctmon backtest` beside the reference line of each kind.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::kinds::{self, Kind, folder};
use crate::{arch, build, process, setup};

/// Name of the forecaster that is judged.
const OURS: &str = "ctmon";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Recordings; those of the corpus if not given.
    files: Vec<PathBuf>,
    /// Score the recordings that are set aside, too.
    #[arg(long)]
    aside: bool,
    /// The monitor whose forecaster is judged; that of this workspace if not given.
    #[arg(long, value_name = "PATH")]
    ctmon: Option<PathBuf>,
    /// How to write it.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Form,
}

/// Form of a result.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let files = if args.files.is_empty() { corpus(args.aside)? } else { args.files.clone() };
    let text = backtest(&ctmon(args.ctmon.as_deref())?, &files)?;
    let kinds = group(&text)?;
    let verdicts = verdicts(&kinds);
    for verdict in &verdicts {
        match args.output {
            Form::Text => print!("{}", verdict.text()),
            Form::Json => println!("{}", serde_json::to_string(verdict)?),
        }
    }
    let met = verdicts.iter().filter(|verdict| verdict.met).count();
    if args.output == Form::Text {
        println!("{met} of {} kinds met", verdicts.len());
    }
    Ok(if met == verdicts.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The monitor to be judged: the given one, or that of this workspace for VMs, which this host runs as well.
pub(crate) fn ctmon(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = given {
        return Ok(path.to_path_buf());
    }
    setup::ensure(arch::DEFAULT)?;
    let programs = build::static_binaries(arch::DEFAULT)?;
    programs.into_iter().next().context("nothing was built")
}

/// Recordings of the corpus that are there.
fn corpus(aside: bool) -> Result<Vec<PathBuf>> {
    let all = kinds::recordings()?.into_iter().filter(|one| aside || !one.is_aside());
    let files = all.map(|one| folder().join(format!("{}.mcap", one.name)));
    let there: Vec<PathBuf> = files.filter(|file| file.exists()).collect();
    ensure!(!there.is_empty(), "no recording is there: cargo xtask corpus makes them");
    Ok(there)
}

fn backtest(ctmon: &Path, files: &[PathBuf]) -> Result<String> {
    let mut command = process::command(&ctmon.to_string_lossy());
    command.args(["backtest", "--output", "json"]).args(files);
    process::text(&mut command, "to score the recordings")
}

/// A line of `ctmon backtest --output json`; those of verdicts lack fields.
#[derive(Deserialize)]
struct Line {
    scenario: String,
    forecaster: String,
    scores: BTreeMap<String, Option<Mean>>,
}

#[derive(Deserialize)]
struct Mean {
    mean: f64,
}

/// Scores of a forecaster in a recording.
type Scores = BTreeMap<String, f64>;

/// Recordings of one kind.
struct Group {
    kind: Kind,
    /// By forecaster, of each recording.
    recordings: Vec<BTreeMap<String, Scores>>,
}

fn group(text: &str) -> Result<Vec<Group>> {
    let mut recordings: Vec<(String, BTreeMap<String, Scores>)> = Vec::new();
    for line in text.lines().filter(|line| !line.contains("\"verdict\"")) {
        let line: Line = serde_json::from_str(line).context("not a line of scores")?;
        let scores = line.scores.into_iter().filter_map(|(name, mean)| Some((name, mean?.mean)));
        let scores: Scores = scores.collect();
        match recordings.iter_mut().find(|(name, _)| *name == line.scenario) {
            Some((_, forecasters)) => forecasters.insert(line.forecaster, scores),
            None => {
                recordings.push((line.scenario, BTreeMap::from([(line.forecaster, scores)])));
                None
            }
        };
    }
    let mut groups: Vec<Group> = Vec::new();
    for (name, forecasters) in recordings {
        let kind = kinds::of_file(&name)?;
        match groups.iter_mut().find(|group| group.kind.name == kind.name) {
            Some(group) => group.recordings.push(forecasters),
            None => groups.push(Group { kind, recordings: vec![forecasters] }),
        }
    }
    Ok(groups)
}

/// Result of one criterion of a kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Check {
    criterion: &'static str,
    /// Figure of `ctmon`; none where the recordings do not tell it.
    ours: Option<f64>,
    /// Figure of the reference line.
    line: Option<f64>,
    /// Name of the reference line.
    of: String,
    /// None where there is nothing to judge.
    met: Option<bool>,
}

/// Results of one kind.
#[derive(Debug, Serialize)]
struct Verdict {
    kind: String,
    recordings: usize,
    /// No criterion is not met.
    met: bool,
    checks: Vec<Check>,
}

fn verdicts(groups: &[Group]) -> Vec<Verdict> {
    let sure = misses_nothing(groups);
    groups.iter().map(|group| group.verdict(&sure)).collect()
}

/// Forecasters, ours excepted, that miss no fill of any recording.
fn misses_nothing(groups: &[Group]) -> Vec<String> {
    let all = || groups.iter().flat_map(|group| &group.recordings);
    let names = all().next().into_iter().flat_map(BTreeMap::keys);
    let misses = |name: &String| {
        all().any(|one| {
            one.get(name).and_then(|scores| scores.get("missed")).is_some_and(|m| *m > 0.0)
        })
    };
    names.filter(|name| *name != OURS && !misses(name)).cloned().collect()
}

impl Group {
    /// Mean of a score over the recordings that have it.
    fn mean(&self, forecaster: &str, score: &str) -> Option<f64> {
        let of = |one: &BTreeMap<String, Scores>| one.get(forecaster)?.get(score).copied();
        mean(self.recordings.iter().filter_map(of))
    }

    /// Minutes of false alarm. Traffic of a kind that does not fill has ended: there, an alarm shortly before the end of
    /// the recording is false, too.
    fn false_minutes(&self, forecaster: &str) -> Option<f64> {
        let of = |one: &BTreeMap<String, Scores>| {
            let scores = one.get(forecaster)?;
            let undecided = scores.get("undecided_min").copied();
            let known = scores.get("false_min").copied().unwrap_or(0.0);
            if self.kind.fills { Some(known) } else { Some(known + undecided?) }
        };
        mean(self.recordings.iter().filter_map(of))
    }

    fn verdict(&self, sure: &[String]) -> Verdict {
        let checks = vec![self.eta(), self.crps(), self.missed(), self.alarms(sure), self.covers()];
        Verdict {
            kind: self.kind.name.clone(),
            recordings: self.recordings.len(),
            met: checks.iter().all(|check| check.met != Some(false)),
            checks,
        }
    }

    fn eta(&self) -> Check {
        let of = self.kind.line.clone();
        let (ours, line) = (self.mean(OURS, "eta"), self.mean(&of, "eta"));
        let is_met =
            |ours: f64, line: f64| ours <= line + f64::max(0.1 * line, 0.05) && ours <= 0.5;
        let met = ours.zip(line).map(|(ours, line)| is_met(ours, line));
        Check { criterion: "error of the time to full", ours, line, of, met }
    }

    fn crps(&self) -> Check {
        let of = self.kind.ahead().to_owned();
        let (ours, line) = (self.mean(OURS, "crps_60s"), self.mean(&of, "crps_60s"));
        let met = ours.map(|ours| ours <= 0.3 || line.is_some_and(|line| ours <= 1.1 * line));
        Check { criterion: "CRPS in 60 s, % of the limit", ours, line, of, met }
    }

    fn missed(&self) -> Check {
        let of = self.kind.line.clone();
        let missed = |one: &BTreeMap<String, Scores>, name: &str| {
            one.get(name).and_then(|scores| scores.get("missed").copied())
        };
        let worse = |one: &&BTreeMap<String, Scores>| {
            missed(one, OURS).zip(missed(one, &of)).is_some_and(|(ours, line)| ours > line)
        };
        let met = !self.recordings.iter().any(|one| worse(&one));
        let (ours, line) = (self.mean(OURS, "missed"), self.mean(&of, "missed"));
        let met = ours.map(|_| met);
        Check { criterion: "share of missed fills", ours, line, of, met }
    }

    fn alarms(&self, sure: &[String]) -> Check {
        let ours = self.false_minutes(OURS);
        let of = |name: &String| Some((name.clone(), self.false_minutes(name)?));
        let fewest = sure.iter().filter_map(of).min_by(|a, b| a.1.total_cmp(&b.1));
        let (of, line) = fewest.map_or((String::new(), None), |(name, least)| (name, Some(least)));
        let is_met = |ours: f64| ours <= f64::max(1.5 * line.unwrap_or(0.0), 0.5);
        Check { criterion: "false alarms, min", ours, line, of, met: ours.map(is_met) }
    }

    fn covers(&self) -> Check {
        let ours = self.mean(OURS, "covers_60s");
        let met = ours.map(|share| (0.65..=0.95).contains(&share));
        let of = "0.65 to 0.95".to_owned();
        Check { criterion: "80 % interval in 60 s holds", ours, line: None, of, met }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

impl Verdict {
    fn text(&self) -> String {
        let met = |met| if met { "met" } else { "NOT MET" };
        let mut text = format!("{} ({}): {}\n", self.kind, self.recordings, met(self.met));
        for check in &self.checks {
            let figure = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
            let reference = match (check.line, check.of.as_str()) {
                (None, of) => of.to_owned(),
                (line, of) => format!("{of} {}", figure(line)),
            };
            text += &format!(
                "  {:7}  {:29} {:>6}   {reference}\n",
                check.met.map_or("-", met),
                check.criterion,
                figure(check.ours)
            );
        }
        text
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
