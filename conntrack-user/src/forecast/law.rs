//! How long entries of a class live: the hazard by age, from a prior and from what was observed.

use super::passes::COLLECTOR;

/// Ages below this are told apart by the second, later ones by an eighth of an octave.
const LINEAR: usize = 8;
const OCTAVES: usize = 12;
/// Bins of age; the last one has no end.
const BINS: usize = LINEAR + 8 * OCTAVES;

/// Ages of [`Law::fine`]: 32 an octave of the age plus 4 s.
const FINE: usize = 32 * 16;
const FINE_FROM: f64 = 4.0;
const FINE_SHIFT: u32 = 47;

/// The place of an age among them, and how far it is on the way to the next.
fn fine(age: f64) -> (usize, f32) {
    let bits = (FINE_FROM + age.max(0.0)).to_bits();
    let place = (bits >> FINE_SHIFT) - (FINE_FROM.to_bits() >> FINE_SHIFT);
    let rest = (bits & ((1 << FINE_SHIFT) - 1)) as f32 / (1_u64 << FINE_SHIFT) as f32;
    if place < FINE as u64 { (place as usize, rest) } else { (FINE - 1, 1.0) }
}

/// The age at such a place.
fn fine_age(place: usize) -> f64 {
    let bits = ((FINE_FROM.to_bits() >> FINE_SHIFT) + place as u64) << FINE_SHIFT;
    f64::from_bits(bits) - FINE_FROM
}

/// Entries' worth of observation that the prior stands for.
const PRIOR: f64 = 30.0;
/// Seconds after which an observation counts half.
const HALF_LIFE: f64 = 900.0;

/// What is supposed of a class before anything is observed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Prior {
    /// Seconds without a packet after which the kernel takes an entry out.
    pub(super) timeout: f64,
    /// Whether packets go on coming, so that many live for longer than that.
    pub(super) goes_on: bool,
    /// Part of the entries that the kernel keeps for far longer, 0 to 1: open TCP connections.
    pub(super) open: f64,
}

impl Prior {
    /// Deaths a second of an entry that is `age` seconds old and not open.
    fn hazard(self, age: f64) -> f64 {
        let timeout = self.timeout.max(1.0);
        // Closed, reset, or taken out by a user.
        let early = 0.02 / timeout;
        // The garbage collector comes by some seconds later.
        let late = 1.0 / (2.0 + 0.1 * timeout);
        match (age < timeout, self.goes_on) {
            (true, _) => early,
            (false, false) => late,
            // The longer it has gone on, the longer it will.
            (false, true) if age < 2.0 * timeout => 4.0 / timeout,
            (false, true) => 1.0 / age,
        }
    }

    /// Hazard of open and other entries together, deaths a second. `left`: part of the others that is alive, 0 to 1.
    fn hazard_of_all(self, age: f64, left: f64) -> f64 {
        let others = (1.0 - self.open) * left;
        let all = self.open + others;
        if all > 0.0 { self.hazard(age) * others / all } else { 0.0 }
    }

    /// Deaths a second of such as are open, of which the longer they have been the fewer close.
    fn hazard_open(self, age: f64) -> f64 {
        let timeout = self.timeout.max(1.0);
        if age < timeout || !self.goes_on { 0.0 } else { self.open / age }
    }
}

/// The law of a class.
#[derive(Debug, Clone)]
pub(super) struct Law {
    deaths: Box<[f64; BINS]>,
    /// Entries times seconds.
    exposure: Box<[f64; BINS]>,
    /// The part that lives for longer, at ages so near to each other that it is a straight line in between: each forecast looks it up ten
    /// thousand times.
    fine: Box<[f32; FINE + 1]>,
    /// The integral of the survival function up to the beginning of each bin.
    integral: Box<[f64; BINS + 1]>,
    /// The integral of that.
    second: Box<[f64; BINS + 1]>,
    prior: Prior,
}

/// The part that survives a cumulative hazard; above 0, as a part of it is asked for.
fn survives(cumulative: f64) -> f64 {
    if cumulative < 69.0 { (-cumulative).exp() } else { 1e-30 }
}

/// The second at which a bin begins.
fn start(bin: usize) -> f64 {
    if bin < LINEAR {
        return bin as f64;
    }
    let (octave, eighth) = ((bin - LINEAR) / 8, (bin - LINEAR) % 8);
    (LINEAR << octave) as f64 * (1.0 + eighth as f64 / 8.0)
}

