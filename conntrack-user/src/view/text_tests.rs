use std::sync::Arc;

use super::*;
use crate::{
    forecast::outlook::{IS_FULL, Outlook, Quantiles},
    model::{
        evictable::Evictable,
        name::{Name, NameKind},
        reading::{Events, NetnsId},
        tick::Rates,
        windows::Windows,
    },
    severity::THRESHOLDS,
};

/// Full in 620 s.
fn filling() -> Outlook {
    let full = Quantiles { low: Some(500.0), median: Some(620.0), high: Some(900.0) };
    let outlook = Outlook::unknown(State::Filling, "UDP arrivals rose");
    Outlook { seconds_to_full: Some(full), ..outlook }
}

fn netns(entries: u64, max: u32) -> NetnsTick {
    NetnsTick {
        id: NetnsId { cookie: Some(1), inode: 4_026_531_840 },
        name: None,
        ended: false,
        entries: Entries::Exact(entries),
        limit: Limit::Entries(max),
        change: Some(Totals::default()),
        rates: Rates { insert: Some(1200.0), delete: Some(800.0), net: Some(400.0) },
        windows: Some(Windows {
            width_ns: 8_000_000,
            number: 125,
            inserts_peak: 50,
            ..Windows::default()
        }),
        totals: Some(Totals::default()),
        baseline: Some(0),
        count_drift: Some(0),
        in_flight: crate::model::in_flight::InFlightTick::default(),
        outlook: filling(),
        full: None,
        growth: None,
        evictable: Evictable::default(),
        timeouts_known: true,
        count: None,
        kernel: None,
        kernel_counters: None,
    }
}

