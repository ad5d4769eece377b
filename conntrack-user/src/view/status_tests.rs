use std::sync::Arc;

use super::*;
use crate::{
    forecast::outlook::{Outlook, Quantiles},
    model::{
        name::{Name, NameKind},
        reading::NetnsId,
        tick::Entries,
    },
    severity::THRESHOLDS,
};

fn tick(tables: &[(Entries, Limit)]) -> Tick {
    let netns = tables.iter().map(|(entries, limit)| NetnsTick {
        id: NetnsId { cookie: None, inode: 7 },
        name: Some(Name { text: "blue".into(), kind: NameKind::IpNetns }),
        entries: *entries,
        limit: *limit,
        outlook: Outlook::unknown(State::Unknown, "not enough is known yet"),
        ..NetnsTick::example(7, 0, 0)
    });
    Tick::example(netns.collect())
}

fn plain() -> Limits {
    Limits { thresholds: THRESHOLDS.on_demand(), ranges: Ranges::default(), full_within: None }
}

#[test]
fn ranges_decide_in_place_of_thresholds() {
    let at = |entries| tick(&[(Entries::Exact(entries), Limit::Entries(1000))]);
    let range = |text: &str| Some(text.parse().unwrap());
    let limits =
        Limits { ranges: Ranges { warning: range("10:80"), critical: range("@0:5") }, ..plain() };
    let cases = [
        (49, Severity::Critical),
        (50, Severity::Critical),
        (51, Severity::Warning),
        (100, Severity::Ok),
        (800, Severity::Ok),
        (801, Severity::Warning),
        (1000, Severity::Warning),
    ];
    for (entries, severity) in cases {
        assert_eq!(judge(&at(entries), limits).severity, severity, "{entries}");
    }
    // The table that is critical is named, and not the fullest one.
    let mut two = tick(&[(Entries::Exact(500), Limit::Entries(1000)); 2]);
    two.netns[1].entries = Entries::Exact(3);
    let text = text(&two, &Origin::example(), judge(&two, limits), None);
    assert!(text.starts_with("CRITICAL: 0% full in netns blue: 3 of 1,000"), "{text}");
}

#[test]
fn no_fill_looks_as_if_a_threshold_were_reached() {
    let table = (Entries::Exact(94_960), Limit::Entries(100_000));
    let tick = tick(&[table]);
    let text = text(&tick, &Origin::example(), judge(&tick, plain()), None);
    assert!(text.starts_with("WARNING: 94% full in netns blue: "), "{text}");
    assert!(!text.contains("95"), "{text}");
}

#[test]
fn the_worst_table_decides() {
    let limits = plain();
    let at = |entries| (Entries::Exact(entries), Limit::Entries(1000));
    let endless = (Entries::Exact(5), Limit::Unlimited);
    let unread = (Entries::Unavailable, Limit::Entries(1000));
    let cases = [
        (vec![], Severity::Unknown, 3),
        (vec![at(799)], Severity::Ok, 0),
        (vec![at(800)], Severity::Warning, 1),
        (vec![at(949), at(0)], Severity::Warning, 1),
        (vec![at(0), at(950)], Severity::Critical, 2),
        (vec![at(1001)], Severity::Critical, 2),
        (vec![endless], Severity::Ok, 0),
        (vec![unread], Severity::Unknown, 3),
        (vec![unread, at(0)], Severity::Unknown, 3),
        (vec![unread, at(800)], Severity::Warning, 1),
    ];
    for (tables, severity, code) in cases {
        let judged = judge(&tick(&tables), limits).severity;
        assert_eq!((judged, judged.exit_code()), (severity, code), "{tables:?}");
    }
}

