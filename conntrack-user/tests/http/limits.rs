//! Clients that take too much.

use std::{fs::File, process::Command, time::Duration};

use conntrack_user::http::{Limits, Refusal, Web};
use tokio::net::{TcpSocket, UnixStream};

use crate::support::{BIG, Client, Running, until};

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
async fn a_client_that_has_stopped_reading_has_less_time() {
    let server = Running::start(Web::none(), Limits { stall_time: SHORT, ..Limits::default() });
    let mut client = server.connect().await;
    client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await;
    server.until_refused(Refusal::AnswerTime, 1).await;
    assert!(client.rest().await < BIG);
}

/// Bytes that a client which reads nothing is sent: by the kernel, into its own buffers and those of the client.
async fn bytes_unread(address: &str) -> usize {
    let limits = Limits { answer_time: 10 * SHORT, ..Limits::default() };
    let server = Running::start_at(address, Web::none(), limits);
    let mut count = 0;
    if let Some(path) = address.strip_prefix("unix:") {
        let mut client = Client::new(UnixStream::connect(path).await.unwrap());
        client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await;
        server.until_refused(Refusal::AnswerTime, 1).await;
        count += client.rest().await;
    } else {
        let socket = TcpSocket::new_v4().unwrap();
        // A small window: what is counted is what the server's side holds.
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = Client::new(socket.connect(server.socket()).await.unwrap());
        client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await;
        server.until_refused(Refusal::AnswerTime, 1).await;
        count += client.rest().await;
    }
    count
}

#[tokio::test]
async fn the_kernel_holds_little_for_a_client_that_does_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let unix = format!("unix:{}", folder.path().join("socket").display());
    for address in ["127.0.0.1:0", &unix] {
        let bytes = bytes_unread(address).await;
        let most = Limits::default().send_bytes / Limits::default().connections;
        assert!(bytes <= most, "{address}: {bytes} of {most}");
    }
}

#[tokio::test]
async fn few_large_answers_are_sent_at_a_time() {
    let server = Running::start(Web::none(), Limits { large_answers: 3, ..Limits::default() });
    let mut clients = Vec::new();
    for number in 0..8 {
        let mut client = server.connect().await;
        client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.head().await.code, 200);
        server.until_refused(Refusal::Limit, u64::saturating_sub(number + 1, 3)).await;
        clients.push(client);
    }
    // Small ones are answered beside them.
    assert_eq!(server.get("").await.code, 200);
    for (number, mut client) in clients.into_iter().enumerate() {
        let is_whole = client.rest_of(BIG).await == BIG;
        assert_eq!(is_whole, number >= 5, "number {number}");
    }
    assert_eq!(server.counters.refused(Refusal::Limit), 5);
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

#[tokio::test]
async fn whoever_does_not_read_keeps_nobody_out() {
    let limits = Limits { connections: 8, large_answers: 100, ..Limits::default() };
    let server = Running::start(Web::none(), limits);
    let mut unread = Vec::new();
    for _ in 0..8 {
        let mut client = server.connect().await;
        client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3)).await;
        assert_eq!(client.head().await.code, 200);
        unread.push(client);
    }
    let mut silent = Vec::new();
    // At first there is room for two; later they are known not to read.
    for (others, wait) in [(1, Duration::ZERO), (4, Duration::from_millis(400))] {
        tokio::time::sleep(wait).await;
        let mut client = server.connect().await;
        for _ in 0..others {
            let mut other = server.connect().await;
            other.send("GET /metr").await;
            silent.push(other);
        }
        assert_eq!(client.get("/metrics", "").await.code, 200, "beside {others} others");
    }
}

#[test]
fn descriptors_may_run_out() {
    // In a process of its own, for all tests here share theirs.
    let script = "ulimit -n 64 && exec \"$0\" --ignored --exact limits::without_descriptors";
    let program = std::env::current_exe().unwrap();
    let output = Command::new("sh").arg("-c").arg(script).arg(program).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

#[tokio::test]
#[ignore = "uses up all descriptors of its process: run by `descriptors_may_run_out`"]
async fn without_descriptors() {
    let server = Running::start(Web::none(), Limits::default());
    let mut idle = server.connect().await;
    assert_eq!(idle.get("/metrics", "").await.code, 200);
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
        assert!(taken.len() < 1024, "the limit on descriptors is not in force");
    }
    // One for the client; there is none for the server.
    taken.pop();
    let mut client = server.connect().await;
    // The idle connection is given up, and the one that waits is taken.
    assert_eq!(client.get("/metrics", "").await.code, 200);
    idle.closed().await;
    assert_eq!(server.counters.refused(Refusal::Limit), 1);
    // Nor is one closed that is being answered.
    client.send("GET /big HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.head().await.code, 200);
    drop(idle);
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    taken.pop();
    let mut late = server.connect().await;
    let before = server.counters.refused(Refusal::Accept);
    until(|| server.counters.refused(Refusal::Accept) >= before + 2).await;
    assert_eq!(server.counters.refused(Refusal::Limit), 1);
    drop(taken);
    assert_eq!(late.get("/metrics", "").await.code, 200);
    assert_eq!(client.rest_of(BIG).await, BIG);
    let said = server.said.lock().unwrap();
    assert_eq!(said.len(), 4, "once each time, and that it is over: {said:?}");
    assert!(said[0].contains("cannot take connections at 127.0.0.1:"), "{said:?}");
    assert!(said[1].ends_with("again"), "{said:?}");
}
