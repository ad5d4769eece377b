//! A real server on the loopback: one that takes a change, fails, hangs, closes, and speaks TLS.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Instant,
};

use serde_json::json;
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use super::*;
use crate::{
    daemon::{
        log::tests::Written,
        notify::{Counts, Notifier, config::Retry},
    },
    model::reading::NetnsId,
};

/// What the server does with a connection.
#[derive(Clone, Copy)]
enum Act {
    Answer(u16),
    /// Reads, and says nothing for as long as the client waits.
    Hang,
    /// Closes without reading.
    Close,
}

/// What it was sent.
#[derive(Debug)]
struct Request {
    line: String,
    headers: Vec<String>,
    body: String,
}

/// A server that does one act a connection; its port, and what it was sent.
fn serve(acts: Vec<Act>, tls: Option<Arc<ServerConfig>>) -> (u16, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, requests) = channel();
    thread::spawn(move || {
        for act in acts {
            let (stream, _) = listener.accept().unwrap();
            if matches!(act, Act::Close) {
                continue;
            }
            let request = match &tls {
                None => exchange(stream, act),
                Some(tls) => {
                    let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
                    exchange(StreamOwned::new(connection, stream), act)
                }
            };
            let _ = tell.send(request);
        }
    });
    (port, requests)
}

fn exchange<S: Read + Write + Closes>(stream: S, act: Act) -> Request {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) <= 2 {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    let _ = reader.read_exact(&mut body);
    if let Act::Answer(status) = act {
        let answer =
            format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let _ = reader.get_mut().write_all(answer.as_bytes());
        reader.get_mut().say_end();
    }
    // Until the client goes.
    let _ = reader.read_to_end(&mut Vec::new());
    let body = String::from_utf8(body).unwrap();
    let line = if lines.is_empty() { String::new() } else { lines.remove(0) };
    Request { line, headers: lines, body }
}

trait Closes {
    fn say_end(&mut self);
}

impl Closes for TcpStream {
    fn say_end(&mut self) {}
}

impl Closes for StreamOwned<ServerConnection, TcpStream> {
    fn say_end(&mut self) {
        self.conn.send_close_notify();
        let _ = self.flush();
    }
}

fn config(url: String) -> config::Webhook {
    config::Webhook { url, timeout_seconds: 1.0, ..config::Webhook::default() }
}

fn webhook(url: String) -> Webhook {
    Webhook::new(&config(url)).unwrap().unwrap()
}

fn message() -> Message {
    let fields = vec![("kind", json!("warning")), ("state", json!("critical"))];
    Message { netns: NetnsId { cookie: None, inode: 1 }, fields }
}

#[test]
fn it_is_sent_the_change() {
    let (port, requests) = serve(vec![Act::Answer(204)], None);
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "Bearer abc\n").unwrap();
    let url = format!("http://127.0.0.1:{port}/hook?a=b");
    let config = config::Webhook { authorization_file: Some(secret), ..config(url) };
    let webhook = Webhook::new(&config).unwrap().unwrap();
    webhook.deliver(&message(), &|| false).unwrap();
    let request = requests.recv().unwrap();
    assert_eq!(request.line, "POST /hook?a=b HTTP/1.1");
    assert_eq!(request.body, "{\"kind\":\"warning\",\"state\":\"critical\"}");
    let has = |header: &str| request.headers.iter().any(|one| one == header);
    assert!(has("authorization: Bearer abc"), "{:?}", request.headers);
    assert!(has("content-type: application/json"), "{:?}", request.headers);
    assert!(has(&format!("user-agent: {USER_AGENT}")), "{:?}", request.headers);
}

#[test]
fn failures_say_whether_another_time_helps_and_name_no_path() {
    let acts = [503, 429, 408, 404, 302].map(Act::Answer);
    let (port, _requests) = serve(acts.into(), None);
    let webhook = webhook(format!("http://user:word@127.0.0.1:{port}/secret"));
    let expected = [
        ("503 Service Unavailable", true),
        ("429 Too Many Requests", true),
        ("408 Request Timeout", true),
        ("404 Not Found", false),
        ("302 Found", false),
    ];
    for (status, is_temporary) in expected {
        let why = format!("http://127.0.0.1:{port} answers {status}");
        let failure = webhook.deliver(&message(), &|| false).unwrap_err();
        assert_eq!(failure, Failure { why, is_temporary });
    }
}

