use std::sync::Arc;

use super::*;
use crate::{
    daemon::latest::Latest,
    forecast::outlook::{Outlook, Quantiles, State},
    model::{
        counts::{ByProtocol, Counted, Totals},
        evictable::Evictable,
        kernel_counters::KernelTick,
        name::{Name, NameKind},
        reading::{Events, KernelStat, NetnsId, Time},
        tick::{Limit, NetnsTick, Rates, Tick},
    },
    source::item::{Origin, Start},
};

fn latest(most_apart: usize, tick: Option<Tick>) -> Metrics {
    let mut latest = Latest::new(most_apart);
    if let Some(tick) = tick {
        let origin = Origin::example();
        latest.open(&Start { time: tick.time, cpus: 2, origin });
        latest.take(tick);
    }
    Metrics::new(Shared::new(latest, None), Arc::default())
}

fn filling() -> NetnsTick {
    let full = Quantiles { low: Some(30.0), median: Some(60.5), high: None };
    let outlook = Outlook {
        seconds_to_full: Some(full),
        full_probability: Some([0.5, 0.75, 0.75, 0.8]),
        ..Outlook::unknown(State::Filling, "")
    };
    let totals = Totals {
        allocs: 100,
        frees: 40,
        inserts_packet: ByProtocol { tcp: 90, udp: 10, ..ByProtocol::default() },
        table_full_drops: 3,
        ..Totals::default()
    };
    NetnsTick {
        name: Some(Name { text: "shop/cart \"1\"".into(), kind: NameKind::Pod }),
        totals: Some(totals),
        rates: Rates { insert: Some(12.5), ..Rates::default() },
        count_drift: Some(-1),
        outlook,
        ..NetnsTick::example(4_026_531_840, 60, 100)
    }
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
}

