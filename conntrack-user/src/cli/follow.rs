//! Following the running kernel: `ctmon watch` and `ctmon record`.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use clap::Args;
use conntrack_user::{model::flow::threshold, source::live};

use super::{
    Output, Plan, Wanted,
    source::{Common, Ring},
    values::{parse_duration, parse_interval, parse_ratio, parse_size},
};

pub(super) const WATCH_COLUMNS: &str = "\
Columns:
  NETNS    name or inode of the network namespace
  ENTRIES  entries in the table; <=N: at most N, while the start is being counted
  MAX      nf_conntrack_max; none: no limit
  FILL     ENTRIES as a share of MAX
  INS/s    entries put into the table, a second
  PEAK     highest such rate in the tick, by packets, within some 10 ms
  DEL/s    entries taken out of the table, a second
  NET/s    change of the count, a second
  DROPS    packets dropped in the tick because the table was full
  EVICT    entries evicted early in the tick to make room
  FULLIN   median forecast of the time until the table is full; -: not within 3 h
  DRIFT    the kernel's count less ours: 0 unless something was missed; ~: not available at this moment
A question mark stands for what is not available.

Below a line, when what becomes of the table has changed, and every 10 s while it fills or is
full: the forecast, with the interval that holds the time in eight of ten cases, and why.

SIGUSR2 detaches the programs, so that nf_conntrack can be unloaded; a second one, or
loading it again, attaches them.
Ends with exit code 0 on SIGINT, SIGTERM, --count and a closed pipe; 3 on errors. A second signal
ends it at once, with exit code 130 or 143.";

pub(super) const RECORD_ENDS: &str = "\
Ends with exit code 0 on SIGINT, SIGTERM, --for, --count and --max-size, the file complete;
3 on errors. However it ends, all but about the last second can be read. A second signal ends it at
once, with exit code 130 or 143.";

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
    /// Replace the file of --record, but no symbolic link
    #[arg(long, requires = "record")]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Record {
    /// Output file, made with mode 0600 because it contains addresses; - for standard output
    pub(crate) file: PathBuf,
    /// End after this time, counted from when the programs are attached
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    pub(crate) for_at_most: Option<Duration>,
    /// End before the file is larger: bytes, or with K, M or G (10^3, 10^6, 10^9)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) max_size: Option<u64>,
    /// Replace an existing file, but no symbolic link
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) follow: Follow,
}

/// Following the running kernel for as long as is asked for.
#[derive(Debug, Args)]
pub(crate) struct Follow {
    #[command(flatten)]
    observe: Observe,
    /// End after so many ticks
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Wait until the module nf_conntrack is loaded
    #[arg(long)]
    wait: bool,
    /// Each tick has all namespaces, also those in which nothing was counted for 10 s
    #[arg(long)]
    all: bool,
    /// Write the debug log of the kernel programs to standard error
    #[arg(long)]
    debug_bpf: bool,
}

/// What is looked at, how often, and how many events are wanted.
#[derive(Debug, Args)]
pub(super) struct Observe {
    #[command(flatten)]
    common: Common,
    /// Time between two ticks, 10ms to 1h
    #[arg(long, short, value_parser = parse_interval, default_value = "1s")]
    interval: Duration,
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
    event_budget: NonZeroU32,
    /// Send the events of this share of the flows instead, above 0 and at most 1
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio, conflicts_with_all = ["no_events", "event_budget"])]
    sample_ratio: Option<f64>,
}

impl Follow {
    /// What is to be followed.
    pub(crate) fn plan(&self) -> Plan {
        let plan = self.observe.plan(self.debug_bpf);
        Plan {
            options: live::Options { idle_too: self.all, ..plan.options },
            count: self.count,
            wait: self.wait,
            ..plan
        }
    }
}

impl Observe {
    /// Without an end, and without waiting.
    pub(super) fn plan(&self, debug_bpf: bool) -> Plan {
        let wanted = match self.sample_ratio {
            Some(ratio) => Wanted::Threshold(threshold(ratio)),
            None => Wanted::Budget(self.event_budget),
        };
        let options = live::Options {
            probe_stats: self.probe_stats,
            ..self.common.options(&self.ring, !self.no_events, debug_bpf)
        };
        Plan {
            options,
            interval: self.interval,
            wanted,
            count: None,
            for_at_most: None,
            wait: false,
            tries_again: false,
        }
    }
}
