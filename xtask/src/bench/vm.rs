//! Monitors side by side in a VM.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::{
    Args,
    document::Part,
    numbers::{Spread, grouped},
    record::{Outcome, Record, Run},
    table::{markdown, row},
};
use crate::{
    build,
    process::{Lines, quoted},
    progress::note,
    vm::{
        self, Guest,
        kernel::Kernel,
        userland::{self, Files},
    },
};

/// A rule that makes connection tracking necessary, and a table in which no bucket is long and nothing expires.
const PREPARE: &str = "\
set -e
nft add table ip bench
nft add chain ip bench out '{ type filter hook output priority 0; }'
nft add rule ip bench out ct state new counter
sysctl -q -w net.netfilter.nf_conntrack_max=1048576 net.netfilter.nf_conntrack_udp_timeout=3600
echo 262144 >/sys/module/nf_conntrack/parameters/hashsize
";

/// The monitor that all others are compared with: none.
const NOTHING: &str = "nothing";

/// What the columns mean.
const LEGEND: &str = "\
Where instructions are counted, time is the number that all processors execute together, two nanoseconds each: the
same on every host, and the monitor's own work is in the rate. Such times are no real ones, and ratios of
instructions are not quite those of time: caches and locks cost nothing there.

`of that without`: the rate by that of the same round without a monitor; `flush`: the same of `conntrack -F`, which
deletes all entries for a user. CPU time is that of the monitor's process while flows are opened. `ctmon serve` is its two
processes together, whose common memory counts twice; what the one computes that scrapes it is in the rate, too. Missed
are inserts and deletes that a monitor did not see, of two a flow; those whose events ctmon's budget (10,000 a second)
leaves out are counted, and not missed. `with confirm`: with the hook that is attached where the kernel does not count
failed inserts by reason.
";

/// In MiB: bpftrace and what it compiles with take 250 of them twice, packed and unpacked.
const MEMORY: u32 = 2048;

/// Monitors that are measured on a real-time kernel, where programs are at kprobes.
const REAL_TIME: [&str; 4] =
    [NOTHING, "ctmon, counters", "ctmon, counters and events", "ctmon serve, scraped each second"];

/// Runs the measurements on the kernel of the command line, and describes them.
pub(crate) fn measure(args: &Args) -> Result<Part> {
    let text = text(args, &args.kernel.get()?, &args.monitor, LEGEND)?;
    Ok(Part { title: "Monitors side by side in a VM", text })
}

/// Runs the measurements on the newest real-time kernel, and describes them.
pub(crate) fn measure_real_time(args: &Args) -> Result<Part> {
    let kernel = vm::kernel::get(args.kernel.arch(), "newest-rt")?;
    let text = text(args, &kernel, &REAL_TIME.map(str::to_owned), "Columns as above.\n")?;
    Ok(Part { title: "On a real-time kernel", text })
}

/// Measures the monitors with these names on `kernel`, all where none is named, and describes the cost.
fn text(args: &Args, kernel: &Kernel, monitors: &[String], legend: &str) -> Result<String> {
    let binaries = build::static_bench(kernel.arch)?;
    let (files, bpftrace) = match userland::apart(kernel.arch, "bpftrace") {
        Ok(found) => found,
        Err(error) => {
            note(&format!("without bpftrace: {error:#}"));
            (Files::new(), String::new())
        }
    };
    let mut script = PREPARE.to_owned();
    if !bpftrace.is_empty() {
        script += &format!(
            "printf '#!/bin/sh\\nexec {bpftrace} \"$@\"\\n' >/bin/bpftrace\nchmod +x /bin/bpftrace\n"
        );
    }
    let mut words: Vec<String> = ["ctmon-bench", "--rounds"].map(str::to_owned).into();
    words.extend([args.rounds.to_string(), "--flows".to_owned(), args.flows.to_string()]);
    words.extend(args.hooks.then(|| "--hooks".to_owned()));
    words.extend(monitors.iter().cloned());
    script += &quoted(&words);
    let guest = Guest { files, ..Guest::command(&script, &binaries) };
    let mut machine = args.machine.for_measurements(kernel)?;
    machine.memory = machine.memory.max(MEMORY);
    // Each measurement takes some 5 s where a flow takes longest.
    machine.timeout = machine.timeout.or(Some(600 + u64::from(args.rounds) * 150));

    let mut collected = Collected::default();
    let status = vm::boot(kernel, &machine, &guest, &mut |bytes| {
        collected.push(bytes);
        Ok(())
    })?;
    if status != 0 {
        bail!("ctmon-bench ended with {status}:\n{}", collected.other);
    }
    let accel = vm::accelerator(&machine, kernel)?;
    let conditions = format!(
        "Kernel {}, {} virtual processors, QEMU {accel}; {} rounds, each the other way round than the one before, of {} \
         UDP flows from one sender; a table of 1,048,576 entries with 262,144 buckets.\n\n{legend}",
        kernel.release,
        machine.cpus,
        args.rounds,
        grouped(args.flows.into())
    );
    Ok(format!("{conditions}\n{}", describe(&collected.records)))
}

/// What came from the VM so far.
#[derive(Default)]
struct Collected {
    lines: Lines,
    records: Vec<Record>,
    other: String,
}

impl Collected {
    fn push(&mut self, bytes: &[u8]) {
        for line in self.lines.push(bytes) {
            match serde_json::from_str::<Record>(&line) {
                Ok(record) => {
                    note(&progress(&record));
                    self.records.push(record);
                }
                Err(_) => self.other += &format!("{line}\n"),
            }
        }
    }
}

