//! The page, with what real kernels told: the fields that it reads, and how it looks in a browser.

mod chromium;
mod served;

use std::{collections::BTreeSet, env, fs, path::PathBuf, sync::Arc};

use conntrack_user::{
    forecast::outlook::State,
    model::{
        coverage::{BlindSpot, Coverage, NetnsNotRead, Reason},
        flow::EventKind,
        name::{Name, NameKind},
        reading::{NetnsId, NetnsReading},
    },
    source::item::Item,
    view::{flow, forecast, page, units},
};
use serde_json::{Value, json};

use chromium::{Chromium, Look};
use served::{Served, played};

/// Reports what a script reads of an answer that is not in it, and names in scripts that are markup.
const WATCH: &str = include_str!("watch.js");

/// What the browser is shown: a recording until some second of it, changed a little.
struct Case {
    name: &'static str,
    recording: &'static str,
    seconds: f64,
    change: fn(&mut Item),
    /// What the page says then.
    says: &'static [&'static str],
}

const CASES: [Case; 6] = [
    Case {
        name: "filling",
        recording: "forecast/leak",
        seconds: 62.0,
        change: |_| (),
        says: &["▲ filling", "full in", "limit 1,500", "no name is known"],
    },
    Case {
        name: "steady",
        recording: "forecast/plateau",
        seconds: 70.0,
        change: |_| (),
        says: &["● steady", "not full within 3 h", "UDP arrivals rose"],
    },
    Case {
        name: "full",
        recording: "page/drops",
        seconds: 80.0,
        change: among_others,
        says: &[
            "■ full",
            "full for 3",
            "drops ",
            "and evicts 2",
            "packets dropped since",
            "unknown for ",
            MARKUP,
            "Dropped last",
        ],
    },
    // The picture of docs/page.md: a node as it was.
    Case {
        name: "node",
        recording: "page/drops",
        seconds: 80.0,
        change: |_| (),
        says: &["■ full", "full for 3", "packets dropped", "Dropped last"],
    },
    Case {
        name: "procfs",
        recording: "page/procfs",
        seconds: 30.0,
        change: |_| (),
        says: &["From procfs, not from kernel programs", "rates are not available", "polled"],
    },
    Case {
        name: "nothing",
        recording: "page/procfs",
        seconds: 30.0,
        change: |item| {
            if let Item::Reading(_, reading) = item {
                reading.netns.clear();
            }
        },
        says: &["No network namespace tracks connections."],
    },
];

const LOOKS: [Look; 4] = [
    Look { width: 1280, scheme: "light" },
    Look { width: 1280, scheme: "dark" },
    Look { width: 360, scheme: "light" },
    Look { width: 360, scheme: "dark" },
];

/// Names that somebody else chose.
const MARKUP: &str = "<img src=x onerror=alert(1)>";
const LONG: &str =
    "shop/checkout-7f9c6d5b8-x2x9k-the-name-of-a-pod-that-does-not-end-where-a-line-does";

/// The table once more under two other names, as if several were in the same state; one is named like markup.
fn among_others(item: &mut Item) {
    let Item::Reading(_, reading) = item else { return };
    let [first, ..] = &reading.netns[..] else { return };
    let first = first.clone();
    let id = |at: u64| NetnsId { cookie: Some(2 + at), inode: 4_026_532_118 + at };
    let names = [("lb-a", NameKind::IpNetns), (MARKUP, NameKind::Process), (LONG, NameKind::Pod)];
    let others = (0..).zip(names).map(|(at, (text, kind))| {
        let name = Some(Name { text: text.into(), kind });
        NetnsReading { id: id(at), name, ..first.clone() }
    });
    reading.netns = others.collect();
    reading.victims.iter_mut().for_each(|victim| victim.netns = id(0));
}

