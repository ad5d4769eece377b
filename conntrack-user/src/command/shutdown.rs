//! Signals.

use std::{
    io, mem, process, ptr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

/// Set once the command itself has seen a signal, and ends.
static ENDS: AtomicBool = AtomicBool::new(false);

/// Listens from the moment it is made, so that no signal in between is lost.
pub(crate) struct Shutdown {
    interrupt: Signal,
    terminate: Signal,
}

impl Shutdown {
    /// Begins to listen. From now on [`end_in_time`] holds for a command without a helper.
    pub(crate) fn listen() -> Result<Self> {
        let shutdown = Self::subscribe()?;
        end_in_time(None)?;
        Ok(shutdown)
    }

    /// Begins to listen. From now on [`end_in_time`] holds, which calls `cut`.
    pub(crate) fn listen_with(cut: impl FnOnce() + Send + 'static) -> Result<Self> {
        let shutdown = Self::subscribe()?;
        end_in_time(Some(Box::new(cut)))?;
        Ok(shutdown)
    }

    fn subscribe() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Returns when this process is asked to end.
    pub(crate) async fn requested(&mut self) {
        self.which().await;
        ENDS.store(true, Ordering::Relaxed);
    }

    /// Returns the name of the signal that asks this process to end.
    pub(crate) async fn signal(&mut self) -> &'static str {
        let which = self.which().await;
        ENDS.store(true, Ordering::Relaxed);
        if which == SignalKind::interrupt() { "SIGINT" } else { "SIGTERM" }
    }

    /// Returns the signal that asks this process to end.
    async fn which(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        }
    }
}

/// Time after a signal in which a command that does not see it is ended.
const BLIND: Duration = Duration::from_millis(700);
/// Further time after which nobody waits for the helper any more.
const HELPER: Duration = Duration::from_millis(2300);
/// Further time that a command has to complete what it writes.
const COMPLETE: Duration = Duration::from_secs(7);

/// Lets go of what a command waits for.
type Cut = Box<dyn FnOnce() + Send>;

/// From now on SIGINT and SIGTERM end this process, whatever its other threads wait for or compute: at once by a second one,
/// soon where the command does not see the first one, and after some seconds where it does not come to its end. The exit code
/// is then that of a process which the signal has ended. `cut` is called before, and may let the command end by itself.
fn end_in_time(mut cut: Option<Cut>) -> Result<()> {
    // A thread that waits for a dead file server handles no signal, and a second one is none while the first one waits for
    // it. So all threads but one leave them alone; programs that are started get an empty mask from the standard library.
    deliver(libc::SIG_BLOCK).context("cannot block signals")?;
    let watch = move || -> Result<()> {
        deliver(libc::SIG_UNBLOCK)?;
        runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
            let mut shutdown = Shutdown::subscribe()?;
            let code = 128 + shutdown.which().await.as_raw_value();
            for (wait, is_for_helper) in [(BLIND, false), (HELPER, true), (COMPLETE, false)] {
                if timeout(wait, shutdown.which()).await.is_ok() {
                    break;
                }
                let is_blind = !ENDS.load(Ordering::Relaxed);
                match cut.take() {
                    Some(cut) if is_blind || is_for_helper => cut(),
                    None if is_blind && wait == BLIND => break,
                    other => cut = other,
                }
            }
            process::exit(code)
        })
    };
    let started = thread::Builder::new().name("shutdown".into()).spawn(watch);
    if started.is_err() {
        // Then the command sees them itself, as long as it turns.
        deliver(libc::SIG_UNBLOCK)?;
    }
    started.map(drop).context("cannot start the thread that ends this process in time")
}

/// Has SIGINT and SIGTERM delivered to this thread and to those that it starts, or not: `SIG_UNBLOCK` or `SIG_BLOCK`.
fn deliver(how: libc::c_int) -> io::Result<()> {
    // SAFETY: a set of signals is valid whatever its bytes are, it is emptied before it is used, and nothing keeps it.
    let error = unsafe {
        let mut set = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::pthread_sigmask(how, &raw const set, ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// SIGUSR2: the programs are to be detached, or attached again.
pub(crate) struct Release(Signal);

impl Release {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Self> {
        signal(SignalKind::user_defined2()).context("cannot listen for signals").map(Self)
    }

    /// Returns when it came.
    pub(crate) async fn requested(&mut self) {
        self.0.recv().await;
    }
}
