//! Tests of the leak matrix.

use std::collections::BTreeSet;

use super::*;

/// A burst of 3,375 at 20 s, then 15 a second from 50 s on until 5,625 are there; all is said exactly.
fn right() -> (Cell, Vec<Tick>) {
    let cell = Cell { rate: 15, bursts: 1, late: false, kernel: None };
    let tick = |second: u32| {
        let leaked = second.saturating_sub(50) * 15;
        let held = if second < 20 { 0 } else { 3375 };
        let left = 200.0 - f64::from(second);
        Tick {
            time: f64::from(second),
            entries: f64::from(held + leaked).min(5625.0),
            limit: 5625.0,
            severity: if second < 60 { "ok" } else { "critical" }.to_owned(),
            state: "filling".to_owned(),
            median: (second > 52).then_some(left.max(0.0)),
        }
    };
    (cell, (0..210).map(tick).collect())
}

#[test]
fn what_is_right_is_met() {
    let (cell, ticks) = right();
    let verdict = cell.judge(&ticks).unwrap();
    assert_eq!((verdict.fill, verdict.lead, verdict.after), (149.0, Some(140.0), Some(9.0)));
    assert_eq!((verdict.wrong, verdict.worst, verdict.never, verdict.met), (0, 0.0, 0, true));
}

#[test]
fn what_is_late_wrong_or_never_is_not() {
    let judged = |change: fn(&mut Tick)| {
        let (cell, mut ticks) = right();
        ticks.iter_mut().for_each(change);
        cell.judge(&ticks).unwrap()
    };
    let late = judged(|tick| {
        if tick.time < 141.0 {
            tick.severity = "warning".to_owned();
        }
    });
    assert!(!late.in_time && !late.met && late.lead == Some(59.0), "{late:?}");
    // A pause of it: it began anew.
    let pause = judged(|tick| {
        if tick.time == 150.0 {
            tick.severity = "warning".to_owned();
        }
    });
    assert!(!pause.met && pause.lead == Some(49.0), "{pause:?}");
    let wrong = judged(|tick| {
        if tick.time == 100.0 {
            tick.median = Some(125.1);
        }
    });
    assert!(wrong.wrong == 1 && wrong.worst > 1.0 && wrong.in_time && !wrong.met, "{wrong:?}");
    // 25.1 s before the 100 s that are judged, and 3 s where little is left.
    let little = judged(|tick| {
        if tick.time == 99.0 || tick.time == 196.0 {
            tick.median =
                tick.median.map(|median| if median > 50.0 { 200.0 } else { median + 3.0 });
        }
    });
    assert!(little.met, "{little:?}");
    let never = judged(|tick| {
        if tick.time == 60.0 {
            tick.median = Some(NEVER + 1.0);
        }
    });
    assert!(never.never == 1 && never.wrong == 0 && !never.met, "{never:?}");
}

#[test]
fn a_short_fill_is_told_soon() {
    let cell = Cell { rate: 100, bursts: 0, late: false, kernel: None };
    let of = |begin: f64| {
        let tick = |second: u32| {
            let time = f64::from(second);
            Tick {
                time,
                entries: f64::from(second * 100),
                limit: 6000.0,
                severity: if time < begin { "ok" } else { "critical" }.to_owned(),
                state: "filling".to_owned(),
                median: Some(60.0 - time),
            }
        };
        cell.judge(&(0..=60).map(tick).collect::<Vec<_>>()).unwrap()
    };
    assert!(of(9.0).met && !of(10.0).met, "{:?}", of(9.0));
}

#[test]
fn a_table_that_is_never_full_has_no_verdict() {
    let (cell, mut ticks) = right();
    ticks.truncate(150);
    assert_eq!(cell.judge(&ticks), None);
}

#[test]
fn names_are_unique_and_scripts_have_their_numbers() {
    let cells = cells();
    let names: BTreeSet<String> = cells.iter().map(Cell::name).collect();
    assert_eq!((cells.len(), names.len()), (24, 24));
    let cell = Cell { rate: 3, bursts: 3, late: true, kernel: Some("6.1") };
    let order = cell.order().unwrap();
    assert_eq!(order.name, "rate-3-bursts-3-late-6.1");
    assert!(order.script.starts_with("RATE=3\nBURSTS=3\nBURST=600\nLATE=50\nMAX=2250\n"));
}
