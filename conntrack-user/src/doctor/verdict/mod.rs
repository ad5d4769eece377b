//! What the facts mean. Pure: facts in, verdicts out.

mod kernel;
mod process;
mod surroundings;
mod table;
#[cfg(test)]
pub(crate) mod test_facts;

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use crate::severity::{Severity, Thresholds};

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

/// What stands for what cannot be read because procfs is not there.
const NO_PROCFS: &str = "name the folder where procfs is mounted with --path.procfs";

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
