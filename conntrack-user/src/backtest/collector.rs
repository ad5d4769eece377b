//! When the kernel takes out entries whose timeout has run: `gc_worker` in net/netfilter/nf_conntrack_core.c, from
//! Linux 5.18 on.
//!
//! It goes through the whole table and takes out what has expired, at most 64,000 entries a second; then it waits as
//! long as the entries that it met have left in the mean, 1 to 60 s. An entry with more than 300 s left counts as 300 s,
//! so a table with open connections is cleaned once a minute, and its level is a saw. The mean is a running one in
//! integers: it starts as if of 100 entries with 60 s, and no longer moves once what an entry is off is less than the
//! number of those before it.
//!
//! In between, whoever looks for a flow takes out what has expired before it in its bucket (`____nf_conntrack_find`); an
//! entry is in two buckets, and the newest come first. So a flow that is not there meets all of a bucket, and each
//! packet of a connection what came later than the connection.

/// Expired entries that are taken out in a second.
pub const SPEED: f64 = 64_000.0;
/// The wait between two passes, in seconds.
const WAIT: (f64, f64) = (1.0, 60.0);
/// An entry has as many seconds left at the most.
const LEFT: f64 = 300.0;
/// The running mean begins as if of so many entries.
const BEGIN: f64 = 100.0;
/// Buckets that an entry is in.
const BUCKETS: f64 = 2.0;

/// How long entries have left until they expire.
#[derive(Debug, Clone)]
pub struct Left {
    /// Entries, and the sum of their seconds: by half seconds up to 30 s, by 5 s beyond.
    steps: [(f64, f64); Self::STEPS],
}

impl Default for Left {
    fn default() -> Self {
        Self { steps: [(0.0, 0.0); Self::STEPS] }
    }
}

impl Left {
    const STEPS: usize = 115;

    /// Some with so many seconds left.
    pub fn add(&mut self, entries: f64, seconds: f64) {
        let seconds = seconds.clamp(WAIT.0, LEFT);
        let step = if seconds < 30.0 { seconds * 2.0 } else { 54.0 + seconds / 5.0 };
        let step = &mut self.steps[step as usize];
        step.0 += entries;
        step.1 += entries * seconds;
    }

    /// Some that come one after the other and live for `seconds`.
    pub fn add_evenly(&mut self, entries: f64, seconds: f64) {
        const PARTS: u32 = 60;
        for part in 0..PARTS {
            let left = seconds * (f64::from(part) + 0.5) / f64::from(PARTS);
            self.add(entries / f64::from(PARTS), left);
        }
    }

    /// Seconds that the collector is to wait from the begin of a pass to that of the next, on a kernel with `hz`
    /// jiffies a second.
    #[must_use]
    pub fn wait(&self, hz: f64) -> f64 {
        let all: f64 = self.steps.iter().map(|step| step.0).sum();
        let laws: Vec<(f64, f64)> = self
            .steps
            .iter()
            .filter(|step| step.0 > 0.0)
            .map(|(entries, seconds)| (entries / all, seconds / entries * hz))
            .collect();
        let (mut mean, mut met) = (WAIT.1 * hz, BEGIN);
        let last = BEGIN + BUCKETS * all;
        while met < last {
            // As many as make no difference to how far the next one moves the mean.
            let some = (met / 64.0).floor().max(1.0).min(last - met);
            let number = met + f64::midpoint(some, 1.0);
            let moves = laws.iter().map(|(share, left)| share * ((left - mean) / number).trunc());
            mean += some * moves.sum::<f64>();
            met += some;
        }
        mean.clamp(WAIT.0 * hz, WAIT.1 * hz) / hz
    }
}

/// When a timer of so many jiffies goes off that is set when the one before has: at a step of the timer wheel
/// (kernel/time/timer.c), of 8 jiffies from 63 on, 64 from 504 on, and so forth.
fn round(jiffies: f64) -> f64 {
    let (mut step, mut from) = (1.0, 63.0);
    while jiffies >= from {
        (step, from) = (step * 8.0, from * 8.0);
    }
    ((jiffies / step).floor() + 1.0) * step
}

/// The share of expired entries that is met by `looks` for flows that are not there.
#[must_use]
pub fn met(looks: f64, buckets: f64) -> f64 {
    1.0 - (-BUCKETS * looks / buckets).exp()
}