#[test]
fn a_table_that_will_be_full_soon_is_critical() {
    let within = |seconds, probability| Limits {
        thresholds: THRESHOLDS.on_demand(),
        ranges: Ranges::default(),
        full_within: Some(FullWithin { seconds, probability }),
    };
    let mut tick = tick(&[(Entries::Exact(10), Limit::Entries(1000))]);
    assert_eq!(judge(&tick, within(600.0, 0.5)).severity, Severity::Unknown);
    assert!(!is_decided(&tick, within(600.0, 0.5)));
    tick.netns[0].entries = Entries::Exact(900);
    assert_eq!(judge(&tick, within(600.0, 0.5)).severity, Severity::Warning);
    assert!(!is_decided(&tick, within(600.0, 0.5)), "it may be worse");
    tick.netns[0].entries = Entries::Exact(950);
    assert!(is_decided(&tick, within(600.0, 0.5)), "it cannot be worse");
    tick.netns[0].entries = Entries::Exact(10);
    let full = Quantiles { low: Some(120.0), median: Some(600.0), high: None };
    tick.netns[0].outlook = Outlook {
        seconds_to_full: Some(full),
        full_probability: Some([0.05, 0.3, 0.6, 0.8]),
        ..Outlook::unknown(State::Filling, "arrivals rose")
    };
    let cases = [
        (within(600.0, 0.5), Severity::Critical),
        (within(599.0, 0.5), Severity::Ok),
        (within(3600.0, 0.81), Severity::Ok),
        (within(60.0, 0.01), Severity::Critical),
    ];
    for (limits, expected) in cases {
        assert_eq!(judge(&tick, limits).severity, expected, "{limits:?}");
        assert!(is_decided(&tick, limits));
    }
    let start = Origin::example();
    let text = text(&tick, &start, judge(&tick, within(600.0, 0.5)), None);
    let first = text.lines().next().unwrap_or_default();
    assert_eq!(first, "CRITICAL: 50% likely to be full within 10 min in netns blue");
    // Nobody forecasts what has no limit.
    tick.netns[0].limit = Limit::Unlimited;
    tick.netns[0].outlook = Outlook::unknown(State::Steady, "");
    assert_eq!(judge(&tick, within(600.0, 0.5)).severity, Severity::Ok);
}

#[test]
fn tables_without_a_forecast_are_counted_by_reason() {
    let limits = plain();
    let at = (Entries::Exact(5), Limit::Entries(1000));
    let mut three = tick(&[at; 3]);
    three.netns[1].outlook.reason = "it has ended".into();
    let expected = "\
no forecast of one table: it has ended
no forecast of 2 tables: not enough is known yet
  a forecast takes longer: `ctmon watch` and --full-within wait for it
";
    assert_eq!(without_forecast(&three, limits), expected);
    three.netns.iter_mut().for_each(|netns| netns.outlook.state = State::Steady);
    assert_eq!(without_forecast(&three, limits), "");
}

