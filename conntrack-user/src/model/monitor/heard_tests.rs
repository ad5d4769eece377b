//! Where inserts and deletes are told by events, and allocations and frees by nobody.

use super::*;
use crate::model::{
    counts::{Balance, ByProtocol, ByStatus},
    reading::CountRead,
};

const NETNS: NetnsId = NetnsId { cookie: Some(7), inode: 7 };
const HEARD: Counted = Counted {
    allocs: false,
    early_drops: false,
    netns_exits: false,
    clashes: false,
    clash_outcomes: false,
    failed_inserts: false,
    ..Counted::ALL
};

fn udp(udp: u64) -> ByProtocol {
    ByProtocol { udp, ..ByProtocol::default() }
}

/// So many entries are there, so many inserts, deletes and losses were heard of by then.
fn heard(count: u32, inserts: u64, deletes: u64, events_lost: u64) -> NetnsReading {
    let balance = Balance { allocs: inserts, frees: deletes };
    NetnsReading {
        id: NETNS,
        name: None,
        ended: false,
        idle: false,
        totals: Some(Totals {
            inserts_packet: udp(inserts),
            deletes: ByStatus { unreplied: udp(deletes), ..ByStatus::default() },
            events_lost,
            ..Totals::default()
        }),
        missed: false,
        counts: vec![CountRead { before: balance, count, after: balance }; 4],
        max: Some(1000),
        timeouts: None,
        in_flight: None,
        windows: None,
        kernel: None,
    }
}

/// Each reading a second after the one before.
struct Run(Monitor, u64);

impl Run {
    fn tick(&mut self, netns: NetnsReading) -> (NetnsTick, Vec<String>) {
        self.1 += 1;
        let example = Reading::example(self.1 * 1_000_000_000, vec![netns]);
        let reading = Reading { counted: HEARD, ..example };
        let tick = self.0.observe(&reading);
        (tick.netns[0].clone(), tick.notices)
    }
}

#[test]
fn entries_are_the_kernels_and_rates_those_of_the_events() {
    let mut run = Run(Monitor::new(2), 0);
    run.tick(heard(50, 0, 0, 0));
    // 20 came, 5 of them went, and 10 of those from before, unheard.
    let (tick, notices) = run.tick(heard(55, 20, 5, 0));
    assert_eq!(
        (tick.entries, tick.baseline, tick.count_drift),
        (Entries::Exact(55), Some(40), Some(0))
    );
    let rates = (tick.rates.insert, tick.rates.delete, tick.rates.net);
    assert_eq!(rates, (Some(20.0), Some(5.0), Some(5.0)));
    assert!(notices.is_empty());
    assert!(run.0.is_settled());
}

#[test]
fn while_events_are_lost_rates_are_unknown_and_afterwards_right() {
    let mut run = Run(Monitor::new(2), 0);
    run.tick(heard(0, 0, 0, 0));
    for (events_lost, said) in [(490, Some("are lost")), (700, None)] {
        let (tick, notices) =
            run.tick(NetnsReading { missed: true, ..heard(500, 10, 0, events_lost) });
        assert_eq!((tick.change, tick.rates.insert, tick.rates.delete), (None, None, None));
        assert_eq!((tick.entries, tick.count_drift), (Entries::Exact(500), None));
        assert!(tick.rates.net.is_some(), "the kernel's count tells it");
        assert_eq!(notices.len(), usize::from(said.is_some()));
        assert!(said.is_none_or(|said| notices[0].contains(said)), "{notices:?}");
    }
    let (tick, notices) = run.tick(heard(530, 40, 0, 700));
    assert_eq!((tick.entries, tick.count_drift), (Entries::Exact(530), Some(0)));
    assert_eq!((tick.rates.insert, tick.rates.delete), (Some(30.0), Some(0.0)));
    assert!(notices[0].starts_with("700 events of the network namespace 7 were lost"));
    // What was counted in all stays too low.
    assert_eq!(tick.totals.map(|totals| totals.inserts()), Some(40));
    let (tick, notices) = run.tick(heard(530, 40, 0, 700));
    assert_eq!((tick.count_drift, notices.len()), (Some(0), 0));
}

#[test]
fn one_that_is_listened_to_from_now_on_has_no_rate_yet() {
    let mut run = Run(Monitor::new(2), 0);
    let deaf = NetnsReading { totals: None, ..heard(50, 0, 0, 0) };
    run.tick(deaf.clone());
    let (tick, _) = run.tick(heard(60, 3, 0, 0));
    assert_eq!((tick.rates.insert, tick.rates.net), (None, Some(10.0)));
    assert_eq!((tick.baseline, tick.count_drift), (Some(57), Some(0)));
    let (tick, _) = run.tick(heard(64, 7, 0, 0));
    assert_eq!(tick.rates.insert, Some(4.0));
    // Nobody listens any more.
    let (tick, _) = run.tick(NetnsReading { counts: heard(60, 0, 0, 0).counts, ..deaf });
    assert_eq!((tick.totals, tick.baseline, tick.count_drift), (None, None, None));
    assert_eq!(tick.entries, Entries::Exact(60));
}
