//! Which connections are open, and which one is closed when there are too many.

use std::{
    cmp::Reverse,
    collections::{HashMap, hash_map},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::{task::AbortHandle, time::Instant};

use super::{Counters, Refusal, listener::Peer, lock};

/// What a connection is about, in the order in which it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// All is said; the client is to close.
    End,
    /// The TLS handshake.
    Handshake,
    /// A request is awaited that has begun, or that is the first.
    Head,
    /// Between two requests.
    Idle,
    /// A request is being answered.
    Answer,
}

/// What a connection is about, and since when; its task changes it, others read it.
#[derive(Debug)]
pub(super) struct State(Mutex<Now>);

#[derive(Debug)]
struct Now {
    phase: Phase,
    since: Instant,
    /// Bytes were read of a request that is not there whole.
    begun: bool,
    /// The answer is in the buffers, to its last byte.
    handed: bool,
    /// The answer is a large one.
    large: bool,
    /// Requests so far.
    requests: u64,
}

impl State {
    fn new() -> Self {
        let since = Instant::now();
        let phase = Phase::Handshake;
        let (begun, handed, large) = (false, false, false);
        Self(Mutex::new(Now { phase, since, begun, handed, large, requests: 0 }))
    }

    /// What it is about, and since when.
    pub(super) fn get(&self) -> (Phase, Instant) {
        let now = lock(&self.0);
        (now.phase, now.since)
    }

    /// It is about something else from now on.
    pub(super) fn set(&self, phase: Phase) {
        let mut now = lock(&self.0);
        (now.phase, now.since) = (phase, Instant::now());
    }

    /// A request is there whole. Which one it is, from 1 on.
    pub(super) fn request(&self) -> u64 {
        let mut now = lock(&self.0);
        (now.phase, now.since) = (Phase::Answer, Instant::now());
        (now.begun, now.handed, now.large) = (false, false, false);
        now.requests += 1;
        now.requests
    }

    /// Bytes were read.
    pub(super) fn read(&self) {
        let mut now = lock(&self.0);
        now.begun = true;
        if now.phase == Phase::Idle {
            (now.phase, now.since) = (Phase::Head, Instant::now());
        }
    }

    /// Whether a request has begun that is not there whole.
    pub(super) fn has_begun(&self) -> bool {
        lock(&self.0).begun
    }

    /// The whole answer is in the buffers.
    pub(super) fn hand_over(&self) {
        lock(&self.0).handed = true;
    }

    /// The answer that is being sent is a large one.
    fn set_large(&self) {
        lock(&self.0).large = true;
    }

    /// Reports whether a large answer is being sent.
    fn sends_large(&self) -> bool {
        let now = lock(&self.0);
        now.large && now.phase == Phase::Answer
    }

    /// All that was in the buffers is written.
    pub(super) fn flushed(&self) {
        let mut now = lock(&self.0);
        if now.handed && now.phase == Phase::Answer {
            (now.phase, now.since, now.handed) = (Phase::Idle, Instant::now(), false);
        }
    }
}

/// The connections that are open.
pub(super) struct Connections {
    max: usize,
    counters: Arc<Counters>,
    finishing: AtomicBool,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    next: u64,
    entries: HashMap<u64, Connection>,
    /// How many each has: all are asked for whenever one is closed.
    of_peer: HashMap<Peer, usize>,
}

impl Open {
    fn insert(&mut self, id: u64, connection: Connection) {
        *self.of_peer.entry(connection.peer).or_insert(0) += 1;
        self.entries.insert(id, connection);
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        let connection = self.entries.remove(&id)?;
        if let hash_map::Entry::Occupied(mut count) = self.of_peer.entry(connection.peer) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        Some(connection)
    }

    fn victim(&self) -> Option<u64> {
        victim(self.entries.iter().map(|(id, one)| {
            let of_peer = self.of_peer.get(&one.peer).copied().unwrap_or_default();
            (*id, of_peer, one.state.get())
        }))
    }

    /// The large answer that is missed the least, if more than `most` are being sent; never that of `newest`.
    fn large_victim(&self, most: usize, newest: &Arc<State>) -> Option<u64> {
        let large: Vec<_> =
            self.entries.iter().filter(|(_, one)| one.state.sends_large()).collect();
        if large.len() <= most {
            return None;
        }
        let of_peer = |peer| large.iter().filter(|(_, other)| other.peer == peer).count();
        let others = large.iter().filter(|(_, one)| !Arc::ptr_eq(&one.state, newest));
        victim(others.map(|(id, one)| (**id, of_peer(one.peer), one.state.get())))
    }
}

struct Connection {
    peer: Peer,
    state: Arc<State>,
    task: AbortHandle,
}

/// A connection's place among those that are open, until it is dropped.
pub(super) struct Entry {
    pub(super) peer: Peer,
    pub(super) state: Arc<State>,
    id: u64,
    counters: Arc<Counters>,
    open: Arc<Mutex<Open>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.counters.close();
        lock(&self.open).remove(self.id);
    }
}

