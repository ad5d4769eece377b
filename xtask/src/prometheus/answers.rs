//! The answers of Prometheus as `promtool query --format=json` prints them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// A series.
#[derive(Debug, PartialEq)]
pub(crate) struct Series {
    pub(crate) labels: BTreeMap<String, String>,
    /// Seconds since 1970 UTC, and the value then.
    pub(crate) points: Vec<(f64, f64)>,
}

/// As it is in JSON: values are text, as they may be `+Inf`.
#[derive(Deserialize)]
struct Answered {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

/// The series of a query that gives several values of each.
pub(super) fn series(json: &str) -> Result<Vec<Series>> {
    let answered: Vec<Answered> =
        serde_json::from_str(json).context("these are no series in JSON")?;
    let read = |Answered { metric: labels, values }| {
        let point = |(time, value): (f64, String)| {
            let number = value.parse().with_context(|| format!("{value:?} is no number"))?;
            anyhow::Ok((time, number))
        };
        let points = values.into_iter().map(point).collect::<Result<_>>()?;
        Ok(Series { labels, points })
    };
    answered.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_have_labels_times_and_values() {
        let json = r#"[{"metric":{"__name__":"a","netns":"1"},"values":[[1764192000.5,"7"],[1764192015.5,"+Inf"]]}]"#;
        let [one] = &series(json).unwrap()[..] else { panic!("one series") };
        assert_eq!(one.labels["netns"], "1");
        assert_eq!(one.points, [(1_764_192_000.5, 7.0), (1_764_192_015.5, f64::INFINITY)]);
        let nan = series(r#"[{"metric":{},"values":[[1,"NaN"]]}]"#).unwrap();
        assert!(nan[0].points[0].1.is_nan());
    }

    #[test]
    fn nothing_is_no_series_and_anything_else_an_error() {
        assert_eq!(series("[]\n").unwrap(), []);
        for wrong in [
            "",
            "{}",
            r#"[{"metric":{},"values":[[1,"x"]]}]"#,
            r#"[{"metric":{},"value":[1,"1"]}]"#,
        ] {
            assert!(series(wrong).is_err(), "{wrong}");
        }
    }
}
