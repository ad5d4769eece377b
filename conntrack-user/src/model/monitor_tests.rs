use super::{
    super::{
        counts::{Balance, ByProtocol},
        reading::{CountRead, Events, NetnsReading},
    },
    *,
};
use crate::forecast::growth::Growth;

const SECOND: u64 = 1_000_000_000;
const INIT: NetnsId = NetnsId { cookie: Some(1), inode: 4_026_531_840 };

const EVENTS: Events = Events { seen: 9, received: 7, sampled_out: 1, lost: 1, threshold: 5 };

fn monitor() -> Monitor {
    Monitor::new(2, || Box::new(Growth::default()))
}

fn udp(udp: u64) -> ByProtocol {
    ByProtocol { udp, ..ByProtocol::default() }
}

/// The namespace `id` with `count` entries, of which the programs have seen `allocs` come.
fn netns(id: NetnsId, count: u32, max: u32, allocs: u64) -> NetnsReading {
    let balance = Balance { allocs, frees: 0 };
    NetnsReading {
        id,
        name: None,
        ended: false,
        idle: false,
        totals: Some(Totals { allocs, inserts_packet: udp(allocs), ..Totals::default() }),
        counts: vec![CountRead { before: balance, count, after: balance }; 6],
        max: Some(max),
        windows: None,
        kernel: None,
    }
}

fn at(second: u64, netns: Vec<NetnsReading>) -> Reading {
    let time = Time { monotonic_ns: second * SECOND, unix_ns: 0 };
    Reading {
        time,
        netns,
        idle: 0,
        gone: vec![],
        events: Some(EVENTS),
        missed_at_most: Some(0),
        overflow: Totals::default(),
        probes: vec![],
        victims: vec![],
        blocks: None,
        rereads: None,
        counted: Counted::ALL,
    }
}

/// A monitor whose baseline for [`INIT`] is 100.
fn settled() -> Monitor {
    let mut monitor = monitor();
    for _ in 0..3 {
        monitor.settle(&at(0, vec![netns(INIT, 100, 1000, 0)]));
    }
    assert!(monitor.is_settled());
    monitor
}

#[test]
fn the_first_tick_has_counts_and_no_rates() {
    let tick = settled().observe(&at(1, vec![netns(INIT, 150, 1000, 50)]));
    let one = &tick.netns[0];
    assert_eq!(one.entries, Entries::Exact(150));
    assert_eq!(one.fill_ratio(), Some(0.15));
    assert_eq!((one.baseline, one.drift), (Some(100), Some(0)));
    assert_eq!((one.change, one.rates), (None, Rates::default()));
    assert_eq!(one.time_to_full, TimeToFull::Unknown);
    assert_eq!(tick.events, Some(EVENTS));
}

#[test]
fn rates_are_per_second_whatever_the_interval() {
    let mut monitor = settled();
    monitor.observe(&at(1, vec![netns(INIT, 100, 1000, 0)]));
    let tick = monitor.observe(&at(3, vec![netns(INIT, 150, 1000, 50)]));
    assert_eq!(tick.interval_ns, Some(2 * SECOND));
    let rates = Rates { insert: Some(25.0), delete: Some(0.0), net: Some(25.0) };
    assert_eq!(tick.netns[0].rates, rates);
    assert_eq!(tick.netns[0].time_to_full, TimeToFull::In { seconds: 34.0 });
}

#[test]
fn until_the_baseline_is_settled_entries_are_an_interval() {
    let tick = monitor().observe(&at(1, vec![netns(INIT, 150, 1000, 50)]));
    assert_eq!(tick.netns[0].entries, Entries::Between(146, 150));
    assert_eq!(tick.netns[0].baseline, None);
}

#[test]
fn a_changed_max_is_used_at_once_and_said_once() {
    let mut monitor = settled();
    let other = NetnsId { cookie: Some(9), inode: 5 };
    let both = |max| vec![netns(INIT, 100, max, 0), netns(other, 0, max, 0)];
    assert!(monitor.observe(&at(1, both(1000))).notices.is_empty());
    let tick = monitor.observe(&at(2, both(200)));
    assert_eq!(tick.notices, ["nf_conntrack_max changed from 1000 to 200"]);
    assert_eq!(tick.netns[0].fill_ratio(), Some(0.5));
    assert!(monitor.observe(&at(3, both(200))).notices.is_empty());
}

#[test]
fn max_0_is_no_limit() {
    let mut monitor = settled();
    monitor.observe(&at(1, vec![netns(INIT, 100, 0, 0)]));
    let tick = monitor.observe(&at(2, vec![netns(INIT, 150, 0, 50)]));
    assert_eq!(tick.netns[0].limit, Limit::Unlimited);
    assert_eq!(tick.netns[0].fill_ratio(), None);
    assert_eq!(tick.netns[0].time_to_full, TimeToFull::Unlimited);
}

