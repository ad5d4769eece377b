use super::*;
use crate::{
    forecast::snapshot::Timeouts,
    model::{
        class::{EntryStatus, Protocol},
        counts::{ByProtocol, ByStatus},
        flow::Sample as FlowSample,
        tick::Limit,
    },
};

const SECOND: u64 = 1_000_000_000;

fn netns(cookie: u64) -> NetnsId {
    NetnsId { cookie: Some(cookie), inode: 4_026_531_840 }
}

/// At a second, with so many entries; nothing is counted.
fn polled(second: u64, entries: u64) -> Snapshot {
    Snapshot {
        time_ns: second * SECOND,
        entries: Some(entries),
        limit: Limit::Entries(1000),
        change: None,
        live: None,
        ended: None,
        timeouts: Timeouts::default(),
    }
}

fn is_forecast(outlook: &Outlook) -> bool {
    !outlook.reason.contains("too many")
}

#[test]
fn what_is_counted_becomes_a_change_only_if_all_of_it_is() {
    let by = |tcp, udp| ByProtocol { tcp, udp, icmp: 3, other: 4 };
    let counts = Totals {
        inserts_packet: by(1, 2),
        inserts_ctnetlink: by(10, 0),
        deletes: ByStatus { unreplied: by(5, 6), assured: by(7, 8), ..ByStatus::default() },
        deletes_user: 7,
        deletes_netns_exit: 1,
        early_drops: 9,
        table_full_drops: 11,
        ..Totals::default()
    };
    let expected = Change {
        inserts: [11, 2, 6, 8],
        deletes: [[5, 6, 3, 4], [0; 4], [7, 8, 3, 4], [0; 4]],
        early_drops: 9,
        removed: Some(8),
        refused: 11,
    };
    let all = Counted::ALL;
    // (what is counted, whether the table may have been full, whether it is told)
    let cases = [
        (all, true, true),
        (Counted { inserts_packet: false, ..all }, false, false),
        (Counted { inserts_ctnetlink: false, ..all }, false, false),
        (Counted { deletes: false, ..all }, false, false),
        (Counted { early_drops: false, ..all }, true, false),
        (Counted { early_drops: false, ..all }, false, true),
    ];
    for (counted, was_full, is_told) in cases {
        let change = change(&counts, &counted, was_full);
        assert_eq!(change, is_told.then_some(expected), "{counted:?} {was_full}");
    }
}

#[test]
fn many_that_ended_are_thinned_and_stand_for_all() {
    let mut sample = Sample::default();
    let ended = |seconds| Ended {
        protocol: Protocol::Udp,
        status: EntryStatus::Unreplied,
        seconds,
        weight: 2.0,
    };
    for of in 0..10_000 {
        sample.push(ended(f64::from(of)));
        let all: f64 = sample.kept.iter().map(|ended| ended.weight).sum();
        let off = (all - 2.0 * f64::from(of + 1)).abs();
        assert!(off <= 2.0 * f64::from(1 << sample.halvings), "{of}: {all}");
    }
    assert!((ENDED / 2..=ENDED).contains(&sample.kept.len()));
    let mean: f64 = sample.kept.iter().map(|ended| ended.seconds).sum::<f64>();
    assert!((mean / sample.kept.len() as f64 - 5000.0).abs() < 20.0, "{mean}");
    let kept = std::mem::take(&mut sample.kept);
    sample.clear(kept);
    sample.push(ended(1.0));
    assert_eq!((sample.kept.len(), sample.kept[0].weight), (1, 2.0));
}

#[test]
fn an_entry_that_ended_comes_to_its_own_namespace() {
    let mut forecasts = Forecasts::default();
    let blue = netns(1);
    forecasts.observe(blue, polled(1, 5), true);
    let sample = FlowSample { hash: 1, threshold: 1 << 31 };
    let ended = flows::Ended {
        inserted_ns: SECOND,
        ended_ns: 4 * SECOND,
        protocol: Protocol::Tcp,
        status: EntryStatus::Assured,
        sample,
    };
    forecasts.end(blue, &ended);
    // Nobody knows this one.
    forecasts.end(netns(2), &ended);
    let kept = &forecasts.by_netns[&1].ended.kept;
    assert_eq!(kept.len(), 1);
    assert_eq!((kept[0].seconds, kept[0].weight), (3.0, 2.0));
    forecasts.observe(blue, polled(2, 5), true);
    assert!(forecasts.by_netns[&1].ended.kept.is_empty());
}

#[test]
fn one_that_moves_takes_the_place_of_one_that_has_long_been_quiet() {
    let mut forecasts = Forecasts::default();
    for cookie in 0..MOST as u64 {
        assert!(is_forecast(&forecasts.observe(netns(cookie), polled(1, 5), false)));
    }
    let more = netns(5000);
    let moving = |second| Snapshot {
        change: Some(Change { refused: 1, ..Change::default() }),
        ..polled(second, 5)
    };
    assert!(!is_forecast(&forecasts.observe(more, polled(2, 5), false)), "it does not move");
    assert!(!is_forecast(&forecasts.observe(more, moving(3), false)), "nobody is quiet");
    // All but one move.
    for cookie in (0..MOST as u64).filter(|cookie| *cookie != 77) {
        forecasts.observe(netns(cookie), polled(11, 6), false);
    }
    assert!(!is_forecast(&forecasts.observe(more, polled(12, 5), false)), "it does not move");
    assert!(is_forecast(&forecasts.observe(more, moving(12), false)));
    assert!(!forecasts.by_netns.contains_key(&77));
    assert_eq!(forecasts.by_netns.len(), MOST);
    forecasts.forget(netns(3));
    assert!(is_forecast(&forecasts.observe(netns(6000), polled(13, 5), false)));
}

#[test]
fn nothing_is_allocated_for_one_that_is_idle() {
    let mut forecasts = Forecasts::default();
    forecasts.observe(netns(1), polled(1, 5), true);
    assert_eq!(forecasts.by_netns[&1].ended.kept.capacity(), 0);
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap() * 4096
}

#[test]
#[ignore = "a measurement: cargo test --release -p conntrack-user --lib weighs -- --ignored --nocapture"]
fn what_a_forecaster_weighs() {
    let ended = |protocol| flows::Ended {
        inserted_ns: 0,
        ended_ns: 30 * SECOND,
        protocol,
        status: EntryStatus::Unreplied,
        sample: FlowSample::EVERY,
    };
    let begin = resident();
    for (what, protocols, is_counted) in
        [("levels alone", 0, false), ("one protocol", 1, true), ("all protocols", 4, true)]
    {
        let mut forecasts = Forecasts::default();
        for second in 0..900 {
            for cookie in 0..MOST as u64 {
                let mut change = Change::default();
                for of in 0..protocols {
                    (change.inserts[of], change.deletes[0][of]) = (100 + second % 7, 100);
                    forecasts.end(netns(cookie), &ended(Protocol::ALL[of]));
                }
                let change = is_counted.then_some(change);
                forecasts.observe(
                    netns(cookie),
                    Snapshot { change, ..polled(second, 500 + second) },
                    true,
                );
            }
        }
        let now = resident();
        println!("{what}: {:.1} kB", (now - begin) as f64 / MOST as f64 / 1e3);
    }
}
