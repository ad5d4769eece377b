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
        verdict::{self, Part, Section, Verdict},
    },
    severity::Severity,
    text::one_line,
};

const WIDTH: usize = 80;
/// Where sentences begin on the screen: behind the mark and the subject.
const INDENT: usize = 24;
/// Where further lines of the list of what to do begin.
const ADVICE_INDENT: usize = 4;
/// Characters of a sentence in the list: some messages of the kernel are long, and are whole below it.
const LONGEST: usize = 220;
/// End of a sentence that goes on below the list.
const CUT: &str = " ... [below]";

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
    let program = format!("ctmon {}", facts.ctmon);
    for (part, heading) in [(Part::Program, program.as_str()), (Part::Tables, "tables")] {
        // Where nothing is read there is nothing to judge, and never "all is well".
        let severity = verdict::worst_of(sections, part).unwrap_or(Severity::Unknown);
        let (style, sentence) = (style::of(severity), sentence_of(part, severity));
        let _ = writeln!(out, "{BOLD}{heading}{BOLD:#}: {style}{sentence}{style:#}");
    }
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
    let cut: Vec<&Verdict> = verdicts().filter(|verdict| is_cut(&verdict.what)).collect();
    if !cut.is_empty() {
        let _ = writeln!(out, "\n{BOLD}In full{BOLD:#}");
        for Verdict { subject, what, .. } in cut {
            let _ = write!(out, "  {subject}: ");
            wrapped(&mut out, &one_line(what), subject.chars().count() + 4, ADVICE_INDENT);
        }
    }
    out
}

const fn sentence_of(part: Part, severity: Severity) -> &'static str {
    match (part, severity) {
        (Part::Program, Severity::Ok) => "works, and nothing is missing",
        (Part::Program, Severity::Info) => "works; what is missing is in the notes",
        (Part::Program, Severity::Warning) => "works with less than everything",
        (Part::Program, Severity::Critical) => "cannot do its job",
        (Part::Tables, Severity::Ok) => "all is well",
        (Part::Tables, Severity::Info) => "all is well, with notes",
        (Part::Tables, Severity::Warning) => "one is in danger, or loses something",
        (Part::Tables, Severity::Critical) => "one drops packets, or is almost full",
        (_, Severity::Unknown) => "could not be judged",
    }
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
    let mut text = one_line(text);
    if is_cut(&text) {
        text = text.chars().take(LONGEST - CUT.len()).chain(CUT.chars()).collect();
    }
    wrapped(out, &text, INDENT, INDENT);
}

/// Reports whether a sentence is too long for the list: it is whole below it.
fn is_cut(text: &str) -> bool {
    one_line(text).chars().count() > LONGEST
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
    program_severity: Severity,
    tables_severity: Severity,
    exit_code: u8,
    sections: &'a [Section],
    facts: &'a Facts,
}

/// The same for programs. `time_ns`: nanoseconds since 1970 UTC.
#[must_use]
pub fn json<'a>(facts: &'a Facts, sections: &'a [Section], time_ns: u64) -> Json<'a> {
    let severity = verdict::worst(sections);
    let of = |part| verdict::worst_of(sections, part).unwrap_or(Severity::Unknown);
    Json {
        schema_version: SCHEMA_VERSION,
        kind: "doctor",
        time_ns,
        severity,
        program_severity: of(Part::Program),
        tables_severity: of(Part::Tables),
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
    use crate::{model::coverage::BlindSpot, severity::THRESHOLDS};

    fn plain(facts: &Facts) -> String {
        anstream::adapter::strip_str(&text(facts, &judge(facts, &THRESHOLDS))).to_string()
    }

    /// Refused programs with a long message of the verifier, without privileges.
    fn refused() -> Facts {
        let mut facts = all_well();
        let reason = format!("the kernel refuses the program: {}", "R1 type=scalar ".repeat(60));
        facts.attach =
            Attach { hooks: Fact::Unavailable(reason), is_refused: true, without: vec![] };
        facts.process.capabilities = Fact::Known(0);
        facts.namespaces.blind_spots = vec![BlindSpot::HiddenProcesses(90)];
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
        assert!(
            text.starts_with("ctmon 0.1.0: works, and nothing is missing\ntables: all is well\n"),
            "{text}"
        );
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
        // The reason of the kernel is cut in the list, and whole below it.
        assert!(text.contains("... [below]\n"), "{text}");
        let (_, whole) = text.split_once("\nIn full\n").unwrap();
        assert_eq!(whole.matches("type=scalar").count(), 60, "{text}");
        assert!(
            text.starts_with("ctmon 0.1.0: works with less than everything\ntables: all is well\n"),
            "{text}"
        );
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
