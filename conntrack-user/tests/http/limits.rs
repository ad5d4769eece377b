//! Clients that take too much.

use std::time::Duration;

use conntrack_user::http::{Limits, Refusal, Web};

use crate::support::{BIG, Running};

/// Long enough for what is expected, and soon over.
const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let server = Running::start(Web::none(), Limits { head_time: SHORT, ..Limits::default() });
    let (mut silent, mut slow) = (server.connect().await, server.connect().await);
    slow.send("GET /metrics HTTP/1.1\r\nHost: ").await;
    let answer = slow.answer().await;
    assert_eq!((answer.code, answer.field("connection")), (408, Some("close")));
    slow.closed().await;
    // One that sends nothing has asked for nothing.
    silent.closed().await;
    server.until_refused(Refusal::HeadTime, 2).await;
    assert_eq!(server.answered(408), 1);
    // Nor does the second request on a connection get more time.
    let mut second = server.connect().await;
    assert_eq!(second.get("/metrics", "").await.code, 200);
    second.send("GET /metrics HTTP/1.1\r\n").await;
    assert_eq!(second.answer().await.code, 408);
}

#[tokio::test]
async fn a_connection_is_kept_only_so_long() {
    let server = Running::start(Web::none(), Limits { idle_time: SHORT, ..Limits::default() });
    let mut client = server.connect().await;
    assert_eq!(client.get("/metrics", "").await.code, 200);
    client.closed().await;
    assert!(Refusal::ALL.iter().all(|why| server.counters.refused(*why) == 0));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let server = Running::start(Web::none(), Limits { answer_time: SHORT, ..Limits::default() });
    let mut client = server.connect().await;
    client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.until_refused(Refusal::AnswerTime, 1).await;
    assert_eq!(client.head().await.code, 200);
    assert!(client.rest().await < BIG);
}

#[tokio::test]
async fn the_one_that_keeps_others_out_is_closed() {
    let server = Running::start(Web::none(), Limits { connections: 3, ..Limits::default() });
    let mut idle = server.connect().await;
    assert_eq!(idle.get("/metrics", "").await.code, 200);
    let mut silent = Vec::new();
    for number in 0..20 {
        let mut client = server.connect().await;
        client.send("GET /metr").await;
        silent.push(client);
        // Two of them have room beside the idle one.
        server.until_refused(Refusal::Limit, u64::saturating_sub(number + 1, 2)).await;
    }
    assert_eq!(server.counters.open(), 3);
    // Whoever asks is answered, and who was idle has not been closed for those who do not ask.
    assert_eq!(server.get("").await.code, 200);
    assert_eq!(idle.get("/metrics", "").await.code, 200);
    let mut newest = silent.pop().unwrap();
    for mut client in silent {
        client.closed().await;
    }
    newest.send("ics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(newest.answer().await.code, 200);
}
