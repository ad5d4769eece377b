//! Recordings as what is tried: the snapshots are those that the live monitor made its forecasts from, and what came
//! is what was recorded. Nobody knew more than the monitor, so there is no clairvoyant.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::Read,
    time::Duration,
};

use thiserror::Error;

use super::{
    simulator::Run,
    truth::{Moment, Truth},
};
use crate::{
    forecast::snapshot::Snapshot,
    model::{
        reading::NetnsId,
        tick::{Limit, Tick},
    },
    source::{
        item::Item,
        listener::Listener,
        recording::reader::{ReadError, Reader},
    },
};

/// Ticks with entries and a limit that a namespace needs to be tried.
pub const LEAST: usize = 10;
/// Default bytes that the snapshots of a recording may take.
pub const MOST_BYTES: u64 = 64_000_000;
/// Bytes that a tick takes at the least, and what is remembered of a namespace without its snapshots.
const TICK_BYTES: usize = size_of::<Option<Snapshot>>() + size_of::<Moment>();
const NETNS_BYTES: usize = 1024;

/// A namespace of a recording.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Which one.
    pub netns: NetnsId,
    /// What it is, in a line: kernel, namespace, length.
    pub title: String,
    /// What was seen, and what came.
    pub run: Run,
}

/// Why nothing of a recording can be tried.
#[derive(Debug, Error)]
pub enum Unusable {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It has no such namespace.
    #[error("it has no network namespace {inode}; it has {}", list(.has))]
    NoSuch {
        /// Which one was asked for.
        inode: u64,
        /// Which there are, by their inodes.
        has: Vec<u64>,
    },
    /// None of its namespaces was seen for long enough.
    #[error(
        "none of its network namespaces has {LEAST} ticks with entries and a limit, the one with the most has {most}: \
         record for longer, and where nf_conntrack_max is above 0"
    )]
    TooShort {
        /// Ticks of the one with the most.
        most: usize,
    },
    /// It takes more memory than it is worth.
    #[error(
        "it takes more than {0} bytes of memory: choose a network namespace by --netns, or raise --memory"
    )]
    TooLong(u64),
}

fn list(inodes: &[u64]) -> String {
    match inodes {
        [] => "none".into(),
        _ => {
            const SHOWN: usize = 20;
            let shown: Vec<_> = inodes.iter().take(SHOWN).map(u64::to_string).collect();
            let more = inodes.len().saturating_sub(SHOWN);
            shown.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
        }
    }
}

/// The namespaces of a recording that can be tried, by cookie or inode; only the one with the inode `netns`, where one
/// is given. Their snapshots take `most_bytes` at the most, of which there are two copies for a moment.
///
/// # Errors
/// When there are none.
pub fn read<R: Read>(
    recording: &mut Reader<R>,
    netns: Option<u64>,
    most_bytes: u64,
) -> Result<Vec<Recorded>, Unusable> {
    let kernel = recording.about("kernel").to_owned();
    let mut gathered = Gathered { most_bytes, ..Gathered::default() };
    while let Some(item) = recording.next_item()? {
        gathered.take(&item, netns)?;
    }
    // The model has done what it is for.
    gathered.listener = None;
    let tick = gathered.tick();
    let mut ticks = usize::try_from(most_bytes).unwrap_or(usize::MAX) / TICK_BYTES;
    let has: Vec<u64> = gathered.series.keys().map(|id| id.inode).collect();
    let most = gathered.series.values().map(Series::known).max().unwrap_or(0);
    let mut all = vec![];
    for (netns, series) in gathered.series {
        if series.known() >= LEAST {
            let title = series.title(&kernel, netns, tick);
            let run = series.run(tick, ticks).ok_or(Unusable::TooLong(most_bytes))?;
            ticks = ticks.saturating_sub(run.snapshots.len());
            all.push(Recorded { netns, title, run });
        }
    }
    match netns {
        Some(inode) if has.is_empty() => {
            let has = gathered.others.into_iter().collect();
            Err(Unusable::NoSuch { inode, has })
        }
        _ if all.is_empty() => Err(Unusable::TooShort { most }),
        _ => Ok(all),
    }
}

