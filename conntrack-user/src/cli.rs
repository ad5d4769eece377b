//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use conntrack_user::{
    doctor::gather::Roots,
    model::flow::threshold,
    source::{
        ebpf::{self, hook::Family},
        live::{self, Choice, Selection},
    },
    view::{export::Format, status::Limits},
};

use crate::command::steering::Wanted;

/// Watches the connection tracking tables of a Linux node: how full, how fast, and when they overflow
#[derive(Debug, Parser)]
#[command(name = "ctmon", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Follow the tables live, one line a namespace and tick
    #[command(after_help = WATCH_COLUMNS)]
    Watch(Watch),
    /// Write what `watch` would show, and each flow event, into a file, to be looked at later
    #[command(after_help = RECORD_ENDS)]
    Record(Record),
    /// Show a recording as `watch` would have shown it
    #[command(after_help = REPLAY_ENDS)]
    Replay(Replay),
    /// Write what is in a recording as a table, for spreadsheets and databases
    Export(Export),
    /// Say once how full the tables are, with an exit code for monitoring
    #[command(after_help = STATUS_CODES)]
    Status(Status),
    /// Follow single entries as they are inserted and destroyed
    Events(Events),
    /// Look at this machine: what ctmon can tell here, what is missing, and what to do
    #[command(after_help = DOCTOR_CODES)]
    Doctor(Doctor),
}

const WATCH_COLUMNS: &str = "\
Columns:
  NETNS    name or inode of the network namespace
  ENTRIES  entries in the table; <=N: at most N, while the start is being counted
  MAX      nf_conntrack_max; none: no limit
  INS/s    entries put into the table, a second
  PEAK     highest such rate in the tick, by packets, within some 10 ms
  DEL/s    entries taken out of the table, a second
  NET/s    change of the count, a second
  DROPS    packets dropped in the tick because the table was full
  EVICT    entries evicted early in the tick to make room
  FULLIN   time until the table is full if it goes on like this; -: it does not grow
  DRIFT    the kernel's count less ours: 0 unless something was missed; ~: not to be told now
A question mark stands for what cannot be told.

SIGUSR2 detaches the programs, so that nf_conntrack can be unloaded; a second one, or
loading it again, attaches them.
Ends with exit code 0 on SIGINT, SIGTERM, --count and a closed pipe; 3 on errors.";

const RECORD_ENDS: &str = "\
Ends with exit code 0 on SIGINT, SIGTERM, --for, --count and --max-size, the file complete;
3 on errors. However it ends, all but about the last second can be read.";

const REPLAY_ENDS: &str = "\
Ends with exit code 0 also where the recording is cut or damaged: standard error says where, and
how many bytes were left out; 3 when it is no recording, of a newer format, or on another error.";

const STATUS_CODES: &str = "\
Exit codes:
  0  all tables below the limits
  1  a table has reached --warn
  2  a table has reached --crit
  3  a table could not be read, wrong usage, or another error";

const DOCTOR_CODES: &str = "\
It reads only, and attaches the kernel programs for a moment to see whether they do.

Exit codes:
  0  all is well
  1  ctmon works with less than everything, or a table is in danger
  2  ctmon cannot do its job
  3  wrong usage, or another error";

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Where the numbers come from; auto: kernel programs where the kernel takes them, else procfs
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    source: Choice,
    /// How kernel programs are attached; auto: by fentry where the kernel takes it, else by kprobe
    #[arg(long, value_enum, default_value_t = Attach::Auto)]
    attach: Attach,
    /// Which network namespaces: all, self, or an inode number
    #[arg(long, value_parser = parse_netns, default_value = "all")]
    netns: Selection,
    #[command(flatten)]
    paths: Paths,
    #[cfg(feature = "fault-injection")]
    #[command(flatten)]
    fault: Fault,
}

#[derive(Debug, Args)]
struct Paths {
    /// Where procfs is mounted
    #[arg(long = "path.procfs", value_name = "DIR", default_value = "/proc")]
    procfs: PathBuf,
    /// Where sysfs is mounted
    #[arg(long = "path.sysfs", value_name = "DIR", default_value = "/sys")]
    sysfs: PathBuf,
    /// Folder whose names tell those of pods
    #[arg(long = "path.pods", value_name = "DIR", default_value = "/var/log/pods")]
    pods: PathBuf,
}

