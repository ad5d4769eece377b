//! Thresholds of `status` on the fill of a table: a number, or a range of the Monitoring Plugins Development Guidelines
//! ("Threshold and Ranges").

use std::{fmt, str::FromStr};

/// Values of a fill that raise an alert. Bounds are ratios: entries by limit, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FillRange {
    /// `N`: at or above N per cent.
    AtLeast(f64),
    /// `START:END`: below the start or above the end. A bound of none is infinite.
    Outside {
        /// Lowest fill without an alert.
        start: Option<f64>,
        /// Highest fill without an alert.
        end: Option<f64>,
    },
    /// `@START:END`: from the start to the end, both included.
    Inside {
        /// Lowest fill with an alert.
        start: Option<f64>,
        /// Highest fill with an alert.
        end: Option<f64>,
    },
}

/// Reason why a text is no threshold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A bound is no per cent.
    #[error("it must be between 0 and 100, or a range such as 10:80, 10:, ~:80 or @80:95")]
    Bound,
    /// The start is above the end.
    #[error("the start of a range must not be above its end")]
    Order,
}

impl FillRange {
    /// Reports whether `fill` raises an alert.
    #[must_use]
    pub fn alerts(self, fill: f64) -> bool {
        let is_below = |bound: Option<f64>| bound.is_some_and(|bound| fill < bound);
        let is_above = |bound: Option<f64>| bound.is_some_and(|bound| fill > bound);
        match self {
            Self::AtLeast(least) => fill >= least,
            Self::Outside { start, end } => is_below(start) || is_above(end),
            Self::Inside { start, end } => !is_below(start) && !is_above(end),
        }
    }

    /// Lowest fill above which, on the way up, an alert is raised; none where a rising fill raises none.
    #[must_use]
    pub fn rising(self) -> Option<f64> {
        match self {
            Self::AtLeast(least) => Some(least),
            Self::Outside { end, .. } => end,
            Self::Inside { start, .. } => start,
        }
    }

    /// Range in entries of a table that may have `max`, for performance data. A number of entries raises an alert by it
    /// exactly where its fill does.
    #[must_use]
    pub fn in_entries(self, max: u32) -> String {
        let lowest = |fill: f64| lowest_count(fill, max);
        let highest = |fill: f64| highest_count(fill, max);
        match self {
            Self::AtLeast(least) => lowest(least).to_string(),
            Self::Outside { start, end } => {
                range("", start.map(lowest), end.map(highest), max, [start, end])
            }
            Self::Inside { start, end } => {
                range("@", start.map(lowest), end.map(highest), max, [start, end])
            }
        }
    }
}

/// Lowest number of entries whose fill is at or above `fill`.
fn lowest_count(fill: f64, max: u32) -> u64 {
    let near = (fill * f64::from(max)).floor().max(0.0) as u64;
    // The product is rounded, and the judge compares quotients.
    let reaches = |count: &u64| *count as f64 / f64::from(max) >= fill;
    (near.saturating_sub(1)..=near + 2).find(reaches).unwrap_or(near)
}

/// Highest number of entries whose fill is at or below `fill`.
fn highest_count(fill: f64, max: u32) -> u64 {
    let near = (fill * f64::from(max)).floor().max(0.0) as u64;
    let keeps = |count: &u64| *count as f64 / f64::from(max) <= fill;
    (near.saturating_sub(1)..=near + 2).rev().find(keeps).unwrap_or(near)
}

/// A range in entries. Where no whole number is in it, the bounds keep their decimals: its start must not be above its end.
fn range(
    before: &str,
    start: Option<u64>,
    end: Option<u64>,
    max: u32,
    fills: [Option<f64>; 2],
) -> String {
    if start.zip(end).is_some_and(|(start, end)| start > end) {
        let exact = |fill: Option<f64>| trimmed(fill.unwrap_or(0.0) * f64::from(max));
        return format!("{before}{}:{}", exact(fills[0]), exact(fills[1]));
    }
    let start = start.map_or_else(|| "~".to_owned(), |start| start.to_string());
    let end = end.map_or_else(String::new, |end| end.to_string());
    format!("{before}{start}:{end}")
}

/// A number with at most six decimals, without zeros at the end.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// In per cent, as it is written on the command line.
impl fmt::Display for FillRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |fill: f64| trimmed(fill * 100.0);
        let range = |start: Option<f64>, end: Option<f64>| {
            let start = start.map_or_else(|| "~".to_owned(), percent);
            format!("{start}:{}", end.map_or_else(String::new, percent))
        };
        match self {
            Self::AtLeast(least) => f.write_str(&percent(*least)),
            Self::Outside { start, end } => f.write_str(&range(*start, *end)),
            Self::Inside { start, end } => write!(f, "@{}", range(*start, *end)),
        }
    }
}

