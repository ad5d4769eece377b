//! What is answered, and how.

use std::io::Read as _;

use conntrack_user::http::{Limits, Web};
use tokio::net::UnixStream;

use crate::support::{Client, Running, metrics, until};

fn start() -> Running {
    Running::start(Web::none(), Limits::default())
}

#[tokio::test]
async fn a_connection_is_kept() {
    let server = start();
    let mut client = server.connect().await;
    for _ in 0..3 {
        let answer = client.get("/metrics", "").await;
        assert_eq!((answer.code, answer.body), (200, metrics().into_bytes()));
    }
    client.send("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let head = client.head().await;
    assert_eq!(head.code, 200);
    assert_eq!(head.field("content-length"), Some(metrics().len().to_string().as_str()));
    // Nothing of a body came: the next answer begins where it should.
    let missing = client.get("/hostile", "").await;
    assert_eq!((missing.code, &missing.body[..]), (404, &b"no such page\n"[..]));
    for answer in [head, missing] {
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        assert_eq!(answer.field("connection"), None);
    }
    assert_eq!((server.counters.accepted(), server.counters.open()), (1, 1));
    assert_eq!((server.answered(200), server.answered(404)), (4, 1));
    drop(client);
    until(|| server.counters.open() == 0).await;
}

#[tokio::test]
async fn several_requests_may_come_at_once() {
    let server = start();
    let mut client = server.connect().await;
    client.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20)).await;
    for _ in 0..20 {
        assert_eq!(client.answer().await.code, 200);
    }
}

#[tokio::test]
async fn older_clients_and_those_who_want_to_close_are_closed() {
    let server = start();
    for request in [
        "GET /metrics HTTP/1.0\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client.send(request).await;
        assert_eq!(client.answer().await.code, 200);
        client.closed().await;
    }
}