impl Connections {
    /// None is open yet, and at most `max` may be, which is taken as at least 1.
    pub(super) fn new(max: usize, counters: Arc<Counters>) -> Self {
        Self { max: max.max(1), counters, finishing: AtomicBool::new(false), open: Arc::default() }
    }

    /// Opens one that `serve` serves, in a task; one that is open is closed for it if there are too many.
    pub(super) fn open<F>(&self, peer: Peer, serve: impl FnOnce(Entry) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut open = lock(&self.open);
        while open.entries.len() >= self.max && self.close_victim(&mut open) {}
        let id = open.next;
        open.next += 1;
        self.counters.accept();
        let state = Arc::new(State::new());
        let (counters, all) = (self.counters.clone(), self.open.clone());
        let task =
            tokio::spawn(serve(Entry { peer, state: state.clone(), id, counters, open: all }));
        open.insert(id, Connection { peer, state, task: task.abort_handle() });
    }

    /// Closes the one that is missed the least; none that is being answered.
    pub(super) fn close_one(&self) {
        let mut open = lock(&self.open);
        if open.entries.values().any(|connection| connection.state.get().0 < Phase::Answer) {
            self.close_victim(&mut open);
        }
    }

    /// A large answer is about to be sent on the connection of `state`; at most `most` are at the same time.
    pub(super) fn begin_large(&self, most: usize, state: &Arc<State>) {
        state.set_large();
        let mut open = lock(&self.open);
        while let Some(id) = open.large_victim(most.max(1), state) {
            self.close(&mut open, id);
        }
    }

    /// Whether one was closed.
    fn close_victim(&self, open: &mut Open) -> bool {
        open.victim().is_some_and(|id| self.close(open, id))
    }

    /// Closes one in favour of another. Whether there was such a connection.
    fn close(&self, open: &mut Open, id: u64) -> bool {
        let victim = open.remove(id);
        if let Some(victim) = &victim {
            victim.task.abort();
            self.counters.refuse(Refusal::Limit);
        }
        victim.is_some()
    }

    /// Closes those that are not being answered; the others are to close once they are.
    pub(super) fn finish(&self) {
        self.finishing.store(true, Relaxed);
        for connection in lock(&self.open).entries.values() {
            if connection.state.get().0 != Phase::Answer {
                connection.task.abort();
            }
        }
    }

    /// Whether connections are to be closed.
    pub(super) fn is_finishing(&self) -> bool {
        self.finishing.load(Relaxed)
    }

    /// Closes all.
    pub(super) fn abort(&self) {
        for connection in lock(&self.open).entries.values() {
            connection.task.abort();
        }
    }
}

/// Which of the connections is missed the least: by whether it has asked for something, then by how many its peer has,
/// then by how long it has been about what it is about.
fn victim(open: impl Iterator<Item = (u64, usize, (Phase, Instant))>) -> Option<u64> {
    let key = |(id, of_peer, (phase, since)): &(u64, usize, (Phase, Instant))| {
        // Whoever has come as far as TLS has not asked for more than who is about to.
        let phase = if *phase == Phase::Handshake { Phase::Head } else { *phase };
        (phase, Reverse(*of_peer), *since, *id)
    };
    open.min_by_key(key).map(|(id, ..)| id)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_one_missed_least_is_closed() {
        use Phase::{Answer, Handshake, Head, Idle};
        let start = Instant::now();
        // Who has it, what it is about, seconds since the start.
        type Connection = (u8, Phase, u64);
        // Those that there are, and which one is closed.
        let cases: [(&[Connection], u64); 7] = [
            (&[(1, Idle, 0), (1, Head, 2), (1, Head, 1)], 2),
            (&[(1, Head, 3), (1, Handshake, 0)], 1),
            (&[(1, Head, 0), (1, Handshake, 3)], 0),
            (&[(1, Answer, 0), (1, Idle, 5)], 1),
            // One who holds many, though another's is older.
            (&[(1, Idle, 0), (2, Idle, 2), (2, Idle, 1)], 2),
            // A scraper with two idle ones stays when many others with one each send nothing.
            (&[(1, Idle, 0), (1, Idle, 0), (2, Head, 4), (3, Head, 5)], 2),
            (&[(1, Answer, 1), (2, Answer, 0)], 1),
        ];
        for (open, expected) in cases {
            let states = open.iter().zip(0..).map(|(&(peer, phase, at), id)| {
                let of_peer = open.iter().filter(|(other, ..)| *other == peer).count();
                (id, of_peer, (phase, start + Duration::from_secs(at)))
            });
            assert_eq!(victim(states), Some(expected), "{open:?}");
        }
        assert_eq!(victim(std::iter::empty()), None);
    }
}
