//! Looks for network namespaces: when the next one is due, and what it changes.

use std::time::{Duration, Instant};

use super::{Live, listening};
use crate::model::reading::NetnsId;

/// Between two looks for new namespaces, at least.
const SCAN_EVERY: Duration = Duration::from_secs(5);
/// The same when a namespace counts that was not found yet.
const SCAN_SOON: Duration = Duration::from_millis(500);
/// The same while namespaces are listened to: a socket keeps one alive in which nobody is any more.
const SCAN_LISTENING: Duration = Duration::from_secs(1);
/// The longest time between two looks, and how much longer than a look it is, also where namespaces come and go: a look at 5,000
/// processes takes some 40 ms, and all looks together are to take half a per cent of a CPU at most.
const SCAN_LONGEST: Duration = Duration::from_secs(30);
const SCAN_SHARE: u32 = 200;
/// Least duration of a look that counts, and how much longer than the one before it counts at most: a machine that stands still
/// for a moment is no reason to look rarely.
const SCAN_LEAST: Duration = Duration::from_millis(1);
const SCAN_GROWTH: u32 = 2;

impl Live {
    /// Looks for namespaces where a look is due.
    pub(super) fn scan_when_due(&mut self) {
        let due = self.last_scan.elapsed();
        // One that could not be found the first time is left to the regular scan.
        let is_new = self.slots.has_new() || self.has_ended;
        let every = match self.counter.listeners() {
            _ if is_new => SCAN_SOON,
            Some(_) => SCAN_LISTENING,
            None => SCAN_EVERY,
        };
        if due >= every.max((self.scan_time * SCAN_SHARE).min(SCAN_LONGEST)) {
            self.last_scan = Instant::now();
            self.has_ended = false;
            self.slots.forget_new();
            self.scans += 1;
            let ended = self.scan();
            let longest = self.scan_time.max(SCAN_LEAST) * SCAN_GROWTH;
            self.scan_time = self.last_scan.elapsed().min(longest);
            // One with a slot is told by the programs, after its last count.
            let gone = ended.into_iter().filter(|netns| match netns.cookie {
                Some(cookie) => self.slots.of_cookie(cookie).is_none(),
                None => self.slots.of_inode(netns.inode).is_none(),
            });
            for netns in gone {
                let id = NetnsId { cookie: netns.cookie, inode: netns.inode };
                self.failed.remove(&id);
                self.gone.push(id);
            }
            if let Some(listeners) = self.counter.listeners_mut() {
                let access = self.access.as_ref();
                listening::follow(listeners, access, &self.namespaces, self.selection, self.own);
            }
        }
    }
}