/// What goes wrong on purpose in a build for tests.
#[cfg(feature = "fault-injection")]
#[derive(Debug, Args)]
struct Fault {
    /// Test build: leave out the last of every N frees
    #[arg(long, value_name = "N", default_value_t = 0)]
    fault_skip_frees: u32,
    /// Test build: claim that this hook is attached, and do not attach it
    #[arg(long, value_name = "HOOK", value_parser = parse_hook)]
    fault_without: Vec<ebpf::hook::Hook>,
    /// Test build: tell only N namespaces apart
    #[arg(long, value_name = "N", default_value_t = 0)]
    fault_max_netns: u32,
    /// Test build: attach also hooks that tell what this kernel tells by itself
    #[arg(long)]
    fault_all_hooks: bool,
}

#[cfg(feature = "fault-injection")]
fn parse_hook(text: &str) -> Result<ebpf::hook::Hook, String> {
    let all = ebpf::hook::Hook::ALL;
    all.into_iter()
        .find(|hook| hook.name() == text)
        .ok_or_else(|| format!("the hooks are {}", all.map(ebpf::hook::Hook::name).join(", ")))
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) follow: Follow,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Say below each line what is behind it: inserts by path and protocol, deletes by cause and status,
    /// drops by reason, and the kernel's own counters with their meaning
    #[arg(long)]
    pub(crate) causes: bool,
    /// Say below the lines, once a second, what is known of single flows: how many are alive, how long they
    /// live, what they are doing
    #[arg(long, conflicts_with = "no_events")]
    pub(crate) flows: bool,
    /// Also record it, as `ctmon record` does
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    /// Overwrite the file of --record
    #[arg(long, requires = "record")]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Record {
    /// Where to; -: standard output
    pub(crate) file: PathBuf,
    /// End after this time, counted from when the programs are attached
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) for_at_most: Option<Duration>,
    /// End before the file is larger: bytes, or with K, M or G (10^3, 10^6, 10^9)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_size: Option<u64>,
    /// Overwrite an existing file
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) follow: Follow,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// A recording; -: standard input
    pub(crate) file: PathBuf,
    /// How many times as fast as it was recorded; max: without waiting
    #[arg(long, value_parser = parse_speed, default_value = "1")]
    pub(crate) speed: Speed,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// As `ctmon watch --causes`
    #[arg(long)]
    pub(crate) causes: bool,
    /// As `ctmon watch --flows`
    #[arg(long)]
    pub(crate) flows: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// A recording; -: standard input
    pub(crate) file: PathBuf,
    /// Format of the table
    #[arg(long, value_enum)]
    pub(crate) format: Format,
    /// What the rows are
    #[arg(long, value_enum, default_value_t = What::Ticks)]
    pub(crate) what: What,
    /// Where to; standard output by default
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
    /// Overwrite an existing file
    #[arg(long, requires = "to")]
    pub(crate) force: bool,
}

/// What the rows of an exported table are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// A namespace at a tick
    Ticks,
    /// A flow event
    Events,
}

/// How fast a recording is replayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Speed {
    /// So many times as fast as it was recorded.
    Times(f64),
    /// Without waiting.
    Max,
}

/// Following the running kernel.
#[derive(Debug, Args)]
pub(crate) struct Follow {
    #[command(flatten)]
    common: Common,
    /// Time between two ticks, 10ms to 1h
    #[arg(long, short, value_parser = parse_interval, default_value = "1s")]
    pub(crate) interval: Duration,
    /// End after so many ticks
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Wait until the module nf_conntrack is loaded
    #[arg(long)]
    pub(crate) wait: bool,
    /// Each tick has all namespaces, also those in which nothing was counted for 10 s
    #[arg(long)]
    all: bool,
    /// Time the kernel programs (JSON: probes[].run_time_ns); costs each run two readings of the clock
    #[arg(long)]
    probe_stats: bool,
    #[command(flatten)]
    ring: Ring,
    /// Send no events through the ring buffer, only count
    #[arg(long)]
    no_events: bool,
    /// Events a second, at most, on the average: beyond it they are sent of a sample of the flows, chosen so
    /// that a flow's insert and destroy are both sent or both not. Counts are of all
    #[arg(long, value_name = "N", default_value = "10000", conflicts_with = "no_events")]
    event_budget: std::num::NonZeroU32,
    /// Send the events of this share of the flows instead, above 0 and at most 1
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio, conflicts_with_all = ["no_events", "event_budget"])]
    sample_ratio: Option<f64>,
    /// Write the debug log of the kernel programs to standard error
    #[arg(long)]
    pub(crate) debug_bpf: bool,
}

