//! Entries that are allocated and not in the table, in words and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use super::style::{BAD, DIM};
use crate::model::in_flight::InFlightTick;

/// Members of a namespace's object in JSON.
#[derive(Debug, Serialize)]
pub struct Json {
    unhashed_entries: Option<i64>,
    dying_entries: Option<i64>,
    queued_packets: Option<u64>,
    inserts_missed: Option<u64>,
    deletes_missed: Option<u64>,
}

/// `tick` as JSON.
#[must_use]
pub const fn json(tick: &InFlightTick) -> Json {
    Json {
        unhashed_entries: tick.unhashed,
        dying_entries: tick.dying,
        queued_packets: tick.queued,
        inserts_missed: tick.inserts_missed,
        deletes_missed: tick.deletes_missed,
    }
}

/// What is to be said: entries that something holds, and calls that were missed. A line each.
#[must_use]
pub fn lines(tick: &InFlightTick) -> String {
    let mut out = String::new();
    if let Some(unhashed) = tick.unhashed.filter(|_| tick.held.unhashed) {
        let why = match tick.queued {
            Some(0) => "no packet waits in a queue (NFQUEUE)".into(),
            Some(packets) => format!("packets in queues (NFQUEUE): {packets}"),
            None => "packets in queues (NFQUEUE) cannot be counted".into(),
        };
        let _ = writeln!(
            out,
            "{DIM}  {unhashed} entries are allocated and not in the table; {why}{DIM:#}"
        );
    }
    if let Some(dying) = tick.dying.filter(|_| tick.held.dying) {
        let _ = writeln!(
            out,
            "{DIM}  {dying} entries are deleted and not freed: a ctnetlink listener does not read, or packets hold them{DIM:#}"
        );
    }
    for (what, missed) in [("inserts", tick.inserts_missed), ("deletes", tick.deletes_missed)] {
        if let Some(missed) = missed.filter(|missed| *missed > 0) {
            let _ = writeln!(
                out,
                "{BAD}  {missed} {what} were not counted: see docs/exactness.md{BAD:#}"
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::in_flight::Held;

    #[test]
    fn what_holds_entries_is_said_and_what_was_missed() {
        let quiet = InFlightTick { unhashed: Some(2), dying: Some(1), ..InFlightTick::default() };
        assert_eq!(lines(&quiet), "");
        let held = Held { unhashed: true, dying: true };
        let queued = Some(40);
        let held = InFlightTick { unhashed: Some(40), dying: Some(9), held, queued, ..quiet };
        let plain = anstream::adapter::strip_str(&lines(&held)).to_string();
        assert_eq!(
            plain,
            "  40 entries are allocated and not in the table; packets in queues (NFQUEUE): 40\n  \
             9 entries are deleted and not freed: a ctnetlink listener does not read, or packets hold them\n"
        );
        let missed = InFlightTick { inserts_missed: Some(5), deletes_missed: Some(0), ..quiet };
        let plain = anstream::adapter::strip_str(&lines(&missed)).to_string();
        assert_eq!(plain, "  5 inserts were not counted: see docs/exactness.md\n");
    }
}
