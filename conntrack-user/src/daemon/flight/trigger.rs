//! When a file is to be written.

/// How long is recorded on after a warning: what happens next belongs to it.
pub(super) const TAIL_NS: u64 = 30_000_000_000;
/// Between the files of two warnings.
const WARNED_EVERY_NS: u64 = 60_000_000_000;
/// Between two files that are asked for: names tell seconds apart.
const ASKED_EVERY_NS: u64 = 1_000_000_000;

/// Reason of a file that somebody asks for by SIGUSR1.
pub(crate) const MANUAL: &str = "manual";

/// Files that are to be written. Times are those of a clock that never jumps.
#[derive(Debug, Default)]
pub(super) struct Trigger {
    asked: Pending,
    warned: Pending,
}

/// A file.
#[derive(Debug, Default)]
struct Pending {
    reason: String,
    /// When it is to be written; none: it is not.
    due_ns: Option<u64>,
    /// When the last one was.
    last_ns: Option<u64>,
}

impl Pending {
    /// Not before `due_ns`, nor within `every_ns` of the last one. One that waits already takes the reason over.
    fn set(&mut self, reason: &str, due_ns: u64, every_ns: u64) {
        reason.clone_into(&mut self.reason);
        let earliest_ns = self.last_ns.map_or(0, |last| last.saturating_add(every_ns));
        self.due_ns.get_or_insert(due_ns.max(earliest_ns));
    }

    fn due(&mut self, now_ns: u64) -> Option<String> {
        self.due_ns.take_if(|due_ns| *due_ns <= now_ns)?;
        self.last_ns = Some(now_ns);
        Some(std::mem::take(&mut self.reason))
    }
}

impl Trigger {
    /// Somebody wants a file.
    pub(super) fn ask(&mut self, now_ns: u64) {
        self.asked.set(MANUAL, now_ns, ASKED_EVERY_NS);
    }

    /// Something has become worse.
    pub(super) fn warn(&mut self, reason: &str, now_ns: u64) {
        self.warned.set(reason, now_ns.saturating_add(TAIL_NS), WARNED_EVERY_NS);
    }

    /// The reason of a file that is to be written by now.
    pub(super) fn due(&mut self, now_ns: u64) -> Option<String> {
        self.asked.due(now_ns).or_else(|| self.warned.due(now_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    enum Step {
        Ask,
        Warn(&'static str),
    }
    use Step::{Ask, Warn};

    /// Seconds and reasons of the files, when it is looked ten times a second.
    fn files(steps: &[(u64, Step)]) -> Vec<(u64, String)> {
        let (mut trigger, mut files) = (Trigger::default(), vec![]);
        for tenth in 0..3000 {
            let now_ns = tenth * SECOND / 10;
            for (_, step) in steps.iter().filter(|(second, _)| second * 10 == tenth) {
                match step {
                    Ask => trigger.ask(now_ns),
                    Warn(reason) => trigger.warn(reason, now_ns),
                }
            }
            while let Some(reason) = trigger.due(now_ns) {
                files.push((tenth / 10, reason));
            }
        }
        files
    }

    #[test]
    fn files_come_when_they_are_due() {
        type Case<'a> = (&'a str, Vec<(u64, Step)>, Vec<(u64, &'a str)>);
        let cases: [Case<'_>; 6] = [
            ("nothing", vec![], vec![]),
            ("at once", vec![(5, Ask)], vec![(5, MANUAL)]),
            (
                "twice at once is one a second",
                vec![(5, Ask), (5, Ask), (7, Ask)],
                vec![(5, MANUAL), (7, MANUAL)],
            ),
            ("a tail", vec![(5, Warn("warning"))], vec![(35, "warning")]),
            (
                "worse within the tail, and after it",
                vec![(5, Warn("warning")), (20, Warn("critical")), (40, Warn("warning"))],
                vec![(35, "critical"), (95, "warning")],
            ),
            (
                "asked within the tail",
                vec![(5, Warn("critical")), (10, Ask), (100, Warn("critical"))],
                vec![(10, MANUAL), (35, "critical"), (130, "critical")],
            ),
        ];
        for (what, steps, expected) in cases {
            let expected: Vec<_> =
                expected.into_iter().map(|(second, reason)| (second, reason.to_owned())).collect();
            assert_eq!(files(&steps), expected, "{what}");
        }
    }

    #[test]
    fn however_often_it_is_warned_or_asked_files_are_few() {
        let mut trigger = Trigger::default();
        let mut files = 0;
        for tenth in 0..6000 {
            let now_ns = tenth * SECOND / 10;
            trigger.ask(now_ns);
            trigger.warn("critical", now_ns);
            files += u32::from(trigger.due(now_ns).is_some());
        }
        // Ten minutes: one a second, and one a minute.
        assert!((600..=610).contains(&files), "{files}");
    }
}