#[test]
fn the_first_line_names_the_fullest_table() {
    let at = |entries| (Entries::Exact(entries), Limit::Entries(1000));
    let limits = plain();
    let first = |tables: &[(Entries, Limit)]| {
        let tick = tick(tables);
        let start = Origin::example();
        let text = text(&tick, &start, judge(&tick, limits), None);
        text.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(
        first(&[at(10), at(850)]),
        "WARNING: 85% full in netns blue: 850 of 1,000 entries, 150 free"
    );
    assert_eq!(first(&[at(10)]), "OK: 1% full in netns blue: 10 of 1,000 entries");
    assert_eq!(first(&[]), "UNKNOWN: no network namespace tracks connections");
    assert_eq!(first(&[(Entries::Exact(5), Limit::Unlimited)]), "OK: the tables have no limit");
}

#[test]
fn the_first_line_of_a_full_table_has_its_facts() {
    let within = FullWithin { seconds: 600.0, probability: 0.5 };
    let limits = Limits { full_within: Some(within), ..plain() };
    let at = (Entries::Exact(5000), Limit::Entries(5000));
    let mut tick = tick(&[at; 2]);
    let full = |drops, evictions| crate::view::full::tests::full(drops, evictions);
    tick.netns[0].full = Some(full(12.0, 30.0));
    let first = |tick: &Tick| {
        let judged = judge(tick, limits);
        assert_eq!(judged.severity, Severity::Critical);
        text(tick, &Origin::example(), judged, None).lines().next().unwrap_or_default().to_owned()
    };
    let line = "CRITICAL: full for 41 s, drops 12 packets/s and evicts 30 entries/s: 5,000 of 5,000 entries in netns blue";
    assert_eq!(first(&tick), line);
    tick.netns[1].full = Some(full(3.0, 90.0));
    assert_eq!(first(&tick), format!("{line} (1 more full)"));
    // Evictions keep it below the limit: it is critical as well.
    tick.netns.remove(0);
    tick.netns[0].entries = Entries::Exact(3900);
    assert!(is_decided(&tick, limits));
    assert!(first(&tick).contains("drops 3 packets/s and evicts 90 entries/s: 3,900 of 5,000"));
}

#[test]
fn a_table_that_is_only_counted_is_judged_by_the_kernels_one_limit() {
    let limits = plain();
    let first = |tick: &Tick, unread| {
        let judged = judge(tick, limits);
        let severity = coverage::judge(judged.severity, tick.coverage.as_deref(), unread);
        let text = text(tick, &Origin::example(), Judged { severity, ..judged }, None);
        text.lines().next().unwrap_or_default().to_owned()
    };
    // 900 entries that nothing but the kernel's list shows.
    let with = |entries, max| {
        let mut tick = tick(&[(Entries::Exact(entries), Limit::Entries(max))]);
        tick.coverage = Some(Arc::new(crate::source::recording::samples::coverage()));
        tick
    };
    let full = "100% full in netns 12, which is only counted: 900 of 900 entries \
                    (limit: the kernel's one limit, read in netns blue)";
    assert_eq!(first(&with(20, 900), Severity::Unknown), format!("CRITICAL: {full}"));
    assert_eq!(first(&with(20, 900), Severity::Ok), format!("CRITICAL: {full}"));
    let high = first(&with(20, 1000), Severity::Unknown);
    assert!(high.starts_with("WARNING: 90% full in netns 12, which is only counted"), "{high}");
    // One that is read and as bad comes first; one that is not bad leaves the verdict to what is not read.
    assert!(first(&with(900, 1000), Severity::Ok).starts_with("WARNING: 90% full in netns blue"));
    let low = first(&with(20, 100_000), Severity::Unknown);
    assert!(low.starts_with("UNKNOWN: 2 of at least 5 tables read"), "{low}");
    assert!(first(&with(20, 100_000), Severity::Ok).starts_with("OK: 2 of at least 5"));
    // Programs count in it meanwhile: it is no table that could not be read.
    let mut busy = with(20, 100_000);
    let counted = NetnsTick { limit: Limit::Unavailable, ..busy.netns[0].clone() };
    busy.netns.push(NetnsTick { entries: Entries::Unavailable, ..counted });
    assert!(first(&busy, Severity::Ok).starts_with("OK: 2 of at least 5"), "{busy:?}");
    assert!(first(&busy, Severity::Unknown).starts_with("UNKNOWN: 2 of at least 5"));
    busy.coverage = None;
    assert!(first(&busy, Severity::Ok).starts_with("UNKNOWN: "));
}

#[test]
fn tables_that_are_not_read_are_in_the_first_line() {
    let limits =
        Limits { thresholds: THRESHOLDS.on_demand(), ranges: Ranges::default(), full_within: None };
    let mut tick = tick(&[(Entries::Exact(430), Limit::Entries(100_000))]);
    tick.netns[0].entries = Entries::Exact(43_000);
    let text = |tick: &Tick, unread| {
        let judged = judge(tick, limits);
        let severity = coverage::judge(judged.severity, tick.coverage.as_deref(), unread);
        text(tick, &Origin::example(), Judged { severity, ..judged }, None)
    };
    tick.coverage = Some(Arc::new(crate::source::recording::samples::coverage()));
    let unknown = text(&tick, Severity::Unknown);
    let line = "2 of at least 5 tables read (only this container's: see --pid=host), fullest 43%";
    assert!(unknown.starts_with(&format!("UNKNOWN: {line}\n")), "{unknown}");
    assert!(unknown.contains("not read: ingress_sbox (11): entering it takes"), "{unknown}");
    assert!(text(&tick, Severity::Ok).starts_with(&format!("OK: {line}\n")));
    // A table in danger comes first.
    tick.netns[0].entries = Entries::Exact(85_000);
    assert!(text(&tick, Severity::Unknown).starts_with("WARNING: 85% full in netns blue"));
}
