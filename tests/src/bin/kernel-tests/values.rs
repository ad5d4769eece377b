//! The names that the expectations of a scenario use, and what they stand for at one moment.

use anyhow::Result;

use crate::{expression::Values, kernel, report::Tick};

/// Names taken from ctmon's last tick: of the test's own namespace unless said otherwise.
#[cfg(test)]
pub(crate) const FROM_CTMON: [&str; 24] = [
    "entries",
    "entries_limit",
    "baseline",
    "drift",
    "kernel_count",
    "allocs",
    "allocs_failed",
    "table_full",
    "inserts",
    "inserts_packet",
    "inserts_ctnetlink",
    "deletes",
    "evictions",
    "frees",
    "frees_skipped",
    "netns_events_lost",
    // Of all namespaces.
    "events_received",
    "events_lost",
    "missed_at_most",
    "all_inserts",
    "all_deletes",
    // When the last step `start-ctmon` began.
    "count_at_start",
    "sent_at_start",
    // At the last step `baseline`.
    "sent_at_baseline",
];

/// Names taken from the kernel, without ctmon. `stat_*` is the change since the test began.
#[cfg(test)]
pub(crate) const FROM_KERNEL: [&str; 6] =
    ["count", "stat_drop", "stat_early_drop", "stat_insert_failed", "stat_clashres", "cpus"];

/// Names taken from the senders' system calls; with `_NAME` behind, of one sender.
#[cfg(test)]
pub(crate) const FROM_SENDERS: [&str; 3] = ["attempts", "sent", "refused"];

/// Adds what a tick says about the namespace `inode`.
pub(crate) fn add_tick(values: &mut Values, tick: &Tick, inode: u64) {
    let mut set = |name: &str, value: Option<i64>| {
        values.insert(name.to_owned(), value);
    };
    set("events_received", tick.events.received);
    set("events_lost", tick.events.lost);
    set("missed_at_most", tick.missed_at_most);
    set("all_inserts", tick.sum("inserts"));
    set("all_deletes", tick.sum("deletes"));
    let Some(netns) = tick.netns(inode) else {
        return;
    };
    set("entries", netns.entries);
    set("entries_limit", netns.entries_limit);
    set("baseline", netns.baseline);
    set("drift", netns.drift);
    set("kernel_count", netns.kernel("count"));
    for name in netns.totals.keys() {
        // The events of all namespaces have that name too.
        let known_as = if name == "events_lost" { "netns_events_lost" } else { name };
        set(known_as, netns.total(name));
    }
}

/// Adds what the kernel says about the calling thread's namespace.
pub(crate) fn add_kernel(values: &mut Values, before: &Stat) -> Result<()> {
    values.insert("count".to_owned(), Some(kernel::count()?));
    for (name, now) in kernel::stat()? {
        let change = now - before.get(&name).copied().unwrap_or_default();
        values.insert(format!("stat_{name}"), Some(change));
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    values.insert("cpus".to_owned(), i64::try_from(cpus).ok());
    Ok(())
}

/// Counters of `/proc/net/stat/nf_conntrack`.
pub(crate) type Stat = std::collections::BTreeMap<String, i64>;
