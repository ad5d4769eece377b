//! Reads the windows in which the programs count.

use std::{
    collections::{HashMap, HashSet},
    mem::offset_of,
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::maps::{MapData, Queue};
use conntrack_ebpf::{
    Bucket, Clock, NetnsWindows, SLOTS, WINDOWS, Windows as OneWindows, window_slots,
};
use zerocopy::FromZeros as _;

use super::{mapped::Mapped, maps::Maps};
use crate::model::windows::{Pile, Windows};

/// What a window is to be as long as, nearly.
const WIDTH: Duration = Duration::from_millis(10);

/// Length of a jiffy. The coarse clocks advance once a jiffy (`posix_get_coarse_res`,
/// kernel/time/posix-timers.c).
#[must_use]
pub(super) fn jiffy() -> Option<Duration> {
    let mut resolution = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes the structure that it is given.
    let result = unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &raw mut resolution) };
    let nanoseconds = u64::try_from(resolution.tv_nsec).ok().filter(|ns| result == 0 && *ns > 0)?;
    Some(Duration::from_nanos(nanoseconds))
}

/// Jiffies in a window: as many as come nearest to [`WIDTH`], the lower number of two that do.
#[must_use]
pub(super) fn jiffies(jiffy: Duration) -> u32 {
    let [width, jiffy] = [WIDTH, jiffy].map(|span| span.as_nanos() as u64);
    ((2 * width + jiffy - 1) / (2 * jiffy)).max(1) as u32
}

/// Lets the programs use all places.
pub(super) fn begin(maps: &Maps, cpus: u32) -> Result<()> {
    maps.fill("FREE_WINDOWS", 1..=window_slots(cpus))
}

/// The windows of those namespaces that have a place for them.
pub(super) struct Reader {
    windows: Mapped<NetnsWindows>,
    /// The place of each slot, counted from 1.
    place_of: Mapped<u32>,
    free: Queue<MapData, u32>,
    /// Writers of a place: CPUs, and copies of a program on each.
    writers: usize,
    jiffy_ns: u64,
    window_jiffies: u64,
    /// `CLOCK_MONOTONIC` when `jiffies_64` was 0: long before the start, because it begins five minutes
    /// before its lower half wraps (`INITIAL_JIFFIES`, include/linux/jiffies.h).
    epoch_ns: Option<i64>,
    /// The first window that was not read yet.
    next: Option<u64>,
    piles: HashMap<u32, Kept>,
    /// Places taken from idle slots, to be given to others once no program can be writing there.
    freed: Vec<u32>,
}

/// The windows of a slot.
#[derive(Debug, Default)]
struct Kept {
    place: u32,
    pile: Pile,
}

impl Reader {
    /// Maps them. `copies`: of the programs that count by windows.
    pub(super) fn new(maps: &Maps, cpus: u32, copies: u32, jiffy: Duration) -> Result<Self> {
        let places = window_slots(cpus);
        let writers = cpus * copies;
        Ok(Self {
            windows: Mapped::new(maps, "WINDOWS_OF", (places * writers) as usize)?,
            place_of: Mapped::new(maps, "WINDOW_SLOT", SLOTS as usize)?,
            free: maps.queue("FREE_WINDOWS")?,
            writers: writers as usize,
            jiffy_ns: jiffy.as_nanos() as u64,
            window_jiffies: jiffies(jiffy).into(),
            epoch_ns: None,
            next: None,
            piles: HashMap::new(),
            freed: Vec::new(),
        })
    }

    /// Length of a window in nanoseconds.
    fn width_ns(&self) -> u64 {
        self.jiffy_ns * self.window_jiffies
    }

    /// Takes in the windows that have ended. `busy`: slots in which something is counted lately. At `clock`,
    /// which was read just now.
    pub(super) fn update(&mut self, busy: &HashSet<u32>, clock: Clock) {
        let epoch = clock.monotonic_ns as i64 - (clock.jiffies * self.jiffy_ns) as i64;
        // A jiffy ends before its number is seen, so the lowest is nearest.
        self.epoch_ns = Some(self.epoch_ns.map_or(epoch, |before| before.min(epoch)));
        let now = clock.jiffies / self.window_jiffies;
        let next = self.next.unwrap_or(now);
        // One that has just ended may still be written to.
        let end = now.saturating_sub(1).max(next);
        self.next = Some(end);
        self.find_places(busy);
        let width_ns = self.width_ns();
        let epoch_ns = self.epoch_ns.unwrap_or(epoch);
        let start_of = |window: u64| (epoch_ns + (window * width_ns) as i64).max(0) as u64;
        // The oldest one that no later one can have overwritten.
        let oldest = (now + 2).saturating_sub(WINDOWS as u64).clamp(next, end);
        for kept in self.piles.values_mut() {
            if oldest > next {
                kept.pile.miss(oldest - next);
            }
            let counts = read(&self.windows, kept.place, self.writers, oldest, end);
            for (window, [inserts, deletes]) in (oldest..end).zip(counts) {
                kept.pile.push(start_of(window), width_ns, inserts, deletes);
            }
        }
    }