#[derive(Debug, Args)]
struct Ring {
    /// Size of the ring buffers together: a power of two, at least 4096 bytes
    #[arg(long, value_name = "BYTES", value_parser = parse_ring, default_value_t = ebpf::DEFAULT_RING_BYTES)]
    ring_size: u32,
    /// How many ring buffers the CPUs share: 1, 2, 4 or 8 [default: one for 16 CPUs]
    #[arg(long, value_name = "N", value_parser = parse_rings)]
    rings: Option<u32>,
}

impl Follow {
    /// How many events are wanted.
    pub(crate) fn wanted(&self) -> Wanted {
        match self.sample_ratio {
            Some(ratio) => Wanted::Threshold(threshold(ratio)),
            None => Wanted::Budget(self.event_budget),
        }
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self { ring_size: ebpf::DEFAULT_RING_BYTES, rings: None }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Fill from which it is a warning, in per cent [default: 80, or --crit where that is lower]
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    warn: Option<f64>,
    /// Fill from which it is critical, in per cent
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, default_value = "95")]
    crit: f64,
    /// Time over which rates are measured, 10ms to 1h
    #[arg(long, short, value_parser = parse_interval, default_value = "1s")]
    pub(crate) interval: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How to write it
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// End after so many events
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    ring: Ring,
}

/// How kernel programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Attach {
    /// By fentry where the kernel takes it, else by kprobe
    Auto,
    /// On functions whose type the kernel knows (BTF)
    Fentry,
    /// On functions found by name; cannot tell why an insert failed
    Kprobe,
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// How to write it
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Also write a .tar.gz for a bug report; an existing file is not overwritten
    #[arg(long, value_name = "FILE")]
    pub(crate) bundle: Option<PathBuf>,
    /// Put into the bundle what is private: host name, names of namespaces and files
    #[arg(long, requires = "bundle")]
    pub(crate) include_private: bool,
    /// Keep the programs attached for so long, and tell what they counted, missed and took
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    pub(crate) observe: Option<Duration>,
    #[command(flatten)]
    paths: Paths,
    /// Where the root file system is: settings in /etc, the kernel's configuration in /boot
    #[arg(long = "path.rootfs", value_name = "DIR", default_value = "/")]
    rootfs: PathBuf,
}

/// How to write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl Common {
    fn options(&self, ring: &Ring, events: bool, debug_log: bool) -> live::Options {
        #[cfg(feature = "fault-injection")]
        let fault = ebpf::Fault {
            skip_frees: self.fault.fault_skip_frees,
            without: self.fault.fault_without.clone(),
            max_netns: self.fault.fault_max_netns,
            all_hooks: self.fault.fault_all_hooks,
        };
        #[cfg(not(feature = "fault-injection"))]
        let fault = ebpf::Fault::default();
        live::Options {
            choice: self.source,
            selection: self.netns,
            idle_too: false,
            probe_stats: false,
            procfs: self.paths.procfs.clone(),
            pods: self.paths.pods.clone(),
            ebpf: ebpf::Options {
                procfs: self.paths.procfs.clone(),
                family: match self.attach {
                    Attach::Auto => None,
                    Attach::Fentry => Some(Family::Tracing),
                    Attach::Kprobe => Some(Family::Kprobe),
                },
                sysfs: self.paths.sysfs.clone(),
                ring_bytes: ring.ring_size,
                rings: ring.rings,
                events,
                debug_log,
                fault,
            },
        }
    }

    pub(crate) fn procfs(&self) -> &std::path::Path {
        &self.paths.procfs
    }
}

impl Follow {
    pub(crate) fn procfs(&self) -> &std::path::Path {
        self.common.procfs()
    }

    pub(crate) fn options(&self) -> live::Options {
        live::Options {
            idle_too: self.all,
            probe_stats: self.probe_stats,
            ..self.common.options(&self.ring, !self.no_events, self.debug_bpf)
        }
    }
}

impl Status {
    pub(crate) fn options(&self) -> live::Options {
        live::Options { idle_too: true, ..self.common.options(&Ring::default(), false, false) }
    }

    pub(crate) fn limits(&self) -> anyhow::Result<Limits> {
        let crit = self.crit;
        let warn = self.warn.unwrap_or_else(|| crit.min(80.0));
        if warn > crit {
            anyhow::bail!(
                "--warn {warn} is above --crit {crit}: a warning comes before it is critical"
            );
        }
        Ok(Limits { warn, crit })
    }
}

