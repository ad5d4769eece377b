//! Times the bodies of the kernel programs, user space's share of an event, and the serving half under loads, on this
//! host; for `cargo xtask bench`. Prints a JSON object a measurement. Needs what loading BPF programs needs.

mod bodies;
mod events;
mod node;
mod parts;
mod serving;
mod usage;

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

/// What was measured.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Record {
    /// Nanoseconds of a call of a body, without the loop around it.
    Body {
        /// What was timed.
        body: &'static str,
        /// What each run of [`bodies::RUNS`] gave.
        ns: Vec<f64>,
    },
    /// User space's share of events.
    Events(events::Share),
    /// What the serving half takes under a load.
    Serving(serving::Serving),
    /// What a part of the serving half takes of a tick.
    Tick {
        /// Namespaces in which something was counted.
        netns: u32,
        part: &'static str,
        /// CPU time of each time, in microseconds.
        us: Vec<f64>,
    },
    /// What could not be measured, and why.
    Unavailable {
        /// What.
        what: &'static str,
        /// Why not.
        why: String,
    },
}

/// With an argument: the load with that name, alone.
fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1) {
        Some(load) => serving::measure(&load).and_then(|record| say(&record)),
        None => all(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ctmon-bench-native: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn all() -> Result<()> {
    let parts = [
        ("bodies", bodies::measure as fn() -> Result<Vec<Record>>),
        ("events", events::measure),
        ("parts of a tick", parts::measure),
    ];
    for (what, measure) in parts {
        let records = measure().unwrap_or_else(|error| vec![unavailable(what, &error)]);
        records.iter().try_for_each(say)?;
    }
    match serving::measure_all(|line| println!("{line}")) {
        Ok(()) => Ok(()),
        Err(error) => say(&unavailable("the serving half", &error)),
    }
}

fn unavailable(what: &'static str, error: &anyhow::Error) -> Record {
    Record::Unavailable { what, why: format!("{error:#}") }
}

fn say(record: &Record) -> Result<()> {
    println!("{}", serde_json::to_string(record)?);
    Ok(())
}
