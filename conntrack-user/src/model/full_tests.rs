use super::*;

const SECOND: u64 = 1_000_000_000;
/// Of 5,000 entries.
const MAX: u32 = 5_000;

/// A table that is read each second by programs.
#[derive(Default)]
struct Table {
    tracker: FullTracker,
    second: u64,
}

impl Table {
    fn tick(&mut self, entries: u64, drops: u64, evictions: u64) -> Option<Full> {
        let change = |observation| observation;
        self.tick_with(entries, [Some(drops), Some(evictions)], change)
    }

    fn tick_with(
        &mut self,
        entries: u64,
        losses: [Option<u64>; 2],
        change: impl Fn(Observation) -> Observation,
    ) -> Option<Full> {
        let time = at(self.second);
        let observation = Observation {
            time,
            seconds: (self.second > 0).then_some(1.0),
            entries: Entries::Exact(entries),
            limit: Limit::Entries(MAX),
            table_full_drops: losses[0],
            early_drops: losses[1],
            is_counted: true,
            is_full_at_once: false,
        };
        self.second += 1;
        self.tracker.observe(&change(observation))
    }
}

fn at(second: u64) -> Time {
    Time { monotonic_ns: 100 * SECOND + second * SECOND, unix_ns: 1_000 * SECOND + second * SECOND }
}

#[test]
fn a_table_is_full_since_it_reached_its_limit() {
    let mut table = Table::default();
    assert_eq!(table.tick(4_000, 0, 0), None);
    assert_eq!(table.tick(4_990, 0, 0), None, "almost full is not full");
    let full = table.tick(5_000, 0, 0).unwrap();
    assert_eq!((full.since, full.seconds, full.at_start), (at(2), 0.0, false));
    assert_eq!(full.table_full_drops, Loss { rate: Some(0.0), since: None });
    let full = table.tick(5_000, 12, 30).unwrap();
    assert_eq!((full.since, full.seconds), (at(2), 1.0));
    assert_eq!(full.table_full_drops, Loss { rate: Some(12.0), since: Some(at(3)) });
    let full = table.tick(5_000, 0, 10).unwrap();
    assert_eq!(full.table_full_drops, Loss { rate: Some(6.0), since: Some(at(3)) });
    assert_eq!(full.early_drops, Loss { rate: Some(20.0), since: Some(at(3)) });
}

#[test]
fn a_table_that_flickers_below_its_limit_while_it_drops_stays_full() {
    let mut table = Table::default();
    table.tick(3_000, 0, 0);
    for second in 0..60 {
        // Every fourth second something is dropped; the level is the limit then, and less in between.
        let losses = u64::from(second % 4 == 0);
        let full = table.tick(if losses > 0 { 5_000 } else { 4_996 }, losses, 0).unwrap();
        assert_eq!(full.since, at(1), "{second}");
    }
}

#[test]
fn it_is_over_after_a_while_without_a_loss_below_the_limit() {
    let mut table = Table::default();
    table.tick(3_000, 0, 0);
    table.tick(5_000, 5, 0);
    for _ in 0..100 {
        assert!(table.tick(5_000, 0, 0).is_some(), "at its limit");
    }
    let is_full: Vec<bool> = (0..6).map(|_| table.tick(4_990, 0, 0).is_some()).collect();
    assert_eq!(is_full, [true, true, true, true, false, false]);
    // It begins anew.
    assert_eq!(table.tick(5_000, 0, 0).unwrap().since, at(108));
}

#[test]
fn it_is_over_at_once_with_much_room_or_a_higher_limit() {
    for change in [
        |tick: Observation| Observation { entries: Entries::Exact(3_000), ..tick },
        |tick: Observation| Observation { limit: Limit::Entries(6_000), ..tick },
        |tick: Observation| Observation { limit: Limit::Unlimited, ..tick },
        |tick: Observation| Observation { entries: Entries::Unavailable, ..tick },
    ] {
        let mut table = Table::default();
        table.tick(5_000, 5, 0);
        assert_eq!(table.tick_with(5_000, [Some(0); 2], change), None);
    }
}

#[test]
fn a_pass_of_the_collector_within_a_tick_does_not_hide_it() {
    let mut table = Table::default();
    table.tick(4_000, 0, 0);
    assert!(table.tick(4_600, 0, 8).is_some(), "evicted: it was full within the tick");
    assert!(table.tick(4_000, 0, 8).is_some(), "and still evicts");
    let mut table = Table::default();
    assert_eq!(table.tick(2_000, 0, 8), None, "it was full within the tick, and has much room");
    let soon = |tick| Observation { is_full_at_once: true, ..tick };
    assert!(table.tick_with(2_000, [Some(1), Some(0)], soon).is_some(), "and fills at once");
}

#[test]
fn one_that_was_full_when_it_was_first_read_is_so_for_longer() {
    let mut table = Table::default();
    let between = |tick| Observation { entries: Entries::Between(4_900, 5_010), ..tick };
    assert_eq!(table.tick_with(0, [None; 2], between), None, "it may be");
    assert!(table.tick(5_000, 0, 0).unwrap().at_start);
    table.tick(1_000, 0, 0);
    assert!(!table.tick(5_000, 0, 0).unwrap().at_start);
}

#[test]
fn losses_that_nobody_counts_have_no_rate() {
    let mut table = Table::default();
    let polled = |tick| Observation { is_counted: false, ..tick };
    let full = table.tick_with(4_996, [None; 2], polled).unwrap();
    assert_eq!((full.table_full_drops, full.early_drops), (Loss::default(), Loss::default()));
    // The first tick counts, but in no known time.
    let mut table = Table::default();
    let full = table.tick(5_000, 7, 0).unwrap();
    assert_eq!(full.table_full_drops, Loss { rate: None, since: Some(at(0)) });
}

#[test]
fn the_kernels_numbers_wrap_and_say_nothing_of_a_table_with_room() {
    let stat = |drop, early_drop| KernelStat {
        drop: Some(drop),
        early_drop: Some(early_drop),
        ..KernelStat::default()
    };
    let (before, now) = (stat(u64::from(u32::MAX), 5), stat(u64::from(u32::MAX) + 3, 5));
    assert_eq!(losses_by_kernel(&now, &before, true), [Some(3), Some(0)]);
    assert_eq!(losses_by_kernel(&now, &before, false), [None, Some(0)]);
    assert_eq!(losses_by_kernel(&before, &before, false), [Some(0), Some(0)]);
}
