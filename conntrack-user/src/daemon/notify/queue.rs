//! What is still to be told: of each namespace only the newest.

use std::collections::VecDeque;

use serde_json::Value;

use crate::model::reading::NetnsId;

/// A change that is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Of which namespace.
    pub netns: NetnsId,
    /// All of it.
    pub fields: Vec<(&'static str, Value)>,
}

/// They, the oldest first.
#[derive(Debug)]
pub(super) struct Queue {
    capacity: usize,
    messages: VecDeque<Message>,
}

/// What became of an older message when another one came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// There was room.
    Added,
    /// It took the place of an older one of its namespace.
    Superseded,
    /// There was no room: the oldest of another namespace went.
    Discarded,
}

impl Queue {
    /// With room for at least one.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), messages: VecDeque::new() }
    }

    pub(super) fn push(&mut self, message: Message) -> Pushed {
        if let Some(older) = self.messages.iter_mut().find(|older| older.netns == message.netns) {
            *older = message;
            return Pushed::Superseded;
        }
        let is_full = self.messages.len() >= self.capacity;
        if is_full {
            self.messages.pop_front();
        }
        self.messages.push_back(message);
        if is_full { Pushed::Discarded } else { Pushed::Added }
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        self.messages.pop_front()
    }

    /// Whether there is something newer of a namespace.
    pub(super) fn has(&self, netns: NetnsId) -> bool {
        self.messages.iter().any(|message| message.netns == netns)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(inode: u64, state: &str) -> Message {
        let netns = NetnsId { cookie: None, inode };
        Message { netns, fields: vec![("state", json!(state))] }
    }

    #[test]
    fn the_newest_of_a_namespace_takes_the_place_of_an_older_one() {
        let mut queue = Queue::new(2);
        let pushed = [(1, "a"), (2, "b"), (1, "c"), (3, "d")]
            .map(|(inode, state)| queue.push(message(inode, state)));
        assert_eq!(pushed, [Pushed::Added, Pushed::Added, Pushed::Superseded, Pushed::Discarded]);
        assert!(queue.has(NetnsId { cookie: None, inode: 2 }));
        assert!(!queue.has(NetnsId { cookie: None, inode: 1 }));
        assert_eq!(queue.pop(), Some(message(2, "b")));
        assert_eq!(queue.pop(), Some(message(3, "d")));
        assert_eq!(queue.pop(), None);
    }
}
