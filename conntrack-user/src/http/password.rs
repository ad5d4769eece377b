//! Basic authentication: users, and checks of what they say.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};

use ::http::{HeaderMap, header::AUTHORIZATION};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{hmac, rand::SystemRandom};
use tokio::sync::Semaphore;

use super::{listener::Peer, lock};

/// Checks that run or wait, of all peers and of each: a check takes some 50 ms at cost 10, twice that for each step.
const WAITING: usize = 16;
const WAITING_OF_PEER: usize = 4;

/// Who may ask; nobody is asked who they are if there is no user.
#[derive(Debug, Default)]
pub(super) struct Users {
    users: BTreeMap<String, User>,
    /// Of this process only, so that what is remembered of a password is of no use elsewhere.
    key: Option<hmac::Key>,
}

#[derive(Debug)]
struct User {
    /// By bcrypt.
    hash: Arc<str>,
    /// What is remembered of the password that was right, so that it is not checked at each request.
    right: Mutex<Option<hmac::Tag>>,
}

/// Whether a request says who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It does, or nobody is asked.
    Right,
    /// It does not.
    Wrong,
    /// That could not be checked: too many checks are waiting.
    Busy,
}

impl Users {
    /// Users by name, with the hashes of their passwords.
    pub(super) fn new(hashes: BTreeMap<String, String>) -> anyhow::Result<Self> {
        if hashes.is_empty() {
            return Ok(Self::default());
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| anyhow::anyhow!("the kernel gives no random numbers"))?;
        let user = |hash: String| User { hash: hash.into(), right: Mutex::new(None) };
        let users = hashes.into_iter().map(|(name, hash)| (name, user(hash))).collect();
        Ok(Self { users, key: Some(key) })
    }
}

/// Checks of passwords, one at a time and a bounded number that wait, for each takes a processor long.
pub(super) struct Checks {
    turn: Arc<Semaphore>,
    waiting: Mutex<HashMap<Peer, usize>>,
}

impl Default for Checks {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), waiting: Mutex::default() }
    }
}

impl Checks {
    /// Whether `headers` say who may ask.
    pub(super) async fn check(&self, users: &Users, peer: Peer, headers: &HeaderMap) -> Outcome {
        let Some(key) = &users.key else { return Outcome::Right };
        let Some((name, password)) = credentials(headers) else { return Outcome::Wrong };
        let user = users.users.get(&name);
        if user.is_some_and(|user| user.remembers(key, &password)) {
            return Outcome::Right;
        }
        // Whether there is such a user is not told by the time that it takes.
        let Some(hash) = user.or(users.users.values().next()).map(|user| user.hash.clone()) else {
            return Outcome::Wrong;
        };
        let Some(_place) = Place::take(&self.waiting, peer) else { return Outcome::Busy };
        let Ok(turn) = self.turn.clone().acquire_owned().await else { return Outcome::Busy };
        // Another request may have said the same meanwhile.
        if user.is_some_and(|user| user.remembers(key, &password)) {
            return Outcome::Right;
        }
        let tag = tag(key, &password);
        let check = tokio::task::spawn_blocking(move || {
            // Held until this is done, which goes on though the connection may be closed.
            let _turn = turn;
            bcrypt::verify(&password, &hash).unwrap_or(false)
        });
        match (check.await, user) {
            (Ok(true), Some(user)) => {
                *lock(&user.right) = Some(tag);
                Outcome::Right
            }
            (Ok(_), _) => Outcome::Wrong,
            (Err(_), _) => Outcome::Busy,
        }
    }
}

impl User {
    fn remembers(&self, key: &hmac::Key, password: &[u8]) -> bool {
        // In constant time.
        let is_right = |tag: &hmac::Tag| hmac::verify(key, password, tag.as_ref()).is_ok();
        lock(&self.right).as_ref().is_some_and(is_right)
    }
}

fn tag(key: &hmac::Key, password: &[u8]) -> hmac::Tag {
    hmac::sign(key, password)
}

/// A place among those that wait, until it is dropped.
struct Place<'a> {
    waiting: &'a Mutex<HashMap<Peer, usize>>,
    peer: Peer,
}

impl<'a> Place<'a> {
    /// None if there are too many already.
    fn take(waiting: &'a Mutex<HashMap<Peer, usize>>, peer: Peer) -> Option<Self> {
        let mut of = lock(waiting);
        let own = of.get(&peer).copied().unwrap_or(0);
        if own >= WAITING_OF_PEER || of.values().sum::<usize>() >= WAITING {
            return None;
        }
        of.insert(peer, own + 1);
        Some(Self { waiting, peer })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut of = lock(self.waiting);
        match of.get(&self.peer).copied() {
            Some(own) if own > 1 => of.insert(self.peer, own - 1),
            _ => of.remove(&self.peer),
        };
    }
}

/// User and password that a request names.
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let (scheme, coded) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let mut user = STANDARD.decode(coded.trim_start()).ok()?;
    let colon = user.iter().position(|byte| *byte == b':')?;
    let password = user.split_off(colon + 1);
    user.pop();
    Some((String::from_utf8(user).ok()?, password))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn credentials_are_read() {
        // `STANDARD.encode` of what is expected, and what is none.
        let cases = [
            ("Basic YWxpY2U6c2VjcmV0", Some(("alice", "secret"))),
            ("basic  YWxpY2U6YTpi", Some(("alice", "a:b"))),
            ("Basic Og==", Some(("", ""))),
            ("Basic YWxpY2U=", None),
            ("Basic ", None),
            ("Basic", None),
            ("Basic !!!", None),
            ("Bearer YWxpY2U6c2VjcmV0", None),
            ("", None),
        ];
        for (value, expected) in cases {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
            let expected = expected.map(|(user, password)| (user.to_owned(), password.into()));
            assert_eq!(credentials(&headers), expected, "{value}");
        }
        assert_eq!(credentials(&HeaderMap::new()), None);
    }

    #[test]
    fn few_wait_and_fewer_of_each_peer() {
        let waiting = Mutex::default();
        let peer = |number: usize| Some(Ipv4Addr::new(192, 0, 2, number as u8).into());
        let mut places = Vec::new();
        for number in 0..WAITING / WAITING_OF_PEER {
            let own = (0..WAITING_OF_PEER).map(|_| Place::take(&waiting, peer(number)).unwrap());
            places.extend(own);
            assert!(Place::take(&waiting, peer(number)).is_none());
        }
        assert!(Place::take(&waiting, peer(100)).is_none());
        places.pop();
        assert!(Place::take(&waiting, peer(100)).is_some());
        places.clear();
        assert!(lock(&waiting).is_empty());
    }
}
