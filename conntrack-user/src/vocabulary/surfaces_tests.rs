//! Every public name that ctmon writes, gathered from the surfaces themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    backtest::score,
    daemon::{
        flight::{Flight, MANUAL_REASON, ring},
        history::History,
        latest::Latest,
        lifecycle,
        log::tests::json_line,
        notify::Counts,
        shared::Shared,
        warning::{Change, Warnings},
    },
    doctor::{
        facts::{Conntrack, Fact, Facts, NetnsLosses, Observed, Refused, Setting},
        verdict::{judge, test_facts},
    },
    forecast::outlook::{State, WITHIN_NAMES},
    http::{Counters, Refusal},
    model::{
        class::EntryStatus,
        flow::{Cause, EventKind},
        live_state::TcpState,
        monitor::Monitor,
        name::NameKind,
        tick::Tick,
    },
    severity::{Condition, Severity, THRESHOLDS},
    source::{
        ebpf::{hook::Hook, plan},
        item::{Item, Start, Use},
        listener::Listener,
        recording::{reader::Reader, samples},
    },
    view::{
        doctor, export, flow, forecast, history,
        json::Line,
        metrics::{self, Format, Metrics},
        warning,
    },
};

/// Names, each with a place where it is written.
pub(super) type Names = BTreeMap<String, String>;

/// Members whose values are names, too.
const NAMED_VALUES: [&str; 9] =
    ["kind", "severity", "state", "event", "path", "cause", "status", "name_kind", "protocol"];
/// Maps whose keys are not ours: of the kernel's build, of its sysctls, of its modules.
const FOREIGN: [&str; 3] = ["config", "sysctls", "modules"];

fn add(names: &mut Names, name: &str, place: &str) {
    names.entry(name.to_owned()).or_insert_with(|| place.to_owned());
}

/// The keys of an object, of all in it, and the values that are names.
fn of_json(value: &Value, place: &str, names: &mut Names) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                add(names, key, place);
                if FOREIGN.contains(&key.as_str()) {
                    continue;
                }
                if let Some(text) = value.as_str().filter(|_| NAMED_VALUES.contains(&key.as_str()))
                {
                    add(names, text, place);
                }
                of_json(value, &format!("{place}.{key}"), names);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| of_json(value, place, names)),
        _ => (),
    }
}

/// Replays a recording of a real kernel.
fn replayed(bytes: &[u8], names: &mut Names) -> (Tick, Start) {
    let (mut reader, mut listener) = (Reader::open(bytes).unwrap(), Listener::default());
    let mut last = None;
    while let Some(item) = reader.next_item().unwrap() {
        if let Item::Flows(flows) = &item {
            for event in &flows.events {
                let line = serde_json::to_value(flow::json(&event.flow, event.netns)).unwrap();
                of_json(&line, "event", names);
            }
        }
        let Some(tick) = listener.take(&item) else { continue };
        let start = listener.start().unwrap().clone();
        let line = Line::tick(&tick, &start.origin.hooks, &THRESHOLDS);
        of_json(&serde_json::to_value(line).unwrap(), "tick", names);
        last = Some((tick, start));
    }
    assert_eq!(reader.take_notes(), []);
    last.unwrap()
}

/// A machine on which little works.
fn poor() -> Facts {
    let mut facts = test_facts::all_well();
    facts.conntrack = Fact::Known(Conntrack::Absent { loadable: Fact::Known(true) });
    facts.namespaces.refused = vec![Refused { inode: 7, reason: String::new() }];
    facts.surroundings.settings = vec![Setting {
        file: String::new(),
        key: String::new(),
        value: String::new(),
        effective: true,
    }];
    let losing = vec![NetnsLosses { inode: 7, drop: 1, early_drop: 1 }];
    facts.observed = Fact::Known(Observed { interval_ns: 1, limits: vec![1], losing });
    facts.kernel.release = test_facts::unknown();
    facts
}

