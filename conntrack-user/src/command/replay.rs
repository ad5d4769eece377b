//! `ctmon replay`

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};
use conntrack_user::{
    source::{
        item::{Item, Use},
        recording::{
            part::{Part, Place},
            reader::Reader as Recording,
        },
    },
    text,
};
use tokio::time::Instant;

use super::{
    follow::Sink as _,
    output::{self, Reader},
    show::Show,
    shutdown::Shutdown,
};
use crate::cli::{Replay, Speed};

pub(crate) async fn run(replay: &Replay) -> Result<u8> {
    let mut shutdown = Shutdown::listen()?;
    let mut recording = open(&replay.file)?;
    let mut show = Show::new(None, replay.causes, replay.flows);
    let outcome = tokio::select! {
        () = shutdown.requested() => Ok(()),
        outcome = play(&mut recording, replay, &mut show) => outcome,
    };
    let code = output::notes(&replay.file, &recording.take_notes());
    outcome.map(|()| code)
}

/// Opens a recording; `-` is standard input.
pub(crate) fn open(path: &Path) -> Result<Recording<Box<dyn Read>>> {
    let what = || format!("cannot read the recording {}", text::path(path));
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(path).with_context(what)?))
    };
    Recording::open(input).with_context(what)
}

async fn play(
    recording: &mut Recording<Box<dyn Read>>,
    replay: &Replay,
    show: &mut Show,
) -> Result<()> {
    let mut part = Part::new(replay.from, replay.to);
    let mut pace = Pace { speed: replay.speed, begun: None };
    while let Some(item) = recording.next_item().with_context(|| {
        format!("cannot read the recording {} any further", text::path(&replay.file))
    })? {
        match part.place(&item)? {
            // Signals get their turn also where nothing is waited for.
            Place::Before => tokio::task::yield_now().await,
            Place::Within => {
                pace.wait_for(&item).await;
                if show.begin(replay.output)? == Reader::Gone {
                    return Ok(());
                }
            }
            Place::Behind => return Ok(()),
        }
        if show.take(&item)? == Reader::Gone {
            return Ok(());
        }
    }
    Ok(part.end()?)
}

/// Waits as long as it took.
struct Pace {
    speed: Speed,
    /// A moment here, and on the recording's clock that never jumps.
    begun: Option<(Instant, u64)>,
}

impl Pace {
    async fn wait_for(&mut self, item: &Item) {
        let Item::Reading(purpose, reading) = item else {
            return tokio::task::yield_now().await;
        };
        let Speed::Times(times) = self.speed else {
            return tokio::task::yield_now().await;
        };
        let now_ns = reading.time.monotonic_ns;
        match self.begun {
            // The clock starts anew with each source.
            Some((begun, at_ns)) if *purpose == Use::Tick && now_ns >= at_ns => {
                let waited = (now_ns - at_ns) as f64 / 1e9 / times;
                if let Ok(waited) = Duration::try_from_secs_f64(waited)
                    && let Some(until) = begun.checked_add(waited)
                {
                    tokio::time::sleep_until(until).await;
                }
            }
            _ => self.begun = Some((Instant::now(), now_ns)),
        }
    }
}
