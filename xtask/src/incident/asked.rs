//! What Prometheus is asked when it is over.

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    SCRAPE,
    record::{Alert, Forecast, Points, RANGES, Record},
};
use crate::prometheus::{answers::Series, servers::Server};

/// Longer than the story.
const ALL: &str = "1h";
/// Where `predict_linear` over a range meets the limit, in seconds: its level now, and its slope. Never where it falls.
fn line(range: &str) -> String {
    format!(
        "clamp_min(ctmon_entries_limit - predict_linear(ctmon_entries[{range}], 0), 0) \
         / clamp_min(deriv(ctmon_entries[{range}]), 0)"
    )
}

/// All that is needed of the incident, by the series that Prometheus has.
pub(super) fn record(
    server: &Server<'_>,
    kernel: &str,
    phases: &[(f64, String)],
) -> Result<Record> {
    let (begun, _) = phases.first().context("nothing happened in the VM")?;
    let samples = |metric: &str| one(server.samples(&format!("{metric}[{ALL}]"))?, metric);
    let entries = since(*begun, samples("truth_entries")?);
    let limits = samples("ctmon_entries_limit")?;
    let limit = limits.first().context("no limit")?.1;
    ensure!(limits.iter().all(|(_, value)| *value == limit), "the limit changed");
    let quantile = |quantile: &str| {
        let metric = format!("ctmon_seconds_to_full{{quantile={quantile:?}}}");
        anyhow::Ok(finite(since(*begun, samples(&metric)?)))
    };
    let forecast =
        Forecast { low: quantile("0.1")?, median: quantile("0.5")?, high: quantile("0.9")? };
    let median = &forecast.median;
    let (Some(first), Some(last)) = (median.first(), median.last()) else {
        bail!("ctmon never said when the table is full");
    };
    // At the same scrapes: right after each.
    let times = [first, last].map(|(time, _)| begun + time + 0.1);
    let mut lines = Vec::new();
    for range in RANGES {
        let query = line(range);
        let points = one(server.range(&query, times, SCRAPE)?, &query)?;
        lines.push((range.to_owned(), finite(since(*begun, points))));
    }
    let firing = server.samples(&format!("ALERTS{{alertstate=\"firing\"}}[{ALL}]"))?;
    let mut alerts: Vec<Alert> = firing.into_iter().map(|series| alert(*begun, series)).collect();
    alerts.sort_by(|one, other| one.began().total_cmp(&other.began()));
    let warned = since(*begun, samples("truth_severity")?);
    let phases = phases.iter().map(|(time, name)| (rounded(time - begun), name.clone())).collect();
    Ok(Record {
        kernel: kernel.to_owned(),
        phases,
        entries,
        limit,
        forecast,
        lines,
        alerts,
        warned,
    })
}

/// The points of the only series.
pub(super) fn one(series: Vec<Series>, what: &str) -> Result<Vec<(f64, f64)>> {
    let count = series.len();
    match <[Series; 1]>::try_from(series) {
        Ok([series]) => Ok(series.points),
        Err(_) => bail!("Prometheus has {count} series of {what}, not one"),
    }
}

/// With times from then on.
fn since(begun: f64, points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let later = points.into_iter().map(|(time, value)| (rounded(time - begun), value));
    later.filter(|(time, _)| *time >= 0.0).collect()
}

/// To milliseconds, as Prometheus has them.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// Seconds to full, none for never; what is no number (a full table whose line does not rise) is left out.
fn finite(points: Vec<(f64, f64)>) -> Points {
    let numbers = points.into_iter().filter(|(_, value)| !value.is_nan());
    numbers.map(|(time, value)| (time, value.is_finite().then(|| rounded(value)))).collect()
}

/// When it fired: its samples are an evaluation apart, or it ended in between.
fn alert(begun: f64, series: Series) -> Alert {
    let name = series.labels.get("alertname").cloned().unwrap_or_default();
    let mut firing: Vec<(f64, f64)> = Vec::new();
    for (time, _) in since(begun, series.points) {
        match firing.last_mut() {
            Some((_, end)) if time - *end < 1.5 * f64::from(SCRAPE) => *end = time,
            _ => firing.push((time, time)),
        }
    }
    Alert { name, firing }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: &[(f64, f64)]) -> Series {
        let labels = [("alertname".to_owned(), name.to_owned())].into();
        Series { labels, points: points.to_vec() }
    }

    #[test]
    fn an_alert_ends_where_an_evaluation_is_without_it() {
        let points = [90.0, 105.0, 120.001, 150.0, 165.0].map(|time| (1000.0 + time, 1.0));
        let alert = alert(1000.0, series("A", &points));
        assert_eq!(alert.name, "A");
        assert_eq!(alert.firing, [(90.0, 120.001), (150.0, 165.0)]);
    }

    #[test]
    fn what_was_before_is_left_out_and_never_is_no_number() {
        let points = vec![(99.0, 1.0), (100.0, 2.0004), (101.0, f64::INFINITY), (102.0, f64::NAN)];
        assert_eq!(finite(since(100.0, points)), [(0.0, Some(2.0)), (1.0, None)]);
    }

    #[test]
    fn one_series_is_not_two() {
        let points = [(1.0, 2.0)];
        assert_eq!(one(vec![series("a", &points)], "a").unwrap(), points);
        for wrong in [vec![], vec![series("a", &points), series("b", &points)]] {
            let error = one(wrong, "ctmon_entries").unwrap_err().to_string();
            assert!(error.contains("series of ctmon_entries, not one"), "{error}");
        }
    }
}