impl Events {
    pub(crate) fn options(&self) -> live::Options {
        self.common.options(&self.ring, true, false)
    }
}

impl Doctor {
    pub(crate) fn roots(&self) -> Roots {
        // Absolute, so that a bundle can hide them.
        let absolute =
            |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Roots {
            procfs: absolute(&self.paths.procfs),
            sysfs: absolute(&self.paths.sysfs),
            pods: absolute(&self.paths.pods),
            rootfs: absolute(&self.rootfs),
        }
    }
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write it like 100ms, 1s or 5m"))?;
    if (Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&interval) {
        Ok(interval)
    } else {
        Err("it must be between 10ms and 1h".into())
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time.is_zero() => Err("it must be longer than nothing".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{error}; write it like 30s, 10m or 2h")),
    }
}

fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 1_000),
        Some(digits) if text.ends_with('M') => (digits, 1_000_000),
        Some(digits) => (digits, 1_000_000_000),
        None => (text, 1),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|bytes| *bytes >= 10_000)
        .ok_or_else(|| "it must be at least 10K, and is written like 20M or 1G".into())
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    match text.parse::<f64>() {
        _ if text == "max" => Ok(Speed::Max),
        Ok(times) if times > 0.0 && times.is_finite() => Ok(Speed::Times(times)),
        _ => Err("it must be a number above 0, or max".into()),
    }
}

fn parse_netns(text: &str) -> Result<Selection, String> {
    match text {
        "all" => Ok(Selection::All),
        "self" => Ok(Selection::Own),
        number => number.parse().map(Selection::Inode).map_err(|_| {
            "it must be all, self, or an inode number as in `ls -Li /proc/self/ns/net`".into()
        }),
    }
}

fn parse_ring(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(bytes) if bytes.is_power_of_two() && (4096..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => Err("it must be a power of two between 4096 and 1073741824".into()),
    }
}

fn parse_rings(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(rings) if rings.is_power_of_two() && rings as usize <= conntrack_ebpf::RINGS => {
            Ok(rings)
        }
        _ => Err("it must be 1, 2, 4 or 8".into()),
    }
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if ratio > 0.0 && ratio <= 1.0 => Ok(ratio),
        _ => Err("it must be above 0 and at most 1".into()),
    }
}

fn parse_percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("it must be between 0 and 100".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused_with_what_would() {
        let cases = [
            (vec!["watch", "--interval", "5ms"], "between 10ms and 1h"),
            (vec!["watch", "--interval", "soon"], "100ms, 1s or 5m"),
            (vec!["watch", "--netns", "blue"], "all, self, or an inode number"),
            (vec!["watch", "--ring-size", "5000"], "a power of two"),
            (vec!["watch", "--ring-size", "2048"], "a power of two"),
            (vec!["watch", "--sample-ratio", "0"], "above 0 and at most 1"),
            (vec!["watch", "--rings", "3"], "1, 2, 4 or 8"),
            (vec!["watch", "--count", "0"], "0 is not in 1"),
            (vec!["watch", "--force"], "--record"),
            (vec!["record", "x", "--for", "long"], "30s, 10m or 2h"),
            (vec!["record", "x", "--for", "0s"], "longer than nothing"),
            (vec!["record", "x", "--max-size", "9K"], "at least 10K"),
            (vec!["record", "x", "--max-size", "99999999999999G"], "at least 10K"),
            (vec!["replay", "x", "--speed", "0"], "above 0, or max"),
            (vec!["replay", "x", "--speed", "inf"], "above 0, or max"),
            (vec!["watch", "--source", "ebfp"], "ebpf"),
            (vec!["status", "--warn", "101"], "between 0 and 100"),
            (vec!["status", "--crit", "NaN"], "between 0 and 100"),
        ];
        for (arguments, expected) in cases {
            let all = [vec!["ctmon"], arguments.clone()].concat();
            let error = Cli::try_parse_from(all).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn a_warning_comes_before_critical() {
        let cli = Cli::try_parse_from(["ctmon", "status", "--crit", "59"]).unwrap();
        let Command::Status(low) = cli.command else { panic!() };
        let expected = Limits { warn: 59.0, crit: 59.0 };
        assert_eq!(low.limits().unwrap(), expected);
        let cli = Cli::try_parse_from(["ctmon", "status", "--warn", "96"]).unwrap();
        let Command::Status(status) = cli.command else { panic!() };
        assert!(status.limits().unwrap_err().to_string().contains("above --crit 95"));
    }
}
