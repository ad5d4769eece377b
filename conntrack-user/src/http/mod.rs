//! An HTTP/1.1 server for pages that are short to make: GET and HEAD, with TLS and passwords by a web configuration as
//! exporters for Prometheus have it. It knows nothing of what it serves, and is bounded whatever clients do:
//! [`Limits`].

mod accept;
mod address;
mod answer;
mod connection;
mod connections;
mod counters;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod gzip;
mod host;
mod limits;
mod listener;
mod notice;
mod password;
mod stream;
mod unix;
mod web;

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};

pub use address::Address;
pub use counters::{Counters, Refusal};
pub use host::Hosts;
pub use limits::Limits;
pub use listener::Listener;
pub use notice::{Notice, Say};
pub use unix::connect_unix;
pub use web::Web;

use crate::lock::lock;
use connections::Connections;
use gzip::Compressed;
use password::Checks;

/// How long requests in flight may take when the server ends.
const GRACE: Duration = Duration::from_secs(1);

/// Client of a request, by its address: in IPv6 the network of 64 bits, on loopback one for all; none at a unix socket.
/// Requests carry it as an extension.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Client(pub Option<IpAddr>);

/// Answers requests: no I/O, and quick, for all connections share one thread.
pub trait Handler: Send + Sync + 'static {
    /// The answer to a GET or HEAD request, which has no body; that to HEAD is as to GET, its body is not sent.
    ///
    /// A body that is the very same [`Bytes`] as before is compressed once.
    fn answer(&self, request: &::http::request::Parts) -> ::http::Response<Bytes>;
}

/// A server that is not running yet.
pub struct Server {
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// TLS, passwords, headers.
    pub web: Web,
    /// By which names it is asked.
    pub hosts: Hosts,
    /// What clients may take.
    pub limits: Limits,
    /// Who answers.
    pub handler: Arc<dyn Handler>,
    /// Where it counts.
    pub counters: Arc<Counters>,
    /// Who is told what an operator should know.
    pub say: Say,
}

/// What connections share.
struct Shared {
    web: Web,
    hosts: Hosts,
    limits: Limits,
    handler: Arc<dyn Handler>,
    counters: Arc<Counters>,
    say: Say,
    connections: Connections,
    checks: Checks,
    compressed: Compressed,
}

impl Server {
    /// Serves until `shutdown` returns; requests in flight are then answered, within a second.
    ///
    /// # Errors
    ///
    /// If a listener cannot be registered with the runtime.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        let shared = Arc::new(Shared {
            connections: Connections::new(self.limits.connections, self.counters.clone()),
            web: self.web,
            hosts: self.hosts,
            limits: self.limits,
            handler: self.handler,
            counters: self.counters,
            say: self.say,
            checks: Checks::default(),
            compressed: Compressed::default(),
        });
        // Each connection holds a sender: when there is none left, all have ended.
        let (alive, mut ended) = mpsc::channel::<Infallible>(1);
        let mut accepting = JoinSet::new();
        for listener in self.listeners {
            let listener = listener.register()?;
            accepting.spawn(accept::run(listener, shared.clone(), alive.clone()));
        }
        drop(alive);
        shutdown.await;
        accepting.shutdown().await;
        shared.connections.finish();
        if timeout(GRACE, ended.recv()).await.is_err() {
            shared.connections.abort();
        }
        Ok(())
    }
}
