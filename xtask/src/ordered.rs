//! Several jobs at a time whose output reads as if they had run one after another.

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
};

use anyhow::{Context as _, Result};

use crate::process::Sink;

enum Message<R> {
    Output(Vec<u8>),
    Done(R),
}

/// Runs the work on every item, at most `jobs` at a time, and returns what came out in the order of the items. The
/// first job that is not done is printed while it runs, what the later ones write when it is their turn.
pub(crate) fn run<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(&T, Sink<'_>) -> R + Sync,
    mut print: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let (sender, messages) = channel();
    let mut held: Vec<Vec<u8>> = items.iter().map(|_| Vec::new()).collect();
    let mut results: Vec<Option<R>> = items.iter().map(|_| None).collect();
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, items.len().max(1)) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while let Some((index, item)) = next_item(items, next) {
                    let mut write = |bytes: &[u8]| {
                        let message = Message::Output(bytes.to_vec());
                        sender.send((index, message)).ok().context("nobody reads the output")
                    };
                    let result = work(item, &mut write);
                    // The other end is gone only if printing has failed.
                    let _ = sender.send((index, Message::Done(result)));
                }
            });
        }
        drop(sender);
        let mut turn = 0;
        for (index, message) in messages {
            match (message, held.get_mut(index), results.get_mut(index)) {
                (Message::Output(bytes), _, _) if index == turn => print(&bytes)?,
                (Message::Output(bytes), Some(held), _) => held.extend(bytes),
                (Message::Done(result), _, Some(place)) => *place = Some(result),
                _ => {}
            }
            while results.get(turn).is_some_and(Option::is_some) {
                turn += 1;
                if let Some(held) = held.get_mut(turn) {
                    print(&std::mem::take(held))?;
                }
            }
        }
        Ok::<_, anyhow::Error>(())
    })?;
    results.into_iter().collect::<Option<Vec<R>>>().context("a job gave no result")
}

fn next_item<'a, T>(items: &'a [T], next: &AtomicUsize) -> Option<(usize, &'a T)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, items.get(index)?))
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, time::Duration};

    use super::*;

    #[test]
    fn output_and_results_are_in_order() {
        let mut printed = Vec::new();
        // The sooner, the longer it takes.
        let work = |item: &u64, write: Sink<'_>| {
            for part in ["a", "b\n"] {
                thread::sleep(Duration::from_millis(20 / item));
                write(format!("{item}{part}").as_bytes()).unwrap();
            }
            item * 10
        };
        for jobs in [1, 2, 9] {
            printed.clear();
            let results = run(&[1, 2, 3, 4], jobs, work, |bytes| {
                printed.extend_from_slice(bytes);
                Ok(())
            });
            assert_eq!(results.unwrap(), [10, 20, 30, 40]);
            assert_eq!(String::from_utf8_lossy(&printed), "1a1b\n2a2b\n3a3b\n4a4b\n");
        }
    }

    #[test]
    fn jobs_run_at_the_same_time() {
        // Nobody passes it alone.
        let together = Barrier::new(2);
        let results = run(&[(), ()], 2, |_, _| together.wait().is_leader(), |_| Ok(())).unwrap();
        assert_eq!(results.iter().filter(|leader| **leader).count(), 1);
    }

    #[test]
    fn no_items_are_no_work() {
        assert!(run(&[(); 0], 2, |_, _| (), |_| Ok(())).unwrap().is_empty());
    }

    #[test]
    fn a_reader_that_is_gone_ends_the_jobs() {
        let work = |_: &u8, write: Sink<'_>| while write(b"x").is_ok() {};
        assert!(run(&[1, 2], 2, work, |_| anyhow::bail!("closed")).is_err());
    }
}
