//! Changes of `nf_conntrack_max`, which is one for all namespaces of a node, also by a program that sets it back.

/// Time within which a change back is one by a program, and not by somebody who has thought again.
const SET_BACK_NS: u64 = 60_000_000_000;

/// Changes since the first reading.
#[derive(Debug, Clone, Default)]
pub struct LimitChanges {
    count: u64,
    /// The limit before the last change, the limit since then, and when on `CLOCK_MONOTONIC` it changed.
    last: Option<(u32, u32, u64)>,
}

impl LimitChanges {
    /// Takes in a change that one namespace shows. Returns the sentence to report, unless another namespace has shown the
    /// same change: idle ones show it later.
    pub fn observe(&mut self, before: u32, now: u32, now_ns: u64) -> Option<String> {
        if self.last.is_some_and(|(_, current, _)| current == now) {
            return None;
        }
        let last = self.last.replace((before, now, now_ns));
        self.count += 1;
        let since = last
            .filter(|(first, _, _)| *first == now)
            .map(|(.., at_ns)| now_ns.saturating_sub(at_ns));
        let back = match since.filter(|since| *since <= SET_BACK_NS) {
            Some(since_ns) => format!(
                ": set back after {:.0} s; `ctmon doctor` names programs that do this",
                (since_ns as f64 / 1e9).max(1.0)
            ),
            None => String::new(),
        };
        Some(format!("nf_conntrack_max changed from {before} to {now}{back}"))
    }

    /// Number of changes.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_limit_that_is_set_back_is_said_and_counted() {
        let mut changes = LimitChanges::default();
        let mut observe = |before, now, seconds| {
            let said = changes.observe(before, now, seconds * SECOND);
            (said, changes.count())
        };
        let plain = |text: &str| Some(text.to_owned());
        assert_eq!(
            observe(20_000, 50_000, 10),
            (plain("nf_conntrack_max changed from 20000 to 50000"), 1)
        );
        // The same one, shown by another namespace, and by one that was idle.
        assert_eq!(observe(20_000, 50_000, 10), (None, 1));
        assert_eq!(observe(20_000, 50_000, 12), (None, 1));
        let back = "nf_conntrack_max changed from 50000 to 20000: set back after 5 s; \
                    `ctmon doctor` names programs that do this";
        assert_eq!(observe(50_000, 20_000, 15), (plain(back), 2));
        assert_eq!(
            observe(20_000, 60_000, 100),
            (plain("nf_conntrack_max changed from 20000 to 60000"), 3)
        );
        assert_eq!(
            observe(60_000, 20_000, 7000),
            (plain("nf_conntrack_max changed from 60000 to 20000"), 4)
        );
    }
}