#[test]
fn a_table_in_the_text_format() {
    let events = Events { seen: 5, received: 4, sampled_out: 0, lost: 1, threshold: u32::MAX };
    let time = Time { monotonic_ns: 0, unix_ns: 1_764_000_000_500_000_000 };
    let tick = Tick { time, events: Some(events), ..Tick::example(vec![filling()]) };
    let text = latest(10, Some(tick)).text(Format::Prometheus).unwrap();
    for line in [
        "# TYPE ctmon_allocs_total counter",
        "ctmon_allocs_total{netns=\"4026531840\"} 100",
        "ctmon_inserts_total{netns=\"4026531840\",path=\"packet\",protocol=\"tcp\"} 90",
        "ctmon_deletes_total{netns=\"4026531840\",cause=\"kernel\"} 0",
        "ctmon_table_full_drops_total{netns=\"4026531840\"} 3",
        "ctmon_insert_failed_total{netns=\"4026531840\",reason=\"dying\"} 0",
        "ctmon_entries{netns=\"4026531840\"} 60",
        "ctmon_entries_limit{netns=\"4026531840\"} 100",
        "ctmon_insert_rate{netns=\"4026531840\"} 12.5",
        "ctmon_seconds_to_full{netns=\"4026531840\",quantile=\"0.5\"} 60.5",
        "ctmon_seconds_to_full{netns=\"4026531840\",quantile=\"0.9\"} +Inf",
        "ctmon_full_probability{netns=\"4026531840\",within=\"5m\"} 0.75",
        "ctmon_forecast_state{netns=\"4026531840\",state=\"filling\"} 1",
        "ctmon_forecast_state{netns=\"4026531840\",state=\"full\"} 0",
        "ctmon_count_drift{netns=\"4026531840\"} -1",
        "ctmon_netns_info{netns=\"4026531840\",name=\"shop/cart \\\"1\\\"\",name_kind=\"pod\"} 1",
        "ctmon_source_info{source=\"ebpf\",kernel_release=\"6.12.1\"} 1",
        "ctmon_events_lost_total 1",
        "ctmon_sample_ratio 1.0",
        "ctmon_last_tick_timestamp_seconds 1764000000.5",
    ] {
        has(&text, line);
    }
    // What is not known has no number.
    for absent in ["delete_rate", "steady_state", "missed_calls", "NaN", "\"others\""] {
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn namespaces_are_counted_by_coverage() {
    let coverage = crate::source::recording::samples::coverage();
    let tick = |coverage| Tick { coverage, ..Tick::example(vec![filling()]) };
    let text = latest(10, Some(tick(Some(Arc::new(coverage))))).text(Format::Prometheus).unwrap();
    for line in [
        "ctmon_netns{coverage=\"read\"} 2",
        "ctmon_netns{coverage=\"counted\"} 1",
        "ctmon_netns{coverage=\"unread\"} 2",
        "ctmon_netns_blind_spots 4",
        "ctmon_netns_counted_fill_ratio 9.0",
    ] {
        has(&text, line);
    }
    // Of what is not known there is no 0.
    let text = latest(10, Some(tick(None))).text(Format::Prometheus).unwrap();
    has(&text, "ctmon_netns{coverage=\"read\"} 1");
    assert!(!text.contains("coverage=\"unread\"") && !text.contains("blind_spots"), "{text}");
}

#[test]
fn the_same_in_openmetrics() {
    let text = latest(10, Some(Tick::example(vec![filling()]))).text(Format::OpenMetrics).unwrap();
    has(&text, "# TYPE ctmon_allocs counter");
    has(&text, "ctmon_allocs_total{netns=\"4026531840\"} 100");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn what_no_hook_counts_is_absent() {
    let counted = Counted { early_drops: false, causes: false, deletes: false, ..Counted::ALL };
    let tick = Tick { counted, ..Tick::example(vec![filling()]) };
    let text = latest(10, Some(tick)).text(Format::Prometheus).unwrap();
    has(&text, "ctmon_allocs_total{netns=\"4026531840\"} 100");
    for absent in ["early_drops", "table_full_drops", "ctmon_deletes"] {
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn what_events_do_not_tell_is_absent() {
    let counted = Counted { allocs: false, netns_exits: false, ..Counted::ALL };
    let tick = Tick { counted, ..Tick::example(vec![filling()]) };
    let text = latest(10, Some(tick)).text(Format::Prometheus).unwrap();
    assert!(text.contains("cause=\"user\""), "{text}");
    for absent in ["ctmon_allocs", "ctmon_frees", "netns_exit", "cause=\"kernel\""] {
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn polling_has_no_counters_and_no_limit_no_end() {
    let polled = NetnsTick { totals: None, limit: Limit::Unlimited, ..filling() };
    let text = latest(10, Some(Tick::example(vec![polled]))).text(Format::Prometheus).unwrap();
    has(&text, "ctmon_seconds_to_full{netns=\"4026531840\",quantile=\"0.1\"} +Inf");
    assert!(!text.contains("ctmon_allocs") && !text.contains("entries_limit{"));
}

#[test]
fn a_full_table_has_the_time_since_and_no_forecast_of_it() {
    let full = crate::view::full::tests::full(12.0, 30.0);
    let full = NetnsTick {
        full: Some(full),
        evictable: Evictable { entries: None, unknown: Some(100) },
        outlook: Outlook {
            full_probability: Some([1.0; 4]),
            ..Outlook::unknown(State::Full, "the table is full")
        },
        ..NetnsTick::example(7, 100, 100)
    };
    let text = latest(10, Some(Tick::example(vec![full]))).text(Format::Prometheus).unwrap();
    has(&text, "ctmon_full_since_timestamp_seconds{netns=\"7\"} 1764000000.0");
    has(&text, "ctmon_full_probability{netns=\"7\",within=\"5m\"} 1.0");
    has(&text, "ctmon_evictable_unknown_entries{netns=\"7\"} 100");
    for absent in ["ctmon_seconds_to_full{", "ctmon_evictable_entries{"] {
        assert!(!text.contains(absent), "{absent}");
    }
    let text = latest(10, Some(Tick::example(vec![filling()]))).text(Format::Prometheus).unwrap();
    assert!(!text.contains("ctmon_full_since_timestamp_seconds{"));
}

#[test]
fn a_time_to_full_that_is_unknown_is_absent_and_one_beyond_the_horizon_is_infinite() {
    let with = |outlook| {
        let one = NetnsTick { outlook, ..NetnsTick::example(7, 60, 100) };
        latest(10, Some(Tick::example(vec![one]))).text(Format::Prometheus).unwrap()
    };
    let steady = Outlook::unknown(State::Steady, "");
    let full = Quantiles { low: None, median: None, high: None };
    let beyond = with(Outlook { seconds_to_full: Some(full), ..steady.clone() });
    has(&beyond, "ctmon_seconds_to_full{netns=\"7\",quantile=\"0.1\"} +Inf");
    for outlook in [steady, Outlook::unknown(State::Unknown, "")] {
        assert!(!with(outlook).contains("ctmon_seconds_to_full{"));
    }
}

#[test]
fn their_number_is_bounded() {
    let many = (1..=50)
        .map(|inode| NetnsTick { totals: filling().totals, ..NetnsTick::example(inode, 2, 100) });
    let text = latest(3, Some(Tick::example(many.collect()))).text(Format::Prometheus).unwrap();
    has(&text, "ctmon_netns_aggregated 47");
    has(&text, "ctmon_entries{netns=\"others\"} 94");
    has(&text, "ctmon_allocs_total{netns=\"others\"} 4700");
    let series = text.lines().filter(|line| line.starts_with("ctmon_allocs_total{")).count();
    assert_eq!(series, 4);
}

#[test]
fn before_a_source_is_opened_only_the_process_is_told() {
    let text = latest(10, None).text(Format::Prometheus).unwrap();
    has(&text, "ctmon_source_opens_total 0");
    assert!(text.contains("process_resident_memory_bytes ") && !text.contains("ctmon_entries"));
}

#[test]
fn the_format_is_the_one_that_is_asked_for() {
    let prometheus3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                       application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
                       escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    for (accept, format) in [
        ("", Format::Prometheus),
        ("*/*", Format::Prometheus),
        ("text/plain", Format::Prometheus),
        (prometheus3, Format::OpenMetrics),
        ("application/openmetrics-text", Format::OpenMetrics),
        ("application/openmetrics-text;q=0", Format::Prometheus),
        ("text/plain, application/openmetrics-text; q=0.2", Format::Prometheus),
        ("q=1;;,,;", Format::Prometheus),
    ] {
        assert_eq!(Format::wanted(accept), format, "{accept}");
    }
}

/// Names and kinds are documented, and nothing else is.
#[test]
fn every_metric_is_documented() {
    let document = include_str!("../../../../docs/metrics.md");
    let documented: Vec<&str> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
        .collect();
    let mut expected: Vec<String> = families()
        .map(|family| match family.kind {
            Kind::Counter => format!("{}_total", family.name),
            Kind::Gauge => family.name.to_owned(),
        })
        .collect();
    expected.sort_unstable();
    let mut sorted = documented.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, expected);
    for family in families() {
        assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{}", family.name);
    }
}

/// Series of a node with so many namespaces, of which programs count all: all of them, and of what each name begins with.
fn series(netns: u64, prefixes: &[&str]) -> (usize, Vec<usize>) {
    let kernel = KernelStat {
        found: Some(0),
        invalid: Some(0),
        insert: Some(0),
        insert_failed: Some(0),
        drop: Some(0),
        early_drop: Some(0),
        error: Some(0),
        search_restart: Some(0),
        clash_resolve: Some(0),
        chaintoolong: Some(0),
        expect_new: Some(0),
        expect_create: Some(0),
        expect_delete: Some(0),
    };
    let counters = KernelTick { totals: kernel, rates: KernelStat::default() };
    let one = |inode| NetnsTick {
        kernel: Some(kernel),
        kernel_counters: Some(counters),
        id: NetnsId { cookie: Some(inode), inode },
        ..filling()
    };
    let flows = Some(Box::new(crate::view::flows::tests::summary(Some(25))));
    let tick = Tick { flows, ..Tick::example((1..=netns).map(one).collect()) };
    let text = latest(128, Some(tick)).text(Format::Prometheus).unwrap();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let count = |prefix: &&str| lines.iter().filter(|line| line.starts_with(*prefix)).count();
    (lines.len(), prefixes.iter().map(count).collect())
}

#[test]
fn kernel_counters_and_high_water_marks_are_ten_series_a_namespace_and_live_entries_none() {
    let new = ["ctmon_kernel_", "ctmon_entries_high", "ctmon_insert_rate_high", "ctmon_live_"];
    let (one, of_one) = series(1, &new);
    let (many, of_many) = series(128, &new);
    assert_eq!(of_one, [8, 1, 1, 53]);
    assert_eq!(of_many, [8 * 128, 128, 128, 53]);
    println!("1 namespace: {one} series, {} of them new", of_one.iter().sum::<usize>());
    println!("128 namespaces: {many} series, {} of them new", of_many.iter().sum::<usize>());
    // Those beyond are one more, and its marks are nobody's.
    assert_eq!(series(200, &new).1, [8 * 129, 128, 128, 53]);
}
