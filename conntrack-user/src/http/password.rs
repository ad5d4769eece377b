//! Basic authentication: users, and checks of what they say.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
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

/// Bytes of a password that bcrypt reads. It ignores the rest, so a longer one would be as good as its beginning.
const PASSWORD_BYTES: usize = 72;

/// Who may ask; nobody is asked who they are if there is no user.
#[derive(Debug, Default)]
pub(super) struct Users {
    users: BTreeMap<String, User>,
    /// Hash with the highest cost of all, which a user that there is not is checked against.
    costliest: Option<Hash>,
    /// Of this process only, so that what is remembered of a password is of no use elsewhere.
    key: Option<hmac::Key>,
}

/// A hash by bcrypt.
#[derive(Debug, Clone)]
struct Hash {
    text: Arc<str>,
    /// Base 2 logarithm of its rounds, 4 to 31.
    cost: u32,
}

#[derive(Debug)]
struct User {
    hash: Hash,
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
    /// Its password has more than [`PASSWORD_BYTES`].
    TooLong,
    /// That could not be checked: too many checks are waiting.
    Busy,
}

impl Users {
    /// Users by name, with the hashes of their passwords.
    ///
    /// # Errors
    /// A text that is no hash by bcrypt, and a kernel without random numbers.
    pub(super) fn new(hashes: BTreeMap<String, String>) -> anyhow::Result<Self> {
        if hashes.is_empty() {
            return Ok(Self::default());
        }
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| anyhow::anyhow!("the kernel gives no random numbers"))?;
        let user = |(name, text): (String, String)| {
            let cost = text.parse::<bcrypt::HashParts>()?.get_cost();
            let hash = Hash { text: text.into(), cost };
            Ok((name, User { hash, right: Mutex::new(None) }))
        };
        let users: BTreeMap<String, User> =
            hashes.into_iter().map(user).collect::<anyhow::Result<_>>()?;
        let costliest = users.values().map(|user| &user.hash).max_by_key(|hash| hash.cost).cloned();
        Ok(Self { users, costliest, key: Some(key) })
    }

    /// Reports whether nobody is asked who they are.
    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty()
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
        if password.len() > PASSWORD_BYTES {
            return Outcome::TooLong;
        }
        let Some(costliest) = users.costliest.clone() else { return Outcome::Wrong };
        let hash = user.map_or_else(|| costliest.clone(), |user| user.hash.clone());
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
            let is_right = bcrypt::verify(&password, &hash.text).unwrap_or(false);
            // Whether there is such a user is not told by the time that it takes.
            for cost in costs_in_vain(is_right, hash.cost, costliest.cost) {
                // The result is of no use; a hash of this cost can always be made.
                let _ = std::hint::black_box(bcrypt::hash_with_salt(&password, cost, [0; 16]));
            }
            is_right
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

/// Costs of the hashes that are made after a check at `cost` has failed. With them it takes as long as one at `highest`: each
/// step of the cost doubles the time, and 2^c + 2^c + 2^(c+1) + ... + 2^(h-1) is 2^h.
fn costs_in_vain(is_right: bool, cost: u32, highest: u32) -> Range<u32> {
    if is_right { cost..cost } else { cost..highest }
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

    fn users(hashes: &[(&str, u32)]) -> Users {
        let hash = |cost| bcrypt::hash("secret", cost).unwrap();
        let hashes = hashes.iter().map(|(name, cost)| ((*name).to_owned(), hash(*cost)));
        Users::new(hashes.collect()).unwrap()
    }

    fn login(name: &str, password: &str) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn a_wrong_password_takes_the_same_work_for_every_user_and_for_none() {
        let users = users(&[("alice", 4), ("bob", 7), ("carol", 5)]);
        let highest = users.costliest.as_ref().unwrap().cost;
        assert_eq!(highest, 7);
        for name in ["alice", "bob", "carol", "nobody"] {
            let cost = users.users.get(name).map_or(highest, |user| user.hash.cost);
            let work = |costs: Range<u32>| costs.map(|cost| 1_u64 << cost).sum::<u64>();
            assert_eq!((1 << cost) + work(costs_in_vain(false, cost, highest)), 1 << 7, "{name}");
            assert!(costs_in_vain(true, cost, highest).is_empty(), "{name}");
        }
    }

    #[tokio::test]
    async fn a_password_that_bcrypt_would_cut_is_refused() {
        let (longest, checks) = ("x".repeat(PASSWORD_BYTES), Checks::default());
        let hash = bcrypt::hash(&longest, 4).unwrap();
        let users = Users::new(BTreeMap::from([("alice".to_owned(), hash)])).unwrap();
        for (password, expected) in [
            (longest.clone(), Outcome::Right),
            (format!("{longest}y"), Outcome::TooLong),
            (longest.replacen('x', "y", 1), Outcome::Wrong),
        ] {
            let outcome = checks.check(&users, None, &login("alice", &password)).await;
            assert_eq!(outcome, expected, "{password}");
        }
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
