//! `doctor`: one screen, or one JSON object.

use std::fmt::Write as _;

use serde::Serialize;

use super::{
    json::SCHEMA_VERSION,
    style::{self, BOLD},
};
use crate::{
    doctor::{
        facts::Facts,
        verdict::{self, Section, Verdict},
    },
    severity::Severity,
};

const WIDTH: usize = 80;
/// Where sentences begin on the screen: behind the mark and the subject.
const INDENT: usize = 24;
/// Where further lines of the list of what to do begin.
const ADVICE_INDENT: usize = 4;
/// Characters of a sentence on the screen: some messages of the kernel are long, and are whole in the
/// JSON output.
const LONGEST: usize = 220;

/// The headings of the sections.
const HEADINGS: [(&str, &str); 4] = [
    ("kernel", "Kernel"),
    ("process", "This process"),
    ("table", "Tables"),
    ("surroundings", "Around them"),
];

/// The screen. Styles are written out; the stream takes them away where they do not belong.
#[must_use]
pub fn text(facts: &Facts, sections: &[Section]) -> String {
    let worst = verdict::worst(sections);
    let mut out = String::new();
    let sentence = match worst {
        Severity::Ok => "all is well",
        Severity::Info => "all is well, with notes",
        Severity::Unknown => "something could not be judged",
        Severity::Warning => "ctmon works with less than everything, or a table is in danger",
        Severity::Critical => "ctmon cannot do its job, or a table is almost full",
    };
    let style = style::of(worst);
    let _ = writeln!(out, "{BOLD}ctmon {}{BOLD:#}: {style}{sentence}{style:#}", facts.ctmon);
    for section in sections {
        let heading = HEADINGS.iter().find(|(name, _)| *name == section.name);
        let heading = heading.map_or(section.name.as_str(), |(_, heading)| heading);
        let _ = writeln!(out, "{BOLD}{heading}{BOLD:#}");
        section.verdicts.iter().for_each(|verdict| line(&mut out, verdict));
    }
    let verdicts = || sections.iter().flat_map(|section| &section.verdicts);
    let mut said: Vec<&Verdict> = verdicts().filter(|verdict| verdict.advice.is_some()).collect();
    // The worst first, else in the order of the screen.
    said.sort_by_key(|verdict| std::cmp::Reverse(verdict.severity));
    if !said.is_empty() {
        let heading = match worst {
            Severity::Ok | Severity::Info => "What to do about the notes",
            Severity::Unknown | Severity::Warning | Severity::Critical => {
                "What is missing, what it was for, what to do"
            }
        };
        let _ = writeln!(out, "\n{BOLD}{heading}{BOLD:#}");
        said.into_iter().for_each(|verdict| advice(&mut out, verdict));
    }
    out
}

fn line(out: &mut String, verdict: &Verdict) {
    let Verdict { subject, severity, what, .. } = verdict;
    let style = style::of(*severity);
    let _ = write!(out, "  {style}{:<8}{style:#} {subject:<12} ", severity.name());
    sentence(out, what);
}

/// A warning or a problem with what it was for; a note with what to do alone.
fn advice(out: &mut String, verdict: &Verdict) {
    let Verdict { subject, severity, why, advice, .. } = verdict;
    let style = style::of(*severity);
    let _ = write!(out, "  {style}{subject}{style:#}: ");
    let used = subject.chars().count() + 4;
    let why = why.as_deref().filter(|_| *severity >= Severity::Warning);
    let advice = advice.as_deref().unwrap_or_default();
    match why {
        Some(why) => {
            wrapped(out, why, used, ADVICE_INDENT);
            let _ = write!(out, "{:ADVICE_INDENT$}do: ", "");
            wrapped(out, advice, ADVICE_INDENT + 4, ADVICE_INDENT + 4);
        }
        None => wrapped(out, advice, used, ADVICE_INDENT),
    }
}

