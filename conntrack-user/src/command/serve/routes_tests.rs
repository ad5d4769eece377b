use std::sync::{Arc, Mutex};

use conntrack_user::{
    model::{
        counts::{Counted, Totals},
        reading::{NetnsId, NetnsReading, Reading, Time},
    },
    source::{
        item::{Item, Origin, Start, Use},
        listener::Listener,
    },
};
use http::Request;
use serde_json::Value;

use super::*;

const TIME: Time = Time { monotonic_ns: 5_000_000_000, unix_ns: 1_764_000_000_000_000_000 };

/// With a tick at [`TIME`], or before any.
fn routes(with_tick: bool) -> Routes {
    let shared = Shared { latest: Arc::new(Mutex::new(Latest::new(10))), history: Arc::default() };
    if with_tick {
        let origin = Origin {
            kernel: "6.12".into(),
            source: "procfs".into(),
            counting_since_ns: None,
            hooks: vec![],
            unavailable: vec![],
        };
        let start = Start { time: TIME, cpus: 1, origin };
        shared.latest().open(&start);
        let mut listener = Listener::default();
        listener.take(&Item::Start(start));
        let before = Time { monotonic_ns: 4_000_000_000, ..TIME };
        listener.take(&Item::Reading(Use::First, Box::new(reading(before))));
        let tick = listener.take(&Item::Reading(Use::Tick, Box::new(reading(TIME)))).unwrap();
        shared.history().take(&tick);
        shared.latest().take(tick);
    }
    let metrics = Metrics::new(shared.latest.clone(), Arc::default());
    Routes::new(shared, metrics, 3_000_000_000)
}

/// One table, of which the limit alone is known.
fn reading(time: Time) -> Reading {
    let netns = NetnsReading {
        id: NetnsId { cookie: Some(1), inode: 4_026_531_840 },
        name: None,
        ended: false,
        idle: false,
        totals: None,
        counts: vec![],
        max: Some(1000),
        timeouts: None,
        windows: None,
        kernel: None,
    };
    Reading {
        time,
        idle: 0,
        netns: vec![netns],
        gone: vec![],
        events: None,
        missed_at_most: None,
        overflow: Totals::default(),
        probes: vec![],
        victims: vec![],
        rereads: None,
        blocks: None,
        counted: Counted::ALL,
    }
}

fn get(routes: &Routes, path: &str) -> (u16, String, String) {
    let (parts, ()) = Request::get(path).body(()).unwrap().into_parts();
    let answer = routes.answer(&parts);
    let content_type = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
    let body = String::from_utf8(answer.body().to_vec()).unwrap();
    (answer.status().as_u16(), content_type, body)
}

#[test]
fn before_the_first_tick_it_is_alive_and_not_ready() {
    let routes = routes(false);
    assert_eq!(get(&routes, "/healthz").0, 200);
    for path in ["/readyz", "/api/v1/status", "/api/v1/probes"] {
        let (status, _, body) = get(&routes, path);
        assert!(status == 503 && body.contains("nothing was read yet"), "{path}: {status} {body}");
    }
    assert_eq!(get(&routes, "/metrics").0, 200);
}

#[test]
fn it_is_ready_while_the_last_tick_is_young() {
    let routes = routes(true);
    let at = |now_ns| is_ready(&routes.shared.latest(), now_ns, routes.stale_ns);
    assert_eq!(at(8_000_000_000), Ok(()));
    assert_eq!(at(9_500_000_000), Err("the tables were last read 4.5 s ago".into()));
}

#[test]
fn the_node_and_its_last_minutes_are_json() {
    let routes = routes(true);
    let (status, content_type, body) = get(&routes, "/api/v1/status");
    let node: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, content_type.as_str()), (200, JSON));
    assert_eq!((&node["kind"], &node["source"]), (&"node".into(), &"procfs".into()));
    assert_eq!(node["netns"][0]["entries_limit"], 1000);

    let all: Value = serde_json::from_str(&get(&routes, "/api/v1/history").2).unwrap();
    let columns = all["columns"].as_array().unwrap();
    assert_eq!(all["netns"][0]["points"][0].as_array().unwrap().len(), columns.len());
    let since = format!("/api/v1/history?since={}", TIME.unix_ns);
    let none: Value = serde_json::from_str(&get(&routes, &since).2).unwrap();
    assert_eq!(none["netns"][0]["points"], serde_json::json!([]));
}

#[test]
fn the_page_comes_with_its_policy_and_before_any_tick() {
    let routes = routes(false);
    for page::File { path, content_type, body } in &page::FILES {
        let (parts, ()) = Request::get(*path).body(()).unwrap().into_parts();
        let answer = routes.answer(&parts);
        let headers = answer.headers();
        assert_eq!((answer.status(), answer.body().as_ref()), (StatusCode::OK, body.as_bytes()));
        assert_eq!(headers[CONTENT_TYPE], content_type);
        assert_eq!(headers[CONTENT_SECURITY_POLICY], page::POLICY, "{path}");
        assert_eq!(headers[CACHE_CONTROL], "no-cache");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
}

#[test]
fn what_is_not_there_is_answered_with_what_is() {
    let routes = routes(true);
    let (status, _, body) = get(&routes, "/metric");
    assert!(status == 404 && body.contains("/metrics"), "{status} {body}");
    for (query, expected) in [("since=soon", "nanoseconds"), ("until=1", "only parameter")] {
        let (status, _, body) = get(&routes, &format!("/api/v1/history?{query}"));
        assert!(status == 400 && body.contains(expected), "{query}: {status} {body}");
    }
    assert_eq!(since("&since=7&"), Ok(7));
}
