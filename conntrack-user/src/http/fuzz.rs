//! Fuzz targets of HTTP requests and of web configurations.

#![allow(clippy::expect_used, reason = "a panic is how a fuzz target reports")]

use std::{
    io::Write as _,
    sync::{Arc, LazyLock},
};

use ::http::{Response, header::ACCEPT, request::Parts};
use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    join,
    net::UnixStream,
    runtime::{Builder, Runtime},
};

use super::{
    Compressed, Connections, Counters, Handler, Hosts, Limits, Shared, Web, connection, listener,
    password::Checks, stream::Stream,
};
use crate::view::{metrics::Format, page};

/// Answers with the files of the page.
struct Page;

impl Handler for Page {
    fn answer(&self, request: &Parts) -> Response<Bytes> {
        let accept = request.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        let _ = Format::wanted(accept.unwrap_or_default());
        let body = page::file(request.uri.path()).map_or("none", |file| file.body);
        Response::new(Bytes::from_static(body.as_bytes()))
    }
}

/// Servers without and with users.
static SERVERS: LazyLock<[Arc<Shared>; 2]> = LazyLock::new(|| {
    // The least cost that there is.
    let hash = bcrypt::hash("b", 4).expect("a hash of this cost can be made");
    let users = load(&format!("basic_auth_users:\n  a: {hash}\n")).expect("it has one user");
    [Web::none(), users].map(|web| {
        let (limits, counters) = (Limits::default(), Arc::new(Counters::default()));
        Arc::new(Shared {
            connections: Connections::new(limits.connections, Arc::clone(&counters)),
            web,
            hosts: Hosts::new(vec!["node".to_owned()]),
            limits,
            handler: Arc::new(Page),
            counters,
            say: Arc::new(|_| {}),
            checks: Checks::default(),
            compressed: Compressed::default(),
        })
    })
});

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().enable_all().build().expect("there is a runtime");
}

/// Requests on a connection, behind a byte that says who asks and whether there are users: each answer is one of HTTP/1, and the
/// connection ends.
pub fn http(bytes: &[u8]) -> bool {
    let Some((kind, requests)) = bytes.split_first() else { return false };
    let peer = (kind & 1 != 0).then(|| listener::network([127, 0, 0, 1].into()));
    let shared = Arc::clone(&SERVERS[usize::from(kind & 2 != 0)]);
    let answer = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let (client, server) = UnixStream::pair().expect("a pair of sockets");
            let task = Arc::clone(&shared);
            shared.connections.open(peer, |entry| async move {
                connection::serve(Stream::Unix(server), entry, &task).await;
            });
            let (mut from, mut to) = client.into_split();
            let mut answer = Vec::new();
            // The server may close before it has read all.
            let (_, _) = join!(
                async {
                    let _ = to.write_all(requests).await;
                    to.shutdown().await
                },
                from.read_to_end(&mut answer)
            );
            answer
        })
    });
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."));
    answer.starts_with(b"HTTP/1.1 200")
}

/// The web configuration `text`; its file is not there any more.
fn load(text: &str) -> anyhow::Result<Web> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("room for a few bytes");
    Web::load(file.path())
}

/// Looks like a hash of a password, and like no key.
const SECRET: &str = "$6$secret";

/// Web configurations: any text is refused with an error, or is one. An error is one line that shows no value, but for a name where one
/// of a list is expected.
pub fn web_config(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    // With a secret in the place of each letter S.
    let web = load(&text.replace('S', SECRET));
    if let Err(error) = &web {
        let error = format!("{error:#}");
        let is_name = error.contains("is not supported: expected one of");
        assert!(is_name || !error.contains(SECRET), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    web.is_ok()
}
