//! What the facts mean. Pure: facts in, verdicts out.

mod kernel;
mod limit;
mod losses;
mod process;
mod surroundings;
mod table;
#[cfg(test)]
pub(crate) mod test_facts;

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use crate::{
    severity::{Severity, Thresholds},
    source::live::NO_SYSCTLS,
};

/// A judgement on one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What it is about, in a word or two.
    pub subject: String,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub what: String,
    /// What is lost by it, or why it matters.
    pub why: Option<String>,
    /// What to do.
    pub advice: Option<String>,
}

impl Verdict {
    fn new(subject: &str, severity: Severity, what: impl Into<String>) -> Self {
        Self { subject: subject.into(), severity, what: what.into(), why: None, advice: None }
    }

    fn why(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    fn advice(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// Verdicts that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// `kernel`, `process`, `table` or `surroundings`.
    pub name: String,
    /// The verdicts.
    pub verdicts: Vec<Verdict>,
}

/// Judges everything; the fill of tables by `thresholds`.
#[must_use]
pub fn judge(facts: &Facts, thresholds: &Thresholds) -> Vec<Section> {
    let section = |name: &str, verdicts| Section { name: name.into(), verdicts };
    vec![
        section("kernel", kernel::verdicts(facts)),
        section("process", process::verdicts(facts)),
        section("table", table::verdicts(facts, thresholds)),
        section("surroundings", surroundings::verdicts(facts)),
    ]
}

/// One of the two questions that the screen answers first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Does ctmon do its job here?
    Program,
    /// Are the tables in trouble?
    Tables,
}

/// Subjects of verdicts about the tables themselves; all others are about ctmon.
const TABLES: [&str; 10] = [
    "expectations",
    "fill",
    "flow tables",
    "limit set by",
    "listeners",
    "losses",
    "settings",
    "size",
    "statistics",
    "timeouts",
];

impl Verdict {
    /// The question that it belongs to.
    #[must_use]
    pub fn part(&self) -> Part {
        if TABLES.contains(&self.subject.as_str()) { Part::Tables } else { Part::Program }
    }
}

/// The worst severity of a part; none where it has no verdict.
#[must_use]
pub fn worst_of(sections: &[Section], part: Part) -> Option<Severity> {
    let all = sections.iter().flat_map(|section| &section.verdicts);
    all.filter(|verdict| verdict.part() == part).map(|verdict| verdict.severity).max()
}

/// The worst severity of all.
#[must_use]
pub fn worst(sections: &[Section]) -> Severity {
    let all = sections.iter().flat_map(|section| &section.verdicts);
    all.map(|verdict| verdict.severity).max().unwrap_or(Severity::Ok)
}

/// Bytes in kB or MB, of a thousand and a million.
fn bytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Advice where something cannot be read because procfs is not there, or not all of it.
fn no_procfs(facts: &Facts) -> &'static str {
    let is_subset = facts.conntrack.unavailable().is_some_and(|why| why.contains("subset=pid"));
    if is_subset {
        NO_SYSCTLS
    } else {
        "name the folder where procfs is mounted with --path.procfs"
    }
}

#[cfg(test)]
mod tests {
    use super::{test_facts::all_well, *};
    use crate::severity::THRESHOLDS;

    #[test]
    fn a_machine_with_everything_is_ok() {
        let sections = judge(&all_well(), &THRESHOLDS);
        let bad: Vec<&Verdict> = sections
            .iter()
            .flat_map(|section| &section.verdicts)
            .filter(|verdict| verdict.severity != Severity::Ok || verdict.advice.is_some())
            .collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert_eq!(worst(&sections).exit_code(), 0);
    }

    #[test]
    fn each_part_has_a_verdict_of_its_own() {
        let mut facts = all_well();
        let parts = |facts: &Facts| {
            let sections = judge(facts, &THRESHOLDS);
            [Part::Program, Part::Tables].map(|part| worst_of(&sections, part).unwrap())
        };
        assert_eq!(parts(&facts), [Severity::Ok, Severity::Ok]);
        facts.namespaces.read[0].entries = crate::doctor::facts::Fact::Known(262_144);
        assert_eq!(parts(&facts), [Severity::Ok, Severity::Critical]);
        let mut facts = all_well();
        facts.process.capabilities = crate::doctor::facts::Fact::Known(0);
        assert_eq!(parts(&facts), [Severity::Warning, Severity::Ok]);
        let sections = judge(&all_well(), &THRESHOLDS);
        let all: Vec<&str> =
            sections.iter().flat_map(|one| &one.verdicts).map(|one| one.subject.as_str()).collect();
        assert!(TABLES.iter().all(|subject| all.contains(subject)), "{all:?}");
    }

    #[test]
    fn subjects_are_unique_and_short() {
        let sections = judge(&all_well(), &THRESHOLDS);
        let mut subjects: Vec<&str> = sections
            .iter()
            .flat_map(|section| &section.verdicts)
            .map(|verdict| verdict.subject.as_str())
            .collect();
        assert!(subjects.iter().all(|subject| subject.len() <= 12), "{subjects:?}");
        let all = subjects.len();
        subjects.sort_unstable();
        subjects.dedup();
        assert_eq!(subjects.len(), all);
    }
}
