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
/// For so many seconds after a pass hardly anything waits.
const EARLY: f64 = 4.0;
/// Seconds between two passes at the most (`GC_SCAN_INTERVAL_MAX`), and what the timer adds.
pub(super) const COLLECTOR: f64 = 60.0;
const LATE: f64 = 8.0;
/// Largest part of a table that a pass takes where causes are not told; deletes of more are a user's flush.
const FLUSHED: f64 = 0.7;
/// A pass within so many ticks of when it was due has come when it was; how far it moves when the next is due, and
/// the time between two.
const NEAR: f64 = 1.6;
const TRUST: f64 = 0.4;
const LEARN: f64 = 0.15;
/// A pass that takes less than this part of what the last one took, and comes earlier than this part of the time
/// between two, is none.
const SMALL: f64 = 0.25;
const EARLIEST: f64 = 0.75;
/// By what part the rate of inserts changes at least when what expires does so unevenly; how far one pass is believed of
/// what becomes of it where it does not, and where it does.
const UNEVEN: f64 = 0.2;
const EVENLY: f64 = 0.7;
const UNEVENLY: f64 = 0.2;
/// The part of the deletes that come in passes from which on the level is a saw, and below which it is none any more.
const SAW: f64 = 0.2;
const NO_SAW: f64 = 0.04;

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
    /// When the next one is due.
    due: f64,
    /// What was known before the last one began: when the one before it did, and seconds from pass to pass.
    before: (Option<f64>, Option<f64>),
    /// Entries that the last one took.
    took: f64,
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
    is_saw: bool,
    /// Deletes in the first seconds after a pass, and how many seconds that were.
    early: f64,
    early_seconds: f64,
    /// Inserts since the last pass began.
    inserts: f64,
    /// Of what expires, the part that is taken out at once.
    at_once: f64,
    /// Of what waits, the part that is met a second, for each insert a second; none until a pass has told.
    met: Option<f64>,
    /// Inserts a second before the last pass.
    rate: f64,
}

/// What becomes of entries that expire between two passes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Fate {
    /// The part that is taken out at once.
    at_once: f64,
    /// The part of those that wait which is met by a lookup within a second.
    met: f64,
}

impl Fate {
    /// Everything goes as soon as it has expired.
    pub(super) const NONE: Self = Self { at_once: 1.0, met: 0.0 };

    /// For a part `share` of what expires within `interval` seconds that still waits at their end.
    fn of(at_once: f64, share: f64, interval: f64) -> Self {
        let at_once = at_once.clamp(0.0, (1.0 - share).max(0.0));
        let waits = (share / (1.0 - at_once).max(1e-9)).min(1.0);
        // By halving: what waits is the less, the more are met.
        let (mut low, mut high) = (0.0, 50.0);
        for _ in 0..30 {
            let middle = f64::midpoint(low, high);
            if left(middle) > waits { low = middle } else { high = middle }
        }
        Self { at_once, met: low / interval }
    }

    /// Of what has expired evenly within the last `seconds`, and since the last pass, the part that waits.
    pub(super) fn waiting(&self, seconds: f64) -> f64 {
        (1.0 - self.at_once) * left(self.met * seconds)
    }

    /// Of those that wait, the part that still does `seconds` later if the collector does not pass.
    pub(super) fn stay(&self, seconds: f64) -> f64 {
        (-self.met * seconds).exp()
    }

    /// The part that is taken out at once.
    pub(super) const fn at_once(&self) -> f64 {
        self.at_once
    }
}

/// The mean of exp(-s) for s from 0 to `x`.
fn left(x: f64) -> f64 {
    if x < 1e-6 { 1.0 } else { (1.0 - (-x).exp()) / x }
}

