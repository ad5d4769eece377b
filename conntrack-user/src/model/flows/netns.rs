//! Cookies of namespaces as small numbers.

use std::collections::HashMap;

/// Namespaces that flows live in.
#[derive(Debug, Clone, Default)]
pub(super) struct Namespaces {
    slots: Vec<Slot>,
    by_cookie: HashMap<u64, u16>,
    free: Vec<u16>,
    /// Where the last one was found: most events come in runs.
    last: Option<(u64, u16)>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    cookie: u64,
    flows: u32,
}

/// Stands for any namespace beyond those that a number can tell apart.
const BEYOND: u16 = u16::MAX;
/// Stands for none: a flow that has not entered its namespace.
pub(super) const NO_NETNS: u16 = BEYOND;

impl Namespaces {
    /// A flow more; the number of its namespace.
    pub(super) fn enter(&mut self, cookie: u64) -> u16 {
        let index = match self.find(cookie) {
            Some(index) => index,
            None => self.add(cookie),
        };
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            slot.flows += 1;
        }
        self.last = Some((cookie, index));
        index
    }

    /// A flow less. The number of a namespace without flows is used again.
    pub(super) fn leave(&mut self, index: u16) {
        let Some(slot) = self.slots.get_mut(usize::from(index)) else { return };
        slot.flows = slot.flows.saturating_sub(1);
        if slot.flows == 0 {
            self.by_cookie.remove(&slot.cookie);
            self.free.push(index);
            self.last = None;
        }
    }

    /// The number of a namespace that has flows.
    pub(super) fn find(&self, cookie: u64) -> Option<u16> {
        match self.last {
            Some((last, index)) if last == cookie => Some(index),
            _ => self.by_cookie.get(&cookie).copied(),
        }
    }

    /// The cookie of a number; none beyond those that are told apart.
    pub(super) fn cookie(&self, index: u16) -> Option<u64> {
        self.slots.get(usize::from(index)).map(|slot| slot.cookie)
    }

    /// Flows in the namespace with this cookie.
    pub(super) fn flows(&self, cookie: u64) -> u32 {
        let slot = self.find(cookie).and_then(|index| self.slots.get(usize::from(index)));
        slot.map_or(0, |slot| slot.flows)
    }

    fn add(&mut self, cookie: u64) -> u16 {
        let slot = Slot { cookie, flows: 0 };
        let index = match self.free.pop() {
            Some(index) => index,
            None => match u16::try_from(self.slots.len()) {
                Ok(index) if index < BEYOND => {
                    self.slots.push(slot);
                    index
                }
                _ => return BEYOND,
            },
        };
        if let Some(free) = self.slots.get_mut(usize::from(index)) {
            *free = slot;
        }
        self.by_cookie.insert(cookie, index);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_when_no_flow_is_left() {
        let mut namespaces = Namespaces::default();
        assert_eq!((namespaces.enter(70), namespaces.enter(80), namespaces.enter(70)), (0, 1, 0));
        assert_eq!((namespaces.flows(70), namespaces.flows(71)), (2, 0));
        namespaces.leave(0);
        assert_eq!(namespaces.find(70), Some(0));
        namespaces.leave(0);
        assert_eq!((namespaces.find(70), namespaces.enter(90)), (None, 0));
        assert_eq!((namespaces.cookie(0), namespaces.cookie(BEYOND)), (Some(90), None));
    }

    #[test]
    fn too_many_share_a_number() {
        let mut namespaces = Namespaces::default();
        for cookie in 0..u64::from(BEYOND) {
            assert_eq!(u64::from(namespaces.enter(cookie)), cookie);
        }
        assert_eq!(namespaces.enter(1 << 40), BEYOND);
        namespaces.leave(BEYOND);
        namespaces.leave(7);
        assert_eq!(namespaces.enter(1 << 40), 7);
    }
}