/// What was read so far.
#[derive(Default)]
struct Gathered {
    listener: Option<Listener>,
    series: BTreeMap<NetnsId, Series>,
    /// Inodes of those that were not asked for.
    others: BTreeSet<u64>,
    /// Nanoseconds between two ticks each.
    intervals: Vec<u64>,
    bytes: usize,
    most_bytes: u64,
}

impl Gathered {
    fn take(&mut self, item: &Item, netns: Option<u64>) -> Result<(), Unusable> {
        let listener = self.listener.get_or_insert_with(Listener::keeping_snapshots);
        let tick = listener.take(item);
        let snapshots = listener.take_snapshots();
        if matches!(item, Item::Start(_)) {
            self.series.values_mut().for_each(Series::restart);
        }
        for (id, snapshot) in snapshots {
            if netns.is_some_and(|inode| inode != id.inode) {
                let is_new = self.others.insert(id.inode);
                self.take_bytes(if is_new { NETNS_BYTES } else { 0 })?;
                continue;
            }
            let ended = snapshot.ended.as_ref().map_or(0, |ended| size_of_val(&ended[..]));
            let series = if self.series.contains_key(&id) { 0 } else { NETNS_BYTES };
            self.take_bytes(size_of::<Snapshot>() + ended + series)?;
            self.series.entry(id).or_default().push(snapshot);
        }
        if let Some(tick) = tick {
            self.name(&tick);
            self.take_bytes(size_of::<u64>())?;
            self.intervals.extend(tick.interval_ns);
        }
        Ok(())
    }

    fn take_bytes(&mut self, bytes: usize) -> Result<(), Unusable> {
        self.bytes += bytes;
        let is_within = self.bytes as u64 <= self.most_bytes;
        is_within.then_some(()).ok_or(Unusable::TooLong(self.most_bytes))
    }

    fn name(&mut self, tick: &Tick) {
        for netns in &tick.netns {
            if let (Some(series), Some(name)) = (self.series.get_mut(&netns.id), &netns.name)
                && series.name.as_ref() != Some(&name.text)
            {
                series.name = Some(name.text.clone());
            }
        }
    }

    /// Seconds of a tick, to the millisecond: as many are shorter as longer.
    fn tick(&mut self) -> f64 {
        let middle = self.intervals.len() / 2;
        if self.intervals.is_empty() {
            return 1.0;
        }
        let (_, median, _) = self.intervals.select_nth_unstable(middle);
        (*median as f64 / 1e6).round().max(1.0) / 1e3
    }
}

/// What was seen of a namespace.
#[derive(Default)]
struct Series {
    name: Option<String>,
    snapshots: Vec<Snapshot>,
    /// Snapshots before which the source was opened anew.
    restarts: Vec<usize>,
}

/// Entries and limit at a snapshot, where both are known.
fn level(snapshot: &Snapshot) -> Option<(u64, u32)> {
    match (snapshot.entries, snapshot.limit) {
        (Some(entries), Limit::Entries(max)) => Some((entries, max)),
        _ => None,
    }
}

impl Series {
    fn restart(&mut self) {
        let at = self.snapshots.len();
        // One that was opened twice before it told anything is one.
        if self.restarts.last() != Some(&at) {
            self.restarts.push(at);
        }
    }

    /// One that is not later than the one before is left out, as by forecasters.
    fn push(&mut self, snapshot: Snapshot) {
        if self.snapshots.last().is_none_or(|last| last.time_ns < snapshot.time_ns) {
            self.snapshots.push(snapshot);
        }
    }

    fn known(&self) -> usize {
        self.snapshots.iter().filter(|snapshot| level(snapshot).is_some()).count()
    }

