//! Sums of test results, read off the lines that the test programs print.

use std::{fmt, ops::AddAssign};

/// How many tests passed, failed, and did not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

impl Tally {
    /// What stands for tests that gave no result: silence is a failure.
    pub(crate) const NO_RESULT: Self = Self { passed: 0, failed: 1, skipped: 0 };

    /// The closing line of the kernel tests, `N passed, N failed, N skipped`.
    pub(crate) fn from_kernel_tests(line: &str) -> Option<Self> {
        let mut words = line.trim().split(", ");
        let mut count = |what| words.next()?.strip_suffix(what)?.trim_end().parse().ok();
        let tally =
            Self { passed: count("passed")?, failed: count("failed")?, skipped: count("skipped")? };
        words.next().is_none().then_some(tally)
    }

    /// The closing line of one Rust test program,
    /// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; ...`.
    pub(crate) fn from_cargo(line: &str) -> Option<Self> {
        let (_, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let mut words = counts.split("; ");
        let mut count = |what| words.next()?.strip_suffix(what)?.trim_end().parse().ok();
        Some(Self {
            passed: count("passed")?,
            failed: count("failed")?,
            skipped: count("ignored")?,
        })
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: Tally = Tally { passed: 12, failed: 1, skipped: 3 };

    #[test]
    fn kernel_tests_line_is_what_a_tally_displays() {
        assert_eq!(Tally::from_kernel_tests(&MIXED.to_string()), Some(MIXED));
        assert_eq!(Tally::from_kernel_tests("12 passed, 1 failed, 3 skipped\r"), Some(MIXED));
    }

    #[test]
    fn other_lines_are_no_result() {
        for line in [
            "",
            "12 passed",
            "x passed, 1 failed, 3 skipped",
            "1 passed, 1 failed, 1 skipped, 1 more",
        ] {
            assert_eq!(Tally::from_kernel_tests(line), None, "{line}");
            assert_eq!(Tally::from_cargo(line), None, "{line}");
        }
    }

    #[test]
    fn cargo_line() {
        let line = "test result: FAILED. 12 passed; 1 failed; 3 ignored; 0 measured; 7 filtered out; finished in 0.00s";
        assert_eq!(Tally::from_cargo(line), Some(MIXED));
    }

    #[test]
    fn sums() {
        let mut sum = Tally::NO_RESULT;
        sum += MIXED;
        assert_eq!(sum.to_string(), "12 passed, 2 failed, 3 skipped");
    }
}
