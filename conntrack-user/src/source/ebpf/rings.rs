//! The ring buffers, read as one.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use anyhow::Result;
use aya::maps::{MapData, RingBuf};

use super::{Drained, flow, maps::Maps};
use crate::model::flow::FlowEvent;

/// The names of the rings that events come through, of which the first ones are used.
pub(super) const EVENTS: [&str; conntrack_ebpf::RINGS] =
    ["EVENTS", "EVENTS_1", "EVENTS_2", "EVENTS_3", "EVENTS_4", "EVENTS_5", "EVENTS_6", "EVENTS_7"];

/// Time that a program takes from reading the clock to handing its record over, at most.
const IN_HAND_NS: u64 = 1_000_000;

/// How many rings a machine with `cpus` possible CPUs gets: up to 16 CPUs share one.
#[must_use]
pub(super) fn number(cpus: u32) -> u32 {
    (cpus / 16).clamp(1, EVENTS.len() as u32).next_power_of_two().min(EVENTS.len() as u32)
}

/// The rings of events, in the order of time: an entry may be inserted on one CPU and deleted on another.
pub(super) struct Rings {
    rings: Vec<Ring>,
}

struct Ring {
    ring: RingBuf<MapData>,
    /// The oldest event of it, once it is taken out.
    head: Option<FlowEvent>,
}

impl Rings {
    /// The first `number` rings.
    pub(super) fn new(maps: &Maps, number: u32) -> Result<Self> {
        let names = EVENTS.iter().take(number as usize);
        let rings = names.map(|name| Ok(Ring { ring: maps.ring(name)?, head: None }));
        Ok(Self { rings: rings.collect::<Result<_>>()? })
    }

    /// Descriptors that are readable when a ring should be drained before its time.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.rings.iter().map(|ring| {
            // SAFETY: the ring keeps its map's descriptor open as long as it lives.
            unsafe { BorrowedFd::borrow_raw(ring.ring.as_raw_fd()) }
        })
    }

    /// Hands at most `limit` waiting events to `take`. Fewer were there if fewer were received. `now_ns`
    /// is `CLOCK_MONOTONIC`, read before.
    pub(super) fn drain(
        &mut self,
        limit: u64,
        now_ns: u64,
        mut take: impl FnMut(FlowEvent),
    ) -> Drained {
        let mut drained = Drained::default();
        if let [only] = &mut self.rings[..] {
            while drained.received < limit && only.fill(&mut drained) {
                only.head.take().into_iter().for_each(&mut take);
            }
            return drained;
        }
        // What is younger may come after what another CPU has in hand.
        let horizon = now_ns.saturating_sub(IN_HAND_NS);
        while drained.received < limit {
            for ring in &mut self.rings {
                if ring.head.is_none() {
                    ring.fill(&mut drained);
                }
            }
            let time = |ring: &Ring| ring.head.as_ref().map(|event| event.time_ns);
            let oldest = self
                .rings
                .iter_mut()
                .filter(|ring| time(ring).is_some_and(|time| time <= horizon))
                .min_by_key(|ring| time(ring));
            let Some(event) = oldest.and_then(|ring| ring.head.take()) else {
                break;
            };
            take(event);
        }
        drained
    }
}

impl Ring {
    /// Takes records out until one is an event. Whether one is.
    fn fill(&mut self, drained: &mut Drained) -> bool {
        while let Some(record) = self.ring.next() {
            drained.received += 1;
            match flow::decode(&record) {
                Ok(event) => {
                    self.head = Some(event);
                    return true;
                }
                Err(_) => drained.malformed += 1,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_cpus_share_a_few_rings() {
        for (cpus, rings) in
            [(1, 1), (16, 1), (31, 1), (32, 2), (64, 4), (96, 8), (128, 8), (512, 8)]
        {
            assert_eq!(number(cpus), rings, "{cpus} CPUs");
        }
    }
}
