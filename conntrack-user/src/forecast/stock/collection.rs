//! What the collector has left of entries that have expired.

use crate::forecast::{law::Law, passes::Fate};

/// What the kernel's garbage collector does, as seen from a stock.
#[derive(Debug, Clone, Copy)]
pub(in crate::forecast) struct Collection {
    /// What becomes of what expires until it passes.
    pub(in crate::forecast) fate: Fate,
    /// When it passed last, in seconds on the source's clock; none where nothing waits.
    pub(in crate::forecast) last: Option<f64>,
    /// It is passing.
    pub(in crate::forecast) passes: bool,
    /// It has just passed, and was last seen at that time.
    pub(in crate::forecast) has_passed: Option<f64>,
}

impl Collection {
    /// Everything goes as soon as it has expired.
    pub(in crate::forecast) const NONE: Self =
        Self { fate: Fate::NONE, last: None, passes: false, has_passed: None };

    /// The age at which an entry of the age `age` was met by the last pass; 0 for a later one.
    pub(super) fn met(&self, age: f64, now: f64) -> f64 {
        self.last.map_or(age, |last| (age - (now - last)).max(0.0))
    }

    /// Of entries alive at `age`, the part that has not expired.
    pub(super) fn unexpired(&self, law: &Law, age: f64, now: f64, pace: f64) -> f64 {
        let Some(last) = self.last else { return 1.0 };
        let stay = law.stay(self.met(age, now), age, pace);
        let waiting = self.fate.waiting(age.min(now - last));
        stay / (stay + (1.0 - stay) * waiting).max(1e-9)
    }
}
