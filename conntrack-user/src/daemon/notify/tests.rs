//! The thread, its retries and what it says.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::{daemon::log::tests::Written, model::reading::NetnsId};

/// Fails as often as it is told to, and hands out what it was told.
struct Scripted {
    outcomes: Mutex<Receiver<Result<(), Failure>>>,
    told: Sender<Message>,
}

impl Target for Scripted {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn deliver(&self, message: &Message, _: &dyn Fn() -> bool) -> Result<(), Failure> {
        self.told.send(message.clone()).unwrap();
        self.outcomes.lock().unwrap().recv().unwrap_or(Ok(()))
    }
}

fn message(inode: u64, state: &str) -> Message {
    Message { netns: NetnsId { cookie: None, inode }, fields: vec![("state", json!(state))] }
}

fn failure(why: &str) -> Result<(), Failure> {
    Err(Failure { why: why.into(), is_temporary: true })
}

/// What a test holds: it says what becomes of each attempt, and sees what was told.
struct Bench {
    notifier: Notifier,
    outcomes: Sender<Result<(), Failure>>,
    told: Receiver<Message>,
    written: Written,
}

fn bench(retry: Retry) -> Bench {
    let (outcomes, script) = channel();
    let (tell, told) = channel();
    let written = Written::default();
    let target = Scripted { outcomes: Mutex::new(script), told: tell };
    let notifier = Notifier::start(Box::new(target), retry, written.logger()).unwrap();
    Bench { notifier, outcomes, told, written }
}

const QUICK: Retry = Retry { attempts: 3, first_seconds: 0.001, longest_seconds: 0.001 };
const SLOW: Retry = Retry { attempts: 3, first_seconds: 3600.0, longest_seconds: 3600.0 };
const GRACE: Duration = Duration::from_secs(10);

/// The messages after the time and the level.
fn said(written: &Written) -> Vec<String> {
    let lines = written.lines();
    lines.iter().map(|line| line.split(' ').skip(1).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn what_fails_is_told_again_and_failures_are_said_once() {
    let bench = bench(QUICK);
    for outcome in [failure("down"), failure("down"), Ok(())] {
        bench.outcomes.send(outcome).unwrap();
    }
    drop(bench.outcomes);
    bench.notifier.push(message(1, "critical"));
    let told: Vec<Message> = (0..3).map(|_| bench.told.recv().unwrap()).collect();
    assert_eq!(told, vec![message(1, "critical"); 3]);
    bench.notifier.close(GRACE);
    assert_eq!(
        said(&bench.written),
        [
            "error the webhook fails: down; nothing more is said of it until it works again \
             target=webhook error=down",
            "notice the webhook works again target=webhook failed_attempts=2",
        ]
    );
}

#[test]
fn what_nobody_takes_is_given_up() {
    let bench = bench(QUICK);
    let refused = Err(Failure { why: "404".into(), is_temporary: false });
    let outcomes = [failure("a"), failure("b"), failure("c"), refused, Ok(())];
    for outcome in outcomes {
        bench.outcomes.send(outcome).unwrap();
    }
    for inode in [1, 2, 3] {
        bench.notifier.push(message(inode, "critical"));
    }
    let told: Vec<u64> = (0..5).map(|_| bench.told.recv().unwrap().netns.inode).collect();
    assert_eq!(told, [1, 1, 1, 2, 3]);
    assert!(bench.notifier.shared.lock().counts.delivered <= 1);
    let shared = Arc::clone(&bench.notifier.shared);
    bench.notifier.close(GRACE);
    let counts = shared.lock().counts;
    let expected = Counts { delivered: 1, given_up: 2, failed_attempts: 4, ..Counts::default() };
    assert_eq!(counts, expected);
}

#[test]
fn something_newer_of_the_namespace_ends_the_wait() {
    let bench = bench(SLOW);
    bench.outcomes.send(failure("down")).unwrap();
    drop(bench.outcomes);
    bench.notifier.push(message(1, "critical"));
    bench.told.recv().unwrap();
    // It waits an hour now, unless there is something newer.
    bench.notifier.push(message(2, "critical"));
    bench.notifier.push(message(1, "ok"));
    let told = [bench.told.recv().unwrap(), bench.told.recv().unwrap()];
    assert_eq!(told, [message(2, "critical"), message(1, "ok")]);
    let shared = Arc::clone(&bench.notifier.shared);
    bench.notifier.close(GRACE);
    let counts = shared.lock().counts;
    assert_eq!((counts.superseded, counts.delivered, counts.given_up), (1, 2, 0));
}

#[test]
fn what_waits_at_the_end_is_told_once() {
    let bench = bench(SLOW);
    bench.outcomes.send(failure("down")).unwrap();
    drop(bench.outcomes);
    bench.notifier.push(message(1, "critical"));
    bench.told.recv().unwrap();
    bench.notifier.push(message(2, "critical"));
    bench.notifier.close(GRACE);
    assert_eq!(bench.told.try_recv().unwrap().netns.inode, 2);
    assert!(bench.told.try_recv().is_err());
}

#[test]
fn another_target_is_told_what_waits() {
    let bench = bench(SLOW);
    bench.outcomes.send(failure("down")).unwrap();
    bench.notifier.push(message(1, "critical"));
    bench.told.recv().unwrap();
    // It waits an hour now.
    let (tell, told) = channel();
    let (_, script) = channel();
    let other = Scripted { outcomes: Mutex::new(script), told: tell };
    bench.notifier.revise(Box::new(other), QUICK);
    assert_eq!(told.recv().unwrap(), message(1, "critical"));
    bench.notifier.push(message(2, "critical"));
    assert_eq!(told.recv().unwrap(), message(2, "critical"));
    let shared = Arc::clone(&bench.notifier.shared);
    bench.notifier.close(GRACE);
    assert!(bench.told.try_recv().is_err());
    let expected = Counts { delivered: 2, failed_attempts: 1, ..Counts::default() };
    assert_eq!(shared.lock().counts, expected);
}