#[test]
fn without_programs_the_kernel_s_count_is_all_there_is() {
    let mut monitor = monitor();
    let polled = |count| NetnsReading { totals: None, ..netns(INIT, count, 1000, 0) };
    monitor.observe(&at(1, vec![polled(100)]));
    let tick = monitor.observe(&at(2, vec![polled(130)]));
    let one = &tick.netns[0];
    assert_eq!(one.entries, Entries::Exact(130));
    assert_eq!(one.rates, Rates { insert: None, delete: None, net: Some(30.0) });
    assert_eq!((one.totals, one.drift, one.baseline), (None, None, None));
}

#[test]
fn a_namespace_that_reuses_an_inode_starts_anew() {
    let mut monitor = monitor();
    let first = NetnsId { cookie: Some(5), inode: 77 };
    let second = NetnsId { cookie: Some(6), inode: 77 };
    monitor.observe(&at(1, vec![netns(first, 50, 1000, 50)]));
    let tick = monitor.observe(&at(2, vec![netns(second, 10, 1000, 10)]));
    assert_eq!(tick.netns[0].change.map(|change| change.allocs), Some(10));
}

#[test]
fn a_namespace_whose_count_cannot_be_read_has_rates_and_no_entries() {
    let mut monitor = monitor();
    let hidden = |allocs| NetnsReading { counts: vec![], max: None, ..netns(INIT, 0, 0, allocs) };
    monitor.observe(&at(1, vec![hidden(0)]));
    let tick = monitor.observe(&at(2, vec![hidden(40)]));
    assert_eq!(tick.netns[0].entries, Entries::Unavailable);
    assert_eq!(tick.netns[0].limit, Limit::Unavailable);
    assert_eq!(tick.netns[0].rates.insert, Some(40.0));
    assert_eq!(tick.netns[0].time_to_full, TimeToFull::Unknown);
}

#[test]
fn too_many_namespaces_are_said_once() {
    let mut monitor = settled();
    let mut reading = at(1, vec![netns(INIT, 100, 1000, 0)]);
    reading.overflow.allocs = 1;
    assert_eq!(monitor.observe(&reading).notices.len(), 1);
    reading.time.monotonic_ns += SECOND;
    assert!(monitor.observe(&reading).notices.is_empty());
}

#[test]
fn what_no_hook_counts_has_no_rate() {
    let mut monitor = settled();
    monitor.observe(&at(1, vec![netns(INIT, 100, 1000, 0)]));
    let mut reading = at(2, vec![netns(INIT, 150, 1000, 50)]);
    reading.counted.inserts_packet = false;
    let tick = monitor.observe(&reading);
    assert_eq!(tick.netns[0].rates, Rates { insert: None, delete: Some(0.0), net: Some(50.0) });
}

#[test]
fn an_entry_in_flight_is_no_drift_and_a_missed_one_is() {
    let mut monitor = settled();
    // One more in the kernel's count than the programs have seen.
    let one_more = || vec![netns(INIT, 101, 1000, 0)];
    let mut drift = |second, reading| monitor.observe(&at(second, reading)).netns[0].drift;
    assert_eq!(drift(1, vec![netns(INIT, 100, 1000, 0)]), Some(0));
    assert_eq!(drift(2, one_more()), Some(0));
    assert_eq!(drift(3, one_more()), Some(0));
    assert_eq!(drift(4, one_more()), Some(1), "it stays");
    assert_eq!(drift(5, vec![netns(INIT, 98, 1000, 0)]), Some(-2), "at once");
}

#[test]
fn an_idle_namespace_is_remembered_and_shown_when_it_drifts() {
    let mut monitor = settled();
    let other = NetnsId { cookie: Some(9), inode: 5 };
    monitor.observe(&at(1, vec![netns(INIT, 100, 1000, 0)]));
    let tick = monitor.observe(&at(2, vec![netns(other, 0, 1000, 0)]));
    assert_eq!(tick.netns.iter().map(|netns| netns.id).collect::<Vec<_>>(), [other]);
    let idle = |count| NetnsReading { idle: true, ..netns(INIT, count, 1000, 0) };
    assert!(monitor.observe(&at(3, vec![idle(100)])).netns.is_empty(), "nothing to say");
    let tick = monitor.observe(&at(4, vec![idle(97)]));
    assert_eq!(tick.netns[0].drift, Some(-3), "its baseline was kept");
}

#[test]
fn a_namespace_that_ended_is_shown_once_and_its_inode_starts_anew() {
    let mut monitor = monitor();
    let id = NetnsId { cookie: None, inode: 77 };
    monitor.observe(&at(1, vec![netns(id, 50, 1000, 50)]));
    let ended = NetnsReading { ended: true, counts: vec![], ..netns(id, 0, 1000, 60) };
    let tick = monitor.observe(&at(2, vec![ended, netns(id, 10, 1000, 10)]));
    let changes = tick.netns.iter().map(|netns| (netns.ended, netns.change.map(|c| c.allocs)));
    assert_eq!(changes.collect::<Vec<_>>(), [(true, Some(10)), (false, Some(10))]);
}

#[test]
fn a_namespace_that_is_gone_is_forgotten() {
    let mut monitor = settled();
    let mut reading = at(1, vec![]);
    reading.gone.push(INIT);
    monitor.observe(&reading);
    let tick = monitor.observe(&at(2, vec![netns(INIT, 5, 1000, 0)]));
    assert_eq!(tick.netns[0].baseline, None);
}
