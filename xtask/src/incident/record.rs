//! What is kept of an incident. Times are seconds since it began.

use serde::{Deserialize, Serialize};

/// Seconds until the table is full, as they were said at some time; none: not within three hours, or never.
pub(super) type Points = Vec<(f64, Option<f64>)>;

/// What lines are drawn through: what people use, and one that follows as soon as it can.
pub(super) const RANGES: [&str; 2] = ["5m", "1m"];

/// The alert of the rules that are shipped that must fire in time.
const ALERT: &str = "CtmonTableFullSoon";
/// `ctmon_severity` of a table that is critical.
pub(super) const CRITICAL: f64 = 2.0;

/// One run.
#[derive(Serialize, Deserialize)]
pub(super) struct Record {
    /// In the VM.
    pub(super) kernel: String,
    /// What began then.
    pub(super) phases: Vec<(f64, String)>,
    /// Of each second.
    pub(super) entries: Vec<(f64, f64)>,
    pub(super) limit: f64,
    /// ctmon's, of each scrape.
    pub(super) forecast: Forecast,
    /// Those of [`RANGES`], at the same scrapes.
    pub(super) lines: Vec<(String, Points)>,
    pub(super) alerts: Vec<Alert>,
    /// `ctmon_severity` of each second.
    pub(super) warned: Vec<(f64, f64)>,
}

/// Quantiles of the time to full.
#[derive(Serialize, Deserialize)]
pub(super) struct Forecast {
    pub(super) low: Points,
    pub(super) median: Points,
    pub(super) high: Points,
}

/// An alert, and the evaluations from which and up to which it fired.
#[derive(Serialize, Deserialize)]
pub(super) struct Alert {
    pub(super) name: String,
    pub(super) firing: Vec<(f64, f64)>,
}

impl Alert {
    /// When it fired first.
    pub(super) fn began(&self) -> f64 {
        self.firing.first().map_or(f64::INFINITY, |(began, _)| *began)
    }

    /// Whether it fired before that, and still then.
    fn is_in_time(&self, full: f64) -> bool {
        self.firing.iter().any(|(began, ended)| *began < full && full <= *ended)
    }
}

impl Record {
    /// When the table was full.
    pub(super) fn full(&self) -> Option<f64> {
        first(&self.entries, self.limit)
    }

    /// The longest time between two readings that should be a second apart: how long the machine stood still.
    pub(super) fn gap(&self) -> f64 {
        let times = self.entries.iter().map(|(time, _)| *time);
        times.clone().zip(times.skip(1)).map(|(one, next)| next - one).fold(0.0, f64::max)
    }

    /// The times at which the daemon itself said `level` or worse.
    pub(super) fn warned(&self, level: f64) -> Alert {
        let runs = self.warned.chunk_by(|one, other| (one.1 >= level) == (other.1 >= level));
        let ends = |run: &[(f64, f64)]| {
            let (began, said) = *run.first()?;
            (said >= level).then_some((began, run.last()?.0))
        };
        let name = format!("ctmon_severity >= {level}");
        Alert { name, firing: runs.filter_map(ends).collect() }
    }

    /// What must hold and does not.
    pub(super) fn complaints(&self) -> Vec<String> {
        let Some(full) = self.full() else {
            return vec![format!("the table never had {} entries", self.limit)];
        };
        let own = self.warned(CRITICAL);
        let mut complaints = Vec::new();
        for name in [ALERT, &own.name] {
            let mut named = self.alerts.iter().chain([&own]).filter(|alert| alert.name == name);
            if !named.any(|alert| alert.is_in_time(full)) {
                complaints.push(format!("no {name} from before the table was full until then"));
            }
        }
        complaints
    }
}

/// The first time at which there is so much.
fn first(points: &[(f64, f64)], least: f64) -> Option<f64> {
    points.iter().find(|(_, value)| *value >= least).map(|(time, _)| *time)
}

/// What was said last at that time; none where that is longer ago than `age`.
pub(super) fn said<T: Copy>(points: &[(f64, T)], time: f64, age: f64) -> Option<(f64, T)> {
    let last = points.iter().rev().find(|(at, _)| *at <= time)?;
    (time - last.0 <= age).then_some(*last)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Full after 100 s of 10 entries/s; critical from 60 s on, the alert from 75 s on.
    pub(in crate::incident) fn example() -> Record {
        let scrapes = || (0..8).map(|scrape| f64::from(scrape * 15));
        let said =
            |factor: f64| scrapes().map(|at| (at, Some((100.0 - at).max(0.0) * factor))).collect();
        let never = scrapes().map(|at| (at, (at > 50.0).then_some(200.0))).collect();
        let seconds = || (0..120).map(f64::from);
        Record {
            kernel: "6.12".to_owned(),
            phases: vec![(0.0, "10 connections/s, that stay".to_owned())],
            entries: seconds().map(|at| (at, (at * 10.0).min(1000.0))).collect(),
            limit: 1000.0,
            forecast: Forecast { low: said(0.5), median: said(1.1), high: said(2.0) },
            lines: vec![("5m".to_owned(), never), ("1m".to_owned(), said(0.9))],
            alerts: vec![
                Alert { name: ALERT.to_owned(), firing: vec![(75.0, 105.0)] },
                Alert { name: "CtmonPacketsDropped".to_owned(), firing: vec![(105.0, 105.0)] },
            ],
            warned: seconds().map(|at| (at, if at < 60.0 { 0.0 } else { CRITICAL })).collect(),
        }
    }

    #[test]
    fn it_is_full_when_the_series_says_so() {
        let record = example();
        assert_eq!(record.full(), Some(100.0));
        assert_eq!(record.gap(), 1.0);
        assert_eq!(record.warned(CRITICAL).firing, [(60.0, 119.0)]);
        assert_eq!(record.warned(0.0).firing, [(0.0, 119.0)]);
        assert!(record.complaints().is_empty());
    }

    #[test]
    fn what_comes_too_late_or_never_is_complained_of() {
        let told = |change: fn(&mut Record)| {
            let mut record = example();
            change(&mut record);
            record.complaints().join("; ")
        };
        assert!(told(|record| record.alerts[0].firing = vec![(100.0, 115.0)]).contains(ALERT));
        assert!(told(|record| record.alerts[0].firing = vec![(15.0, 90.0)]).contains(ALERT));
        assert!(told(|record| record.alerts.clear()).contains(ALERT));
        let late = told(|record| record.warned.retain(|(at, _)| !(60.0..100.0).contains(at)));
        assert!(late.contains("ctmon_severity >= 2"), "{late}");
        let never = told(|record| record.entries.truncate(100));
        assert!(never.contains("never had 1000 entries"), "{never}");
    }

    #[test]
    fn what_was_said_long_ago_is_not_said_now() {
        let points = [(10.0, 1), (25.0, 2)];
        assert_eq!(said(&points, 30.0, 15.0), Some((25.0, 2)));
        assert_eq!(said(&points, 24.9, 15.0), Some((10.0, 1)));
        assert_eq!(said(&points, 9.9, 15.0), None);
        assert_eq!(said(&points, 41.0, 15.0), None);
    }
}