#[tokio::test]
async fn what_is_refused_says_why_and_repeats_nothing() {
    let server = start();
    let large = "a".repeat(1 << 20);
    let cases = [
        (405, "POST /hostile HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".to_owned(), false),
        (405, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), false),
        (
            405,
            "DELETE /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
            true,
        ),
        (413, "GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(), true),
        (
            413,
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            true,
        ),
        (431, format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", &large[..8192]), true),
        (431, format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", &large[..8192]), true),
        (431, format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(65)), true),
        (400, "garbage\r\n\r\n".to_owned(), true),
        (400, "\u{1}\u{2}\u{3}\u{4}".to_owned(), true),
        (400, "GET / HTTP/1.1\r\nno field\r\n\r\n".to_owned(), true),
        (400, "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_owned(), true),
        // As a client of TLS begins.
        (400, "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0".to_owned(), true),
    ];
    for (code, request, is_closed) in &cases {
        let mut client = server.connect().await;
        client.send(request).await;
        let answer = client.answer().await;
        assert_eq!(answer.code, *code, "{request:.80}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("hostile"), "{answer:?}");
        assert_eq!(answer.field("allow").is_some(), *code == 405, "{request:.80}");
        if *is_closed {
            assert_eq!(answer.field("connection"), Some("close"), "{request:.80}");
            client.closed().await;
        } else {
            assert_eq!(client.get("/metrics", "").await.code, 200);
        }
    }
    let codes = [405, 413, 431, 400];
    let expected = codes.map(|code| cases.iter().filter(|case| case.0 == code).count() as u64);
    assert_eq!(codes.map(|code| server.answered(code)), expected);
}

#[tokio::test]
async fn a_client_that_sends_too_much_sees_its_answer() {
    let server = start();
    for request in
        ["GET / HTTP/1.1\r\nA: ", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n"]
    {
        let mut client = server.connect().await;
        client.send(request).await;
        // More than is taken; it is there before the answer is read.
        client.send("a".repeat(60_000)).await;
        assert!(matches!(client.answer().await.code, 405 | 431));
        client.closed().await;
    }
}

#[tokio::test]
async fn the_last_request_of_a_connection_is_said() {
    let server = Running::start(Web::none(), Limits { requests: 2, ..Limits::default() });
    let mut client = server.connect().await;
    assert_eq!(client.get("/metrics", "").await.field("connection"), None);
    assert_eq!(client.get("/metrics", "").await.field("connection"), Some("close"));
    client.closed().await;
}

#[tokio::test]
async fn an_answer_is_compressed_for_those_who_ask() {
    let server = start();
    let mut client = server.connect().await;
    let answer = client.get("/metrics", "Accept-Encoding: gzip\r\n").await;
    assert_eq!(answer.field("content-encoding"), Some("gzip"));
    assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
    let mut plain = String::new();
    flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut plain).unwrap();
    assert_eq!(plain, metrics());
    let short = client.get("/nowhere", "Accept-Encoding: gzip\r\n").await;
    assert_eq!((short.code, short.field("content-encoding")), (404, None));
}

#[tokio::test]
async fn a_unix_socket_serves_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ctmon.sock");
    let address = format!("unix:{}", path.display());
    let server = Running::start_at(&address, Web::none(), Limits::default());
    let mut client = Client::new(UnixStream::connect(&path).await.unwrap());
    assert_eq!(client.get("/metrics", "").await.code, 200);
    server.stop().await.unwrap().unwrap();
    client.closed().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn nobody_is_waited_for_at_the_end() {
    let server = start();
    let (mut idle, mut silent, mut unread) =
        (server.connect().await, server.connect().await, server.connect().await);
    assert_eq!(idle.get("/metrics", "").await.code, 200);
    silent.send("GET /met").await;
    // In flight as long as nobody reads it; it is given up after a second.
    unread.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(unread.head().await.code, 200);
    let socket = server.socket();
    let counters = server.counters.clone();
    server.stop().await.unwrap().unwrap();
    idle.closed().await;
    silent.closed().await;
    assert!(unread.rest().await < crate::support::BIG);
    until(|| counters.open() == 0).await;
    assert!(tokio::net::TcpStream::connect(socket).await.is_err());
}

#[tokio::test]
async fn an_answer_in_flight_is_finished_at_the_end() {
    let server = start();
    let mut client = server.connect().await;
    client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.head().await.code, 200);
    let end = server.stop();
    assert_eq!(client.rest().await, crate::support::BIG);
    end.await.unwrap().unwrap();
}

#[tokio::test]
#[ignore = "a measurement, of use with optimization only"]
async fn what_compression_saves() {
    // Series as those of 64 namespaces: names that repeat, numbers that do not.
    let mut text = String::new();
    for series in 0..40_u64 {
        for netns in 0..64 {
            let value = (series * 64 + netns).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let netns = 4_026_531_840 + netns;
            text +=
                &format!("ctmon_series_{series}_total{{netns=\"{netns}\",name=\"\"}} {value}\n");
        }
    }
    let server = Running::start_with(Web::none(), Limits::default(), text);
    let mut client = server.connect().await;
    for fields in ["", "Accept-Encoding: gzip\r\n", "Accept-Encoding: gzip\r\n"] {
        let begin = std::time::Instant::now();
        let answer = client.get("/metrics", fields).await;
        let took = begin.elapsed().as_secs_f64() * 1e3;
        println!("{} bytes in {took:.2} ms {}", answer.body.len(), fields.trim_end());
    }
}

#[tokio::test]
async fn over_loopback_it_is_not_asked_by_the_names_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let unix =
        Running::start_at(&format!("unix:{}", path.display()), Web::none(), Limits::default());
    let server = Running::start(Web::none(), Limits::default());
    let request = |host: &str| format!("GET /metrics HTTP/1.1\r\n{host}\r\n");
    let mut client = server.connect().await;
    let mut local = Client::new(UnixStream::connect(&path).await.unwrap());
    for (host, code) in [
        ("Host: rebound.example\r\n", 403),
        ("Host: 127.0.0.1:1\r\n", 200),
        ("Host: a\r\n", 200),
        ("Host: rebound.example\r\nAuthorization: Basic YTpi\r\n", 403),
        ("", 400),
        ("Host: a\r\nHost: a\r\n", 400),
        ("Host: a\r\nHost: rebound.example\r\n", 400),
    ] {
        client.send(request(host)).await;
        let answer = client.answer().await;
        assert_eq!(answer.code, code, "{host}");
        assert_eq!(answer.body.starts_with(b"403 Forbidden: ask by an address"), code == 403);
        local.send(request(host)).await;
        assert_eq!(local.answer().await.code, if code == 400 { 400 } else { 200 }, "{host}");
    }
    assert_eq!((server.answered(403), unix.answered(403)), (2, 0));
}
