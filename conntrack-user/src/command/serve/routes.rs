//! What is answered under which path.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use conntrack_user::{
    daemon::{flight::files, latest::Latest, shared::Shared},
    model::tick::NetnsTick,
    source::ebpf::monotonic_ns,
    view::{
        json::Line,
        metrics::{Format, Metrics},
        page,
    },
};
use http::{
    Response, StatusCode,
    header::{
        ACCEPT, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
        HeaderValue, REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
    },
    request::Parts,
};
use serde::Serialize;

use super::{lease::Lease, minutes::Minutes, recent::Recent};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const RECORDING: &str = "application/octet-stream";

/// Answers requests from what was told last.
pub(super) struct Routes {
    shared: Shared,
    metrics: Metrics,
    /// In each format.
    scrapes: [Recent; 2],
    status: Recent,
    minutes: Minutes,
    /// Age of the last tick beyond which this is not ready, in nanoseconds.
    stale_ns: u64,
    /// Lease of the flight recording, for one client at a time.
    lease: Lease,
}

/// The last minutes while they are sent.
struct Sent {
    recording: Vec<u8>,
    _lease: Arc<()>,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.recording
    }
}

impl Routes {
    /// Those of `shared`, whose ticks come at least every `stale_ns` nanoseconds.
    pub(super) fn new(shared: Shared, metrics: Metrics, stale_ns: u64) -> Self {
        let (scrapes, status, minutes, lease) = Default::default();
        Self { shared, metrics, scrapes, status, minutes, stale_ns, lease }
    }

    /// What is answered to a request.
    pub(super) fn answer(&self, request: &Parts) -> Response<Bytes> {
        match request.uri.path() {
            "/metrics" => self.metrics(request),
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => match is_ready(&self.shared.latest(), monotonic_ns(), self.stale_ns) {
                Ok(()) => text(StatusCode::OK, "ok\n"),
                Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{why}\n")),
            },
            "/api/v1/status" => self.status(),
            "/api/v1/probes" => self.of_tick(|latest| {
                let (tick, start) = (latest.tick()?, latest.source()?);
                Some(json(&Line::probes(tick, &start.origin)))
            }),
            "/api/v1/history" => self.history(request),
            "/api/v1/flight" => self.flight(request),
            path => page::file(path).map_or_else(not_found, file),
        }
    }

    fn metrics(&self, request: &Parts) -> Response<Bytes> {
        let accept = request.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let format = Format::wanted(accept.unwrap_or_default());
        let [plain, open] = &self.scrapes;
        let scrape = match format {
            Format::Prometheus => plain,
            Format::OpenMetrics => open,
        };
        match scrape.get(Instant::now(), || self.metrics.text(format).map(Bytes::from)) {
            Ok(metrics) => response(StatusCode::OK, format.content_type(), metrics),
            Err(error) => failed(&error),
        }
    }

    /// Of thousands of namespaces it takes long to write: the next tick does not wait for that.
    fn status(&self) -> Response<Bytes> {
        let copy = |latest: &Latest| {
            Some((latest.whole()?, latest.source()?.clone(), latest.told().severities.clone()))
        };
        let status = self.status.get(Instant::now(), || {
            let (tick, start, severities) = copy(&self.shared.latest()).ok_or(None)?;
            let severity = |netns: &NetnsTick| severities.get(&netns.id.inode).copied();
            line(&Line::node(&tick, &start.origin, severity)).map_err(Some)
        });
        match status {
            Ok(status) => response(StatusCode::OK, JSON, status),
            Err(None) => nothing_yet(),
            Err(Some(error)) => failed(&error),
        }
    }

    fn of_tick(&self, answer: impl FnOnce(&Latest) -> Option<Response<Bytes>>) -> Response<Bytes> {
        answer(&self.shared.latest()).unwrap_or_else(nothing_yet)
    }

