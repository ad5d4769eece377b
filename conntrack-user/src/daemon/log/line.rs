//! A line as text and as JSON.

use std::{fmt::Write as _, time::UNIX_EPOCH};

use serde_json::{Value, json};

use super::Line;
use crate::{
    text::one_line,
    view::{
        json::SCHEMA_VERSION,
        warning::{object, plain},
    },
};

/// `2026-11-26T18:30:00.123Z warning MESSAGE key=value key="two words"`, and the end of the line.
pub(super) fn text(line: &Line<'_>) -> String {
    let time = humantime::format_rfc3339_millis(line.time);
    let mut out = format!("{time} {} {}", line.level.name(), one_line(line.message));
    for (key, value) in line.fields {
        if let Some(value) = plain(value) {
            let _ = write!(out, " {key}={}", word(&value));
        }
    }
    out.push('\n');
    out
}

/// One object, and the end of the line.
pub(super) fn json(line: &Line<'_>) -> String {
    let since = line.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut all = vec![
        ("schema_version", json!(SCHEMA_VERSION)),
        ("kind", json!(line.kind)),
        ("time_ns", json!(since.as_nanos() as u64)),
        ("level", json!(line.level.name())),
        ("message", json!(line.message)),
    ];
    all.extend(line.fields.iter().cloned());
    format!("{}\n", object(&all))
}

/// `text`, cleaned: as it is, or as a JSON string where it would not be one word.
fn word(text: &str) -> String {
    let text = one_line(text);
    let is_plain = |c: char| c != ' ' && c != '"' && c != '=';
    if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::Level, *};

    fn line<'a>(fields: &'a [(&'a str, Value)]) -> Line<'a> {
        let time = UNIX_EPOCH + Duration::from_millis(1_764_181_800_123);
        Line { time, level: Level::Warning, message: "it is\nso", kind: "log", fields }
    }

    #[test]
    fn fields_follow_the_message() {
        let fields = [
            ("netns", json!(4_026_531_840u64)),
            ("name", json!("two words")),
            ("error", json!("a\u{1b}[31m \"b\"")),
            ("empty", json!("")),
            ("none", Value::Null),
        ];
        assert_eq!(
            text(&line(&fields)),
            "2025-11-26T18:30:00.123Z warning it is so netns=4026531840 name=\"two words\" \
             error=\"a?[31m \\\"b\\\"\" empty=\"\"\n"
        );
        assert_eq!(
            json(&line(&fields[..2])),
            "{\"schema_version\":3,\"kind\":\"log\",\"time_ns\":1764181800123000000,\"level\":\"warning\",\
             \"message\":\"it is\\nso\",\"netns\":4026531840,\"name\":\"two words\"}\n"
        );
    }
}
