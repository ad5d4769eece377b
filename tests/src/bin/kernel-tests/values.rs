//! The names that the expectations of a scenario use, and what they stand for at one moment.

use anyhow::Result;

use crate::{expression::Values, kernel, report::Tick};

/// Names taken from ctmon's last tick: of the test's own namespace unless said otherwise.
#[cfg(test)]
pub(crate) const FROM_CTMON: &[&str] = &[
    "entries",
    "entries_limit",
    "baseline",
    "count_drift",
    "unhashed_entries",
    "dying_entries",
    "kernel_count",
    "allocs",
    "allocs_failed",
    "table_full_drops",
    "inserts",
    "inserts_packet",
    "inserts_ctnetlink",
    "deletes",
    "early_drops",
    "frees",
    "netns_events_lost",
    "netns_events_sampled_out",
    "clashes",
    "clashes_resolved",
    "insert_failed_clash",
    "insert_failed_chain_too_long",
    "insert_failed_dying",
    "deletes_by_cause_user",
    "deletes_by_cause_netns_exit",
    "deletes_by_cause_early_drop",
    "deletes_by_cause_kernel",
    "inserts_by_protocol_tcp",
    "inserts_by_protocol_udp",
    "inserts_by_protocol_icmp",
    "inserts_by_protocol_other",
    "deletes_by_status_unreplied_tcp",
    "deletes_by_status_unreplied_udp",
    "deletes_by_status_unreplied_icmp",
    "deletes_by_status_unreplied_other",
    "deletes_by_status_replied_tcp",
    "deletes_by_status_replied_udp",
    "deletes_by_status_replied_icmp",
    "deletes_by_status_replied_other",
    "deletes_by_status_assured_tcp",
    "deletes_by_status_assured_udp",
    "deletes_by_status_assured_icmp",
    "deletes_by_status_assured_other",
    "deletes_by_status_offloaded_tcp",
    "deletes_by_status_offloaded_udp",
    "deletes_by_status_offloaded_icmp",
    "deletes_by_status_offloaded_other",
    // Of all namespaces.
    "events_received",
    "events_seen",
    "events_sampled_out",
    "events_lost",
    "missed_calls_max",
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
pub(crate) const FROM_KERNEL: &[&str] = &[
    "count",
    "stat_drop",
    "stat_early_drop",
    "stat_insert_failed",
    "stat_clashres",
    // Chains that were too long; from 5.15 on.
    "stat_chainlength",
    "cpus",
];

/// Names taken from the senders' system calls; with `_NAME` behind, of one sender.
#[cfg(test)]
pub(crate) const FROM_SENDERS: &[&str] = &["attempts", "sent", "refused"];

/// What kprobes cannot tell: it takes more than the moment at which a function is entered. Before 6.7 the
/// kernel does not say what they missed.
pub(crate) const NOT_BY_KPROBE: &[&str] = &[
    "clashes_resolved",
    "insert_failed_",
    "victims_table_full_drop",
    "missed_calls_max",
    "misses",
];

/// Whether a null is all that kprobes can say.
pub(crate) fn is_beyond_kprobes(name: &str) -> bool {
    NOT_BY_KPROBE.iter().any(|beginning| name.starts_with(beginning))
}

/// What holds in every namespace at every quiet moment.
pub(crate) const ALWAYS: &[&str] = &[
    "inserts_packet + inserts_ctnetlink == inserts",
    "inserts_by_protocol_tcp + inserts_by_protocol_udp + inserts_by_protocol_icmp \
     + inserts_by_protocol_other == inserts",
    "deletes_by_cause_user + deletes_by_cause_netns_exit + deletes_by_cause_early_drop \
     + deletes_by_cause_kernel == deletes",
    "deletes_by_status_unreplied_tcp + deletes_by_status_unreplied_udp \
     + deletes_by_status_unreplied_icmp + deletes_by_status_unreplied_other \
     + deletes_by_status_replied_tcp + deletes_by_status_replied_udp \
     + deletes_by_status_replied_icmp + deletes_by_status_replied_other \
     + deletes_by_status_assured_tcp + deletes_by_status_assured_udp \
     + deletes_by_status_assured_icmp + deletes_by_status_assured_other \
     + deletes_by_status_offloaded_tcp + deletes_by_status_offloaded_udp \
     + deletes_by_status_offloaded_icmp + deletes_by_status_offloaded_other == deletes",
    "deletes_by_cause_early_drop == early_drops",
];

/// Adds what a tick says about the namespace `inode`.
pub(crate) fn add_tick(values: &mut Values, tick: &Tick, inode: u64) {
    let mut set = |name: &str, value: Option<i64>| {
        values.insert(name.to_owned(), value);
    };
    set("events_received", tick.events.received);
    set("events_seen", tick.events.seen);
    set("events_sampled_out", tick.events.sampled_out);
    set("events_lost", tick.events.lost);
    set("missed_calls_max", tick.missed_calls_max);
    set("all_inserts", tick.sum("inserts"));
    set("all_deletes", tick.sum("deletes"));
    let Some(netns) = tick.netns(inode) else {
        return;
    };
    set("entries", netns.entries);
    set("entries_limit", netns.entries_limit);
    set("baseline", netns.baseline);
    set("count_drift", netns.count_drift);
    set("unhashed_entries", netns.unhashed_entries);
    set("dying_entries", netns.dying_entries);
    set("kernel_count", netns.kernel("count"));
    for (name, value) in netns.flat_totals() {
        // Those of all namespaces have these names too.
        let known_as = match name.as_str() {
            "events_lost" => "netns_events_lost",
            "events_sampled_out" => "netns_events_sampled_out",
            other => other,
        };
        set(known_as, value);
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