/// Names in `watch`, `status`, `events`, `doctor`, `backtest` and the answers of `serve`.
fn of_lines() -> (Names, Tick, Start) {
    let mut names = Names::new();
    let drops = include_bytes!("../../../tests/fixtures/page/drops.mcap");
    let (tick, start) = replayed(drops, &mut names);
    let plateau = include_bytes!("../../../tests/fixtures/forecast/plateau.mcap");
    let (calm, _) = replayed(plateau, &mut names);
    of_metrics(calm, &start, &mut names);
    let limits = crate::view::status::Limits {
        thresholds: THRESHOLDS,
        ranges: crate::view::status::Ranges::default(),
        full_within: None,
    };
    let judged = crate::view::status::judge(&tick, limits);
    let mut sampled = Monitor::new(2);
    for item in samples::items() {
        match item {
            Item::Start(start) => {
                of_json(&serde_json::to_value(Line::start(&start)).unwrap(), "start", &mut names);
            }
            Item::Reading(Use::Tick, reading) => {
                let line =
                    serde_json::to_value(Line::tick(&sampled.observe(&reading), &[], &THRESHOLDS));
                of_json(&line.unwrap(), "tick", &mut names);
            }
            _ => (),
        }
    }
    for (line, place) in [
        (Line::notice(tick.time, ""), "notice"),
        (Line::status(&tick, &start.origin, judged), "status"),
        (Line::node(&tick, &start.origin, |_| None), "node"),
        (Line::probes(&tick, &start.origin), "probes"),
    ] {
        of_json(&serde_json::to_value(line).unwrap(), place, &mut names);
    }
    for facts in [test_facts::all_well(), poor()] {
        let sections = judge(&facts, &THRESHOLDS);
        let line = serde_json::to_value(doctor::json(&facts, &sections, 0)).unwrap();
        of_json(&line, "doctor", &mut names);
    }
    for metric in score::ALL {
        add(&mut names, metric.name, "backtest.scores");
    }
    for name in ["scenario", "title", "drawn", "recorded", "forecaster", "scores"] {
        add(&mut names, name, "backtest");
    }
    let mut past = History::default();
    past.take(&tick);
    let history = serde_json::to_value(history::json(&past, 0)).unwrap();
    of_json(&history, "history", &mut names);
    for column in history["columns"].as_array().unwrap() {
        add(&mut names, column.as_str().unwrap(), "history.columns");
    }
    (names, tick, start)
}

/// A change of severity of a table that is full.
fn change(tick: &Tick) -> Change {
    let mut warnings = Warnings::new(THRESHOLDS);
    let mut full = tick.clone();
    for netns in &mut full.netns {
        netns.entries = crate::model::tick::Entries::Exact(1_000_000_000);
    }
    warnings.observe(&full).remove(0)
}

/// Names in log lines and notifications.
fn of_changes(tick: &Tick, names: &mut Names) {
    for (name, _) in warning::notification(&change(tick), None) {
        add(names, name, "notification");
    }
    for (name, value) in warning::test(0, None) {
        add(names, name, "test notification");
        if name == "kind" {
            add(names, value.as_str().unwrap(), "test notification");
        }
    }
    let start = lifecycle::Start::default().fields();
    let source = lifecycle::source(&crate::source::item::Origin::example());
    let end = lifecycle::end("", std::time::Duration::ZERO);
    let coverage = crate::daemon::coverage::fields(tick, &samples::coverage());
    for (name, _) in start.into_iter().chain(source).chain(end).chain(coverage) {
        add(names, name, "log");
    }
    of_json(&json_line(), "log", names);
}

