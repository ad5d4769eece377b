//! Tells others of changes: a [`command`] and a [`webhook`], each from a thread of its own, so that neither waits for the
//! other nor the ticks for any. One change at a time is told; what waits is bounded, and of each namespace only the
//! newest waits.

pub mod command;
pub mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
pub mod orphans;
mod output;
mod queue;
pub mod webhook;

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

pub use queue::Message;

use super::log::{Level, Logger};
use config::Retry;
use queue::{Pushed, Queue};

/// Changes that wait at the most; those of more namespaces at a time are counted as discarded.
const CAPACITY: usize = 1024;

/// Who is told.
pub trait Target: Send + 'static {
    /// Its name in log lines and metrics.
    fn name(&self) -> &'static str;

    /// Tells it one change. `is_abandoned`: asked every now and then by what can be broken off.
    ///
    /// # Errors
    ///
    /// Why it was not taken.
    fn deliver(&self, message: &Message, is_abandoned: &dyn Fn() -> bool) -> Result<(), Failure>;

    /// Lines that the last delivery has written beside its outcome, each fit for a log.
    fn take_lines(&self) -> Vec<String> {
        vec![]
    }

    /// Delivers a test and returns what came back.
    ///
    /// # Errors
    ///
    /// Why it was not taken.
    fn try_out(&self, message: &Message) -> Result<String, Failure> {
        self.deliver(message, &|| false).map(|()| "accepted".to_owned())
    }
}

/// Why a change was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In words, without what is secret.
    pub why: String,
    /// Whether it may be taken another time.
    pub is_temporary: bool,
}

/// What became of the changes, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken.
    pub delivered: u64,
    /// Not taken, however often they were told.
    pub given_up: u64,
    /// Not told any more, because there was something newer of the namespace.
    pub superseded: u64,
    /// Not told, because too many waited.
    pub discarded: u64,
    /// Attempts that failed.
    pub failed_attempts: u64,
}

/// Tells one target; dropping it does not wait.
pub struct Notifier {
    name: &'static str,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    queue: Queue,
    /// Who is to be told instead from the next attempt on, and how often it is tried.
    revised: Option<(Box<dyn Target>, Retry)>,
    counts: Counts,
    /// What waits is told once more, and nothing else.
    is_closing: bool,
    /// Nothing is told any more.
    is_abandoned: bool,
    has_ended: bool,
}

impl Notifier {
    /// Starts its thread.
    ///
    /// # Errors
    ///
    /// When there can be no thread.
    pub fn start(target: Box<dyn Target>, retry: Retry, logger: Logger) -> io::Result<Self> {
        let state = State {
            queue: Queue::new(CAPACITY),
            revised: None,
            counts: Counts::default(),
            is_closing: false,
            is_abandoned: false,
            has_ended: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let name = target.name();
        let worker = Worker { target, retry, logger, shared: Arc::clone(&shared), failed: 0 };
        thread::Builder::new().name(format!("notify-{name}")).spawn(move || worker.run())?;
        Ok(Self { name, shared })
    }

    /// The target's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Tells `target` from the next attempt on, what waits already, too. It has the same name.
    pub fn revise(&self, target: Box<dyn Target>, retry: Retry) {
        self.shared.lock().revised = Some((target, retry));
        self.shared.changed.notify_all();
    }

    /// Has a change told; does not wait.
    pub fn push(&self, message: Message) {
        let mut state = self.shared.lock();
        match state.queue.push(message) {
            Pushed::Added => {}
            Pushed::Superseded => state.counts.superseded += 1,
            Pushed::Discarded => state.counts.discarded += 1,
        }
        self.shared.changed.notify_all();
    }

    /// What became of the changes so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts
    }

    /// Tells what still waits once, for at most so long; what is not taken by then is not told.
    pub fn close(self, grace: Duration) {
        self.shared.lock().is_closing = true;
        self.shared.changed.notify_all();
        if !self.shared.has_ended_within(grace) {
            self.shared.lock().is_abandoned = true;
            // A command that still runs is killed before we go.
            self.shared.has_ended_within(command::LOOK_EVERY * 5);
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        (state.is_closing, state.is_abandoned) = (true, true);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits for the thread to end.
    fn has_ended_within(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut state = self.lock();
        while !state.has_ended {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.wait(state, left);
        }
        true
    }
}

/// What the thread has.
struct Worker {
    target: Box<dyn Target>,
    retry: Retry,
    logger: Logger,
    shared: Arc<Shared>,
    /// Attempts that failed since the last one that did not.
    failed: u64,
}

/// What comes after a wait.
enum Next {
    Again,
    Superseded,
    GiveUp,
}

impl Worker {
    fn run(mut self) {
        while let Some(message) = self.next() {
            self.tell(&message);
        }
        self.shared.lock().has_ended = true;
        self.shared.changed.notify_all();
    }

    /// The next change to be told; none at the end.
    fn next(&self) -> Option<Message> {
        let mut state = self.shared.lock();
        loop {
            if state.is_abandoned {
                return None;
            }
            if let Some(message) = state.queue.pop() {
                return Some(message);
            }
            if state.is_closing {
                return None;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn tell(&mut self, message: &Message) {
        for attempt in 1.. {
            if let Some(revised) = self.shared.lock().revised.take() {
                (self.target, self.retry) = revised;
            }
            let is_abandoned = || self.shared.lock().is_abandoned;
            let outcome = self.target.deliver(message, &is_abandoned);
            let name = self.target.name();
            for line in self.target.take_lines() {
                let fields = [("target", json!(name))];
                self.logger.log(Level::Notice, &format!("notify.{name}: {line}"), &fields);
            }
            let Err(failure) = outcome else {
                self.works();
                return;
            };
            self.fails(&failure);
            let is_last = !failure.is_temporary || attempt >= self.retry.attempts;
            let next = if is_last { Next::GiveUp } else { self.wait(attempt, message) };
            let mut state = self.shared.lock();
            match next {
                Next::Again => continue,
                Next::Superseded => state.counts.superseded += 1,
                Next::GiveUp => state.counts.given_up += 1,
            }
            return;
        }
    }

    /// Waits for the next attempt, unless it comes to nothing.
    fn wait(&self, attempt: u32, message: &Message) -> Next {
        let seconds = self.retry.wait_seconds(attempt, fastrand::f64());
        let until = Instant::now() + Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let mut state = self.shared.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.is_closing {
                return Next::GiveUp;
            } else if state.queue.has(message.netns) {
                return Next::Superseded;
            } else if left.is_zero() || state.revised.is_some() {
                return Next::Again;
            }
            state = self.shared.wait(state, left);
        }
    }

    /// One was taken: said only where one was not before.
    fn works(&mut self) {
        self.shared.lock().counts.delivered += 1;
        if self.failed > 0 {
            let name = self.target.name();
            let fields = [("target", json!(name)), ("failed_attempts", json!(self.failed))];
            self.logger.log(Level::Notice, &format!("the {name} works again"), &fields);
        }
        self.failed = 0;
    }

    /// One was not taken: said only of the first.
    fn fails(&mut self, failure: &Failure) {
        self.shared.lock().counts.failed_attempts += 1;
        if self.failed == 0 {
            let name = self.target.name();
            let fields = [("target", json!(name)), ("error", json!(failure.why))];
            let text = format!(
                "the {name} fails: {}; nothing more is said of it until it works again",
                failure.why
            );
            self.logger.log(Level::Error, &text, &fields);
        }
        self.failed += 1;
    }
}

#[cfg(test)]
mod tests;