/// The reading as of a machine with tables that are not read.
fn partly_read(item: &mut Item) {
    let Item::Reading(_, reading) = item else { return };
    let id = NetnsId { cookie: None, inode: 4_026_532_200 };
    let mut coverage = Coverage {
        read: 1,
        blind_spots: vec![BlindSpot::Hidepid],
        stale_files: vec!["/run/netns/old".into()],
        ..Coverage::default()
    };
    let reason = Reason::NoPath;
    coverage.add(NetnsNotRead { id, name: None, is_counted: true, entries: Some(9), reason });
    reading.coverage = Some(Arc::new(coverage));
}

#[test]
fn scripts_read_only_fields_that_answers_have() {
    let (_, shared) = played("forecast/flood", 20.0, &partly_read);
    let routes = served::routes(shared);
    let victims = [EventKind::TableFullDrop, EventKind::EarlyDrop].map(|kind| flow::name(kind).0);
    let values = victims.into_iter().chain([forecast::name(State::Unknown)]);
    let mut known: BTreeSet<String> = values.map(str::to_owned).collect();
    for path in ["/api/v1/status", "/api/v1/history"] {
        fields(&served::json(&routes, path), &mut known);
    }
    // What is the script's own is in camel case.
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut read = 0;
    for file in &page::FILES[2..] {
        let code = file.body.lines().map(|line| line.split("//").next().unwrap_or_default());
        let words = code.flat_map(|line| line.split(|c| !is_word(c)));
        for word in words.filter(|word| word.trim_matches('_').contains('_')) {
            assert!(known.contains(word), "{} reads {word}", file.path);
            read += 1;
        }
    }
    assert!(read > 40, "{read} only: are they found?");
}

/// Names of fields, and of columns, in an answer.
fn fields(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            into.extend(object.keys().cloned());
            object.values().for_each(|value| fields(value, into));
            let columns = object.get("columns").and_then(Value::as_array);
            into.extend(
                columns.into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)),
            );
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, into)),
        _ => (),
    }
}

/// Where pictures go, where they are wanted.
fn pictures() -> Option<PathBuf> {
    env::var_os("CTMON_PICTURES").map(PathBuf::from)
}

fn keep(chromium: &mut Chromium, name: &str, look: Look) {
    let picture = chromium.picture();
    if let Some(folder) = pictures() {
        let file = folder.join(format!("{name}-{}-{}.png", look.width, look.scheme));
        fs::write(&file, picture).unwrap();
        println!("{}", file.display());
    }
}

/// What must hold of any page.
fn check(chromium: &mut Chromium, served: &Served, what: &str, look: Look) {
    let what = format!("{what}, {look:?}");
    assert_eq!(chromium.complaints(), [&Value::Null; 0], "{what}");
    let own = |url: &&str| url.starts_with(&served.url) || url.starts_with("data:");
    let requests = chromium.requests();
    assert!(requests.len() > 8 && requests.iter().all(own), "{what}: {requests:?}");
    assert_eq!(chromium.value("document.documentElement.scrollWidth"), json!(look.width), "{what}");
    assert_eq!(chromium.value("watch.tooWide()"), json!([]), "{what}");
    assert_eq!(chromium.value("watch.tooPale()"), json!([]), "{what}");
}

#[test]
#[ignore = "takes Chromium: cargo xtask page"]
fn in_every_state_light_and_dark_wide_and_narrow() {
    let mut chromium = Chromium::start();
    chromium.before_each(WATCH);
    for case in &CASES {
        let (until, shared) = played(case.recording, case.seconds, &case.change);
        assert!(until >= case.seconds - 5.0, "{} ends after {until} s", case.recording);
        for look in LOOKS {
            let served = Served::start(shared.clone());
            chromium.open(&served.url, look);
            chromium.wait_for("document.querySelector('main')?.hidden === false");
            let text = chromium
                .value("document.body.innerText + document.querySelector('svg').textContent");
            let text = text.as_str().unwrap_or_default();
            for words in case.says {
                assert!(text.contains(words), "{}: no {words:?} in {text}", case.name);
            }
            check(&mut chromium, &served, case.name, look);
            keep(&mut chromium, case.name, look);
            if case.name == "filling" {
                served.end();
                chromium.wait_for("document.body.classList.contains('gone')");
                assert_eq!(chromium.value("watch.tooPale()"), json!([]), "gone, {look:?}");
                keep(&mut chromium, "gone", look);
            }
        }
    }
}

