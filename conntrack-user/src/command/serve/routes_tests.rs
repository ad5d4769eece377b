use std::sync::Arc;

use conntrack_user::{
    daemon::flight::{Flight, ring::Limits},
    http::Client,
    model::{
        counts::{Counted, Totals},
        reading::{NetnsId, NetnsReading, Reading, Time},
    },
    source::{
        item::{Item, Origin, Start, Use},
        listener::Listener,
        recording::reader::Reader,
    },
};
use http::Request;
use serde_json::Value;

use super::*;

const TIME: Time = Time { monotonic_ns: 5_000_000_000, unix_ns: 1_764_000_000_000_000_000 };

fn origin() -> Origin {
    Origin {
        kernel_release: "6.12".into(),
        source: "procfs".into(),
        counting_since_ns: None,
        bpf_map_memory_bytes: None,
        hooks: vec![],
        unavailable: vec![],
    }
}

/// With a tick at [`TIME`], or before any.
pub(in crate::command::serve) fn routes(with_tick: bool) -> Routes {
    let limits = Limits { bytes: 4_000_000, ns: 600_000_000_000 };
    let shared = Shared::new(Latest::new(10), Some(Flight::new(limits)));
    if with_tick {
        let start = Start { time: TIME, cpus: 1, origin: origin() };
        shared.latest().open(&start);
        let mut listener = Listener::default();
        let before = Time {
            monotonic_ns: TIME.monotonic_ns - 1_000_000_000,
            unix_ns: TIME.unix_ns - 1_000_000_000,
        };
        let items = [
            Item::Start(Start { time: before, ..start }),
            Item::Reading(Use::First, Box::new(reading(before))),
            Item::Reading(Use::Tick, Box::new(reading(TIME))),
        ];
        let mut tick = None;
        for item in items {
            shared.flight().unwrap().take(&item, || listener.standing()).unwrap();
            tick = listener.take(&item);
        }
        let tick = tick.unwrap();
        shared.history().take(&tick);
        shared.latest().take(tick);
    }
    let metrics = Metrics::new(shared.clone(), Arc::default());
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
        missed: false,
        counts: vec![],
        max: Some(1000),
        timeouts: None,
        in_flight: None,
        windows: None,
        kernel: None,
    };
    Reading {
        time,
        idle: 0,
        netns: vec![netns],
        gone: vec![],
        events: None,
        missed_calls_max: None,
        overflow: Totals::default(),
        probes: vec![],
        victims: vec![],
        rereads: None,
        blocks: None,
        counted: Counted::ALL,
        coverage: None,
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

/// Has ten minutes of as many tables as are kept in the history.
pub(in crate::command::serve) fn fill(routes: &Routes) {
    let mut listener = Listener::default();
    let tables = |time| {
        let netns = reading(time).netns.remove(0);
        let with =
            |inode| NetnsReading { id: NetnsId { cookie: Some(inode), inode }, ..netns.clone() };
        Reading { netns: (1..=64).map(with).collect(), ..reading(time) }
    };
    let at = |second: u64| Time {
        monotonic_ns: TIME.monotonic_ns + second * 1_000_000_000,
        unix_ns: TIME.unix_ns + second * 1_000_000_000,
    };
    let start = Start { time: at(0), cpus: 1, origin: origin() };
    listener.take(&Item::Start(start));
    listener.take(&Item::Reading(Use::First, Box::new(tables(at(0)))));
    let mut tick = listener.take(&Item::Reading(Use::Tick, Box::new(tables(at(1))))).unwrap();
    for second in 1..=600 {
        tick.time = at(second);
        routes.shared.history().take(&tick);
    }
}

#[test]
fn all_minutes_are_written_once_a_tick_and_shared() {
    let routes = routes(true);
    fill(&routes);
    let body = |query: &str| {
        let (request, ()) =
            Request::get(format!("/api/v1/history{query}")).body(()).unwrap().into_parts();
        routes.answer(&request).body().clone()
    };
    let points = |body: &Bytes| -> usize {
        let all: Value = serde_json::from_slice(body).unwrap();
        let of = |netns: &Value| netns["points"].as_array().unwrap().len();
        all["netns"].as_array().unwrap().iter().map(of).sum()
    };
    let second = |second: u64| format!("?since={}", TIME.unix_ns + second * 1_000_000_000);
    let first = body("");
    let all = points(&first);
    // One of the 64 that are kept was there before.
    assert_eq!(all, 63 * 600 + 1);
    // However much of it is asked for.
    for query in ["", "?since=1", &second(1), &second(500)] {
        assert_eq!(body(query).as_ptr(), first.as_ptr(), "{query}");
    }
    // Whoever has most of it is sent the rest alone.
    assert_eq!(points(&body(&second(590))), 63 * 10);
    assert_eq!(points(&body(&second(600))), 0);
    let tick = routes.shared.latest().tick().unwrap().clone();
    routes.shared.history().take(&tick);
    assert_ne!(body("").as_ptr(), first.as_ptr());
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
fn the_last_minutes_are_a_recording_and_sent_to_one_at_a_time() {
    let (request, ()) = Request::get("/api/v1/flight").body(()).unwrap().into_parts();
    assert_eq!(routes(false).answer(&request).status(), 503);
    let mut routes = routes(true);
    let answer = routes.answer(&request);
    assert_eq!(
        (answer.status().as_u16(), answer.headers()[CONTENT_TYPE].to_str().unwrap()),
        (200, RECORDING)
    );
    let disposition = &answer.headers()[CONTENT_DISPOSITION];
    assert_eq!(disposition, "attachment; filename=\"ctmon-20251124T160000Z-sent.mcap\"");
    let mut recording = Reader::open(&answer.body()[..]).unwrap();
    let mut items = 0;
    while recording.next_item().unwrap().is_some() {
        items += 1;
    }
    assert_eq!((items, recording.take_notes()), (3, vec![]));

    let second = routes.answer(&request);
    assert_eq!(
        (second.status().as_u16(), second.headers()[RETRY_AFTER].to_str().unwrap()),
        (503, "10")
    );
    drop(recording);
    drop(answer);
    assert_eq!(routes.answer(&request).status(), 200);
    // Whoever was sent it is not sent it again while another waits.
    let by = |last: u8| {
        let mut request = Request::get("/api/v1/flight");
        request.extensions_mut().unwrap().insert(Client(Some([192, 0, 2, last].into())));
        let (parts, ()) = request.body(()).unwrap().into_parts();
        routes.answer(&parts)
    };
    let answer = by(1);
    assert_eq!((answer.status(), by(2).status()), (StatusCode::OK, second.status()));
    drop(answer);
    assert_eq!(by(1).status(), second.status());
    assert_eq!(by(2).status(), StatusCode::OK);
    assert_eq!(by(1).status(), StatusCode::OK);
    let metrics = get(&routes, "/metrics").2;
    assert!(metrics.contains("ctmon_flight_dumps_total{outcome=\"written\"} 0\n"), "{metrics}");
    assert!(metrics.contains("ctmon_flight_seconds 1"), "{metrics}");

    routes.shared = Shared::new(Latest::new(10), None);
    assert_eq!(routes.answer(&request).status(), 404);
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