/// The share of entries that are met as soon as they expire: those in a bucket with one of the `open` connections,
/// which are older than they are and have packets all the time.
#[must_use]
pub fn met_at_once(open: f64, buckets: f64) -> f64 {
    // A connection is in two buckets, too.
    1.0 - (-BUCKETS * BUCKETS * open / buckets).exp()
}

/// Where the collector is.
#[derive(Debug, Clone, Copy)]
pub struct Collector {
    hz: f64,
    /// When the next pass begins, in seconds.
    next: f64,
    /// Seconds from pass to pass.
    wait: f64,
    is_at_work: bool,
}

impl Collector {
    /// With so many seconds since the last pass.
    #[must_use]
    pub fn new(hz: f64, wait: f64, since: f64) -> Self {
        Self { hz, next: wait - since, wait, is_at_work: false }
    }

    /// When the next pass begins, in seconds, and how many seconds after it each other.
    #[must_use]
    pub fn passes(&self) -> (f64, f64) {
        (self.next, self.wait)
    }

    /// How many of `expired` entries it takes out in the `tick` seconds that end now.
    pub fn collect(
        &mut self,
        now: f64,
        tick: f64,
        expired: u64,
        left: impl FnOnce() -> Left,
    ) -> u64 {
        if now >= self.next && !self.is_at_work {
            self.is_at_work = true;
            self.wait = round(left().wait(self.hz) * self.hz) / self.hz;
            self.next += self.wait;
        }
        if !self.is_at_work {
            return 0;
        }
        let can = (SPEED * tick) as u64;
        self.is_at_work = expired > can;
        // A pass that takes longer than the wait is followed by the next at once.
        self.next = if self.is_at_work { self.next.max(now) } else { self.next };
        expired.min(can)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's own arithmetic, entry by entry.
    fn kernels(hz: i64, left: &[i64]) -> f64 {
        let (mut mean, mut count) = (60 * hz, 100);
        // In an order that has nothing to do with what is left, as that of a hash.
        let visits = left.len() * 2;
        for visit in 0..visits {
            let left = left[(visit * 7919) % left.len()].clamp(hz, 300 * hz);
            count += 1;
            mean += (left - mean) / count;
        }
        mean.clamp(hz, 60 * hz) as f64 / hz as f64
    }

    #[test]
    fn it_waits_as_long_as_the_kernel() {
        for (entries, seconds, open) in
            [(50, 5, 0), (2200, 5, 0), (20_000, 30, 0), (20_000, 120, 0), (20_000, 30, 3000)]
        {
            for hz in [100, 250, 1000] {
                let jiffies = |entry: i64| entry * seconds * hz / entries;
                let all: Vec<i64> = (0..entries)
                    .map(jiffies)
                    .chain(std::iter::repeat_n(432_000 * hz, open))
                    .collect();
                let mut left = Left::default();
                all.iter().for_each(|jiffies| left.add(1.0, *jiffies as f64 / hz as f64));
                let (kernel, ours) = (kernels(hz, &all), left.wait(hz as f64));
                let off = (ours / kernel - 1.0).abs();
                assert!(off < 0.05, "{entries} {seconds} {hz}: {ours} {kernel}");
            }
        }
    }

    #[test]
    fn what_is_open_makes_it_wait_a_minute() {
        let mut left = Left::default();
        left.add_evenly(40_000.0, 30.0);
        let short = left.wait(250.0);
        left.add(15_000.0, 432_000.0);
        assert!(short < 25.0 && left.wait(250.0) == 60.0, "{short} {}", left.wait(250.0));
    }

    #[test]
    fn timers_go_off_at_steps_of_the_wheel() {
        assert_eq!([62.0, 250.0, 1865.0, 14_999.0].map(round), [63.0, 256.0, 1920.0, 15_360.0]);
    }

    #[test]
    fn it_takes_out_so_many_a_second_and_then_waits() {
        let left = || {
            let mut left = Left::default();
            left.add_evenly(1e6, 4.0);
            left
        };
        let mut collector = Collector::new(250.0, 10.0, 0.0);
        let mut collect = |now| collector.collect(now, 1.0, 100_000, left);
        assert_eq!([9.0, 10.0].map(&mut collect), [0, 64_000]);
        assert_eq!(collector.collect(11.0, 1.0, 36_000, left), 36_000);
        assert_eq!(collector.collect(12.0, 1.0, 36_000, left), 0);
        let (next, wait) = collector.passes();
        assert!(next == 10.0 + wait && (2.0..10.0).contains(&wait), "{next} {wait}");
    }
}
