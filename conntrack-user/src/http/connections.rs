//! Which connections are open, and which one is closed when there are too many.

use std::{
    cmp::Reverse,
    collections::{HashMap, hash_map},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
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

/// Time after which a client that takes less than [`PROGRESS`] of its answer does not read it. A slow network takes that
/// much; who is slower is closed only where there are too many.
const STALL: Duration = Duration::from_millis(250);
/// Bytes that a client takes of an answer until it is looked anew whether it reads.
const PROGRESS: usize = 8 << 10;

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
    /// Since when bytes wait for the client to read, and how many it has taken since then.
    waits: Option<(Instant, usize)>,
    /// Requests so far.
    requests: u64,
}

impl State {
    fn new() -> Self {
        let since = Instant::now();
        let phase = Phase::Handshake;
        let (begun, handed, large, waits) = (false, false, false, None);
        Self(Mutex::new(Now { phase, since, begun, handed, large, waits, requests: 0 }))
    }

    /// For the choice of the one to close, at `now`.
    fn standing(&self, now: Instant) -> Standing {
        let state = lock(&self.0);
        let waits = state.waits.filter(|_| state.phase == Phase::Answer).map(|(since, _)| since);
        let stalls = waits.is_some_and(|since| now.saturating_duration_since(since) >= STALL);
        Standing { phase: state.phase, since: waits.unwrap_or(state.since), waits, stalls }
    }

