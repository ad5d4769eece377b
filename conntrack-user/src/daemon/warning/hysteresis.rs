//! One condition, and when it is raised and cleared: at once or after a while, so that nothing flaps.

use crate::severity::condition::{Timing, Verdict};

/// State of a condition: raised or not, and since when ticks disagree with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Signal {
    is_raised: bool,
    /// How long ticks have said without a contradiction what would change it. Time counts between two successive ticks
    /// that both say so: one that tells nothing takes nothing away and adds nothing.
    agreed_ns: u64,
    /// When the last tick said so; none where it said something else or nothing.
    said_ns: Option<u64>,
}

impl Signal {
    /// Takes in what a tick says; whether it is raised then.
    pub(super) fn observe(&mut self, says: Verdict, now_ns: u64, timing: Timing) -> bool {
        let (turns, wait_ns) = match self.is_raised {
            false => (Verdict::Raise, timing.hold_ns),
            true => (Verdict::Clear, timing.quiet_ns),
        };
        if says == Verdict::Unknown {
            self.said_ns = None;
        } else if says == turns {
            let passed_ns = self.said_ns.map_or(0, |said| now_ns.saturating_sub(said));
            self.agreed_ns = self.agreed_ns.saturating_add(passed_ns);
            self.said_ns = Some(now_ns);
            if self.agreed_ns >= wait_ns {
                *self = Self { is_raised: !self.is_raised, ..Self::default() };
            }
        } else {
            *self = Self { is_raised: self.is_raised, ..Self::default() };
        }
        self.is_raised
    }

    /// Whether it is raised.
    pub(super) const fn is_raised(&self) -> bool {
        self.is_raised
    }

    /// Whether it is as if nothing had ever been seen.
    pub(super) fn is_at_rest(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `r` raise, `s` stay, `c` clear, `?` unknown, once a second; raised after 2 s, cleared after 3.
    fn raised(said: &str) -> String {
        const SECOND: u64 = 1_000_000_000;
        let timing = Timing { hold_ns: 2 * SECOND, quiet_ns: 3 * SECOND };
        let mut signal = Signal::default();
        let one = |(second, said): (usize, char)| {
            let says = match said {
                'r' => Verdict::Raise,
                's' => Verdict::Stay,
                'c' => Verdict::Clear,
                _ => Verdict::Unknown,
            };
            if signal.observe(says, second as u64 * SECOND, timing) { '!' } else { '.' }
        };
        said.chars().enumerate().map(one).collect()
    }

    #[test]
    fn it_takes_agreement_for_a_while() {
        let cases = [
            ("rrr", "..!"),
            ("rrsrrr", ".....!"),
            ("rrcrrr", ".....!"),
            ("rrrsssss", "..!!!!!!"),
            ("rrrccccc", "..!!!!.."),
            ("rrrcccscccc", "..!!!!!!!!."),
            ("rrrcccrcccc", "..!!!!!!!!."),
        ];
        for (said, expected) in cases {
            assert_eq!(raised(said), expected, "{said}");
        }
    }

    #[test]
    fn what_is_not_known_neither_raises_nor_clears() {
        let cases = [
            ("????????", "........"),
            ("r?r?r?r?", "........"),
            ("rr??????rr", ".........!"),
            ("rrr????????", "..!!!!!!!!!"),
            ("rrrcc???cc?cc", "..!!!!!!!!!!."),
        ];
        for (said, expected) in cases {
            assert_eq!(raised(said), expected, "{said}");
        }
    }
}
