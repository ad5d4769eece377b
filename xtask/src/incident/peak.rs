//! `cargo xtask incident --peak`: scrapes a minute apart miss a peak of two seconds; the high-water marks have it.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};

use super::{Args, asked, scraped};
use crate::prometheus::servers::Server;

const STORY: &str = include_str!("peak.sh");
/// Seconds between two scrapes: docs/metrics.md promises that so far apart none misses a peak.
const SCRAPE: u32 = 60;
/// Entries that each peak of the story has.
const PEAK: f64 = 15_000.0;
/// Between the insert of an entry and the tick that marks it some may go.
const MARKED: f64 = 0.99 * PEAK;

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let seen = scraped(args, STORY, config, ask)?;
    println!("{}", seen.text());
    let complaints = seen.complaints();
    complaints.iter().for_each(|complaint| println!("FAILED: {complaint}"));
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Scrapes a minute apart, and beside them, under a name that no rule knows, the truth of each second.
fn config(_rules: &[PathBuf], target: &str) -> String {
    format!(
        "scrape_configs:
  - job_name: ctmon
    scrape_interval: {SCRAPE}s
    static_configs: [{{ targets: [{target:?}] }}]
  - job_name: truth
    scrape_interval: 1s
    static_configs: [{{ targets: [{target:?}] }}]
    metric_relabel_configs:
      - {{ source_labels: [__name__], regex: ctmon_entries, action: keep }}
      - {{ source_labels: [__name__], regex: ctmon_(.+), target_label: __name__, replacement: truth_$1 }}
"
    )
}

/// Samples in Prometheus; times in seconds since 1970 UTC.
struct Seen {
    kernel: String,
    /// Start of each peak.
    peaks: Vec<f64>,
    /// `ctmon_entries` of each second.
    truth: Vec<(f64, f64)>,
    /// `ctmon_entries` of each scrape; below, marks of entries and of the insert rate.
    entries: Vec<(f64, f64)>,
    marks: Vec<(f64, f64)>,
    rates: Vec<(f64, f64)>,
}

fn ask(server: &Server<'_>, kernel: &str, phases: &[(f64, String)]) -> Result<Seen> {
    let samples = |metric: &str| {
        asked::one(server.samples(&format!("{metric}[1h]"))?, metric).context("nothing was scraped")
    };
    Ok(Seen {
        kernel: kernel.to_owned(),
        peaks: phases.iter().map(|(began, _)| *began).collect(),
        truth: samples("truth_entries")?,
        entries: samples("ctmon_entries")?,
        marks: samples("ctmon_entries_high_water")?,
        rates: samples("ctmon_insert_rate_high_water")?,
    })
}

impl Seen {
    /// Value of the first scrape after a peak.
    fn after(points: &[(f64, f64)], peak: f64) -> Option<f64> {
        points.iter().find(|(time, _)| *time > peak + 2.0).map(|(_, value)| *value)
    }

    /// Seconds from that peak's first to its last reading of more than half of it.
    fn lasted(&self, peak: f64) -> f64 {
        let high = self.truth.iter().filter(|(time, value)| {
            (peak..peak + f64::from(SCRAPE)).contains(time) && *value > PEAK / 2.0
        });
        let times: Vec<f64> = high.map(|(time, _)| *time).collect();
        times.first().zip(times.last()).map_or(0.0, |(first, last)| last - first)
    }

    fn text(&self) -> String {
        let mut text = format!(
            "{}, scrapes each {SCRAPE} s, {} scrapes\n\
             | peak | lasted, s | ctmon_entries at the next scrape | ctmon_entries_high_water | ctmon_insert_rate_high_water |\n\
             |---|---|---|---|---|\n",
            self.kernel,
            self.entries.len()
        );
        let cell =
            |value: Option<f64>| value.map_or("none".to_owned(), |value| format!("{value:.0}"));
        for (number, peak) in self.peaks.iter().enumerate() {
            let [entries, mark, rate] = [&self.entries, &self.marks, &self.rates]
                .map(|points| cell(Self::after(points, *peak)));
            let lasted = self.lasted(*peak);
            text += &format!("| {} | {lasted:.0} | {entries} | {mark} | {rate} |\n", number + 1);
        }
        text
    }

    /// Expectations that do not hold.
    fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.peaks.len() != 3 {
            complaints.push(format!("{} peaks of 3", self.peaks.len()));
        }
        for peak in &self.peaks {
            match Self::after(&self.marks, *peak) {
                Some(mark) if mark >= MARKED => {}
                mark => complaints.push(format!("the mark after a peak is {mark:?}")),
            }
            if self.lasted(*peak) > 10.0 {
                complaints.push("a peak lasted too long to be one".to_owned());
            }
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Seen {
        let peaks = vec![100.0, 170.0, 255.0];
        let truth = |at: f64| peaks.iter().any(|peak| (0.0..2.0).contains(&(at - peak)));
        let seconds = (0..320).map(f64::from);
        let scrapes = || [30.0, 90.0, 150.0, 210.0, 270.0].into_iter();
        Seen {
            kernel: "6.12".to_owned(),
            truth: seconds.map(|at| (at, if truth(at) { PEAK } else { 0.0 })).collect(),
            entries: scrapes().map(|at| (at, 1.0)).collect(),
            marks: scrapes().map(|at| (at, if at > 100.0 { PEAK } else { 1.0 })).collect(),
            rates: scrapes().map(|at| (at, 9_000.0)).collect(),
            peaks,
        }
    }

    #[test]
    fn the_mark_after_each_peak_is_looked_at() {
        let mut seen = example();
        assert_eq!(seen.complaints(), Vec::<String>::new());
        assert!(seen.text().contains("| 2 | 1 | 1 | 15000 | 9000 |"), "{}", seen.text());
        seen.marks[3].1 = 14_000.0;
        assert_eq!(seen.complaints(), ["the mark after a peak is Some(14000.0)"]);
        seen.marks.truncate(3);
        assert_eq!(seen.complaints().len(), 2);
        seen.peaks.clear();
        assert_eq!(seen.complaints(), ["0 peaks of 3"]);
    }
}
