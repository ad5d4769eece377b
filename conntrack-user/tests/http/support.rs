//! A server in the runtime of the test, and a client that says exactly what it is told to.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use conntrack_user::http::{
    Address, Counters, Handler, Hosts, Limits, Listener, Notice, Refusal, Server, Web,
};
use http::{Response, StatusCode, request::Parts};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// Nothing here takes so long, however busy the machine is.
const LONG: Duration = Duration::from_secs(60);

/// Bytes of `/big`: more than sockets buffer.
pub(crate) const BIG: usize = 16 << 20;

/// Serves `/metrics`, and `/big`.
struct Pages {
    metrics: Bytes,
    big: Bytes,
}

impl Handler for Pages {
    fn answer(&self, request: &Parts) -> Response<Bytes> {
        let body = match request.uri.path() {
            "/metrics" => self.metrics.clone(),
            "/big" => self.big.clone(),
            _ => {
                let mut answer = Response::new(Bytes::from_static(b"no such page\n"));
                *answer.status_mut() = StatusCode::NOT_FOUND;
                return answer;
            }
        };
        Response::builder().header("content-type", "text/plain").body(body).unwrap()
    }
}

pub(crate) fn metrics() -> String {
    "ctmon_entries{netns=\"4026531840\"} 1\n".repeat(100)
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) address: Address,
    pub(crate) counters: Arc<Counters>,
    pub(crate) said: Arc<Mutex<Vec<String>>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    pub(crate) fn start(web: Web, limits: Limits) -> Self {
        Self::start_at("127.0.0.1:0", web, limits)
    }

    pub(crate) fn start_at(address: &str, web: Web, limits: Limits) -> Self {
        Self::serve(address, web, limits, metrics(), BIG)
    }

    /// With another text at `/metrics`.
    pub(crate) fn start_with(web: Web, limits: Limits, metrics: String) -> Self {
        Self::serve("127.0.0.1:0", web, limits, metrics, 0)
    }

    fn serve(address: &str, web: Web, limits: Limits, metrics: String, big: usize) -> Self {
        let listener = Listener::bind(address.parse().unwrap(), None).unwrap();
        let address = listener.address().clone();
        let (counters, said) = (Arc::new(Counters::default()), Arc::new(Mutex::new(Vec::new())));
        let hears = said.clone();
        let server = Server {
            listeners: vec![listener],
            web,
            hosts: Hosts::new(vec!["a".to_owned()]),
            limits,
            handler: Arc::new(Pages { metrics: metrics.into(), big: vec![b'x'; big].into() }),
            counters: counters.clone(),
            say: Arc::new(move |notice: &Notice| hears.lock().unwrap().push(notice.to_string())),
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.serve(async {
            let _ = stopped.await;
        }));
        Self { address, counters, said, stop, task }
    }

    pub(crate) fn socket(&self) -> SocketAddr {
        match &self.address {
            Address::Ip(address) => *address,
            other => panic!("{other}"),
        }
    }

    pub(crate) async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.socket()).await.unwrap())
    }

    /// Asks for `/metrics` on a connection of its own.
    pub(crate) async fn get(&self, fields: &str) -> Answer {
        let mut client = self.connect().await;
        client.get("/metrics", fields).await
    }

    pub(crate) async fn until_refused(&self, why: Refusal, count: u64) {
        until(|| self.counters.refused(why) >= count).await;
        assert_eq!(self.counters.refused(why), count, "{why:?}");
    }

    pub(crate) fn answered(&self, code: u16) -> u64 {
        let mut answered = self.counters.answered();
        answered.find(|(known, _)| *known == Some(code)).map_or(0, |(_, count)| count)
    }

    /// Asks it to end; what its end then is.
    pub(crate) fn stop(self) -> JoinHandle<anyhow::Result<()>> {
        self.stop.send(()).unwrap();
        self.task
    }
}

/// Lets others run until something is so.
pub(crate) async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap();
}

/// A connection, seen by the client.
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    fields: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Asks with further header fields, each with its end of line.
    pub(crate) async fn get(&mut self, path: &str, fields: &str) -> Answer {
        self.try_get(path, fields).await.expect("closed without an answer")
    }

    /// The same; none if the connection was closed.
    pub(crate) async fn try_get(&mut self, path: &str, fields: &str) -> Option<Answer> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        self.stream.write_all(request.as_bytes()).await.ok()?;
        self.stream.flush().await.ok()?;
        self.try_answer().await
    }

    /// An answer with its body.
    pub(crate) async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("closed without an answer")
    }

    /// An answer as far as the empty line.
    pub(crate) async fn head(&mut self) -> Answer {
        self.try_head().await.expect("closed without an answer")
    }

    async fn try_answer(&mut self) -> Option<Answer> {
        let mut answer = self.try_head().await?;
        let length = answer.field("content-length").unwrap().parse().unwrap();
        if self.rest_of(length).await < length {
            return None;
        }
        answer.body = self.read.drain(..length).collect();
        Some(answer)
    }

    async fn try_head(&mut self) -> Option<Answer> {
        let end = loop {
            match self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None if !self.fill().await => return None,
                None => {}
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let code = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        });
        Some(Answer { code, fields: fields.collect(), body: Vec::new() })
    }

    /// That nothing comes any more.
    pub(crate) async fn closed(&mut self) {
        assert_eq!((self.rest().await, String::from_utf8_lossy(&self.read).as_ref()), (0, ""));
    }

    /// Bytes that still come.
    pub(crate) async fn rest(&mut self) -> usize {
        self.rest_of(usize::MAX).await
    }

    /// Bytes of a body that come, up to `length`.
    pub(crate) async fn rest_of(&mut self, length: usize) -> usize {
        while self.read.len() < length && self.fill().await {}
        self.read.len()
    }

    /// Whether bytes came, not the end.
    async fn fill(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.read);
        match tokio::time::timeout(LONG, read).await.expect("neither bytes nor an end") {
            Ok(count) => count > 0,
            // A connection that the server gave up.
            Err(_) => false,
        }
    }
}