    fn title(&self, kernel: &str, netns: NetnsId, tick: f64) -> String {
        let name = self.name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
        let time = |snapshot: Option<&Snapshot>| snapshot.map_or(0, |snapshot| snapshot.time_ns);
        let length = time(self.snapshots.last()) - time(self.snapshots.first());
        let length = Duration::from_secs(length / 1_000_000_000);
        let (length, tick) = (
            humantime::format_duration(length),
            humantime::format_duration(Duration::from_secs_f64(tick)),
        );
        let inode = netns.inode;
        format!("Recorded on {kernel}, network namespace {inode}{name}, {length} at {tick} a tick")
    }

    /// Makes a run with ticks of `tick` seconds. Each tick has the last snapshot next to it. None: more than `most` ticks.
    fn run(self, tick: f64, most: usize) -> Option<Run> {
        let tick_ns = tick * 1e9;
        let begin = self.snapshots.iter().find(|snapshot| level(snapshot).is_some());
        let begin_ns = begin.map_or(0, |snapshot| snapshot.time_ns);
        let place = |time_ns: u64| {
            let ticks = (time_ns.saturating_sub(begin_ns) as f64 / tick_ns).round();
            (ticks < most as f64).then_some(ticks as usize)
        };
        let mut restarts: VecDeque<usize> = self.restarts.into();
        let mut ticks = Ticks::new(tick);
        for (index, snapshot) in self.snapshots.into_iter().enumerate() {
            let at = place(snapshot.time_ns)?;
            if restarts.pop_front_if(|restart| *restart <= index).is_some() && index > 0 {
                ticks.run.restarts.push(at);
            }
            ticks.push(at, snapshot);
        }
        Some(ticks.run)
    }
}

/// A run while it is put together.
struct Ticks {
    run: Run,
}

impl Ticks {
    fn new(tick: f64) -> Self {
        let truth = Truth::new(tick);
        Self { run: Run { snapshots: vec![], earlier: vec![], restarts: vec![], truth } }
    }

    fn push(&mut self, at: usize, snapshot: Snapshot) {
        let Run { snapshots, earlier, truth, .. } = &mut self.run;
        let Some((entries, max)) = level(&snapshot) else {
            // Forecasters see it; nothing is judged at it.
            earlier.push((at.max(snapshots.len()), snapshot));
            return;
        };
        let change = snapshot.change;
        let refused = change.map(|change| change.refused);
        let is_lacking = change.is_some_and(|change| change.early_drops + change.refused > 0);
        let mut moment = Moment {
            level: entries,
            max,
            refused,
            found_full: is_lacking || entries >= u64::from(max),
            ..Moment::default()
        };
        if at < snapshots.len() {
            // Two at one tick: it is as it was at the last, and all that happened counts.
            let last = snapshots.len() - 1;
            if let Some(before) = snapshots[last].replace(snapshot) {
                earlier.push((last, before));
            }
            moment.refused = refused.zip(truth.refused[last]).map(|(a, b)| a + b);
            moment.found_full |= truth.found_full[last];
            truth.pop();
        } else {
            self.fill_up_to(at, moment);
            self.run.snapshots.push(Some(snapshot));
        }
        self.run.truth.push(moment);
    }

    /// Between two snapshots that are further apart than a tick, the level is on a line. What was dropped there is
    /// counted at the second.
    fn fill_up_to(&mut self, at: usize, next: Moment) {
        let Run { snapshots, truth, .. } = &mut self.run;
        let (from, Some(level)) = (snapshots.len(), truth.level.last().copied()) else { return };
        let (max, steps) = (truth.max[from - 1], (at - from + 1) as f64);
        for place in from..at {
            let share = (place - from + 1) as f64 / steps;
            let level = level as f64 + share * (next.level as f64 - level as f64);
            let refused = next.refused.map(|_| 0);
            truth.push(Moment { level: level.round() as u64, max, refused, ..Moment::default() });
            snapshots.push(None);
        }
    }
}

#[cfg(test)]
#[path = "recorded_tests.rs"]
mod tests;
