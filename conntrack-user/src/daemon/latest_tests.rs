use super::*;
use crate::{
    model::reading::{NetnsReading, Reading, Time},
    source::item::Origin,
};

fn time(seconds: u64) -> Time {
    Time { monotonic_ns: seconds * 1_000_000_000, unix_ns: 0 }
}

fn counted(inode: u64, allocs: u64) -> NetnsTick {
    let totals = Some(Totals { allocs, ..Totals::default() });
    NetnsTick { totals, ..NetnsTick::example(inode, allocs, 1000) }
}

fn ended(inode: u64, allocs: u64) -> NetnsTick {
    NetnsTick { ended: true, ..counted(inode, allocs) }
}

fn take(latest: &mut Latest, seconds: u64, netns: Vec<NetnsTick>) {
    latest.take(Tick { time: time(seconds), ..Tick::example(netns) });
}

fn apart(latest: &Latest) -> Vec<(u64, u64)> {
    let allocs = |netns: &NetnsTick| netns.totals.map_or(0, |totals| totals.allocs);
    latest.apart().map(|netns| (netns.id.inode, allocs(netns))).collect()
}

#[test]
fn a_namespace_that_a_tick_leaves_out_stays_as_it_was() {
    let mut latest = Latest::new(10);
    take(&mut latest, 1, vec![counted(1, 5), counted(2, 6)]);
    take(&mut latest, 2, vec![counted(2, 7)]);
    assert_eq!(apart(&latest), [(1, 5), (2, 7)]);
    let whole = latest.whole().unwrap();
    assert_eq!((whole.netns.len(), whole.time), (2, time(2)));
    assert_eq!(latest.ticks(), 2);
}

#[test]
fn one_that_is_idle_has_no_forecast_and_is_full_only_at_its_limit() {
    let full = |inode, entries| NetnsTick {
        full: Some(crate::view::full::tests::full(1.0, 1.0)),
        outlook: Outlook::unknown(State::Full, ""),
        ..counted(inode, entries)
    };
    let mut latest = Latest::new(10);
    take(&mut latest, 1, vec![full(1, 1000), full(2, 999)]);
    let is_full = |latest: &Latest| {
        let state = |netns: &NetnsTick| (netns.full.is_some(), netns.outlook.state == State::Full);
        latest.netns().map(state).collect::<Vec<_>>()
    };
    take(&mut latest, 2, vec![]);
    assert_eq!(is_full(&latest), [(true, true); 2], "they are not known to be idle");
    latest.take(Tick { time: time(3), idle: 2, ..Tick::example(vec![]) });
    assert_eq!(is_full(&latest), [(true, true), (false, false)]);
}

#[test]
fn the_last_counts_of_one_that_ended_are_kept_for_a_while() {
    let mut latest = Latest::new(10);
    take(&mut latest, 1, vec![counted(1, 5)]);
    take(&mut latest, 2, vec![ended(1, 9)]);
    assert_eq!((apart(&latest), latest.netns().count()), (vec![(1, 9)], 0));
    take(&mut latest, 121, vec![]);
    assert_eq!(apart(&latest), [(1, 9)]);
    take(&mut latest, 122, vec![]);
    assert_eq!(apart(&latest), []);
    // One that was never told of leaves nothing.
    take(&mut latest, 123, vec![ended(7, 1)]);
    assert_eq!((apart(&latest), latest.others()), (vec![], None));
}

#[test]
fn beyond_the_limit_they_are_counted_together_and_never_less() {
    let mut latest = Latest::new(2);
    take(&mut latest, 1, (1..=4).map(|inode| counted(inode, 10 * inode)).collect());
    assert_eq!(apart(&latest), [(1, 10), (2, 20)]);
    let allocs = |latest: &Latest| latest.others().map(|o| (o.netns, o.entries, o.totals.allocs));
    assert_eq!(allocs(&latest), Some((2, 70, 70)));
    // One of the others ends, and one that is told apart; who comes then takes its place.
    take(&mut latest, 2, vec![ended(3, 35), ended(1, 11)]);
    assert_eq!((apart(&latest), allocs(&latest)), (vec![(2, 20), (1, 11)], Some((1, 40, 75))));
    take(&mut latest, 3, vec![counted(5, 1)]);
    assert_eq!((apart(&latest), allocs(&latest)), (vec![(2, 20), (5, 1)], Some((1, 40, 75))));
    take(&mut latest, 4, vec![counted(6, 2)]);
    assert_eq!(allocs(&latest), Some((2, 42, 77)));
}

#[test]
fn with_a_new_source_all_is_counted_anew() {
    let mut latest = Latest::new(1);
    take(&mut latest, 1, vec![counted(1, 5), counted(2, 6)]);
    let origin = Origin {
        kernel_release: "6.12".into(),
        source: "ebpf".into(),
        counting_since_ns: None,
        bpf_map_memory_bytes: None,
        hooks: vec![],
        unavailable: vec![],
    };
    latest.open(&Start { time: time(2), cpus: 2, origin });
    assert_eq!((latest.opened(), latest.ticks(), latest.netns().count()), (1, 1, 0));
    assert!(latest.others().is_none() && latest.tick().is_none() && latest.whole().is_none());
    take(&mut latest, 3, vec![counted(2, 1)]);
    assert_eq!(apart(&latest), [(2, 1)]);
}

#[test]
fn a_reading_tells_who_is_gone_and_the_limit_of_idle_ones() {
    let mut latest = Latest::new(10);
    take(&mut latest, 1, vec![counted(1, 5), counted(2, 6)]);
    let idle = NetnsReading {
        id: counted(1, 0).id,
        name: None,
        ended: false,
        idle: true,
        totals: None,
        missed: false,
        counts: vec![],
        max: Some(50),
        timeouts: None,
        windows: None,
        kernel: None,
    };
    let gone = vec![counted(2, 0).id];
    let reading = Reading { gone, ..Reading::example(time(2).monotonic_ns, vec![idle]) };
    latest.read(&reading);
    let limits: Vec<Limit> = latest.netns().map(|netns| netns.limit).collect();
    assert_eq!(limits, [Limit::Entries(50)]);
    assert_eq!(apart(&latest), [(1, 5), (2, 6)]);
    let ended: Vec<u64> =
        latest.apart().filter(|netns| netns.ended).map(|netns| netns.id.inode).collect();
    assert_eq!(ended, [2]);
}