/// The bin of an age.
fn bin(age: f64) -> usize {
    if age < LINEAR as f64 {
        return age.max(0.0) as usize;
    }
    // The exponent, and the upper three bits of the fraction, are the octave and its eighth.
    let eighths = |age: f64| (age.to_bits() >> 49) as usize;
    (LINEAR + eighths(age) - eighths(LINEAR as f64)).min(BINS - 1)
}

impl Law {
    pub(super) fn new(prior: Prior) -> Self {
        let mut law = Self {
            deaths: Box::new([0.0; BINS]),
            exposure: Box::new([0.0; BINS]),
            fine: Box::new([1.0; FINE + 1]),
            integral: Box::new([0.0; BINS + 1]),
            second: Box::new([0.0; BINS + 1]),
            prior,
        };
        law.refresh(1.0);
        law
    }

    /// Seconds without a packet after which the kernel takes an entry out.
    pub(super) const fn timeout(&self) -> f64 {
        self.prior.timeout
    }

    /// Part of the entries that are open connections.
    pub(super) const fn open(&self) -> f64 {
        self.prior.open
    }

    /// Sets it; what follows comes with the next [`Law::refresh`].
    pub(super) const fn set_open(&mut self, part: f64) {
        self.prior.open = part.clamp(0.0, 1.0);
    }

    /// Other timeouts hold from now on.
    pub(super) fn set_prior(&mut self, prior: Prior) {
        if self.prior != prior {
            self.prior = prior;
            self.refresh(1.0);
        }
    }

    /// Time has gone on by `seconds`: what was observed counts less.
    pub(super) fn fade(&mut self, seconds: f64) {
        let keep = 0.5_f64.powf(seconds / HALF_LIFE);
        for number in self.deaths.iter_mut().chain(self.exposure.iter_mut()) {
            *number *= keep;
        }
    }

    /// Of `entries` at `age`, `deaths` have died within `seconds`.
    pub(super) fn observe(&mut self, age: f64, entries: f64, deaths: f64, seconds: f64) {
        let bin = bin(age);
        if let (Some(all), Some(exposure)) = (self.deaths.get_mut(bin), self.exposure.get_mut(bin))
        {
            *all += deaths;
            *exposure += (entries - 0.5 * deaths).max(0.0) * seconds;
        }
    }

    /// Of `entries` at the age `from`, `deaths` have died before the age `to`: at ages that are likely by what is known
    /// (a step of expectation maximization; Turnbull 1976, doi 10.1111/j.2517-6161.1976.tb01597.x).
    pub(super) fn observe_between(&mut self, from: f64, to: f64, entries: f64, deaths: f64) {
        let whole = self.survival(from) - self.survival(to);
        let mut alive = entries;
        let mut age = from;
        while age < to && alive > 0.0 {
            let bin = bin(age);
            let end = start(bin + 1).min(to).max(age + 1e-6);
            let part = if whole > 1e-9 {
                (self.survival(age) - self.survival(end)) / whole
            } else {
                (end - age) / (to - from)
            };
            let die = (deaths * part).min(alive);
            self.deaths[bin] += die;
            self.exposure[bin] += (alive - 0.5 * die) * (end - age);
            alive -= die;
            age = end;
        }
    }

    /// As many as `entries` have lived for exactly `age`.
    pub(super) fn observe_death(&mut self, age: f64, entries: f64) {
        if let Some(deaths) = self.deaths.get_mut(bin(age)) {
            *deaths += entries;
        }
    }