impl Passes {
    /// Takes in the inserts and the deletes of the kernel in the `seconds` before `now`. `entries`: where causes are not told,
    /// so that a user's deletes are among them, the entries before.
    pub(super) fn observe(
        &mut self,
        now: f64,
        seconds: f64,
        [inserts, deletes]: [f64; 2],
        entries: Option<f64>,
    ) -> Work {
        self.inserts += inserts;
        if entries.is_some_and(|entries| deletes > FLUSHED * entries) {
            return Work::Rests;
        }
        let rate = deletes / seconds;
        let quiet = *self.quiet.get_or_insert(rate);
        let usual = quiet * seconds;
        if deletes > TIMES * usual + DEVIATIONS * (usual + 1.0).sqrt() {
            if !self.is_at_work {
                self.start(now, seconds);
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
        if !self.is_at_work && now - self.seen < EARLY {
            self.early += deletes;
            self.early_seconds += seconds;
        }
        if self.begin.is_some() && now > self.due + LATE {
            // None came when it was due.
            self.share *= 0.5;
            self.due += self.interval();
        }
        if std::mem::take(&mut self.is_at_work) && self.is_pass() {
            self.took = self.in_pass;
            Work::HasPassed
        } else {
            Work::Rests
        }
    }

    /// One has begun in the last `seconds`.
    fn start(&mut self, now: f64, seconds: f64) {
        self.before = (self.begin, self.wait);
        let mut begin = now - 0.5 * seconds;
        if let Some(before) = self.begin
            && begin - before < COLLECTOR + LATE
        {
            let wait = (begin - before).clamp(1.0, COLLECTOR + LATE);
            // Ticks are coarse: many passes tell better than one when the next is due.
            let known = self.wait.filter(|known| (wait - known).abs() < NEAR * seconds);
            if let Some(known) = known {
                let due = before + known;
                begin = (due + TRUST * (begin - due)).clamp(now - seconds, now);
            }
            self.wait = Some(known.map_or(wait, |known| known + LEARN * (wait - known)));
        }
        self.is_at_work = true;
        self.begin = Some(begin);
        self.due = begin + self.interval();
    }

    /// Whether what has ended was a pass: a few deletes long before one is due are none, and then nothing of it stays.
    fn is_pass(&mut self) -> bool {
        let (Some(begin), (Some(before), wait)) = (self.begin, self.before) else { return true };
        let usual = wait.unwrap_or(COLLECTOR);
        let is_pass = self.in_pass > SMALL * self.took || begin - before > EARLIEST * usual;
        if !is_pass {
            (self.begin, self.wait) = self.before;
            self.due = before + usual;
            self.in_pass = 0.0;
        }
        is_pass
    }

    /// To be called when one has passed: how much of what went since the one before it took.
    pub(super) fn settle(&mut self) {
        if self.deletes > 0.0 && self.begin.is_some() {
            let share = self.in_pass / self.deletes;
            self.share = if self.share == 0.0 { share } else { 0.5 * (self.share + share) };
            self.is_saw = self.share > if self.is_saw { NO_SAW } else { SAW };
            let mean = self.deletes / self.interval();
            let early =
                if self.early_seconds > 0.0 { self.early / self.early_seconds } else { mean };
            let fate = Fate::of(early / mean, share, self.interval());
            let rate = self.inserts / self.interval();
            let met = fate.met / rate.max(1.0);
            // What came at another rate than before does not expire evenly.
            let weight = match self.met {
                None => 1.0,
                Some(_) if (rate - self.rate).abs() < UNEVEN * rate => EVENLY,
                Some(_) => UNEVENLY,
            };
            let known = self.met.unwrap_or(0.0);
            self.at_once += weight * (fate.at_once - self.at_once);
            self.met = Some(known + weight * (met - known));
            self.rate = rate;
            (self.early, self.early_seconds) = (0.0, 0.0);
        }
        self.last = Some(self.seen);
        (self.deletes, self.in_pass, self.inserts) = (0.0, 0.0, 0.0);
    }

    /// Seconds from pass to pass.
    pub(super) fn interval(&self) -> f64 {
        self.wait.unwrap_or(COLLECTOR)
    }

    /// The part of what expires that waits for a pass; 0 where the level is no saw.
    pub(super) fn waiting(&self) -> f64 {
        if self.is_saw && self.share > NO_SAW { self.share } else { 0.0 }
    }

    /// What becomes of what expires at `rate` inserts a second: each looks into two buckets first.
    pub(super) fn fate(&self, rate: f64) -> Fate {
        let met = self.met.unwrap_or(0.0) * rate;
        Fate { at_once: self.at_once, met }
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
        (self.begin.is_some() && self.waiting() > 0.0).then(|| (self.due - now).max(0.2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_what_passes_took() {
        for (at_once, share) in [(0.0, 0.9), (0.25, 0.53), (0.5, 0.3), (0.9, 0.6)] {
            let fate = Fate::of(at_once, share, 60.0);
            assert!((fate.waiting(60.0) - share).abs() < 1e-4, "{fate:?}");
            assert!(
                fate.waiting(10.0) >= fate.waiting(60.0) && fate.waiting(0.0) <= 1.0,
                "{fate:?}"
            );
        }
    }

    #[test]
    fn passes_are_told_from_a_steady_rate_and_from_a_new_one() {
        let mut passes = Passes::default();
        let mut pass = |from: u32, to: u32, deletes: &dyn Fn(u32) -> f64| {
            for second in from..to {
                let now = f64::from(second);
                if passes.observe(now, 1.0, [500.0, deletes(second)], None) == Work::HasPassed {
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
        assert_eq!(next, Some(49.5));
        let (waiting, _) = pass(401, 700, &|_| 9000.0);
        assert_eq!(waiting, 0.0);
    }

    /// Where a time-out is far shorter than the time between two passes, a pass takes almost the whole table.
    #[test]
    fn a_pass_that_takes_most_of_a_table_is_one_if_no_user_deleted_it() {
        let waits = |before: Option<f64>| {
            let mut passes = Passes::default();
            for second in 1..=200 {
                let deletes = if second % 48 == 0 { 8000.0 } else { 10.0 };
                let now = f64::from(second);
                if passes.observe(now, 1.0, [180.0, deletes], before) == Work::HasPassed {
                    passes.settle();
                }
            }
            passes.waiting()
        };
        assert!(waits(None) > 0.8, "{}", waits(None));
        assert_eq!(waits(Some(10_000.0)), 0.0);
    }

    #[test]
    fn a_few_deletes_between_two_passes_are_none() {
        let mut passes = Passes::default();
        for second in 1..=1000 {
            let now = f64::from(second);
            let deletes = match (second % 60, second) {
                (0, _) => 3000.0,
                (_, 738) => 150.0,
                _ => 10.0,
            };
            if passes.observe(now, 1.0, [60.0, deletes], None) == Work::HasPassed {
                passes.settle();
            }
            // While they go on it may be one.
            if second > 200 && second != 738 {
                let next = passes.next(now).unwrap_or(0.0);
                let due = 60.0 - f64::from((second + 1) % 60);
                assert!((next - due).abs() <= 1.0 || due >= 59.0, "{second}: {next}, not {due}");
            }
        }
    }

    #[test]
    fn coarse_ticks_tell_when_the_next_is_due_after_some_passes() {
        let mut passes = Passes::default();
        let period = 8.19;
        for tick in 1..=240 {
            let now = f64::from(tick) * 0.5;
            let since = now % period;
            let deletes = if since < 0.5 { 1200.0 } else { 5.0 };
            if passes.observe(now, 0.5, [150.0, deletes], None) == Work::HasPassed {
                passes.settle();
            }
            // Seven passes later: a tenth of a second is one of a hundred.
            if now > 60.0 && since > 1.0 && since < 7.0 {
                let seventh = passes.next(now).unwrap_or(0.0) + 6.0 * passes.interval();
                let off = seventh - (7.0 * period - since);
                assert!(off.abs() < 0.8, "{now}: {off}");
            }
        }
    }
}
