//! Answers HTTP in a thread of its own: requests, however many, do not put off reading the tables.

use std::{sync::Arc, thread};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use conntrack_user::{
    daemon::log::{Level, Logger},
    http::{Address, Counters, Handler, Hosts, Limits, Listener, Server, Web},
    privilege::Account,
};
use http::{Response, request::Parts};
use tokio::sync::oneshot;

use super::routes::Routes;

impl Handler for Routes {
    fn answer(&self, request: &Parts) -> Response<Bytes> {
        self.answer(request)
    }
}

/// The sockets, which listen; nobody answers yet.
pub(super) struct Bound {
    listeners: Vec<Listener>,
    web: Web,
    hosts: Hosts,
}

/// A server that answers.
pub(super) struct Answering {
    end: oneshot::Sender<()>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Bound {
    /// Listens at all of `addresses`, where requests ask for `hosts`. `owner`: the user that this process is about to become.
    ///
    /// # Errors
    /// Names the address, and says what to do.
    pub(super) fn listen(
        addresses: &[Address],
        owner: Option<Account>,
        web: Web,
        hosts: Hosts,
    ) -> Result<Self> {
        let listeners = addresses.iter().cloned().map(|address| Listener::bind(address, owner));
        Ok(Self { listeners: listeners.collect::<Result<_>>()?, web, hosts })
    }

    /// Addresses in use, with the ports that the kernel chose.
    #[cfg(test)]
    pub(super) fn addresses(&self) -> Vec<&Address> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// Logs each address with the port that it got, and a warning where others reach it and nobody is asked who they are.
    pub(super) fn announce(&self, logger: &Logger) {
        for listener in &self.listeners {
            let address = listener.address();
            logger.log(Level::Notice, &format!("listening on {address}"), &[]);
            if address.is_reached_by_others() && !self.web.asks_who() {
                let text = format!(
                    "{address} asks nobody who they are: whoever reaches it reads the tables' metrics and, by \
                     /api/v1/flight, addresses of clients; set passwords or client certificates with --web-config"
                );
                logger.log(Level::Warning, &text, &[]);
            }
        }
    }

    /// Answers from now on.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn answer(
        self,
        routes: Routes,
        counters: Arc<Counters>,
        logger: Logger,
    ) -> Result<Answering> {
        let server = Server {
            listeners: self.listeners,
            web: self.web,
            hosts: self.hosts,
            limits: Limits::default(),
            handler: Arc::new(routes),
            counters,
            say: Arc::new(move |notice| {
                let level = if notice.is_warning() { Level::Warning } else { Level::Notice };
                logger.log(level, &notice.to_string(), &[]);
            }),
        };
        let (end, ended) = oneshot::channel::<()>();
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            // Also when nobody is left who could say so.
            runtime.block_on(server.serve(async { drop(ended.await) }))
        };
        let thread = thread::Builder::new().name("ctmon-http".into()).spawn(serve);
        Ok(Answering { end, thread: thread.context("cannot start a thread for HTTP")? })
    }
}

impl Answering {
    /// Answers what was asked, and ends.
    ///
    /// # Errors
    /// Why it could not answer.
    pub(super) fn finish(self) -> Result<()> {
        // It has ended already where nobody hears it.
        let _ = self.end.send(());
        self.thread.join().map_err(|_| anyhow!("the thread for HTTP has panicked"))?
    }
}
