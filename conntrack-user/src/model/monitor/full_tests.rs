//! A table that becomes full, from readings to what is shown.

use super::*;
use crate::{
    forecast::outlook::State as Outcome,
    model::{
        counts::{Balance, ByProtocol, ByStatus},
        reading::{CountRead, KernelStat},
    },
    severity::THRESHOLDS,
    view::{forecast, json::Line},
};

const NETNS: NetnsId = NetnsId { cookie: Some(7), inode: 7 };
const MAX: u32 = 1000;

fn udp(udp: u64) -> ByProtocol {
    ByProtocol { udp, ..ByProtocol::default() }
}

/// A namespace in which programs have counted that much, none of it before them.
fn counted(inserts: u64, evicted: u64, dropped: u64) -> NetnsReading {
    let balance = Balance { allocs: inserts, frees: evicted };
    NetnsReading {
        id: NETNS,
        name: None,
        ended: false,
        idle: false,
        totals: Some(Totals {
            allocs: inserts,
            frees: evicted,
            inserts_packet: udp(inserts),
            deletes: ByStatus { unreplied: udp(evicted), ..ByStatus::default() },
            early_drops: evicted,
            table_full_drops: dropped,
            ..Totals::default()
        }),
        missed: false,
        counts: vec![
            CountRead {
                before: balance,
                count: (inserts - evicted) as u32,
                after: balance
            };
            6
        ],
        max: Some(MAX),
        timeouts: None,
        in_flight: None,
        windows: None,
        kernel: None,
    }
}

/// Each reading a second after the one before.
struct Run(Monitor, u64);

impl Run {
    fn new() -> Self {
        let mut monitor = Monitor::new(2);
        for _ in 0..3 {
            monitor.settle(&Reading::example(0, vec![counted(0, 0, 0)]));
        }
        Self(monitor, 0)
    }

    fn tick(&mut self, netns: NetnsReading) -> Tick {
        self.1 += 1;
        let mut reading = Reading::example(self.1 * 1_000_000_000, vec![netns]);
        reading.time.unix_ns = 1_764_000_000_000_000_000 + self.1 * 1_000_000_000;
        self.0.observe(&reading)
    }

    fn lines(&mut self, netns: NetnsReading) -> String {
        let tick = self.tick(netns);
        let lines = forecast::lines(&tick.netns[0], &THRESHOLDS);
        anstream::adapter::strip_str(&lines).to_string()
    }
}

#[test]
fn from_the_first_reading_to_a_full_table_that_drops() {
    let mut run = Run::new();
    let expected = "  350 of 1,000 entries, 650 free; no forecast: it was read only once so far\n";
    assert_eq!(run.lines(counted(350, 0, 0)), expected);
    let expected =
        "  500 of 1,000 entries, 500 free, +150/s; no forecast: 1 s of 3 s seen so far\n";
    assert_eq!(run.lines(counted(500, 0, 0)), expected);
    run.lines(counted(650, 0, 0));
    let text = run.lines(counted(800, 0, 0));
    assert!(text.starts_with("  filling: full in "), "{text}");
    // 50 more than there is room for: 30 push others out, 20 packets are dropped.
    let expected = [
        "  full now, drops 20 packets/s and evicts 30 entries/s",
        "  full since 16:00:05 UTC, packets dropped since then; can be evicted: unknown",
        "    for 1,000 entries",
    ];
    assert_eq!(run.lines(counted(1030, 30, 20)).lines().collect::<Vec<_>>(), expected);
    let tick = run.tick(counted(1180, 180, 20));
    let one = &tick.netns[0];
    assert_eq!(one.outlook.state, Outcome::Full);
    assert_eq!((one.outlook.seconds_to_full, one.outlook.seconds_to_first_drop), (None, None));
    assert_eq!((one.outlook.steady_state, one.outlook.entries_in_60s), (None, None));
    let line = serde_json::to_value(Line::tick(&tick, &[], &THRESHOLDS)).unwrap();
    let json = &line["netns"][0];
    assert_eq!(json["full_since_ns"], 1_764_000_005_000_000_000_u64);
    assert_eq!((&json["full_seconds"], &json["full_at_start"]), (&1.0.into(), &false.into()));
    assert_eq!(json["table_full_drop_rate"], 10.0);
    assert_eq!(
        (&json["early_drop_rate"], &json["seconds_to_full_p50"]),
        (&90.0.into(), &0.0.into())
    );
    assert_eq!(json["severity"], "critical");
}

#[test]
fn a_monitor_that_goes_on_knows_since_when_it_is_full() {
    let mut run = Run::new();
    run.tick(counted(900, 0, 0));
    run.tick(counted(1000, 0, 5));
    let mut other = Monitor::new(2);
    other.resume(&run.0.standing());
    let [here, there] = [&mut run, &mut Run(other, 2)]
        .map(|run| run.tick(counted(1001, 1, 9)).netns[0].full.unwrap());
    assert_eq!(here, there);
    assert_eq!((here.seconds, here.at_start), (1.0, false));
}

#[test]
fn polled_from_procfs_the_kernels_counters_tell_what_is_lost() {
    let mut run = Run(Monitor::new(2), 0);
    let polled = |count: u32, drop, early_drop| NetnsReading {
        totals: None,
        counts: vec![CountRead { count, ..counted(0, 0, 0).counts[0] }],
        kernel: Some(KernelStat {
            drop: Some(drop),
            early_drop: Some(early_drop),
            ..KernelStat::default()
        }),
        ..counted(0, 0, 0)
    };
    // Clashes.
    run.tick(polled(500, 3, 0));
    assert_eq!(run.tick(polled(600, 9, 0)).netns[0].full, None);
    let text = run.lines(polled(995, 11, 40));
    assert!(text.starts_with("  full now, drops 2 packets/s and evicts 40 entries/s\n"), "{text}");
}
