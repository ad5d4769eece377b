//! A part of a recording, from one moment up to another.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use crate::{model::reading::Time, source::item::Item};

/// A moment of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// So long after its start.
    Offset(Duration),
    /// At that time, by the clock of the machine that recorded.
    At(SystemTime),
}

impl Moment {
    /// Whether it is `now`, or was before, in a recording that begins at `start`.
    fn is_reached(self, start: Time, now: Time) -> bool {
        match self {
            Self::Offset(offset) => between(start, now) >= offset,
            Self::At(time) => at(now) >= time,
        }
    }
}

/// Where an item lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before the part: what comes later builds upon it.
    Before,
    /// In it.
    Within,
    /// Behind it, as all the rest.
    Behind,
}

/// Why a part has nothing in it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OutOfRange {
    /// It would begin later than the recording ends.
    #[error(
        "--from is after the end of the recording, which is {} long: from {} to {}",
        humantime::format_duration(Duration::from_millis(between(*.start, *.end).as_millis() as u64)),
        humantime::format_rfc3339_millis(at(*.start)),
        humantime::format_rfc3339_millis(at(*.end))
    )]
    BeyondEnd {
        /// When the recording begins.
        start: Time,
        /// When it ends.
        end: Time,
    },
    /// It would end before it begins.
    #[error(
        "nothing is before --to: it has to be later than --from and than the start of the recording, {}",
        humantime::format_rfc3339_millis(at(*.start))
    )]
    Empty {
        /// When the recording begins.
        start: Time,
    },
}

/// Finds a part in a recording that is read from its beginning.
#[derive(Debug)]
pub struct Part {
    from: Option<Moment>,
    to: Option<Moment>,
    /// The first time of any item, and the latest.
    span: Option<(Time, Time)>,
    place: Place,
}

impl Part {
    /// What is at `from` and after it, and before `to`; where they are none, from the start and up to the end.
    #[must_use]
    pub const fn new(from: Option<Moment>, to: Option<Moment>) -> Self {
        Self { from, to, span: None, place: Place::Before }
    }

    /// Where the next item lies. Events of flows have no time: they lie where the item before them does.
    ///
    /// # Errors
    /// When the part has ended before it began.
    pub fn place(&mut self, item: &Item) -> Result<Place, OutOfRange> {
        let Some(now) = item.time() else { return Ok(self.place) };
        let start = self.span.map_or(now, |(start, _)| start);
        self.span = Some((start, now));
        let is_reached = |moment: Moment| moment.is_reached(start, now);
        if self.to.is_some_and(is_reached) {
            if self.place == Place::Before {
                return Err(OutOfRange::Empty { start });
            }
            self.place = Place::Behind;
        } else if self.place == Place::Before && self.from.is_none_or(is_reached) {
            self.place = Place::Within;
        }
        Ok(self.place)
    }

    /// The recording has no more items.
    ///
    /// # Errors
    /// When the part has not begun.
    pub fn end(&self) -> Result<(), OutOfRange> {
        match self.span {
            Some((start, end)) if self.place == Place::Before => {
                Err(OutOfRange::BeyondEnd { start, end })
            }
            _ => Ok(()),
        }
    }
}

/// By the clock that never jumps.
const fn between(start: Time, now: Time) -> Duration {
    Duration::from_nanos(now.monotonic_ns.saturating_sub(start.monotonic_ns))
}

fn at(time: Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(time.unix_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{
        item::{Flows, Use},
        recording::samples::{START_NS, reading, start},
    };

    const SECOND: u64 = 1_000_000_000;

    /// A tick each second from the third on, with events behind it, up to 10 s.
    fn items() -> Vec<Item> {
        let tick = |second| Item::Reading(Use::Tick, Box::new(reading(second * SECOND, vec![])));
        let ticks = (3..=10).flat_map(|second| [tick(second), Item::Flows(Flows::default())]);
        [start()].into_iter().chain(ticks).collect()
    }

    /// The seconds of the ticks in a part, each of them followed by its events.
    fn ticks(from: Option<Moment>, to: Option<Moment>) -> Result<Vec<u64>, OutOfRange> {
        let (mut part, mut ticks, mut events) = (Part::new(from, to), vec![], 0);
        for item in items() {
            let place = part.place(&item)?;
            match item {
                _ if place == Place::Before => {}
                _ if place == Place::Behind => break,
                Item::Flows(_) => events += 1,
                Item::Reading(_, reading) => ticks.push(reading.time.monotonic_ns / SECOND),
                _ => {}
            }
        }
        assert_eq!(events, ticks.len());
        part.end().map(|()| ticks)
    }

    fn offset(seconds: u64) -> Option<Moment> {
        Some(Moment::Offset(Duration::from_secs(seconds)))
    }

    fn utc(seconds: u64) -> Option<Moment> {
        Some(Moment::At(UNIX_EPOCH + Duration::from_nanos(START_NS + seconds * SECOND)))
    }

    #[test]
    fn a_part_begins_with_its_first_moment_and_ends_before_its_last() {
        let all: Vec<u64> = (3..=10).collect();
        assert_eq!(ticks(None, None).unwrap(), all);
        assert_eq!(ticks(offset(0), offset(11)).unwrap(), all);
        for moment in [offset, utc] {
            assert_eq!(ticks(moment(5), moment(8)).unwrap(), [5, 6, 7]);
            assert_eq!(ticks(None, moment(5)).unwrap(), [3, 4]);
            assert_eq!(ticks(moment(10), None).unwrap(), [10]);
        }
        assert_eq!(ticks(offset(5), utc(6)).unwrap(), [5]);
    }

    #[test]
    fn a_part_with_nothing_in_it_is_an_error() {
        let error = |from, to| ticks(from, to).unwrap_err().to_string();
        let long = error(offset(11), None);
        assert!(long.contains("is 10s long: from 2026-"), "{long}");
        for (from, to) in [(offset(5), offset(5)), (offset(6), utc(4)), (None, utc(0))] {
            assert!(error(from, to).contains("later than --from"), "{from:?} {to:?}");
        }
        assert_eq!(Part::new(offset(1), None).end(), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_end_what_has_begun() {
        let mut part = Part::new(utc(5), None);
        let mut back = reading(6 * SECOND, vec![]);
        back.time.unix_ns = START_NS;
        let [there, back] = [reading(5 * SECOND, vec![]), back]
            .map(|reading| part.place(&Item::Reading(Use::Tick, Box::new(reading))).unwrap());
        assert_eq!((there, back), (Place::Within, Place::Within));
    }
}
