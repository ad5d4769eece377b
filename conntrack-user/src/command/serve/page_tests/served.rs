//! Recordings, played to where the page is looked at, and served as `ctmon serve` serves.

use std::{path::Path, sync::Arc, thread};

use conntrack_user::{
    daemon::{
        alerts::Alerts,
        feed::Feed,
        latest::Latest,
        log::{Format, Logger},
        shared::Shared,
        warning::Warnings,
    },
    http::{Counters, Hosts, Limits, Listener, Server, Web},
    severity::THRESHOLDS,
    source::item::Item,
    view::metrics::Metrics,
};
use http::Request;
use serde_json::Value;
use tokio::sync::oneshot;

use super::super::routes::Routes;
use crate::command::replay;

/// Takes in a recording until `seconds` after its first reading; returns how far that was.
pub(super) fn played(recording: &str, seconds: f64, change: &dyn Fn(&mut Item)) -> (f64, Shared) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    let mut recording = replay::open(&fixtures.join(format!("{recording}.mcap"))).unwrap();
    let shared = Shared::new(Latest::new(10), None);
    let logger = Logger::open(Format::Text).unwrap();
    let warnings = Warnings::new(THRESHOLDS);
    let alerts = Alerts::new(warnings, vec![], logger.clone(), None);
    let mut feed = Feed::new(shared.clone(), logger, alerts);
    let (mut first, mut last) = (None, 0.0);
    while let Some(mut item) = recording.next_item().unwrap() {
        if let (Item::Reading(..), Some(time)) = (&item, item.time()) {
            let first = *first.get_or_insert(time.monotonic_ns);
            let at = time.monotonic_ns.saturating_sub(first) as f64 / 1e9;
            if at > seconds {
                break;
            }
            last = at;
        }
        change(&mut item);
        let _ = feed.take(&item);
    }
    (last, shared)
}

/// What answers.
pub(super) fn routes(shared: Shared) -> Routes {
    let metrics = Metrics::new(shared.clone(), Arc::default());
    Routes::new(shared, metrics, u64::MAX)
}

/// An answer.
pub(super) fn json(routes: &Routes, path: &str) -> Value {
    let (parts, ()) = Request::get(path).body(()).unwrap().into_parts();
    serde_json::from_slice(routes.answer(&parts).body()).unwrap()
}

/// A server on a port of its own.
pub(super) struct Served {
    /// Where the page is.
    pub(super) url: String,
    end: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Served {
    /// Answers from now on.
    pub(super) fn start(shared: Shared) -> Self {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), None).unwrap();
        let url = format!("http://{}/", listener.address());
        let server = Server {
            listeners: vec![listener],
            web: Web::none(),
            hosts: Hosts::default(),
            limits: Limits::default(),
            handler: Arc::new(routes(shared)),
            counters: Arc::new(Counters::default()),
            say: Arc::new(|notice| println!("{notice}")),
        };
        let (end, ended) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(server.serve(async { drop(ended.await) })).unwrap();
        });
        Self { url, end, thread }
    }

    /// Answers no more.
    pub(super) fn end(self) {
        let _ = self.end.send(());
        self.thread.join().unwrap();
    }
}