/// What is left on a screen without colours.
fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn a_table_is_aligned_and_80_columns_wide() {
    let mut worst = netns(1_048_576, 1_048_576);
    worst.name = Some(Name { text: "a-name-that-is-too-long".into(), kind: NameKind::IpNetns });
    worst.rates =
        Rates { insert: Some(123_456.0), delete: Some(1_234_567.0), net: Some(-1_111_111.0) };
    let gone = Totals {
        table_full_drops: 99_999,
        early_drops: 12_345,
        events_lost: 123,
        ..Totals::default()
    };
    worst.change = Some(gone);
    worst.outlook = Outlook::unknown(State::Full, IS_FULL);
    worst.full = Some(crate::view::full::tests::full(99_999.0, 12_345.0));
    worst.count_drift = Some(-50);
    let text = plain(&Table::default().tick(&Tick::example(vec![netns(12_345, 262_144), worst])));
    let expected = "\
2025-11-24 16:00:00 UTC
     NETNS ENTRIES     MAX FILL INS/s  PEAK DEL/s NET/s DROPS EVICT FULLIN DRIFT
4026531840   12345  262144   4%  1.2k  6.2k   800  +400     0     0 10m20s     0
  filling: full in 10 min (8 min to 15 min)
  UDP arrivals rose
a-na~-long 1048576 1048576 100%  123k  6.2k  1.2M -1.1M  100k   12k   FULL   -50
  full for 41 s, drops 100k packets/s and evicts 12k entries/s
  full since 16:00:00 UTC, packets dropped since 16:00:30 UTC
  123 events lost: the ring buffers were full; no count suffers
";
    assert_eq!(text, expected);
    assert!(text.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn what_is_not_known_is_no_zero() {
    let unknown = NetnsTick {
        entries: Entries::Unavailable,
        limit: Limit::Unavailable,
        change: None,
        rates: Rates::default(),
        windows: None,
        totals: None,
        baseline: None,
        count_drift: None,
        in_flight: crate::model::in_flight::InFlightTick::default(),
        outlook: Outlook::unknown(State::Unknown, "the limit is not known"),
        ..netns(0, 1)
    };
    let unlimited = NetnsTick {
        entries: Entries::Between(96, 100),
        limit: Limit::Unlimited,
        count_drift: None,
        in_flight: crate::model::in_flight::InFlightTick::default(),
        outlook: Outlook { seconds_to_full: None, ..filling() },
        ..netns(0, 1)
    };
    let text = plain(&Table::default().tick(&Tick::example(vec![unknown, unlimited])));
    let rows: Vec<&str> = text.lines().skip(2).collect();
    assert_eq!(
        rows,
        [
            "4026531840       ?       ?    -     ?     ?     ?     ?     ?     ?      ?     ?",
            "4026531840   <=100    none    -  1.2k  6.2k   800  +400     0     0  never     ~",
            "  filling",
            "  UDP arrivals rose",
        ]
    );
}

#[test]
fn a_hook_that_is_not_attached_leaves_a_question_mark() {
    let mut tick = Tick::example(vec![netns(5, 10)]);
    tick.counted.early_drops = false;
    let text = plain(&Table::default().tick(&tick));
    let row = text.lines().nth(2).unwrap_or_default();
    assert_eq!(
        row,
        "4026531840       5      10  50%  1.2k  6.2k   800  +400     ?     ? 10m20s     0"
    );
}

#[test]
fn a_sample_is_said() {
    let mut tick = Tick::example(vec![netns(5, 10)]);
    let events = Events { seen: 9, received: 2, sampled_out: 7, lost: 0, threshold: 1 << 30 };
    tick.events = Some(events);
    let text = plain(&Table::default().tick(&tick));
    assert_eq!(text.lines().last(), Some("  events of 1 flow in 4.0; counts are of all"));
    tick.events = Some(Events { threshold: conntrack_ebpf::EVERY_FLOW, ..events });
    assert_eq!(plain(&Table::default().tick(&tick)).lines().count(), 5);
}

#[test]
fn a_forecast_is_said_when_it_changes_and_now_and_then_while_it_matters() {
    let mut table = Table::default();
    let mut is_said = |ms: u64, outlook: Outlook| {
        let mut tick = Tick::example(vec![NetnsTick { outlook, ..netns(1, 10) }]);
        tick.time.monotonic_ns = ms * 1_000_000;
        plain(&table.tick(&tick)).contains("because")
    };
    let in_state = |state| Outlook { state, ..Outlook::unknown(state, "because") };
    let (steady, filling) = (in_state(State::Steady), in_state(State::Filling));
    assert!(!is_said(0, in_state(State::Unknown)));
    assert!(is_said(100, steady.clone()), "for the first time");
    assert!(!is_said(5000, steady.clone()), "as before");
    assert!(is_said(5100, filling.clone()), "changed");
    assert!(!is_said(5200, steady.clone()), "changed, less than a second ago");
    assert!(is_said(6100, steady.clone()));
    assert!(!is_said(60_000, steady));
    assert!(is_said(61_000, filling.clone()));
    assert!(!is_said(70_900, filling.clone()));
    assert!(is_said(71_000, filling), "as before, and it matters");
}

#[test]
fn a_high_table_without_a_forecast_is_told_each_second() {
    let mut table = Table::new(THRESHOLDS.on_demand(), false, false);
    let mut is_said = |ms: u64, entries: u64| {
        let outlook = Outlook::unknown(State::Unknown, "2 s of 3 s seen so far");
        let mut tick = Tick::example(vec![NetnsTick { outlook, ..netns(entries, 100) }]);
        tick.time.monotonic_ns = ms * 1_000_000;
        plain(&table.tick(&tick)).contains("no forecast")
    };
    assert!(!is_said(0, 79), "nobody needs it");
    assert!(is_said(1000, 96));
    assert!(!is_said(1500, 96));
    assert!(is_said(2000, 96));
}

#[test]
fn headings_come_again_and_notices_once() {
    let mut table = Table::default();
    let mut first = Tick::example(vec![netns(1, 10)]);
    first.notices.push("nf_conntrack_max changed from 5 to 10".into());
    assert!(plain(&table.tick(&first)).starts_with("nf_conntrack_max changed"));
    let headings = (0..40)
        .map(|_| table.tick(&Tick::example(vec![netns(1, 10)])))
        .filter(|text| text.contains("NETNS"))
        .count();
    assert_eq!(headings, 2);
}

#[test]
fn a_table_that_is_nearly_full_is_coloured() {
    let colours = |entries| {
        let mut one = netns(entries, 100);
        one.outlook = Outlook::unknown(State::Unknown, "");
        let mut table = Table::new(THRESHOLDS.on_demand(), false, false);
        let text = table.tick(&Tick::example(vec![one]));
        (
            text.contains("\u{1b}[33m"),
            text.contains("\u{1b}[31m") || text.contains("\u{1b}[1m\u{1b}[31m"),
        )
    };
    assert_eq!(colours(79), (false, false));
    assert_eq!(colours(80), (true, false));
    assert_eq!(colours(95), (false, true));
}

#[test]
fn the_first_dropped_packet_of_a_full_table_is_told_at_once() {
    let mut table = Table::default();
    let mut lines = |ms: u64, drops: f64| {
        let full = Some(crate::view::full::tests::full(drops, 3.0));
        let outlook = Outlook::unknown(State::Full, IS_FULL);
        let mut tick = Tick::example(vec![NetnsTick { outlook, full, ..netns(100, 100) }]);
        tick.time.monotonic_ns = ms * 1_000_000;
        let text = plain(&table.tick(&tick));
        text.lines().find(|line| line.contains("full for")).map(str::to_owned)
    };
    let evicts = "  full for 41 s, evicts 3 entries/s, drops nothing";
    assert_eq!(lines(0, 0.0).as_deref(), Some(evicts));
    assert_eq!(lines(3000, 0.0), None);
    let drops = "  full for 41 s, drops 2 packets/s and evicts 3 entries/s";
    assert_eq!(lines(4000, 2.0).as_deref(), Some(drops));
    assert_eq!(lines(6000, 2.0), None);
}

#[test]
fn the_column_of_names_follows_the_screen() {
    let named = |inode, name: &str| {
        let mut one = netns(5, 10);
        one.outlook = Outlook::unknown(State::Unknown, "");
        one.id.inode = inode;
        one.name = Some(Name { text: name.into(), kind: NameKind::Pod });
        one
    };
    let tick = Tick::example(vec![
        named(4_026_532_210, "kube-system-gateway-blue"),
        named(4_026_532_310, "kube-system-gateway-green"),
    ]);
    let first_cells = |columns: Option<usize>| {
        let mut table = Table::default();
        table.set_screen(columns);
        let text = plain(&table.tick(&tick));
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(columns.is_none_or(|columns| widest <= columns.max(80)), "{text}");
        let rows = text.lines().skip(2).take(2);
        rows.filter_map(|row| row.split_whitespace().next().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(first_cells(Some(40)), ["kube~-blue", "kube~green"]);
    assert_eq!(first_cells(Some(80)), ["kube~-blue", "kube~green"]);
    assert_eq!(first_cells(Some(90)), ["kube-syst~teway-blue", "kube-syst~eway-green"]);
    let whole = ["kube-system-gateway-blue", "kube-system-gateway-green"];
    assert_eq!(first_cells(Some(200)), whole);
    assert_eq!(first_cells(None), whole);
}

#[test]
fn coverage_that_is_not_whole_is_said_when_it_changes() {
    let mut table = Table::default();
    let mut tick = Tick::example(vec![netns(1, 100_000)]);
    let mut coverage = crate::source::recording::samples::coverage();
    let mut text = |coverage: &crate::model::coverage::Coverage| {
        tick.coverage = Some(Arc::new(coverage.clone()));
        plain(&table.tick(&tick))
    };
    let first = text(&coverage);
    assert!(
        first.contains("2 of at least 5 tables read\n  not read: ingress_sbox (11)"),
        "{first}"
    );
    assert!(!text(&coverage).contains("tables read"), "as before");
    coverage.not_read.remove(0);
    assert!(text(&coverage).contains("only counted: 12"));
    // Entries come and go all the time.
    coverage.not_read[0].entries = Some(3);
    coverage.read += 1;
    assert!(!text(&coverage).contains("tables read"), "the same tables");
    coverage.not_read[0].entries = Some(100_000);
    assert!(text(&coverage).contains("only counted: 12"), "its table is full");
    let whole = crate::model::coverage::Coverage { read: 2, ..Default::default() };
    assert!(text(&whole).contains("2 of at least 2 tables read"), "whole again");
    assert!(!text(&whole).contains("tables read"));
}
