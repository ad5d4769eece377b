//! A node as a source would tell it: namespaces in which as many entries come as go.

use std::time::SystemTime;

use conntrack_user::{
    model::{
        counts::{Balance, ByProtocol, ByStatus, Counted, Totals},
        flow::{EventKind, FlowEvent},
        probe::Probe,
        reading::{CountRead, Events, KernelStat, NetnsId, NetnsReading, Reading, Time},
        windows::Windows,
    },
    source::{
        ebpf::{hook::Hook, monotonic_ns},
        item::{Flows, Item, NetnsFlow, Origin, Start, Use},
    },
};

/// Entries of each namespace beside those of events, their limit, and inserts in each tick.
const ENTRIES: u32 = 1_000;
const MAX: u32 = 262_144;
const INSERTS: u64 = 10;
/// Namespaces whose windows are told, as on a machine with up to 64 CPUs, and the windows of a second.
const WITH_WINDOWS: u32 = 64;
const WINDOWS: u64 = 125;
/// Seconds in which each idle namespace is read once.
const REVIEW: u32 = 60;
/// Reads of the kernel's count that agree.
const AGREEING: usize = 4;

/// What there is.
pub(crate) struct Node {
    /// Namespaces in which something is counted in each tick; events are of the first.
    pub(crate) busy: u32,
    /// Others.
    pub(crate) idle: u32,
    pub(crate) ticks_a_second: u32,
    ticks: u64,
    /// Inserts and destroys of which events were sent.
    seen: [u64; 2],
}

impl Node {
    pub(crate) const fn new(busy: u32, idle: u32, ticks_a_second: u32) -> Self {
        Self { busy, idle, ticks_a_second, ticks: 0, seen: [0; 2] }
    }

    /// What is told before the first tick.
    pub(crate) fn begin(&mut self) -> [Item; 3] {
        let origin = Origin {
            kernel_release: "6.12".into(),
            source: "ebpf".into(),
            counting_since_ns: Some(now().unix_ns),
            bpf_map_memory_bytes: None,
            hooks: vec![],
            unavailable: vec![],
        };
        let start = Item::Start(Start { time: now(), cpus: 2, origin });
        let all = Self { busy: self.busy + self.idle, idle: 0, ..*self };
        let reading = |of| Item::Reading(of, Box::new(all.reading()));
        [start, reading(Use::Settle), reading(Use::First)]
    }

    /// The next tick.
    pub(crate) fn tick(&mut self) -> Item {
        self.ticks += 1;
        Item::Reading(Use::Tick, Box::new(self.reading()))
    }

    /// What came through the ring.
    pub(crate) fn flows(&mut self, events: Vec<FlowEvent>) -> Item {
        let time = now();
        let ends = events.iter().filter(|event| matches!(event.kind, EventKind::Destroy(_))).count()
            as u64;
        self.seen[0] += events.len() as u64 - ends;
        self.seen[1] += ends;
        let netns = id(1);
        Item::Flows(Flows {
            utc_offset_ns: time.unix_ns as i64 - time.monotonic_ns as i64,
            events: events.into_iter().map(|flow| NetnsFlow { netns, flow }).collect(),
        })
    }

    fn reading(&self) -> Reading {
        let busy = (1..=self.busy).map(|number| self.netns(number, false));
        // As many in a tick as it takes for all in a minute.
        let share = self.idle.div_ceil(REVIEW * self.ticks_a_second);
        let turn = self.ticks as u32 * share;
        let reviewed =
            (0..share).map(|one| self.netns(self.busy + 1 + (turn + one) % self.idle.max(1), true));
        let events = self.seen.iter().sum();
        let probe = |hook: Hook| Probe {
            hook: hook.name().into(),
            hits: Some(self.ticks),
            misses: Some(0),
            runs: None,
        };
        Reading {
            time: now(),
            idle: self.idle.into(),
            netns: busy.chain(reviewed).collect(),
            gone: vec![],
            events: Some(Events {
                seen: events,
                received: events,
                sampled_out: 0,
                lost: 0,
                threshold: u32::MAX,
            }),
            missed_calls_max: Some(0),
            overflow: Totals::default(),
            probes: Hook::ALL.into_iter().map(probe).collect(),
            victims: vec![],
            blocks: Some((u64::from(self.busy), 8_194)),
            rereads: None,
            counted: Counted { failed_by_kernel: true, ..Counted::ALL },
            coverage: None,
        }
    }

    fn netns(&self, number: u32, idle: bool) -> NetnsReading {
        let [inserts, deletes] = match (number, idle) {
            (_, true) => [0; 2],
            (1, false) => self.seen.map(|seen| seen + self.ticks * INSERTS),
            (_, false) => [self.ticks * INSERTS; 2],
        };
        let udp = |count| ByProtocol { udp: count, ..ByProtocol::default() };
        let balance = Balance { allocs: inserts, frees: deletes };
        let count = ENTRIES + (inserts - deletes) as u32;
        let windows = WINDOWS / u64::from(self.ticks_a_second);
        NetnsReading {
            id: id(number),
            name: None,
            ended: false,
            idle,
            totals: Some(Totals {
                allocs: inserts,
                frees: deletes,
                inserts_packet: udp(inserts),
                deletes: ByStatus { unreplied: udp(deletes), ..ByStatus::default() },
                ..Totals::default()
            }),
            missed: false,
            counts: vec![
                CountRead { before: balance, count, after: balance };
                if idle { 1 } else { AGREEING }
            ],
            max: Some(MAX),
            timeouts: None,
            in_flight: None,
            windows: (!idle && number <= WITH_WINDOWS).then(|| Windows {
                width_ns: 8_000_000,
                number: windows,
                first_ns: Some(now().unix_ns),
                inserts: vec![1; windows as usize],
                deletes: vec![1; windows as usize],
                inserts_peak: 1,
                deletes_peak: 1,
                ..Windows::default()
            }),
            kernel: (!idle).then(KernelStat::default),
        }
    }
}

const fn id(number: u32) -> NetnsId {
    NetnsId { cookie: Some(number as u64), inode: 4_026_532_000 + number as u64 }
}

fn now() -> Time {
    let unix_ns = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_nanos() as u64);
    Time { monotonic_ns: monotonic_ns(), unix_ns }
}