    /// Makes what follows from the observations. `pace`: deaths lately by those that would be expected.
    pub(super) fn refresh(&mut self, pace: f64) {
        let (mut cumulative, mut integral, mut second) = (0.0_f64, 0.0_f64, 0.0_f64);
        let mut place = 0;
        // Deaths at younger ages by those that a law without any knowledge has: entries that have lived for long without one
        // are no such as die then. So long as the collector may just not have passed, they may have expired.
        let (mut died, mut supposed) = (1.0_f64, [1.0_f64; 2]);
        // Part of the entries without an open connection that is alive by the prior.
        let mut others = 1.0_f64;
        let collected = self.prior.timeout + COLLECTOR;
        for bin in 0..BINS {
            let (from, width) = (start(bin), start(bin + 1) - start(bin));
            let middle = from + 0.5 * width;
            let [lasts, stays] = supposed.map(|supposed| (died / supposed).min(1.0));
            let mut prior = self.prior.hazard_of_all(middle, others);
            others *= (-self.prior.hazard(middle) * width).exp();
            supposed[0] += self.exposure[bin] / (middle + 1.0);
            supposed[1] += if middle > collected { self.exposure[bin] * prior } else { 0.0 };
            died += self.deaths[bin];
            prior = prior * stays + self.prior.hazard_open(middle) * lasts;
            // Few entries come as far, so the prior's share is by time, not by bin.
            let weight = PRIOR * width;
            let hazard = (self.deaths[bin] + prior * weight) / (self.exposure[bin] + weight) * pace;
            while place <= FINE && (fine_age(place) < from + width || bin + 1 == BINS) {
                let alive = survives(cumulative + hazard * (fine_age(place) - from));
                self.fine[place] = alive as f32;
                place += 1;
            }
            let (alive, next) = (survives(cumulative), survives(cumulative + hazard * width));
            (self.integral[bin], self.second[bin]) = (integral, second);
            cumulative += hazard * width;
            let area = if hazard * width > 1e-6 { (alive - next) / hazard } else { alive * width };
            second += integral * width + 0.5 * area * width;
            integral += area;
        }
        (self.integral[BINS], self.second[BINS]) = (integral, second);
    }

    /// The value at an age of a table by bins, in between on a straight line.
    fn at(table: &[f64; BINS + 1], age: f64) -> f64 {
        let bin = bin(age);
        let (from, to) = (start(bin), start(bin + 1));
        let share = ((age - from) / (to - from)).max(0.0);
        table[bin] + share * (table[bin + 1] - table[bin])
    }

    /// The part that lives for longer than `age`; above 0.
    pub(super) fn survival(&self, age: f64) -> f64 {
        let (place, rest) = fine(age);
        let (one, next) = (self.fine[place], self.fine[place + 1]);
        f64::from(one + rest * (next - one)).max(1e-30)
    }

    /// Of those that live at the age `from` the part that still does at `to`; with hazards `pace` times as high.
    pub(super) fn stay(&self, from: f64, to: f64, pace: f64) -> f64 {
        self.stays(from, pace)(to)
    }

    /// The same for many ages `to`.
    pub(super) fn stays(&self, from: f64, pace: f64) -> impl Fn(f64) -> f64 {
        let whole = 1.0 / self.survival(from);
        move |to| {
            let stay = (self.survival(to) * whole).min(1.0);
            if pace == 1.0 { stay } else { stay.powf(pace) }
        }
    }

    /// Seconds that an entry lives within its first `seconds`, on average: what arrivals of one a second come to.
    pub(super) fn stock(&self, seconds: f64) -> f64 {
        Self::at(&self.integral, seconds)
    }

    /// The same for arrivals that grow by one a second each second.
    pub(super) fn stock_of_ramp(&self, seconds: f64) -> f64 {
        Self::at(&self.second, seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_age_lies_between_two_fine_ones() {
        for age in (0..100_000).map(|n| f64::from(n) * 0.37) {
            let (place, rest) = fine(age);
            let (one, next) = (fine_age(place), fine_age(place + 1));
            assert!((one + f64::from(rest) * (next - one) - age).abs() < 1e-3, "{age}");
        }
    }

    #[test]
    fn every_age_lies_in_its_bin() {
        for age in (0..100_000).map(|n| f64::from(n) * 0.37) {
            let bin = bin(age);
            assert!(start(bin) <= age + 1e-9, "{age}");
            assert!(bin == BINS - 1 || age < start(bin + 1) + 1e-9, "{age}");
        }
    }

    #[test]
    fn a_timeout_is_what_entries_live_until_more_is_known() {
        let law = Law::new(Prior { timeout: 30.0, goes_on: false, open: 0.0 });
        let mean = law.stock(10_000.0);
        assert!((30.0..38.0).contains(&mean), "{mean}");
    }

    #[test]
    fn what_is_observed_wins() {
        let mut law = Law::new(Prior { timeout: 30.0, goes_on: false, open: 0.0 });
        // A hazard of 0.1 a second at every age.
        for age in 0..400 {
            law.observe(f64::from(age) + 0.5, 1e5, 1e4, 1.0);
        }
        law.refresh(1.0);
        let mean = law.stock(10_000.0);
        assert!((9.0..11.5).contains(&mean), "{mean}");
    }
}
