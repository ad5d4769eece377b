//! Times the bodies of the kernel programs and user space's share of an event, on this host; for
//! `cargo xtask bench`. Prints a JSON object a measurement. Needs what loading BPF programs needs.

mod bodies;
mod events;

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
    /// What could not be measured, and why.
    Unavailable {
        /// What.
        what: &'static str,
        /// Why not.
        why: String,
    },
}

fn main() -> ExitCode {
    let mut failed = false;
    for (what, measure) in
        [("bodies", bodies::measure as fn() -> Result<Vec<Record>>), ("events", events::measure)]
    {
        let records = measure()
            .unwrap_or_else(|error| vec![Record::Unavailable { what, why: format!("{error:#}") }]);
        for record in records {
            match serde_json::to_string(&record) {
                Ok(line) => println!("{line}"),
                Err(error) => {
                    eprintln!("ctmon-bench-native: {error}");
                    failed = true;
                }
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
