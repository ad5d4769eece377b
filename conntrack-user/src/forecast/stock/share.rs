//! Which part of the arrivals stays unanswered. Inserts are counted by protocol only, deletes by status too, and of
//! the live entries a sample tells how many are unanswered: a Kalman filter of their number and of that part.

/// Standard error of the part before anything tells it: any is as likely.
const ANY: f64 = 0.29;
/// By how much the part drifts in a second.
const DRIFT: f64 = 0.001;
/// Seconds in which the usual rate of inserts is found.
const USUAL: f64 = 10.0;
/// Variance of the unanswered arrivals of a second, by that of independent ones.
const DISPERSION: f64 = 4.0;
/// Seconds of reads that are one sample: most entries are read again and again.
const SAMPLE: f64 = 4.0;
/// Standard errors beyond which a sample tells that the part has changed.
const CHANGED: f64 = 4.0;

/// The part, and how sure it is.
#[derive(Debug, Clone)]
pub(in crate::forecast) struct Share {
    /// Of the arrivals, 0 to 1.
    pub(in crate::forecast) part: f64,
    /// Whether anything has told it.
    pub(super) is_known: bool,
    /// Variance of the number of unanswered entries, covariance of it and the part, variance of the part.
    number: f64,
    both: f64,
    own: f64,
    /// Inserts a second.
    usual: Option<f64>,
}

impl Default for Share {
    fn default() -> Self {
        Self { part: 0.5, is_known: false, number: 0.0, both: 0.0, own: ANY * ANY, usual: None }
    }
}

impl Share {
    /// So many entries that were there before come to be known, and which part is unanswered by a sample of `reads`:
    /// so may be as many that come, unless more is known of these.
    pub(in crate::forecast) fn start(&mut self, part: f64, entries: f64, reads: f64) {
        if !self.is_known {
            self.part = part;
        }
        self.number += entries * entries * variance(part, reads);
    }

    /// `inserts` have come in `seconds`; `off`: of so many deaths it was supposed that they were of the other kind.
    pub(in crate::forecast) fn advance(&mut self, inserts: f64, off: f64, seconds: f64) {
        let usual = *self.usual.get_or_insert(inserts / seconds);
        let more =
            (inserts - usual * seconds).abs() - CHANGED * (DISPERSION * (inserts + 1.0)).sqrt();
        if more > 0.0 && inserts > 0.0 {
            // What comes besides the usual may be of any kind.
            self.own += (ANY * more / inserts).powi(2);
        }
        self.usual = Some(usual + (seconds / USUAL).min(1.0) * (inserts / seconds - usual));
        self.own = (self.own + DRIFT * DRIFT * seconds).min(ANY * ANY);
        let chance = DISPERSION * inserts * self.part * (1.0 - self.part);
        self.number +=
            2.0 * inserts * self.both + inserts * inserts * self.own + chance + off * off;
        self.both += inserts * self.own;
    }

    /// Of `entries` the `unanswered` were supposed to be so, and the part `seen` is by a sample of `reads` in the last
    /// `seconds`; returns how many more are.
    pub(in crate::forecast) fn see(
        &mut self,
        seen: f64,
        [unanswered, entries]: [f64; 2],
        reads: f64,
        seconds: f64,
    ) -> f64 {
        self.is_known = true;
        let noise = entries * entries * variance(seen, reads) * (SAMPLE / seconds).max(1.0);
        let off = seen * entries - unanswered;
        let mut whole = self.number + noise;
        if off * off > CHANGED * CHANGED * whole {
            // More than chance does: what was known does not hold any more.
            let more = off * off / whole / (CHANGED * CHANGED);
            self.number *= more;
            self.own = (self.own * more).min(ANY * ANY);
            self.both = (self.both * more).min((self.number * self.own).sqrt());
            whole = self.number + noise;
        }
        let (gain, of_part) = (self.number / whole, self.both / whole);
        self.part = (self.part + of_part * off).clamp(0.0, 1.0);
        self.own = (self.own - of_part * self.both).max(0.0);
        self.both *= 1.0 - gain;
        self.number *= 1.0 - gain;
        gain * off
    }
}

/// Of a part that is seen in `reads`.
fn variance(part: f64, reads: f64) -> f64 {
    (part * (1.0 - part) / reads).max(0.25 / (reads * reads))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::random::SplitMix64;

    /// Unanswered and other entries that live for 30 s, of which `reads` are seen each second.
    struct World {
        share: Share,
        random: SplitMix64,
        came: Vec<[f64; 2]>,
        unanswered: f64,
    }

    impl World {
        fn new() -> Self {
            let (share, random) = (Share::default(), SplitMix64::new(1));
            Self { share, random, came: vec![[0.0; 2]; 30], unanswered: 0.0 }
        }

        fn go_on(&mut self, [unanswered, other]: [f64; 2], seconds: usize, reads: u32) {
            for _ in 0..seconds {
                let inserts = unanswered + other;
                let gone = self.came[self.came.len() - 30][0];
                self.came.push([unanswered, other]);
                self.unanswered += self.share.part * inserts - gone;
                self.share.advance(inserts, 0.0, 1.0);
                let there = |kind: usize| -> f64 {
                    self.came[self.came.len() - 30..].iter().map(|came| came[kind]).sum()
                };
                let (there, all) = (there(0), there(0) + there(1));
                let hits = (0..reads).filter(|_| self.random.unit() * all < there);
                let seen = hits.count() as f64 / f64::from(reads);
                let reads = f64::from(reads);
                self.unanswered += self.share.see(seen, [self.unanswered, all], reads, 1.0);
            }
        }
    }

    #[test]
    fn the_part_is_found_and_stays() {
        let mut world = World::new();
        world.go_on([900.0, 100.0], 40, 600);
        for _ in 0..300 {
            world.go_on([900.0, 100.0], 1, 600);
            assert!((world.share.part - 0.9).abs() < 0.06, "{:?}", world.share);
        }
    }

    #[test]
    fn what_comes_besides_the_usual_may_be_of_another_kind() {
        let mut world = World::new();
        world.go_on([100.0, 900.0], 200, 600);
        world.go_on([9100.0, 900.0], 2, 600);
        assert!(world.share.part > 0.75, "{:?}", world.share);
        world.go_on([9100.0, 900.0], 5, 600);
        assert!((world.share.part - 0.91).abs() < 0.05, "{:?}", world.share);
    }
}
