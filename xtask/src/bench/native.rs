//! The bodies of the kernel programs, and user space's share, on this host.

use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::{
    document::Part,
    numbers::{Spread, grouped},
    serving::{self, Serving, Tick},
    table::{markdown, row},
};
use crate::{build, process, progress::step};

/// A line of `ctmon-bench-native`.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Record {
    Body { body: String, ns: Vec<f64> },
    Events { events: u64, live: u64, ns: Vec<f64>, resident_kib: u64, resident_before_kib: u64 },
    Serving(Serving),
    Tick(Tick),
    Unavailable { what: String, why: String },
}

/// Builds the program, runs it and describes what it says.
pub(crate) fn measure() -> Result<Part> {
    let text = match measured() {
        Ok(records) => describe(&records),
        Err(error) => format!("Unavailable: {error:#}\n"),
    };
    Ok(Part { title: "Natively, on this host", text })
}

fn measured() -> Result<Vec<Record>> {
    let program = build::native_bench()?;
    let mut command = Command::new(&program);
    let said = step("time the kernel programs' bodies on this host", || {
        process::text(&mut command, "to time the kernel programs' bodies")
    })?;
    let parse = |line: &str| {
        serde_json::from_str(line).with_context(|| format!("ctmon-bench-native said {line:?}"))
    };
    said.lines().map(parse).collect()
}

fn describe(records: &[Record]) -> String {
    let mut bodies = vec![row(["body", "ns a call", "nine of ten between"])];
    let mut rest = String::new();
    let (mut loads, mut ticks) = (Vec::new(), Vec::new());
    for record in records {
        match record {
            Record::Body { body, ns } => {
                if let Some(spread) = Spread::inner(ns) {
                    let between = format!("{:.1} and {:.1}", spread.least, spread.most);
                    bodies.push(vec![body.clone(), format!("{:.1}", spread.median), between]);
                }
            }
            Record::Events { events, live, ns, resident_kib, resident_before_kib } => {
                rest += &share(*events, *live, ns, [*resident_before_kib, *resident_kib]);
            }
            Record::Serving(load) => loads.push(load),
            Record::Tick(tick) => ticks.push(tick),
            Record::Unavailable { what, why } => {
                rest += &format!("\nUnavailable: {what}: {why}\n");
            }
        }
    }
    let explanation = "\
The bodies of the programs, in a loop of 64 rounds inside a raw tracepoint program (`BPF_PROG_TEST_RUN`), less the
same loop with an empty body. The maps are the monitor's; entries and namespaces lie in a map of their own. What a
trampoline or a breakpoint adds is not in it, and all of it is in the processor's caches.
";
    let bodies = if bodies.len() > 1 {
        format!("{explanation}\n{}", markdown(&bodies))
    } else {
        String::new()
    };
    format!("{bodies}{rest}{}{}", serving::describe(&loads), serving::describe_ticks(&ticks))
}

/// User space's share.
fn share(events: u64, live: u64, ns: &[f64], resident_kib: [u64; 2]) -> String {
    let Some(spread) = Spread::of(ns.iter().copied()) else {
        return String::new();
    };
    let [before, with] = resident_kib.map(|kib| kib as f64 / 1024.0);
    // Nanoseconds an event, times 100,000 events a second, as a share of a second.
    let percent = spread.median * 100_000.0 / 1e9 * 100.0;
    format!(
        "\nUser space, with {} events replayed through the ring, drained and decoded: {} ns of CPU time an event, \
         which is {percent:.2} % of a processor at 100,000 events a second. Resident memory after the inserts of {} \
         flows: {with:.1} MiB, {before:.1} before the first; the live table keeps them.\n",
        grouped(events as f64),
        spread.text(1),
        grouped(live as f64),
    )
}
