//! Makes a forecast agree with the facts of its table: of a full table facts are reported, no forecast.

use super::{evictable::Evictable, full::Full, in_flight::InFlightTick};
use crate::forecast::{
    outlook::{IS_FULL, Outlook, Quantiles, State},
    reason,
};

/// Facts about a table that its forecast must agree with.
#[derive(Debug)]
pub(super) struct TableFacts<'a> {
    pub(super) entries: Option<u64>,
    pub(super) full: Option<&'a Full>,
    pub(super) evictable: &'a Evictable,
    /// Packets were dropped in this tick because the table was full.
    pub(super) is_dropping: bool,
    pub(super) in_flight: &'a InFlightTick,
}

/// Reports whether the table is full within a second by its forecast.
pub(super) fn is_full_at_once(outlook: &Outlook) -> bool {
    let median = outlook.seconds_to_full.and_then(|full| full.median);
    outlook.state == State::Full || median.is_some_and(|median| median < 1.0)
}

/// The forecast without what the facts contradict, whose reason names entries that something holds.
pub(super) fn reconcile(outlook: Outlook, facts: &TableFacts<'_>) -> Outlook {
    let outlook = agreeing(outlook, facts);
    let InFlightTick { unhashed, dying, held, .. } = facts.in_flight;
    let (unhashed, dying) = (unhashed.filter(|_| held.unhashed), dying.filter(|_| held.dying));
    let named = facts.entries.and_then(|entries| reason::held(entries, unhashed, dying));
    match named.filter(|_| outlook.state != State::Unknown) {
        Some(named) => Outlook { reason: format!("{}; {named}", outlook.reason), ..outlook },
        None => outlook,
    }
}

/// The forecast without what the facts contradict.
fn agreeing(outlook: Outlook, facts: &TableFacts<'_>) -> Outlook {
    if facts.full.is_some() {
        let reason = match outlook.state {
            State::Full => outlook.reason.as_str(),
            _ => IS_FULL,
        };
        let full = Outlook::unknown(State::Full, reason);
        return Outlook { full_probability: Some([1.0; 4]), ..full };
    }
    if outlook.state == State::Full {
        let reason = "entries from before ctmon are still being counted";
        return Outlook::unknown(State::Unknown, reason);
    }
    let is_known = facts.entries.is_some_and(|entries| facts.evictable.is_known(entries));
    let drop = outlook.seconds_to_first_drop.filter(|_| is_known && !facts.is_dropping);
    let drop = drop.map(|drop| not_before(drop, outlook.seconds_to_full));
    Outlook { seconds_to_first_drop: drop, ..outlook }
}

/// `drop`, and no quantile of it before that of `full`: only a full table drops packets.
fn not_before(
    drop: Quantiles<Option<f64>>,
    full: Option<Quantiles<Option<f64>>>,
) -> Quantiles<Option<f64>> {
    let Some(full) = full else { return drop };
    // None is beyond the horizon.
    let later = |drop: Option<f64>, full: Option<f64>| Some(drop?.max(full?));
    Quantiles {
        low: later(drop.low, full.low),
        median: later(drop.median, full.median),
        high: later(drop.high, full.high),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{estimate::Estimate, full::Loss, in_flight::Held, reading::Time};

    const KNOWN: Evictable = Evictable { entries: Some(Estimate::exact(100.0)), unknown: Some(0) };

    const fn times(low: f64, median: f64, high: Option<f64>) -> Quantiles<Option<f64>> {
        Quantiles { low: Some(low), median: Some(median), high }
    }

    fn filling() -> Outlook {
        Outlook {
            seconds_to_full: Some(times(5000.0, 9360.0, None)),
            full_probability: Some([0.0, 0.0, 0.0, 0.1]),
            seconds_to_first_drop: Some(times(5200.0, 7560.0, Some(9000.0))),
            ..Outlook::unknown(
                State::Filling,
                "arrivals stay as they are; the table would settle at 4,487",
            )
        }
    }

    fn facts<'a>(full: Option<&'a Full>, evictable: &'a Evictable) -> TableFacts<'a> {
        const NOTHING: &InFlightTick = &InFlightTick {
            unhashed: None,
            dying: None,
            held: Held { unhashed: false, dying: false },
            queued: None,
            inserts_missed: None,
            deletes_missed: None,
        };
        TableFacts { entries: Some(5000), full, evictable, is_dropping: false, in_flight: NOTHING }
    }

    #[test]
    fn nothing_is_forecast_of_a_full_table() {
        let since = Time { monotonic_ns: 1, unix_ns: 2 };
        let loss = Loss::default();
        let full = Full {
            since,
            seconds: 3.0,
            at_start: false,
            table_full_drops: loss,
            early_drops: loss,
        };
        let outlook = reconcile(filling(), &facts(Some(&full), &KNOWN));
        let expected =
            Outlook { full_probability: Some([1.0; 4]), ..Outlook::unknown(State::Full, IS_FULL) };
        assert_eq!(outlook, expected);
        // What the forecaster says of why it is full stays.
        let why = Outlook { state: State::Full, reason: "udp arrivals rose".into(), ..filling() };
        assert_eq!(reconcile(why, &facts(Some(&full), &KNOWN)).reason, "udp arrivals rose");
    }

    #[test]
    fn the_first_drop_is_not_before_the_table_is_full() {
        let outlook = reconcile(filling(), &facts(None, &KNOWN));
        assert_eq!(outlook.seconds_to_first_drop, Some(times(5200.0, 9360.0, None)));
        assert_eq!(outlook.seconds_to_full, filling().seconds_to_full);
    }

    #[test]
    fn the_first_drop_is_unknown_where_it_has_come_or_evictions_cannot_be_told() {
        let dropping = TableFacts { is_dropping: true, ..facts(None, &KNOWN) };
        assert_eq!(reconcile(filling(), &dropping).seconds_to_first_drop, None);
        let unknown = Evictable { unknown: Some(3000), ..KNOWN };
        assert_eq!(reconcile(filling(), &facts(None, &unknown)).seconds_to_first_drop, None);
    }

    #[test]
    fn many_entries_that_something_holds_are_named() {
        let reason = |unhashed, dying, held| {
            let in_flight = InFlightTick {
                unhashed: Some(unhashed),
                dying: Some(dying),
                held: Held { unhashed: held, dying: held },
                ..InFlightTick::default()
            };
            let facts = TableFacts { in_flight: &in_flight, ..facts(None, &KNOWN) };
            reconcile(filling(), &facts).reason
        };
        let said = filling().reason;
        assert_eq!(reason(400, 499, true), said, "a few of 5,000");
        assert_eq!(reason(4_000, 4_000, false), said, "for a moment");
        assert_eq!(
            reason(10, 4_000, true),
            format!("{said}; 4,000 entries are deleted and not freed: they count until they are")
        );
        assert!(reason(500, -3, true).contains("500 entries are allocated and not in the table"));
        let in_flight = InFlightTick {
            dying: Some(4_000),
            held: Held { unhashed: false, dying: true },
            ..InFlightTick::default()
        };
        let facts = TableFacts { in_flight: &in_flight, ..facts(None, &KNOWN) };
        let unknown = reconcile(Outlook::unknown(State::Unknown, "too early"), &facts);
        assert_eq!(unknown.reason, "too early");
    }

    #[test]
    fn a_table_whose_count_is_not_settled_is_not_called_full() {
        let full = Outlook::unknown(State::Full, "");
        assert_eq!(reconcile(full, &facts(None, &KNOWN)).state, State::Unknown);
    }
}