    /// The last minutes as a file.
    fn flight(&self, request: &Parts) -> Response<Bytes> {
        let Some(mut recorder) = self.shared.flight() else {
            return text(StatusCode::NOT_FOUND, "none are kept: flight-memory is 0\n");
        };
        let client = request.extensions.get().copied().unwrap_or_default();
        let Some(lease) = self.lease.take(client, Instant::now()) else {
            let busy =
                "they are being sent to somebody, or somebody waits for them: one at a time\n";
            let mut busy = text(StatusCode::SERVICE_UNAVAILABLE, busy);
            busy.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("10"));
            return busy;
        };
        let snapshot = recorder.snapshot();
        drop(recorder);
        let Some(snapshot) = snapshot else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "nothing was recorded yet\n");
        };
        let recording = snapshot.parts().collect::<Vec<_>>().concat();
        let sent = Sent { recording, _lease: lease };
        let mut answer = response(StatusCode::OK, RECORDING, Bytes::from_owner(sent));
        let name = files::name("sent", snapshot.until.unix_ns);
        if let Ok(value) = HeaderValue::try_from(format!("attachment; filename=\"{name}\"")) {
            answer.headers_mut().insert(CONTENT_DISPOSITION, value);
        }
        answer
    }

    fn history(&self, request: &Parts) -> Response<Bytes> {
        match since(request.uri.query().unwrap_or_default()) {
            Ok(since_ns) => match self.minutes.since(since_ns, || self.shared.history()) {
                Ok(minutes) => response(StatusCode::OK, JSON, minutes),
                Err(error) => failed(&error),
            },
            Err(why) => text(StatusCode::BAD_REQUEST, &format!("{why}\n")),
        }
    }
}

/// `since=NANOSECONDS`; nothing is everything.
fn since(query: &str) -> Result<u64, &'static str> {
    let mut since_ns = 0;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let value = parameter.strip_prefix("since=").ok_or("the only parameter is since")?;
        since_ns = value.parse().map_err(|_| "since is a number: nanoseconds since 1970 UTC")?;
    }
    Ok(since_ns)
}

/// Whether what is shown is of now.
fn is_ready(latest: &Latest, now_ns: u64, stale_ns: u64) -> Result<(), String> {
    let Some(tick) = latest.tick() else {
        return Err("nothing was read yet: is nf_conntrack loaded?".into());
    };
    let age_ns = now_ns.saturating_sub(tick.time.monotonic_ns);
    if age_ns > stale_ns {
        return Err(format!("the tables were last read {:.1} s ago", age_ns as f64 / 1e9));
    }
    Ok(())
}

/// A file of the page. Whoever has it asks whether it is still the same: all are of one version then.
fn file(file: &'static page::File) -> Response<Bytes> {
    let mut response =
        response(StatusCode::OK, file.content_type, Bytes::from_static(file.body.as_bytes()));
    for (name, value) in [
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, page::POLICY),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn nothing_yet() -> Response<Bytes> {
    text(StatusCode::SERVICE_UNAVAILABLE, "nothing was read yet: see /readyz\n")
}

fn not_found() -> Response<Bytes> {
    text(
        StatusCode::NOT_FOUND,
        "there is /, /metrics, /healthz, /readyz, /api/v1/status, /api/v1/history?since=NANOSECONDS, \
         /api/v1/probes and /api/v1/flight\n",
    )
}

fn text(status: StatusCode, text: &str) -> Response<Bytes> {
    response(status, TEXT, Bytes::copy_from_slice(text.as_bytes()))
}

fn json(value: &impl Serialize) -> Response<Bytes> {
    match line(value) {
        Ok(line) => response(StatusCode::OK, JSON, line),
        Err(error) => failed(&error),
    }
}

/// JSON in a line.
pub(super) fn line(value: &impl Serialize) -> serde_json::Result<Bytes> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line.into())
}

fn failed(error: &dyn std::error::Error) -> Response<Bytes> {
    text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n"))
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        // It is old when the next tick comes.
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
#[path = "routes_tests.rs"]
pub(super) mod tests;