impl FromStr for FillRange {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let (is_inside, bounds) = match text.strip_prefix('@') {
            Some(bounds) => (true, bounds),
            None => (false, text),
        };
        let (start, end) = match bounds.split_once(':') {
            Some((start, end)) => (start, Some(end)),
            None if is_inside => ("", Some(bounds)),
            None => return Ok(Self::AtLeast(percent(text)?)),
        };
        let start = match start {
            "~" => None,
            "" => Some(0.0),
            start => Some(percent(start)?),
        };
        let end = match end {
            None | Some("") => None,
            Some(end) => Some(percent(end)?),
        };
        // A colon alone, and 0 to infinity.
        if bounds == ":" || bounds.is_empty() {
            return Err(Invalid::Bound);
        }
        if start.zip(end).is_some_and(|(start, end)| start > end) {
            return Err(Invalid::Order);
        }
        Ok(if is_inside { Self::Inside { start, end } } else { Self::Outside { start, end } })
    }
}

/// A ratio from a number of per cent, 0 to 100, with or without the sign.
fn percent(text: &str) -> Result<f64, Invalid> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let is_decimal = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    // Read as the ratio that it is: 94.9 / 100.0 is above 949 / 1000.
    let ratio = format!("{number}e-2").parse::<f64>().ok().filter(|_| is_decimal);
    ratio.filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or(Invalid::Bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> FillRange {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_alert_as_the_guidelines_of_monitoring_plugins_say() {
        // Threshold, and the numbers of entries of a table of 1,000 with and without an alert.
        let cases: [(&str, &[u32], &[u32]); 12] = [
            ("80", &[800, 801, 1000, 1001], &[0, 799]),
            ("80%", &[800], &[799]),
            ("94.9", &[949], &[948]),
            ("0", &[0, 1], &[]),
            ("10:", &[0, 99], &[100, 1000]),
            ("~:80", &[801, 1000], &[0, 800]),
            (":80", &[801], &[0, 800]),
            ("10:80", &[99, 801], &[100, 800]),
            ("@10:80", &[100, 500, 800], &[99, 801]),
            ("@80", &[0, 800], &[801]),
            ("@~:5", &[0, 50], &[51]),
            ("@95:", &[950, 2000], &[949]),
        ];
        for (text, with, without) in cases {
            let range = read(text);
            let alerts = |entries: &u32| range.alerts(f64::from(*entries) / 1000.0);
            assert!(with.iter().all(alerts), "{text}: {with:?}");
            assert!(!without.iter().any(alerts), "{text}: {without:?}");
        }
    }

    #[test]
    fn texts_that_are_no_thresholds_are_refused() {
        let texts = [
            "", ":", "@", "@:", "101", "-1", "NaN", "inf", "1e1", "much", "80%%", "10:20:30",
            "a:b", "10:~", "~", "0x5", "+5", ".", "%",
        ];
        for text in texts {
            assert_eq!(text.parse::<FillRange>(), Err(Invalid::Bound), "{text}");
        }
        assert_eq!("80:10".parse::<FillRange>(), Err(Invalid::Order));
        assert_eq!("@80%:10%".parse::<FillRange>(), Err(Invalid::Order));
    }

    #[test]
    fn a_threshold_in_entries_is_reached_where_the_fill_reaches_it() {
        let texts = ["80", "55", "94.9", "0.01", "100", "0"];
        for max in [1, 3, 7, 100, 1000, 1023, 65_536, 262_144, u32::MAX] {
            for text in texts {
                let range = read(text);
                let least: u64 = range.in_entries(max).parse().unwrap();
                let fill = |entries: u64| entries as f64 / f64::from(max);
                assert!(range.alerts(fill(least)), "{text} of {max}: {least}");
                assert!(least == 0 || !range.alerts(fill(least - 1)), "{text} of {max}: {least}");
            }
        }
    }

    #[test]
    fn ranges_are_written_as_they_are_read() {
        let cases = [
            ("80", "80", "819"),
            ("10:80%", "10:80", "103:818"),
            ("10:", "10:", "103:"),
            ("~:80", "~:80", "~:818"),
            ("@80", "@0:80", "@0:818"),
            ("@94.95:95", "@94.95:95", "@972:971"),
        ];
        for (text, percent, entries) in cases {
            let range = read(text);
            assert_eq!(range.to_string(), percent);
            if text == "@94.95:95" {
                // No whole number of entries is in it.
                assert_eq!(range.in_entries(1023), "@971.3385:971.85");
            } else {
                assert_eq!(range.in_entries(1023), entries, "{text}");
            }
        }
    }

    #[test]
    fn a_rising_fill_meets_a_bound_or_none() {
        assert_eq!(read("80").rising(), Some(0.8));
        assert_eq!(read("10:").rising(), None);
        assert_eq!(read("10:80").rising(), Some(0.8));
        assert_eq!(read("@95:100").rising(), Some(0.95));
    }
}