/// Names of metrics and of their labels, and the values of those.
fn of_metrics(tick: Tick, start: &Start, names: &mut Names) {
    for family in metrics::families() {
        add(names, family.name, "metrics");
    }
    let mut latest = Latest::new(1);
    latest.open(start);
    let mut warnings = Warnings::new(THRESHOLDS);
    warnings.observe(&tick);
    latest.take(tick);
    latest.warn(crate::daemon::alerts::Told {
        severities: warnings.severities().map(|(id, severity)| (id.inode, severity)).collect(),
        changes: Severity::OF_TABLES.into_iter().map(|severity| (severity, 0)).collect(),
        untracked: 0,
        notifications: vec![("webhook", Counts::default()), ("command", Counts::default())],
    });
    let answers = Arc::new(Counters::default());
    answers.answer(StatusCode::OK);
    let flight = Flight::new(ring::Limits { bytes: 1 << 20, ns: 60_000_000_000 });
    let text =
        Metrics::new(Shared::new(latest, Some(flight)), answers).text(Format::Prometheus).unwrap();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((_, labels)) = line.split_once('{') else { continue };
        for label in labels.split(['{', '}', ',']).filter(|label| label.contains("=\"")) {
            let (name, value) = label.split_once("=\"").unwrap();
            add(names, name, "metrics.labels");
            let value = value.trim_end_matches('"');
            if ![
                "netns",
                "hook",
                "attached_via",
                "version",
                "code",
                "kernel_release",
                "name",
                "quantile",
            ]
            .contains(&name)
            {
                add(names, value, &format!("metrics.labels.{name}"));
            }
        }
    }
}

/// Names that are values wherever they stand.
fn of_enums(names: &mut Names) {
    let states = [State::Unknown, State::Steady, State::Filling, State::Draining, State::Full];
    for state in states {
        add(names, forecast::name(state), "forecast.state");
    }
    for condition in Condition::ALL {
        add(names, condition.name(), "conditions");
    }
    for within in WITHIN_NAMES {
        add(names, within, "full_probability");
    }
    for severity in Severity::OF_TABLES {
        add(names, severity.name(), "severity");
    }
    for why in Refusal::ALL {
        add(names, why.name(), "http.refused");
    }
    let kinds = [
        NameKind::Host,
        NameKind::IpNetns,
        NameKind::Pod,
        NameKind::Container,
        NameKind::Service,
        NameKind::Mounted,
        NameKind::Generated,
        NameKind::Process,
    ];
    for kind in kinds {
        add(names, kind.label(), "name_kind");
    }
    use plan::State::{Attached, Broken, NotNeeded, Unsupported};
    for state in [Attached, Unsupported, Broken, NotNeeded] {
        add(names, state.name(), "hooks.state");
    }
    for hook in Hook::ALL {
        add(names, &hook.name().replace('-', "_"), "hooks.hook");
    }
    let causes = [Cause::Kernel, Cause::User, Cause::NetnsExit, Cause::EarlyDrop, Cause::NoUser];
    let others = [
        EventKind::InsertPacket,
        EventKind::InsertCtnetlink,
        EventKind::TableFullDrop,
        EventKind::EarlyDrop,
    ];
    for kind in others.into_iter().chain(causes.map(EventKind::Destroy)) {
        let (event, path, cause) = flow::name(kind);
        [Some(event), path, cause].into_iter().flatten().for_each(|name| add(names, name, "event"));
    }
    for status in EntryStatus::ALL {
        of_json(&json!({"status": status}), "status", names);
    }
    for state in TcpState::ALL {
        of_json(&json!({"state": state}), "tcp_state", names);
    }
    add(names, MANUAL_REASON, "flight file");
}

/// All of them.
pub(super) fn names() -> Names {
    let (mut names, tick, start) = of_lines();
    of_changes(&tick, &mut names);
    of_metrics(tick, &start, &mut names);
    of_enums(&mut names);
    for column in export::TICKS.iter().chain(export::EVENTS) {
        column.name.split('.').for_each(|name| add(&mut names, name, "export"));
    }
    names
}

/// Headings of tables on screens: of `watch`, and of the page.
pub(super) fn headings() -> BTreeSet<String> {
    let watch = crate::view::text::COLUMNS.iter().map(|(heading, _)| (*heading).to_owned());
    let scripts = crate::view::page::FILES.iter().map(|file| file.body).collect::<String>();
    let labels = scripts
        .split("label: \"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next().map(str::to_owned));
    watch.chain(labels.collect::<Vec<_>>()).collect()
}
