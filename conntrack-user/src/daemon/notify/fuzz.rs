//! Fuzz target of a webhook's answer.

#![allow(clippy::expect_used, reason = "a panic is how a fuzz target reports")]

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener},
    sync::{
        LazyLock, Mutex,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use super::{Message, Target as _, config, webhook::Webhook};
use crate::{
    lock::lock,
    model::reading::NetnsId,
    text::{LONGEST, printable},
};

/// A webhook, and a server on loopback that answers with what is sent here.
struct Pair {
    webhook: Webhook,
    answers: SyncSender<Vec<u8>>,
}

static PAIR: LazyLock<Mutex<Pair>> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a port");
    let port = listener.local_addr().expect("it is bound").port();
    let (answers, next) = sync_channel::<Vec<u8>>(0);
    thread::spawn(move || {
        for answer in next {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
            // The request is a few hundred bytes long, and ends with the last brace.
            let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
            while !request.ends_with(b"}") {
                let Ok(length @ 1..) = stream.read(&mut buffer) else { break };
                request.extend_from_slice(&buffer[..length]);
            }
            let _ = stream.write_all(&answer);
            let _ = stream.shutdown(Shutdown::Write);
        }
    });
    let url = format!("http://127.0.0.1:{port}/hook");
    let webhook = Webhook::new(&config::Webhook { url, ..Default::default() });
    let webhook = webhook.ok().flatten().expect("it is an address");
    Mutex::new(Pair { webhook, answers })
});

/// Answers of a webhook's server: any bytes are accepted, or refused for a reason that fits on a line.
pub fn webhook(answer: &[u8]) -> bool {
    let pair = lock(&PAIR);
    pair.answers.send(answer.to_vec()).expect("the server runs");
    let netns = NetnsId { cookie: None, inode: 1 };
    let told = pair.webhook.deliver(&Message { netns, fields: vec![] }, &|| false);
    if let Err(failure) = &told {
        assert_eq!(printable(&failure.why, LONGEST), failure.why);
    }
    told.is_ok()
}