fn progress(record: &Record) -> String {
    let outcome = match &record.outcome {
        Outcome::Measured(run) => {
            format!("{} flows/s", grouped(record.flows as f64 / run.seconds))
        }
        Outcome::Unavailable(why) => why.clone(),
    };
    format!("round {}: {}: {outcome}", record.round + 1, record.case)
}

/// All that was measured of a monitor.
struct Monitor<'a> {
    name: &'a str,
    /// With the flows of each, and its round.
    runs: Vec<(u32, u64, &'a Run)>,
    unavailable: Option<&'a str>,
}

fn describe(records: &[Record]) -> String {
    let mut monitors: Vec<Monitor<'_>> = Vec::new();
    for record in records {
        let place = monitors.iter().position(|monitor| monitor.name == record.case);
        let place = place.unwrap_or_else(|| {
            monitors.push(Monitor { name: &record.case, runs: Vec::new(), unavailable: None });
            monitors.len() - 1
        });
        let Some(monitor) = monitors.get_mut(place) else { continue };
        match &record.outcome {
            Outcome::Measured(run) => monitor.runs.push((record.round, record.flows, run)),
            Outcome::Unavailable(why) => monitor.unavailable = Some(why),
        }
    }
    let base = |of: fn(&Run) -> f64| -> BTreeMap<u32, f64> {
        let nothing = monitors.iter().filter(|monitor| monitor.name == NOTHING);
        nothing.flat_map(|monitor| &monitor.runs).map(|(round, _, run)| (*round, of(run))).collect()
    };
    let (base, flush_base) = (base(|run| run.seconds), base(|run| run.flush_seconds));
    let mut rates = vec![row([
        "monitor",
        "new flows/s",
        "of that without",
        "flush, of that without",
        "CPU, us a flow",
        "resident, MiB",
        "inserts and deletes missed",
    ])];
    let mut hooks = vec![row(["hook", "monitor", "program runs a flow", "ns a run", "ns a flow"])];
    for monitor in &monitors {
        let is_timed = monitor.runs.iter().any(|(_, _, run)| !run.hooks.is_empty());
        if is_timed {
            hooks.extend(hook_rows(monitor));
        } else {
            rates.push(rate_row(monitor, &base, &flush_base));
        }
    }
    let mut text = markdown(&rates);
    if hooks.len() > 1 {
        text += "\nRun time of ctmon's programs as the kernel accounts it, in a run of its own: without the trampoline, \
                 with one of the two readings of the clock that accounting adds. Each copy of a program is a run.\n\n";
        text += &markdown(&hooks);
    }
    text
}

fn rate_row(
    monitor: &Monitor<'_>,
    base: &BTreeMap<u32, f64>,
    flush_base: &BTreeMap<u32, f64>,
) -> Vec<String> {
    let name = monitor.name.to_owned();
    let spread = |of: &dyn Fn(u32, u64, &Run) -> Option<f64>| {
        Spread::of(monitor.runs.iter().filter_map(|(round, flows, run)| of(*round, *flows, run)))
    };
    let Some(rate) = spread(&|_, flows, run| Some(flows as f64 / run.seconds)) else {
        let why = format!("unavailable: {}", monitor.unavailable.unwrap_or("not measured"));
        return [vec![name, why], vec![String::new(); 5]].concat();
    };
    let text = |spread: Option<Spread>, digits| {
        spread.map_or_else(|| "-".to_owned(), |spread| spread.text(digits))
    };
    let ratio = spread(&|round, _, run| Some(base.get(&round)? / run.seconds));
    let flush = spread(&|round, _, run| Some(flush_base.get(&round)? / run.flush_seconds));
    let is_nothing = monitor.name == NOTHING;
    let of_process = |spread: Option<Spread>, digits: usize| match spread {
        Some(spread) if !is_nothing => format!("{:.digits$}", spread.median),
        _ => "-".to_owned(),
    };
    let cpu = spread(&|_, flows, run| Some(run.cpu_ns as f64 / 1e3 / flows as f64));
    let resident = spread(&|_, _, run| Some(run.resident_kib as f64 / 1024.0));
    let missed = spread(&|_, flows, run| {
        let due = 2.0 * flows as f64;
        Some((1.0 - run.seen? as f64 / due) * 100.0)
    });
    let missed = missed.map_or_else(
        || "-".to_owned(),
        |missed| {
            if missed.most == 0.0 { "0".to_owned() } else { format!("{} %", missed.text(1)) }
        },
    );
    vec![
        name,
        grouped(rate.median),
        text(ratio, 3),
        text(flush, 2),
        of_process(cpu, 2),
        of_process(resident, 1),
        missed,
    ]
}

fn hook_rows(monitor: &Monitor<'_>) -> Vec<Vec<String>> {
    let Some((_, flows, run)) = monitor.runs.first() else {
        return Vec::new();
    };
    let flows = *flows as f64;
    let busy = run.hooks.iter().filter(|hook| hook.count > 0);
    busy.map(|hook| {
        let (count, time) = (hook.count as f64, hook.time_ns as f64);
        vec![
            hook.hook.clone(),
            monitor.name.to_owned(),
            format!("{:.2}", count / flows),
            format!("{:.0}", time / count),
            format!("{:.0}", time / flows),
        ]
    })
    .collect()
}
