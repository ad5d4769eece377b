//! Numbers short enough for a table and exact enough to act on.

use std::time::Duration;

/// A count or a rate in at most five characters: `999`, `9.9k`, `123k`, `12M`.
#[must_use]
pub fn short(value: f64) -> String {
    const STEPS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let size = value.abs();
    for (step, unit) in STEPS {
        // From where rounding to a whole number of the smaller unit would need four digits.
        if size >= 0.9995 * step {
            let scaled = value / step;
            // From where one decimal would round to two digits before the point.
            let decimals = usize::from(scaled.abs() < 9.95);
            return format!("{scaled:.decimals$}{unit}");
        }
    }
    // Never "-0".
    format!("{:.0}", if size < 0.5 { 0.0 } else { value })
}

/// As [`short`], with a sign: `+120`, `-3.1k`, `0`.
#[must_use]
pub fn signed(value: f64) -> String {
    let text = short(value);
    if text == "0" || value < 0.0 { text } else { format!("+{text}") }
}

/// A share in whole per cent, rounded down: no number looks as if a threshold were reached that is not.
#[must_use]
pub fn percent(ratio: f64) -> String {
    // 0.57 * 100 is a little less than 57.
    format!("{:.0}%", (ratio * 100.0 + 1e-9).floor())
}

/// A span of time in at most six characters: `0.4s`, `42s`, `5m10s`, `3h20m`, `12d`, `>99d`.
#[must_use]
pub fn span(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{seconds:.1}s");
    }
    let whole = Duration::try_from_secs_f64(seconds).map_or(u64::MAX, |span| span.as_secs());
    match whole {
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m{:02}s", whole / 60, whole % 60),
        3600..86_400 => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
        86_400..8_640_000 => format!("{}d", whole / 86_400),
        _ => ">99d".into(),
    }
}

/// A span of time in a sentence, with two digits or three: `42 s`, `12 min`, `2.5 h`.
#[must_use]
pub fn time(seconds: f64) -> String {
    if seconds < 1.0 {
        "less than 1 s".into()
    } else if seconds < 100.0 {
        // Whole ones that are left, as [`span`] has them.
        format!("{:.0} s", seconds.floor())
    } else if seconds < 99.5 * 60.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        let hours = format!("{:.1}", seconds / 3600.0);
        format!("{} h", hours.trim_end_matches(".0"))
    }
}

/// An estimated number in a sentence, with three digits that count: `121,000`, `1,210,000`.
#[must_use]
pub fn about(value: f64) -> String {
    let value = value.max(0.0);
    let digits = value.max(1.0).log10().floor();
    let step = 10f64.powf((digits - 2.0).max(0.0));
    grouped(((value / step).round() * step) as u64)
}

/// A number from [`about`] or [`grouped`] with its noun: `1 entry`, `121,000 entries`.
#[must_use]
pub fn with_noun(number: &str, one: &str, many: &str) -> String {
    format!("{number} {}", if number == "1" { one } else { many })
}

/// A counted number in a sentence: `121,499`.
#[must_use]
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate a second in a sentence, with a decimal below 10: `0.4`, `9.5`, `12`, `1.2k`; a rate above 0 is never `0`.
#[must_use]
pub fn rate(value: f64) -> String {
    if !(0.0..9.95).contains(&value) || value == 0.0 {
        return short(value);
    }
    let text = format!("{:.1}", value.max(0.1));
    text.trim_end_matches(".0").to_owned()
}

/// `2026-11-23 10:04:08`, in UTC.
#[must_use]
pub fn clock(unix_ns: u64) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_nanos(unix_ns);
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.trim_end_matches('Z').replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_short() {
        let cases = [
            (0.0, "0"),
            (-0.2, "0"),
            (7.4, "7"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (1234.0, "1.2k"),
            (9949.0, "9.9k"),
            (9950.0, "10k"),
            (123_456.0, "123k"),
            (999_499.0, "999k"),
            (999_500.0, "1.0M"),
            (12_345_678.0, "12M"),
            (3.2e9, "3.2G"),
            (-1234.0, "-1.2k"),
        ];
        for (value, expected) in cases {
            assert_eq!(short(value), expected, "{value}");
            assert!(short(value).len() <= 5);
        }
        assert_eq!(
            (signed(12.0), signed(-12.0), signed(0.1)),
            ("+12".into(), "-12".into(), "0".into())
        );
    }

    #[test]
    fn rates_above_0_are_not_0() {
        let cases = [
            (0.0, "0"),
            (0.01, "0.1"),
            (0.44, "0.4"),
            (1.0, "1"),
            (9.94, "9.9"),
            (9.96, "10"),
            (1234.0, "1.2k"),
        ];
        for (value, expected) in cases {
            assert_eq!(rate(value), expected, "{value}");
        }
    }

    #[test]
    fn per_cent_are_rounded_down() {
        let cases = [
            (0.0, "0%"),
            (0.479, "47%"),
            (0.57, "57%"),
            (0.9499, "94%"),
            (0.999, "99%"),
            (1.0, "100%"),
            (1.02, "102%"),
        ];
        for (ratio, expected) in cases {
            assert_eq!(percent(ratio), expected, "{ratio}");
        }
    }

    #[test]
    fn spans_stay_short() {
        let cases = [
            (0.04, "0.0s"),
            (9.9, "9.9s"),
            (9.96, "9s"),
            (59.9, "59s"),
            (310.0, "5m10s"),
            (12_000.0, "3h20m"),
            (90_000.0, "1d"),
            (8_639_999.0, "99d"),
            (1e300, ">99d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(span(seconds), expected, "{seconds}");
            assert!(span(seconds).len() <= 6);
        }
    }

    #[test]
    fn estimates_show_no_more_digits_than_they_have() {
        let times = [
            (0.4, "less than 1 s"),
            (42.3, "42 s"),
            (99.9, "99 s"),
            (120.0, "2 min"),
            (4000.0, "67 min"),
            (9000.0, "2.5 h"),
            (10_800.0, "3 h"),
        ];
        for (seconds, expected) in times {
            assert_eq!(time(seconds), expected, "{seconds}");
        }
        let numbers = [
            (-1.0, "0"),
            (0.2, "0"),
            (999.4, "999"),
            (1_234.0, "1,230"),
            (121_499.0, "121,000"),
            (999_900.0, "1,000,000"),
            (1_213_000.0, "1,210,000"),
        ];
        for (value, expected) in numbers {
            assert_eq!(about(value), expected, "{value}");
        }
    }

    #[test]
    fn counted_numbers_are_in_full() {
        let cases = [(0, "0"), (999, "999"), (1000, "1,000"), (262_144, "262,144")];
        for (value, expected) in cases {
            assert_eq!(grouped(value), expected, "{value}");
        }
    }
}