    /// Since when bytes wait for the client to read, little of which it takes.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        lock(&self.0).waits.map(|(since, _)| since)
    }

    /// The kernel takes no more bytes until the client has read some.
    pub(super) fn wait(&self) {
        lock(&self.0).waits.get_or_insert_with(|| (Instant::now(), 0));
    }

    /// The kernel took so many bytes.
    pub(super) fn taken(&self, bytes: usize) {
        let mut now = lock(&self.0);
        if let Some((_, taken)) = &mut now.waits {
            *taken += bytes;
            if *taken >= PROGRESS {
                now.waits = None;
            }
        }
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

    /// A request is there whole. Which one it is, from 1 on. Where the answer to the one before waits to be written, its time
    /// goes on: else whoever sends many at once had as much for each.
    pub(super) fn request(&self) -> u64 {
        let mut now = lock(&self.0);
        if now.phase != Phase::Answer {
            (now.phase, now.since) = (Phase::Answer, Instant::now());
        }
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
        now.waits = None;
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

    fn victim(&self, max: usize) -> Option<u64> {
        let now = Instant::now();
        let of_peer = |peer| self.of_peer.get(peer).copied().unwrap_or_default();
        let open = self.entries.iter();
        let open = open.map(|(id, one)| (*id, of_peer(&one.peer), one.state.standing(now)));
        victim(&open.collect::<Vec<_>>(), max)
    }

    /// The large answer that is missed the least, if more than `most` are being sent; never that of `newest`.
    fn large_victim(&self, most: usize, newest: &Arc<State>) -> Option<u64> {
        let large: Vec<_> =
            self.entries.iter().filter(|(_, one)| one.state.sends_large()).collect();
        if large.len() <= most {
            return None;
        }
        let of_peer = |peer| large.iter().filter(|(_, other)| other.peer == peer).count();
        let now = Instant::now();
        let others = large.iter().filter(|(_, one)| !Arc::ptr_eq(&one.state, newest));
        let others = others.map(|(id, one)| (**id, of_peer(one.peer), one.state.standing(now)));
        victim(&others.collect::<Vec<_>>(), usize::MAX)
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
        open.victim(self.max).is_some_and(|id| self.close(open, id))
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

/// State of a connection, by which the one to close is chosen.
#[derive(Debug, Clone, Copy)]
struct Standing {
    phase: Phase,
    /// Since when it is in that phase; or since when its answer waits for the client, if it does.
    since: Instant,
    /// Since when its answer waits for the client.
    waits: Option<Instant>,
    /// Set if the client does not read its answer.
    stalls: bool,
}

/// Reasons to close a connection, in the order in which they count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// Connection that is complete.
    End,
    /// Client does not read its answer.
    Unread,
    /// Phase: an earlier one is closed first.
    Phase(Phase),
}

/// Index of the connection to close, where at most `max` may be open: number, connections of the same peer and
/// standing of each.
///
/// First a peer that has more than its share gives one up, which is a quarter; among its own, and else among all, it is by whether
/// somebody reads the answer and whether a request was sent, then by how many the peer has, then by how long it has been so.
///
/// Answers that wait for their readers have three quarters at the most: a new connection has time for its request in the rest,
/// of which as many are taken in a turn (`accept::AT_ONCE`).
fn victim(open: &[(u64, usize, Standing)], max: usize) -> Option<u64> {
    let waiting = open.iter().filter(|(_, _, standing)| standing.waits.is_some()).count();
    let too_many_wait = waiting > max - max.div_ceil(4);
    let reason = |standing: &Standing| match standing.phase {
        Phase::End => Reason::End,
        Phase::Answer if standing.stalls || too_many_wait && standing.waits.is_some() => {
            Reason::Unread
        }
        // Whoever has come as far as TLS has not asked for more than who is about to.
        Phase::Handshake => Reason::Phase(Phase::Head),
        phase => Reason::Phase(phase),
    };
    let key = |(id, of_peer, standing): &&(u64, usize, Standing)| {
        (reason(standing), Reverse(*of_peer), standing.since, *id)
    };
    let share = max.div_ceil(4);
    let has_too_many = |(_, of_peer, _): &&(u64, usize, Standing)| *of_peer > share;
    let of_those = open.iter().filter(has_too_many).min_by_key(key);
    of_those.or_else(|| open.iter().min_by_key(key)).map(|(id, ..)| *id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_missed_least_is_closed() {
        use Phase::{Answer, End, Handshake, Head, Idle};
        let start = Instant::now();
        // Who has it, what it is about, seconds since the start.
        type Connection = (u8, Phase, u64);
        // Those that there are, and which one is closed.
        let cases: [(&[Connection], u64); 8] = [
            (&[(1, Idle, 0), (1, Head, 2), (1, Head, 1)], 2),
            (&[(1, Head, 3), (1, Handshake, 0)], 1),
            (&[(1, Head, 0), (1, Handshake, 3)], 0),
            (&[(1, Answer, 0), (1, Idle, 5)], 1),
            // One who holds many, though another's is older.
            (&[(1, Idle, 0), (2, Idle, 2), (2, Idle, 1)], 2),
            // A scraper with two idle ones stays when many others with one each send nothing.
            (&[(1, Idle, 0), (1, Idle, 0), (2, Head, 4), (3, Head, 5)], 2),
            (&[(1, Answer, 1), (2, Answer, 0)], 1),
            (&[(1, End, 9), (2, Head, 0)], 0),
        ];
        for (open, expected) in cases {
            let standings = open.iter().map(|&(peer, phase, at)| {
                let since = start + Duration::from_secs(at);
                (peer, Standing { phase, since, waits: None, stalls: false })
            });
            assert_eq!(closed(&standings.collect::<Vec<_>>(), 128), Some(expected), "{open:?}");
        }
        assert_eq!(victim(&[], 128), None);
    }

    /// Index of the connection to close among these, each with its peer.
    fn closed(open: &[(u8, Standing)], max: usize) -> Option<u64> {
        let open = open.iter().zip(0..).map(|(&(peer, standing), id)| {
            (id, open.iter().filter(|(other, _)| *other == peer).count(), standing)
        });
        victim(&open.collect::<Vec<_>>(), max)
    }

    #[test]
    fn whoever_does_not_read_is_closed_before_who_asks() {
        use Phase::{Answer, Head, Idle};
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let about =
            |phase, second| Standing { phase, since: at(second), waits: None, stalls: false };
        let unread =
            |second, stalls| Standing { waits: Some(at(second)), stalls, ..about(Answer, second) };
        // Of the same peer, the one that waits for the longest time; and of others.
        let open = [(1, about(Head, 0)), (1, unread(2, true)), (1, unread(1, true))];
        assert_eq!(closed(&open, 128), Some(2));
        let open = [(1, about(Idle, 0)), (2, unread(3, true)), (3, about(Answer, 0))];
        assert_eq!(closed(&open, 128), Some(1));
        // One that is being read, but slowly, stays.
        let open = [(1, about(Head, 5)), (2, unread(0, false))];
        assert_eq!(closed(&open, 128), Some(0));
        // Until such ones leave no room for requests.
        let mut open: Vec<_> = (0..6).map(|peer| (peer, unread(peer.into(), false))).collect();
        open.extend([(7, about(Head, 0)), (8, about(Idle, 0))]);
        assert_eq!(closed(&open, 8), Some(6));
        open[7] = (8, unread(9, false));
        assert_eq!(closed(&open, 8), Some(0));
    }

    #[test]
    fn whoever_has_more_than_a_quarter_gives_up_its_own() {
        use Phase::{Answer, Head};
        let start = Instant::now();
        let about = |phase| Standing { phase, since: start, waits: None, stalls: false };
        let mut open = vec![(1, about(Head)), (2, about(Answer)), (2, about(Answer))];
        assert_eq!(closed(&open, 8), Some(0));
        open.push((2, about(Answer)));
        assert_eq!(closed(&open, 8), Some(1));
    }

    #[test]
    fn a_client_reads_while_it_takes_bytes() {
        let state = State::new();
        state.request();
        let later = || Instant::now() + STALL;
        assert!(!state.standing(later()).stalls);
        state.wait();
        assert!(!state.standing(Instant::now() - STALL).stalls && state.standing(later()).stalls);
        // A few bytes are none.
        state.taken(PROGRESS - 1);
        state.wait();
        assert!(state.standing(later()).stalls);
        state.taken(1);
        assert!(!state.standing(later()).stalls);
        state.wait();
        state.hand_over();
        state.flushed();
        assert!(!state.standing(later()).stalls && state.get().0 == Phase::Idle);
    }

    #[test]
    fn requests_that_come_at_once_have_the_time_of_one() {
        let state = State::new();
        state.request();
        let (_, since) = state.get();
        state.hand_over();
        // The answer is not written yet.
        state.request();
        assert_eq!(state.get(), (Phase::Answer, since));
        state.hand_over();
        state.flushed();
        state.request();
        assert!(state.get().1 > since);
    }
}
