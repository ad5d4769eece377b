//! What a request is answered with.

use ::http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_TYPE,
        RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
};
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};

use super::{Client, Hosts, Shared, gzip, listener::Peer, password::Outcome};

/// What is known of a request besides what it says.
pub(super) struct Asked {
    /// Who asks.
    pub(super) peer: Peer,
    /// Whether its connection takes no more.
    pub(super) is_last: bool,
}

/// Answers a request and counts it.
pub(super) async fn answer(
    shared: &Shared,
    asked: Asked,
    request: Request<Incoming>,
) -> Response<Bytes> {
    let web = shared.web.current(&shared.say);
    let (mut request, body) = request.into_parts();
    request.extensions.insert(Client(asked.peer));
    let has_body = !body.is_end_stream();
    let mut answer = if !Hosts::is_named(request.version, &request.headers) {
        refuse(StatusCode::BAD_REQUEST, "a request has one Host field", None)
    } else if !shared.hosts.admit(asked.peer, web.refuses_strangers(), &request.headers) {
        let text = "ask by an address, localhost or the name of this machine, or start ctmon with --allow-host and this name";
        refuse(StatusCode::FORBIDDEN, text, None)
    } else if !web.admits() {
        let text = "too many requests: the web configuration limits their rate";
        refuse(StatusCode::TOO_MANY_REQUESTS, text, Some((RETRY_AFTER, "1")))
    } else {
        match shared.checks.check(web.users(), asked.peer, &request.headers).await {
            Outcome::Wrong => {
                let text = "user and password are asked for";
                refuse(StatusCode::UNAUTHORIZED, text, Some((WWW_AUTHENTICATE, "Basic")))
            }
            Outcome::TooLong => {
                let text = "the password has more than 72 bytes, of which bcrypt reads no more";
                refuse(StatusCode::UNAUTHORIZED, text, Some((WWW_AUTHENTICATE, "Basic")))
            }
            Outcome::Busy => {
                let text = "too many passwords are being checked";
                refuse(StatusCode::SERVICE_UNAVAILABLE, text, Some((RETRY_AFTER, "1")))
            }
            Outcome::Right if request.method != Method::GET && request.method != Method::HEAD => {
                let text = "only GET and HEAD are answered";
                refuse(StatusCode::METHOD_NOT_ALLOWED, text, Some((ALLOW, "GET, HEAD")))
            }
            Outcome::Right if has_body => {
                refuse(StatusCode::PAYLOAD_TOO_LARGE, "a request has no body here", None)
            }
            Outcome::Right => {
                let mut answer = shared.handler.answer(&request);
                if gzip::is_asked_for(&request.headers) {
                    compress(shared, &mut answer);
                }
                answer
            }
        }
    };
    shared.counters.answer(answer.status());
    let headers = answer.headers_mut();
    for (name, value) in [(X_CONTENT_TYPE_OPTIONS, "nosniff"), (CACHE_CONTROL, "no-store")] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    for (name, value) in web.headers() {
        headers.insert(name, value.clone());
    }
    // A body is not read: what follows it could not be told from it.
    if has_body || asked.is_last || shared.connections.is_finishing() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// A refusal in a sentence, which repeats nothing of the request.
fn refuse(
    code: StatusCode,
    text: &'static str,
    header: Option<(HeaderName, &'static str)>,
) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(format!("{code}: {text}\n")));
    *answer.status_mut() = code;
    let plain = (CONTENT_TYPE, "text/plain; charset=utf-8");
    for (name, value) in [plain].into_iter().chain(header) {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn compress(shared: &Shared, answer: &mut Response<Bytes>) {
    let headers = answer.headers();
    // Files are packed already.
    if headers.contains_key(CONTENT_ENCODING) || headers.contains_key(CONTENT_DISPOSITION) {
        return;
    }
    if let Some(compressed) = shared.compressed.get(answer.body()) {
        *answer.body_mut() = compressed;
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer.headers_mut().append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}