    /// Follows what the programs gave to new slots, and gives places of idle slots to busy ones without.
    fn find_places(&mut self, busy: &HashSet<u32>) {
        let mut without: Vec<u32> = Vec::new();
        for slot in busy {
            match self.place_of.read(*slot as usize) {
                0 => without.push(*slot),
                place => self.piles.entry(*slot).or_default().place = place,
            }
        }
        if without.is_empty() {
            return;
        }
        without.sort_unstable();
        for slot in &without {
            let Some(place) = self.freed.pop() else { break };
            self.clear(place);
            self.place_of.write(*slot as usize, place);
            self.piles.insert(*slot, Kept { place, pile: Pile::default() });
        }
        let mut idle: Vec<u32> =
            self.piles.keys().filter(|slot| !busy.contains(slot)).copied().collect();
        idle.sort_unstable();
        idle.truncate(without.len().saturating_sub(self.freed.len()));
        let freed: Vec<u32> = idle.into_iter().filter_map(|slot| self.let_go(slot)).collect();
        self.freed.extend(freed);
    }

    /// Takes the place of `slot` away.
    fn let_go(&mut self, slot: u32) -> Option<u32> {
        self.piles.remove(&slot);
        let place = self.place_of.read(slot as usize);
        self.place_of.write(slot as usize, 0);
        (place != 0).then_some(place)
    }

    fn clear(&self, place: u32) {
        let first = (place as usize - 1) * self.writers;
        for index in first..first + self.writers {
            self.windows.write(index, NetnsWindows::new_zeroed());
        }
    }

    /// Gives back the place of a slot whose namespace has ended.
    ///
    /// # Errors
    /// Those of bpf(2).
    pub(super) fn release(&mut self, slot: u32) -> Result<()> {
        if let Some(place) = self.let_go(slot) {
            self.clear(place);
            self.free.push(place, 0).context("cannot give windows back")?;
        }
        Ok(())
    }

    /// The windows of `slot` since the last call; none where it has no place. `unix_ns`: what to add to
    /// `CLOCK_MONOTONIC` for nanoseconds since 1970.
    pub(super) fn take(&mut self, slot: u32, unix_ns: i64) -> Option<Windows> {
        let kept = self.piles.get_mut(&slot)?;
        Some(kept.pile.take(unix_ns)).filter(|windows| windows.number > 0)
    }
}

/// Inserts and deletes in the windows from `from` to before `end`, of all `writers`; at most [`WINDOWS`].
fn read(
    windows: &Mapped<NetnsWindows>,
    place: u32,
    writers: usize,
    from: u64,
    end: u64,
) -> Vec<[u32; 2]> {
    let mut sums = vec![[0; 2]; end.saturating_sub(from) as usize];
    let first = (place as usize - 1) * writers;
    for index in first..first + writers {
        for (kind, offset) in [offset_of!(NetnsWindows, inserts), offset_of!(NetnsWindows, deletes)]
            .into_iter()
            .enumerate()
        {
            // Most of them have counted nothing lately.
            let last: u32 = windows.field(index, offset + offset_of!(OneWindows, number));
            if (last.wrapping_sub(from as u32) as i32) < 0 {
                continue;
            }
            for (window, sum) in (from..end).zip(&mut sums) {
                let at = window as usize % WINDOWS * size_of::<Bucket>();
                let bucket: Bucket =
                    windows.field(index, offset + offset_of!(OneWindows, buckets) + at);
                if bucket >> 32 == window & u64::from(u32::MAX) {
                    sum[kind] += bucket as u32;
                }
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_about_10_ms_of_whole_jiffies() {
        for (hz, expected) in [(100, 1), (250, 2), (300, 3), (1000, 10), (50, 1)] {
            assert_eq!(jiffies(Duration::from_nanos(1_000_000_000 / hz)), expected, "{hz} Hz");
        }
    }

    #[test]
    fn this_kernel_has_a_jiffy() {
        let jiffy = jiffy().unwrap();
        assert!(
            (Duration::from_millis(1)..=Duration::from_millis(20)).contains(&jiffy),
            "{jiffy:?}"
        );
    }
}