#[test]
fn a_test_says_what_the_server_answers() {
    let (port, _requests) = serve(vec![Act::Answer(204), Act::Answer(404)], None);
    let webhook = webhook(format!("http://127.0.0.1:{port}/secret"));
    let place = format!("http://127.0.0.1:{port}");
    let answer = webhook.try_out(&message()).unwrap();
    assert_eq!(answer, format!("{place} answers 204 No Content"));
    let failure = webhook.try_out(&message()).unwrap_err();
    assert_eq!(failure.why, format!("{place} answers 404 Not Found"));
}

#[test]
fn one_that_hangs_takes_no_longer_than_the_time_out() {
    let (port, _requests) = serve(vec![Act::Hang], None);
    let started = Instant::now();
    let webhook = webhook(format!("http://127.0.0.1:{port}/"));
    let failure = webhook.deliver(&message(), &|| false).unwrap_err();
    assert!(failure.is_temporary && failure.why.contains("timeout"), "{failure:?}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

#[test]
fn nobody_there_is_a_failure_that_may_pass() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let webhook = webhook(format!("http://127.0.0.1:{port}/"));
    let failure = webhook.deliver(&message(), &|| false).unwrap_err();
    assert!(failure.is_temporary && failure.why.contains("refused"), "{failure:?}");
}

#[test]
fn a_server_that_fails_hangs_and_closes_gets_it_in_the_end() {
    let acts = vec![Act::Answer(500), Act::Answer(500), Act::Hang, Act::Close, Act::Answer(200)];
    let (port, requests) = serve(acts, None);
    let retry = Retry { attempts: 5, first_seconds: 0.01, longest_seconds: 0.02 };
    let written = Written::default();
    let target = webhook(format!("http://127.0.0.1:{port}/"));
    let notifier = Notifier::start(Box::new(target), retry, written.logger()).unwrap();
    notifier.push(message());
    // The one that was closed sent nothing.
    let bodies: Vec<String> = (0..4).map(|_| requests.recv().unwrap().body).collect();
    assert_eq!(bodies, vec![object(&message().fields); 4]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while notifier.counts().delivered == 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    let expected = Counts { delivered: 1, failed_attempts: 4, ..Counts::default() };
    assert_eq!(notifier.counts(), expected);
    notifier.close(Duration::from_secs(10));
    let lines = written.lines();
    assert!(lines.len() == 2 && lines[0].contains("answers 500"), "{lines:?}");
    assert!(lines[1].contains("the webhook works again") && lines[1].ends_with("attempts=4"));
}

/// A certificate for `localhost`: the server's configuration, and its PEM.
fn certificate() -> (Arc<ServerConfig>, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (Arc::new(config), made.cert.pem())
}

#[test]
fn only_a_server_with_a_trusted_certificate_is_told() {
    let (tls, pem) = certificate();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let trusting = |port: u16, path: PathBuf| {
        let url = format!("https://localhost:{port}/");
        let config = config::Webhook { ca_file: Some(path), ..config(url) };
        Webhook::new(&config).unwrap().unwrap()
    };
    let (port, requests) = serve(vec![Act::Answer(200)], Some(Arc::clone(&tls)));
    trusting(port, file("right.pem", &pem)).deliver(&message(), &|| false).unwrap();
    assert_eq!(requests.recv().unwrap().body, object(&message().fields));
    let (port, requests) = serve(vec![Act::Answer(200)], Some(tls));
    let other = trusting(port, file("other.pem", &certificate().1));
    let failure = other.deliver(&message(), &|| false).unwrap_err();
    assert!(failure.why.contains("certificate"), "{failure:?}");
    assert_eq!(requests.recv().unwrap().body, "");
}

#[test]
fn what_makes_no_sense_is_said_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\u{1}\n").unwrap();
    let said = |config: &config::Webhook| Webhook::new(config).unwrap_err().to_string();
    assert!(Webhook::new(&config(String::new())).unwrap().is_none());
    for url in ["localhost", "ftp://localhost/", "http://"] {
        let said = said(&config(url.to_owned()));
        assert!(said.starts_with("notify.webhook: "), "{said}");
    }
    let https = config("https://localhost/".into());
    let nowhere = config::Webhook { ca_file: Some("/nowhere".into()), ..https.clone() };
    assert!(said(&nowhere).starts_with("notify.webhook-ca: /nowhere: No such file"));
    let none = config::Webhook { ca_file: Some(empty.clone()), ..https.clone() };
    assert!(said(&none).contains("empty: no certificate in it"));
    let no_header =
        config::Webhook { authorization_file: Some(empty), ..config("http://a/".into()) };
    assert!(said(&no_header).contains("its first line is no header"));
}
