//! The last minutes are sent to one client at a time, for each copy takes as much memory again.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use conntrack_user::{http::Client, lock::lock};

/// Time for which a client that was refused is expected to come back: three times `Retry-After`.
const WAITS: Duration = Duration::from_secs(30);
/// Clients that are remembered: those that wait, and those that had it last.
const MOST: usize = 16;

/// Right to be sent the last minutes, and who had it.
#[derive(Debug, Default)]
pub(super) struct Lease(Mutex<Clients>);

#[derive(Debug, Default)]
struct Clients {
    /// Reference that the lease's holder keeps.
    held: Arc<()>,
    /// Former holders, the latest at the end.
    past: VecDeque<Client>,
    /// Clients that were refused, with the time.
    refused: VecDeque<(Client, Instant)>,
}

impl Lease {
    /// Gives the lease to `client` until the returned reference is dropped. None while another client holds it, or while a
    /// client waits whose last lease is older: one client that asks again and again keeps nobody out.
    pub(super) fn take(&self, client: Client, now: Instant) -> Option<Arc<()>> {
        let mut clients = lock(&self.0);
        let Clients { held, past, refused } = &mut *clients;
        refused
            .retain(|(other, at)| *other != client && now.saturating_duration_since(*at) < WAITS);
        // The place of those that did not have it lately is before all others.
        let place = |client: &Client| past.iter().rposition(|other| other == client);
        let is_behind = refused.iter().any(|(other, _)| place(other) < place(&client));
        if Arc::strong_count(held) > 1 || is_behind {
            push(refused, (client, now));
            return None;
        }
        past.retain(|other| *other != client);
        push(past, client);
        Some(held.clone())
    }
}

/// Appends an entry, in the place of the oldest one if there are too many.
fn push<T>(entries: &mut VecDeque<T>, entry: T) {
    if entries.len() >= MOST {
        entries.pop_front();
    }
    entries.push_back(entry);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_had_it_lets_those_have_it_that_wait() {
        let client = |last| Client(Some([192, 0, 2, last].into()));
        let [a, b, c] = [client(1), client(2), client(3)];
        let (lease, start) = (Lease::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let take = |client, second| lease.take(client, at(second));
        let held = take(a, 0).unwrap();
        // The same client on another connection, too.
        assert!(take(a, 1).is_none() && take(b, 1).is_none());
        drop(held);
        // Another one waits.
        assert!(take(a, 2).is_none());
        drop(take(b, 3).unwrap());
        // Nor do two take turns while a third waits.
        let held = take(a, 4).unwrap();
        assert!(take(c, 5).is_none());
        drop(held);
        assert!(take(b, 6).is_none() && take(a, 6).is_none());
        drop(take(c, 7).unwrap());
        // Those that wait go before it, but not for ever.
        assert!(take(c, 8).is_none() && take(a, 8).is_none());
        drop(take(b, 9).unwrap());
        drop(take(a, 10).unwrap());
        assert!(take(a, 11).is_none());
        let held = take(a, 40).unwrap();
        for last in 0..100 {
            assert!(take(client(last), 50).is_none());
        }
        drop(held);
        for last in 0..100 {
            drop(take(client(last), 100));
        }
        let clients = lock(&lease.0);
        assert!(clients.past.len() <= MOST && clients.refused.len() <= MOST);
    }
}
