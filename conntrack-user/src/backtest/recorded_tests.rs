use super::*;
use crate::{
    forecast::snapshot::{Change, Timeouts},
    source::{
        item::Use,
        recording::{
            samples::{INIT, POD, item, netns, reading, start},
            writer::Writer,
        },
    },
};

const SECOND: u64 = 1_000_000_000;

/// A recording of a tick each second, in which 10 entries come to each of these namespaces.
fn recording(ticks: u64, all: &[(NetnsId, Option<u32>)]) -> Vec<u8> {
    let mut writer = Writer::new(vec![], "6.12.1", None).unwrap();
    let _ = writer.take(&start()).unwrap();
    for tick in 0..=ticks {
        let of = |(id, max): &(NetnsId, Option<u32>)| netns(*id, 50 + tick * 10, 0, *max);
        let purpose = if tick == 0 { Use::First } else { Use::Tick };
        let reading = reading(tick * SECOND, all.iter().map(of).collect());
        let _ = writer.take(&item(purpose, reading)).unwrap();
    }
    writer.finish().unwrap().0
}

fn tried(bytes: &[u8], netns: Option<u64>) -> Result<Vec<Recorded>, String> {
    read(&mut Reader::open(bytes).unwrap(), netns, MOST_BYTES).map_err(|error| error.to_string())
}

#[test]
fn each_namespace_with_a_limit_is_tried_or_the_one_asked_for() {
    let bytes = recording(12, &[(INIT, Some(400)), (POD, Some(300))]);
    let all = tried(&bytes, None).unwrap();
    assert_eq!(all.iter().map(|one| one.netns).collect::<Vec<_>>(), [POD, INIT]);
    let expected = "Recorded on 6.12.1, network namespace 4026532210 (blue), 12s at 1s a tick";
    assert_eq!(all[0].title, expected);
    let truth = &all[1].run.truth;
    let levels: Vec<u64> = (0..=12).map(|tick| 150 + tick * 10).collect();
    assert_eq!((truth.tick, &truth.level), (1.0, &levels));
    assert!(truth.max.iter().all(|max| *max == 400) && truth.clairvoyant.is_empty());
    assert_eq!(tried(&bytes, Some(INIT.inode)).unwrap()[0].netns, INIT);

    let error = tried(&bytes, Some(7)).unwrap_err();
    assert!(error.contains("no network namespace 7; it has 4026531840, 4026532210"), "{error}");
    let error = tried(&recording(8, &[(INIT, Some(400))]), None).unwrap_err();
    assert!(error.contains("the one with the most has 9: record for longer"), "{error}");
    let error = tried(&recording(20, &[(INIT, Some(0))]), None).unwrap_err();
    assert!(error.contains("the most has 0"), "{error}");
}

#[test]
fn of_a_cut_recording_what_is_whole_is_tried() {
    let bytes = recording(40, &[(INIT, Some(400))]);
    let mut reader = Reader::open(&bytes[..bytes.len() * 3 / 4]).unwrap();
    let all = read(&mut reader, None, MOST_BYTES).unwrap();
    let ticks = all[0].run.snapshots.len();
    assert!((LEAST..40).contains(&ticks), "{ticks}");
    assert!(!reader.take_notes().is_empty());
}

/// With so many entries, of which one was refused before.
fn snapshot(seconds: f64, entries: Option<u64>) -> Snapshot {
    Snapshot {
        time_ns: (seconds * 1e9) as u64,
        entries,
        limit: Limit::Entries(100),
        change: Some(Change { refused: 1, ..Change::default() }),
        live: None,
        ended: None,
        timeouts: Timeouts::default(),
    }
}

#[test]
fn ticks_that_come_when_they_can_are_laid_onto_even_ones() {
    let seconds = [5.0, 6.1, 6.9, 7.4, 8.0, 11.2, 12.0];
    let mut series = Series::default();
    for (at, seconds) in seconds.into_iter().enumerate() {
        // Of one the entries are not known.
        series.push(snapshot(seconds, (at != 4).then_some(10 * (at as u64 + 1))));
        if at == 4 {
            series.restart();
        }
    }
    // It is late, and is left out.
    series.push(snapshot(11.0, Some(99)));
    let run = series.run(1.0, 1000).unwrap();
    let seen: Vec<Option<u64>> = run
        .snapshots
        .iter()
        .map(|tick| tick.as_ref().map(|tick| tick.time_ns / 1_000_000))
        .collect();
    let expected = [5000, 6100, 7400, 0, 0, 0, 11_200, 12_000].map(|ms| (ms > 0).then_some(ms));
    assert_eq!(seen, expected);
    // Between 7 and 11 s the level is on a line.
    assert_eq!(run.truth.level, [10, 20, 40, 45, 50, 55, 60, 70]);
    let refused = [1, 1, 2, 0, 0, 0, 1, 1].map(Some);
    assert_eq!(run.truth.refused, refused);
    assert_eq!(run.truth.found_full, refused.map(|refused| refused > Some(0)));
    // Forecasters see the rest, too.
    let earlier: Vec<(usize, u64)> =
        run.earlier.iter().map(|(at, snapshot)| (*at, snapshot.time_ns / 1_000_000)).collect();
    assert_eq!(earlier, [(2, 6900), (3, 8000)]);
    assert_eq!(run.restarts, [6]);
}

#[test]
fn a_time_that_makes_no_sense_takes_no_memory() {
    let mut series = Series::default();
    series.push(snapshot(0.0, Some(1)));
    series.push(snapshot(1e9, Some(1)));
    assert!(series.run(0.001, 4_000_000).is_none());
}
