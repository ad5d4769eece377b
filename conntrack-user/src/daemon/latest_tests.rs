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
}

#[test]
fn one_that_comes_and_goes_between_two_ticks_is_counted_with_the_others() {
    let mut latest = Latest::new(10);
    take(&mut latest, 1, vec![counted(1, 5)]);
    let others =
        |latest: &Latest| latest.others().map(|others| (others.netns, others.totals.allocs));
    take(&mut latest, 2, vec![ended(7, 3)]);
    take(&mut latest, 3, vec![ended(8, 4)]);
    assert_eq!((apart(&latest), others(&latest)), (vec![(1, 5)], Some((0, 7))));
    // A namespace with series of its own is counted once.
    take(&mut latest, 4, vec![ended(1, 6)]);
    take(&mut latest, 5, vec![ended(1, 6)]);
    assert_eq!((apart(&latest), others(&latest)), (vec![(1, 6)], Some((0, 7))));
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
        in_flight: None,
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

#[test]
fn a_peak_between_two_scrapes_is_known_at_the_second_one() {
    let mut latest = Latest::new(1);
    // A scrape after the first second and one a minute later; between them 15,000 entries for two seconds.
    let mut seen = Vec::new();
    for second in 1..=61 {
        let entries = if (30..32).contains(&second) { 15_000 } else { 0 };
        take(&mut latest, second, vec![counted(1, entries), counted(2, entries)]);
        if second == 1 || second == 61 {
            let high_water = latest.high_water(counted(1, 0).id).unwrap().entries();
            let now = latest.apart().next().unwrap().entries.at_most();
            seen.push((now, high_water));
        }
    }
    assert_eq!(seen, [(Some(0), Some(0)), (Some(0), Some(15_000))]);
    // One that is counted with others has none; the mark of one that ends is kept for a while.
    assert!(latest.high_water(counted(2, 0).id).is_none());
    take(&mut latest, 62, vec![ended(1, 0)]);
    assert_eq!(latest.high_water(counted(1, 0).id).unwrap().entries(), Some(15_000));
    take(&mut latest, 108, vec![]);
    assert_eq!(latest.high_water(counted(1, 0).id).unwrap().entries(), Some(0));
    take(&mut latest, 182, vec![]);
    assert!(latest.high_water(counted(1, 0).id).is_none());
}

#[test]
fn the_kernels_counters_of_others_never_shrink_and_those_of_idle_ones_follow() {
    let counters = |invalid| KernelTick {
        totals: KernelStat { invalid: Some(invalid), ..KernelStat::default() },
        rates: KernelStat { invalid: Some(2.0), ..KernelStat::default() },
    };
    let with = |inode, invalid| NetnsTick {
        kernel_counters: Some(counters(invalid)),
        ..counted(inode, 1)
    };
    let mut latest = Latest::new(1);
    take(&mut latest, 1, vec![with(1, 50), with(2, 70), with(3, 90)]);
    take(&mut latest, 2, vec![with(1, 51), with(2, 75), counted(3, 1)]);
    let others = |latest: &Latest| latest.others().unwrap().kernel.unwrap().invalid;
    assert_eq!(others(&latest), Some(5));
    take(&mut latest, 3, vec![with(3, 91), ended(2, 1)]);
    assert_eq!(others(&latest), Some(6));
    let own = |latest: &Latest| latest.apart().next().unwrap().kernel_counters.unwrap();
    let reviewed = vec![(counted(1, 0).id, counters(60)), (counted(3, 0).id, counters(99))];
    latest.take(Tick { time: time(4), idle: 2, reviewed, ..Tick::example(vec![]) });
    assert_eq!((own(&latest).totals.invalid, others(&latest)), (Some(60), Some(14)));
    // What it was a second is of when it was looked at.
    assert_eq!(own(&latest).rates.invalid, None);
    take(&mut latest, 5, vec![ended(1, 1)]);
    assert_eq!(own(&latest).totals.invalid, Some(60));
}