#[test]
#[ignore = "takes Chromium: cargo xtask page"]
fn moments_and_tables_are_chosen_by_key_and_pointer() {
    let mut chromium = Chromium::start();
    chromium.before_each(WATCH);
    let (_, shared) = played("page/drops", 80.0, &among_others);
    let served = Served::start(shared);
    chromium.open(&served.url, LOOKS[0]);
    chromium.wait_for("document.querySelector('main')?.hidden === false");
    let read = "document.querySelector('#readout').innerText";
    let now = chromium.value(read);
    assert!(now.as_str().is_some_and(|text| text.starts_with("Now")), "{now}");

    chromium.value("document.querySelector('#plot').focus()");
    chromium.press("Home");
    let first = chromium.value(read);
    chromium.press("ArrowRight");
    let second = chromium.value(read);
    assert!(first != now && second != first, "{first} {second}");
    let spoken = chromium.value("document.querySelector('#plot').ariaValueText");
    assert!(spoken.as_str().is_some_and(|text| text.starts_with("Then ")), "{spoken}");
    chromium.press("Escape");
    assert_eq!(chromium.value(read), now);

    let at = chromium.value(
        "(({ left, top }) => [left, top])(document.querySelector('#plot').getBoundingClientRect())",
    );
    chromium.point(at[0].as_f64().unwrap() + 300.0, at[1].as_f64().unwrap() + 60.0);
    assert_ne!(chromium.value(read), now);
    keep(&mut chromium, "pointed-at", LOOKS[0]);

    chromium.value("document.querySelectorAll('tbody a')[1].click()");
    chromium.wait_for("!document.querySelector('#follow').hidden");
    let chosen = chromium.value("document.querySelector('#chosen-name').textContent");
    assert_eq!(chosen, chromium.value("document.querySelectorAll('tbody a')[1].textContent"));
    let address = chromium.value("location.hash");
    assert!(address.as_str().is_some_and(|hash| hash.starts_with("#40265321")), "{address}");
    check(&mut chromium, &served, "chosen", LOOKS[0]);
}

#[test]
#[ignore = "takes Chromium: cargo xtask page"]
fn numbers_are_written_as_in_a_terminal() {
    let mut chromium = Chromium::start();
    let (_, shared) = played("page/procfs", 5.0, &|_| ());
    let served = Served::start(shared);
    chromium.open(&served.url, LOOKS[0]);
    chromium.wait_for("document.querySelector('main')?.hidden === false");
    type Write = fn(f64) -> String;
    let writers: [(&str, Write); 5] = [
        ("short", units::short),
        ("rate", units::rate),
        ("signed", units::signed),
        ("time", units::time),
        ("about", units::about),
    ];
    for value in [
        0.0,
        0.2,
        7.4,
        59.9,
        99.9,
        999.4,
        999.6,
        1234.0,
        9949.0,
        9951.0,
        123_456.0,
        999_501.0,
        12_345_678.0,
    ] {
        for (name, write) in writers {
            let script = format!("import('/units.js').then((units) => units.{name}({value}))");
            assert_eq!(chromium.value(&script), json!(write(value)), "{name}({value})");
        }
    }
    for ratio in [0.0, 0.474, 0.999, 1.0, 1.02] {
        let script = format!("import('/units.js').then((units) => units.percent({ratio}))");
        assert_eq!(
            chromium.value(&script),
            json!(units::percent(ratio).replace('%', " %")),
            "{ratio}"
        );
    }
}
