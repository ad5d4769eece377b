//! The passes of the kernel's garbage collector, as deletes show them.
//!
//! What has expired is taken out when somebody looks into its bucket, or in one of the passes through the whole table,
//! up to a minute apart (`gc_worker` in net/netfilter/nf_conntrack_core.c). So the level of a table is a saw.

/// Deletes beyond so many times those between passes, and so many standard deviations, are a pass.
const TIMES: f64 = 4.0;
const DEVIATIONS: f64 = 10.0;
/// Seconds in which the deletes between passes are found.
const QUIET: f64 = 20.0;
/// What lasts longer, in seconds, is no pass but another rate.
const LONGEST: f64 = 6.0;
/// Seconds between two passes at the most (`GC_SCAN_INTERVAL_MAX`), and what the timer adds.
const MOST: f64 = 60.0;
const LATE: f64 = 8.0;
/// No pass takes so large a part of a table; a user does who flushes it.
const FLUSHED: f64 = 0.7;
/// The part of the deletes that come in passes from which on the level is a saw.
const SAW: f64 = 0.2;

/// What has come of a look at the deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// The collector rests.
    Rests,
    /// A pass is going on.
    Passes,
    /// One has ended since the look before.
    HasPassed,
}

/// When the collector passes, and what it takes out.
#[derive(Debug, Clone, Default)]
pub(super) struct Passes {
    /// Deletes a second between passes.
    quiet: Option<f64>,
    /// When the last pass began, and when it was last seen at work.
    begin: Option<f64>,
    seen: f64,
    /// The same of the last one that is over.
    last: Option<f64>,
    is_at_work: bool,
    /// Deletes since it began, and those of them in passes.
    deletes: f64,
    in_pass: f64,
    /// Seconds from pass to pass; none until two were seen.
    wait: Option<f64>,
    /// Part of the deletes that come in passes.
    share: f64,
}

impl Passes {
    /// Takes in the deletes of the `seconds` before `now`, of so many entries.
    pub(super) fn observe(&mut self, now: f64, seconds: f64, deletes: f64, entries: f64) -> Work {
        if deletes > FLUSHED * entries {
            return Work::Rests;
        }
        let rate = deletes / seconds;
        let quiet = *self.quiet.get_or_insert(rate);
        let usual = quiet * seconds;
        if deletes > TIMES * usual + DEVIATIONS * (usual + 1.0).sqrt() {
            if !self.is_at_work {
                self.start(now - seconds);
            }
            self.deletes += deletes;
            self.in_pass += deletes;
            self.seen = now;
            if self.begin.is_some_and(|begin| now - begin > LONGEST) {
                // Not a pass: this is how many go now.
                self.quiet = Some(rate);
                self.is_at_work = false;
                self.share = 0.0;
                self.begin = None;
                return Work::HasPassed;
            }
            return Work::Passes;
        }
        self.quiet = Some(quiet + (seconds / QUIET).min(1.0) * (rate - quiet));
        self.deletes += deletes;
        if self.begin.is_some_and(|begin| now - begin > self.interval() + LATE) {
            // None came when it was due.
            self.share *= 0.5;
            self.begin = self.begin.map(|begin| begin + self.interval());
        }
        if std::mem::take(&mut self.is_at_work) { Work::HasPassed } else { Work::Rests }
    }

    fn start(&mut self, begin: f64) {
        if let Some(before) = self.begin
            && begin - before < MOST + LATE
        {
            self.wait = Some((begin - before).clamp(1.0, MOST + LATE));
        }
        self.is_at_work = true;
        self.begin = Some(begin);
    }

    /// To be called when one has passed: how much of what went since the one before it took.
    pub(super) fn settle(&mut self) {
        if self.deletes > 0.0 && self.begin.is_some() {
            let share = self.in_pass / self.deletes;
            self.share = if self.share == 0.0 { share } else { 0.5 * (self.share + share) };
        }
        self.last = Some(self.seen);
        (self.deletes, self.in_pass) = (0.0, 0.0);
    }

    /// Seconds from pass to pass.
    pub(super) fn interval(&self) -> f64 {
        self.wait.unwrap_or(MOST)
    }

    /// The part of what expires that waits for a pass; 0 where the level is no saw.
    pub(super) fn waiting(&self) -> f64 {
        if self.share > SAW { self.share } else { 0.0 }
    }

    /// When the last pass ended that is over; none where the level is no saw.
    pub(super) fn last(&self) -> Option<f64> {
        self.last.filter(|_| self.waiting() > 0.0)
    }

    /// When the collector was last seen at work.
    pub(super) const fn seen(&self) -> f64 {
        self.seen
    }

    /// Seconds until the next pass; none where the level is no saw.
    pub(super) fn next(&self, now: f64) -> Option<f64> {
        let begin = self.begin.filter(|_| self.waiting() > 0.0)?;
        Some((begin + self.interval() - now).max(0.2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_are_told_from_a_steady_rate_and_from_a_new_one() {
        let mut passes = Passes::default();
        let mut pass = |from: u32, to: u32, deletes: &dyn Fn(u32) -> f64| {
            for second in from..to {
                let now = f64::from(second);
                if passes.observe(now, 1.0, deletes(second), 20_000.0) == Work::HasPassed {
                    passes.settle();
                }
            }
            (passes.waiting(), passes.next(f64::from(to - 1)))
        };
        assert_eq!(pass(1, 100, &|_| 500.0), (0.0, None));
        let (waiting, next) = pass(100, 401, &|second| match second % 50 {
            0 => 9000.0,
            _ => 20.0,
        });
        assert!((0.85..1.0).contains(&waiting), "{waiting}");
        assert_eq!(next, Some(49.0));
        let (waiting, _) = pass(401, 700, &|_| 9000.0);
        assert_eq!(waiting, 0.0);
    }
}
