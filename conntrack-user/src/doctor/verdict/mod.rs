//! What the facts mean. Pure: facts in, verdicts out.

mod kernel;
mod process;
mod surroundings;
mod table;
#[cfg(test)]
pub(crate) mod test_facts;

use serde::{Deserialize, Serialize};

use super::facts::Facts;

/// How bad it is, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing; ctmon loses nothing by it.
    Note,
    /// ctmon works with less, or the table is in danger.
    Warning,
    /// ctmon cannot do its job.
    Problem,
}

impl Level {
    /// The exit code of `ctmon doctor`.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Ok | Self::Note => 0,
            Self::Warning => 1,
            Self::Problem => 2,
        }
    }

    /// Its name in the output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// A judgement on one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What it is about, in a word or two.
    pub subject: String,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What is lost by it, or why it matters.
    pub why: Option<String>,
    /// What to do.
    pub advice: Option<String>,
}

impl Verdict {
    fn new(subject: &str, level: Level, what: impl Into<String>) -> Self {
        Self { subject: subject.into(), level, what: what.into(), why: None, advice: None }
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

/// Judges everything.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Section> {
    let section = |name: &str, verdicts| Section { name: name.into(), verdicts };
    vec![
        section("kernel", kernel::verdicts(facts)),
        section("process", process::verdicts(facts)),
        section("table", table::verdicts(facts)),
        section("surroundings", surroundings::verdicts(facts)),
    ]
}

/// The worst level of all.
#[must_use]
pub fn worst(sections: &[Section]) -> Level {
    let all = sections.iter().flat_map(|section| &section.verdicts);
    all.map(|verdict| verdict.level).max().unwrap_or(Level::Ok)
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

    #[test]
    fn a_machine_with_everything_is_ok() {
        let sections = judge(&all_well());
        let bad: Vec<&Verdict> = sections
            .iter()
            .flat_map(|section| &section.verdicts)
            .filter(|verdict| verdict.level != Level::Ok || verdict.advice.is_some())
            .collect();
        assert!(bad.is_empty(), "{bad:#?}");
        assert_eq!(worst(&sections).exit_code(), 0);
    }

    #[test]
    fn subjects_are_unique_and_short() {
        let sections = judge(&all_well());
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

    #[test]
    fn the_worst_level_decides_the_exit_code() {
        let codes = [Level::Ok, Level::Note, Level::Warning, Level::Problem].map(Level::exit_code);
        assert_eq!(codes, [0, 0, 1, 2]);
        assert!(
            Level::Ok < Level::Note
                && Level::Note < Level::Warning
                && Level::Warning < Level::Problem
        );
    }
}
