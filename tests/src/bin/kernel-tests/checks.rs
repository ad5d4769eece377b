//! What a test found wrong. A test goes on after a violated expectation, so that all are seen.

use std::{collections::BTreeSet, fmt::Debug};

/// Violations in a result line. More have the same cause.
const SHOWN: usize = 20;
/// Characters of a value in a violation.
const VALUE: usize = 300;

use anyhow::{Error, Result};

use crate::expression::{Expectation, Values};

/// The violated expectations of one test.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    violations: Vec<String>,
    notes: Vec<String>,
    untold: BTreeSet<String>,
}

impl Checks {
    /// Expects `left == right`.
    pub(crate) fn equal<L: Debug + PartialEq<R>, R: Debug>(
        &mut self,
        what: &str,
        left: L,
        right: R,
    ) {
        if left != right {
            self.violations.push(format!("expected {what}: {} != {}", short(&left), short(&right)));
        }
    }

    /// Expects that `holds`; `seen` is what was seen instead.
    pub(crate) fn that(&mut self, what: &str, holds: bool, seen: impl Debug) {
        if !holds {
            self.violations.push(format!("expected {what}: {}", short(&seen)));
        }
    }

    /// Expects what the scenario says, at the moment that `place` names. What its names stand for then
    /// becomes a note. A name that is null where `cannot_tell` holds makes no violation: see
    /// [`Self::untold`].
    pub(crate) fn expectations(
        &mut self,
        place: &str,
        expectations: &[Expectation],
        values: &Values,
        cannot_tell: impl Fn(&str) -> bool,
    ) {
        for expectation in expectations {
            let untold = |name: &&str| values.get(*name) == Some(&None) && cannot_tell(name);
            let names: Vec<&str> = expectation.names().into_iter().filter(untold).collect();
            self.untold.extend(names.iter().map(|name| (*name).to_owned()));
            if names.is_empty() {
                let violation = expectation.check(values).err();
                self.violations.extend(violation.map(|violation| format!("{place}: {violation}")));
            }
        }
        let names: BTreeSet<&str> = expectations.iter().flat_map(Expectation::names).collect();
        let show = |name: &str| match values.get(name) {
            Some(Some(value)) => format!("{name} {value}"),
            _ => format!("{name} null"),
        };
        let list: Vec<String> = names.into_iter().map(show).collect();
        self.notes.push(format!("{place}: {}", list.join(", ")));
    }

    /// Expects a total, unless it is null where that is all that can be told.
    pub(crate) fn total(
        &mut self,
        what: &str,
        seen: Option<i64>,
        expected: i64,
        cannot_tell: bool,
    ) {
        if seen.is_none() && cannot_tell {
            self.untold.insert(what.to_owned());
        } else {
            self.equal(what, seen, Some(expected));
        }
    }

    /// Takes over what another thread found.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.violations.append(&mut other.violations);
        self.notes.append(&mut other.notes);
        self.untold.append(&mut other.untold);
    }

    /// What could not be told, and so was not compared.
    pub(crate) fn untold(&self) -> Option<String> {
        let list: Vec<&str> = self.untold.iter().map(String::as_str).collect();
        (!list.is_empty()).then(|| list.join(", "))
    }

    /// Whether nothing is wrong.
    pub(crate) fn hold(&self) -> bool {
        self.violations.is_empty()
    }

    /// Keeps what was seen where a kernel has a choice.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// What was seen, whether it was expected or not.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The violations, and the error that ended the test, in one line.
    pub(crate) fn reason(&self, result: Result<()>) -> Option<String> {
        let mut all: Vec<String> = self.violations.iter().take(SHOWN).cloned().collect();
        let more = self.violations.len() - all.len();
        all.extend((more > 0).then(|| format!("and {more} more")));
        all.extend(result.err().map(|error| format!("{error:#}")));
        (!all.is_empty()).then(|| one_line(&all.join("; ")))
    }
}

fn short(value: &impl Debug) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(VALUE) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// A test that this kernel cannot run.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

impl Skip {
    /// The reason, when the error is none but that the test was skipped.
    pub(crate) fn reason(error: &Error) -> Option<String> {
        error.downcast_ref::<Self>().map(|skip| one_line(&skip.0))
    }
}

/// Results are read line by line.
pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn nothing_wrong_is_no_reason() {
        let mut checks = Checks::default();
        checks.equal("one", 1, 1);
        checks.that("true", true, ());
        assert_eq!(checks.reason(Ok(())), None);
    }

    #[test]
    fn what_cannot_be_told_is_named_and_not_compared() {
        let mut checks = Checks::default();
        let values = Values::from([("clash".to_owned(), None), ("deletes".to_owned(), Some(1))]);
        let expectations =
            ["clash == 0", "deletes == 1"].map(|text| Expectation::parse(text).unwrap());
        checks.expectations("step 1", &expectations, &values, |name| name == "clash");
        assert_eq!((checks.untold().as_deref(), checks.reason(Ok(()))), (Some("clash"), None));
        checks.total("dying", None, 0, true);
        assert_eq!(checks.untold().as_deref(), Some("clash, dying"));
        checks.expectations("step 2", &expectations, &values, |_| false);
        assert!(checks.reason(Ok(())).is_some_and(|reason| reason.contains("clash is null")));
    }

    #[test]
    fn what_would_fill_the_screen_is_cut() {
        let mut checks = Checks::default();
        (0..25).for_each(|_| checks.that("x", false, "ä".repeat(1000)));
        let reason = checks.reason(Ok(())).unwrap();
        assert!(reason.ends_with("...; and 5 more") && reason.len() < 20 * 700, "{reason}");
    }

    #[test]
    fn the_reason_holds_every_violation_and_the_error_in_one_line() {
        let mut checks = Checks::default();
        checks.equal("exit code 0", Some(3), Some(0));
        checks.that("a message that names nf_conntrack", false, "no\nidea");
        let reason = checks.reason(Err(anyhow!("inner\nsecond line").context("no tick"))).unwrap();
        assert_eq!(
            reason,
            "expected exit code 0: Some(3) != Some(0); expected a message that names nf_conntrack: \"no\\nidea\"; \
             no tick: inner | second line"
        );
    }
}