/// The rest of a line that has come to [`INDENT`].
fn sentence(out: &mut String, text: &str) {
    // Names of files may hold anything, escape codes among it.
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    let mut text = words.join(" ");
    if text.chars().count() > LONGEST {
        text = text.chars().take(LONGEST - 3).chain("...".chars()).collect();
    }
    wrapped(out, &text, INDENT, INDENT);
}

/// Ends a line of which `used` columns are written; more lines begin after `indent` columns.
fn wrapped(out: &mut String, text: &str, used: usize, indent: usize) {
    let (first, next) = (" ".repeat(used), " ".repeat(indent));
    let options = textwrap::Options::new(WIDTH)
        .initial_indent(&first)
        .subsequent_indent(&next)
        // Paths are not broken at their hyphens.
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    let text = textwrap::fill(text, options);
    let _ = writeln!(out, "{}", text.get(used..).unwrap_or_default());
}

/// The JSON object.
#[derive(Debug, Serialize)]
pub struct Json<'a> {
    schema_version: u32,
    kind: &'static str,
    time_ns: u64,
    severity: Severity,
    exit_code: u8,
    sections: &'a [Section],
    facts: &'a Facts,
}

/// The same for programs. `time_ns`: nanoseconds since 1970 UTC.
#[must_use]
pub fn json<'a>(facts: &'a Facts, sections: &'a [Section], time_ns: u64) -> Json<'a> {
    let severity = verdict::worst(sections);
    Json {
        schema_version: SCHEMA_VERSION,
        kind: "doctor",
        time_ns,
        severity,
        exit_code: severity.exit_code(),
        sections,
        facts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        facts::{Attach, Conntrack, Fact},
        verdict::{
            judge,
            test_facts::{all_well, unknown},
        },
    };
    use crate::severity::THRESHOLDS;

    fn plain(facts: &Facts) -> String {
        anstream::adapter::strip_str(&text(facts, &judge(facts, &THRESHOLDS))).to_string()
    }

    /// Refused programs with a long message of the verifier, without privileges.
    fn refused() -> Facts {
        let mut facts = all_well();
        let reason = format!("the kernel refuses the program: {}", "R1 type=scalar ".repeat(60));
        facts.attach = Attach { hooks: Fact::Unavailable(reason), is_refused: true };
        facts.process.capabilities = Fact::Known(0);
        facts.namespaces.hidden_processes = Fact::Known(90);
        facts
    }

    #[test]
    fn a_good_machine_fits_a_screen() {
        let text = plain(&all_well());
        assert!(
            (24..=40).contains(&text.lines().count()),
            "{} lines\n{text}",
            text.lines().count()
        );
        assert!(text.starts_with("ctmon 0.1.0: all is well\n"), "{text}");
        assert!(!text.contains("What is missing"), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_a_screen() {
        let mut absent = all_well();
        absent.conntrack = Fact::Known(Conntrack::Absent { loadable: Fact::Known(true) });
        absent.attach.hooks = unknown();
        for facts in [all_well(), refused(), absent] {
            let text = plain(&facts);
            let wide: Vec<&str> =
                text.lines().filter(|line| line.chars().count() > WIDTH).collect();
            assert!(wide.is_empty(), "{wide:#?}");
            assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_said_with_its_purpose_and_what_to_do() {
        let text = plain(&refused());
        let list = text.split_once("What is missing").unwrap().1;
        assert!(
            list.contains("hooks: they tell") && list.contains("    do: see capabilities"),
            "{text}"
        );
        assert!(text.contains("...\n"), "{text}");
    }

    #[test]
    fn json_has_all_of_it() {
        let facts = refused();
        let sections = judge(&facts, &THRESHOLDS);
        let value = serde_json::to_value(json(&facts, &sections, 7)).unwrap();
        assert_eq!((&value["kind"], &value["severity"]), (&"doctor".into(), &"warning".into()));
        assert_eq!(value["exit_code"], 1);
        let facts_back: Facts = serde_json::from_value(value["facts"].clone()).unwrap();
        assert_eq!(facts_back, facts);
        let back: Vec<Section> = serde_json::from_value(value["sections"].clone()).unwrap();
        assert_eq!(back, sections);
    }
}
