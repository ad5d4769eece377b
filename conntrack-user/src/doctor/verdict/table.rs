//! The tables: which can be read, whether anything is tracked, their size and settings.

use super::{NO_PROCFS, Verdict};
use crate::{
    doctor::facts::{Capability, Conntrack, Fact, Facts, Namespace},
    severity::{Severity, Thresholds},
    view::units,
};

/// `nf_conntrack_max` by buckets: the kernel itself sets 1, and older ones 4 (`nf_conntrack_init_start`).
const MANY_ENTRIES: f64 = 4.0;
/// From here on chains of a full table have 32 links on average; an entry is refused where one has more
/// than a random limit of 50 to 80, or 8 to 32 in 5.15 (`MIN_CHAINLEN`, nf_conntrack_core.c).
const TOO_MANY_ENTRIES: f64 = 16.0;
/// Eviction looks into 8 buckets in a row (`NF_CT_EVICTION_RANGE`): with fewer entries a bucket than
/// this it hardly finds any.
const FEW_ENTRIES: f64 = 0.125;
/// Bytes of a bucket: the head of a list (`struct hlist_nulls_head`).
const BUCKET_BYTES: u64 = 8;
/// Five days, the kernel's default for established TCP connections.
const LONG_ESTABLISHED: u64 = 432_000;

/// Modules of rules, each of which makes its network namespace track.
const RULES: [&str; 24] = [
    "act_ct",
    "nft_connlimit",
    "nft_ct",
    "nft_flow_offload",
    "nft_masq",
    "nft_nat",
    "nft_redir",
    "nft_synproxy",
    "xt_CONNMARK",
    "xt_CONNSECMARK",
    "xt_CT",
    "xt_MASQUERADE",
    "xt_NETMAP",
    "xt_REDIRECT",
    "xt_SYNPROXY",
    "xt_cluster",
    "xt_connbytes",
    "xt_connlabel",
    "xt_connlimit",
    "xt_connmark",
    "xt_conntrack",
    "xt_helper",
    "xt_nat",
    "xt_state",
];
/// Modules that may track without such a rule.
const PERHAPS: [&str; 2] = ["ip_vs", "openvswitch"];

pub(super) fn verdicts(facts: &Facts, thresholds: &Thresholds) -> Vec<Verdict> {
    let mut verdicts = vec![namespaces(facts)];
    if matches!(facts.conntrack, Fact::Known(Conntrack::Absent { .. }) | Fact::Unavailable(_)) {
        return verdicts;
    }
    verdicts.extend([
        tracking(facts),
        fill(facts, thresholds),
        size(facts),
        expectations(facts),
        timeouts(facts),
        settings(facts),
        statistics(facts),
    ]);
    verdicts
}

fn namespaces(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("namespaces", severity, what);
    let namespaces = &facts.namespaces;
    let is_absent = matches!(facts.conntrack, Fact::Known(Conntrack::Absent { .. }));
    if namespaces.read.is_empty() && is_absent {
        return new(Severity::Info, "none has a table".into());
    }
    let what = match namespaces.read.len() {
        0 => "none is read".to_owned(),
        1 => "1 is read".to_owned(),
        read => format!("{read} are read"),
    };
    let mut what = vec![what];
    if let Some(first) = namespaces.refused.first() {
        what.push(format!("{} not entered ({})", namespaces.refused.len(), first.reason));
    }
    match &namespaces.hidden_processes {
        Fact::Known(0) => {}
        Fact::Known(1) => what.push("1 process hides its own".into()),
        Fact::Known(hidden) => what.push(format!("{hidden} processes hide theirs")),
        Fact::Unavailable(why) => what.push(format!("others are not available: {why}")),
    }
    let what = what.join(", ");
    if namespaces.read.is_empty() {
        return new(Severity::Critical, what).why("there is no count of entries").advice(NO_PROCFS);
    }
    if namespaces.refused.is_empty() && namespaces.hidden_processes.is(&0) {
        return new(Severity::Ok, what);
    }
    let may_look = facts.process.has(Capability::SysPtrace) == Some(true)
        && !facts.process.initial_user_namespace.is(&false);
    if namespaces.refused.is_empty() && may_look {
        return new(Severity::Info, what).why(
            "a process with more capabilities than ctmon's cannot be looked into (ptrace(2))",
        );
    }
    new(Severity::Warning, what)
        .why(
            "tables of namespaces that cannot be read are not shown, or without a count of entries",
        )
        .advice("run ctmon as root, or with CAP_SYS_ADMIN and CAP_SYS_PTRACE")
}

/// Entries in all tables that could be read.
fn entries(facts: &Facts) -> u64 {
    let counts = facts.namespaces.read.iter().filter_map(|netns| netns.entries.known());
    counts.map(|count| u64::from(*count)).sum()
}

/// Whether anything makes this kernel track. Rules themselves are not read: that loads modules, or needs
/// a privilege more; the modules they come from count them.
fn tracking(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("tracking", severity, what);
    let modules = facts.surroundings.modules.known();
    let used: Vec<String> = RULES
        .iter()
        .filter_map(|name| Some((name, *modules?.get(*name)?)))
        .filter(|(_, references)| *references > 0)
        .map(|(name, references)| format!("{name} ({references})"))
        .collect();
    if !used.is_empty() {
        return new(Severity::Ok, format!("rules use {}", used.join(", ")));
    }
    let entries = entries(facts);
    if entries > 0 {
        return new(Severity::Ok, format!("{entries} entries, so something tracks"));
    }
    // What depends on a module is one itself: only then does every rule show among the modules.
    let is_module = matches!(facts.conntrack, Fact::Known(Conntrack::Module { .. }));
    let perhaps = PERHAPS.iter().find(|name| modules.is_some_and(|all| all.contains_key(**name)));
    let why_not = match (modules, perhaps) {
        (None, _) => "there is no list of modules",
        (Some(_), Some(_)) => "a module is loaded that may track without a rule",
        (Some(_), None) if !is_module => "rules of built-in parts are not counted",
        (Some(_), None) => {
            return new(
                Severity::Info,
                "no rule makes this kernel track, and no entry is there".into(),
            )
            .why("tables stay empty until a rule needs connection tracking")
            .advice("if there should be entries: a rule such as `ct state established accept`");
        }
    };
    new(Severity::Info, format!("no entries; whether a rule tracks is not available: {why_not}"))
}

fn fill(facts: &Facts, thresholds: &Thresholds) -> Verdict {
    let new = |severity, what: String| Verdict::new("fill", severity, what);
    let of = |netns: &Namespace| Some((*netns.entries.known()?, *netns.entries_limit.known()?));
    let tables = facts.namespaces.read.iter().filter_map(of);
    // 0 is no limit.
    let ratio =
        |(count, max): (u32, u32)| if max == 0 { 0.0 } else { f64::from(count) / f64::from(max) };
    let Some((count, max)) = tables.max_by(|a, b| ratio(*a).total_cmp(&ratio(*b))) else {
        return new(Severity::Info, "not available: no table could be read".into());
    };
    if max == 0 {
        return new(
            Severity::Warning,
            format!("{count} entries, and nf_conntrack_max is 0: no limit"),
        )
        .why("memory is the only limit, and newer kernels refuse the value 0")
        .advice("set net.netfilter.nf_conntrack_max");
    }
    let ratio = ratio((count, max));
    let what = format!("{} in the fullest ({count} of {max})", units::percent(ratio));
    let severity = thresholds.severity_of_fill(ratio);
    if severity >= Severity::Warning {
        return new(severity, what)
            .why("when a table is full the kernel evicts entries, then drops new connections")
            .advice("`ctmon watch` shows how fast it fills; raise net.netfilter.nf_conntrack_max");
    }
    new(Severity::Ok, what)
}

fn size(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("size", severity, what);
    let table = &facts.table;
    let (Some(max), Some(buckets)) = (table.sysctl("max"), table.sysctl("buckets")) else {
        let why =
            table.sysctls.unavailable().unwrap_or("nf_conntrack_max or _buckets is not there");
        return new(Severity::Info, format!("not available: {why}"));
    };
    if max == 0 || buckets == 0 {
        return new(Severity::Ok, format!("no limit, {buckets} buckets"));
    }
    let ratio = max as f64 / buckets as f64;
    let memory = match table.entry_bytes {
        Fact::Known(entry) => {
            let about = if entry.is_estimate { "about " } else { "" };
            format!("{about}{}", super::bytes(max * entry.bytes + buckets * BUCKET_BYTES))
        }
        Fact::Unavailable(_) => "unknown memory".into(),
    };
    let digits = if ratio < 1.0 { 3 } else { 1 };
    let what = format!(
        "max {max}, {buckets} buckets, {ratio:.digits$} entries a bucket; {memory} when full"
    );
    // An entry is in the hash twice, once a direction.
    let chain = 2.0 * ratio;
    let why =
        format!("a full table has {chain:.0} links a bucket, which every look-up walks along");
    // Only their order of magnitude matters.
    let advice = format!("set net.netfilter.nf_conntrack_buckets to {max}");
    if ratio > TOO_MANY_ENTRIES {
        new(Severity::Warning, what)
            .why(format!("{why}; the kernel refuses entries where they are too many"))
            .advice(advice)
    } else if ratio > MANY_ENTRIES {
        new(Severity::Info, what).why(why).advice(advice)
    } else if ratio < FEW_ENTRIES {
        new(Severity::Info, what)
            .why(
                "eviction looks into 8 buckets in a row, which are almost empty even in a full table: \
                 it then drops new connections instead",
            )
            .advice(advice)
    } else {
        new(Severity::Ok, what)
    }
}

/// Expectations are announced connections of FTP, SIP and the like; they have a table of their own.
fn expectations(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("expectations", severity, what);
    match facts.table.sysctl("expect_max") {
        Some(max) => new(Severity::Ok, format!("at most {max}, in a table of their own")),
        None => new(Severity::Info, "not available: nf_conntrack_expect_max is not there".into()),
    }
}

fn timeouts(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("timeouts", severity, what);
    let shown = [
        ("tcp_timeout_established", "TCP established"),
        ("udp_timeout", "UDP"),
        ("udp_timeout_stream", "UDP stream"),
    ];
    let shown: Vec<String> = shown
        .iter()
        .filter_map(|(key, name)| Some(format!("{name} {} s", facts.table.sysctl(key)?)))
        .collect();
    if shown.is_empty() {
        return new(Severity::Info, "not available".into());
    }
    let established = facts.table.sysctl("tcp_timeout_established");
    if established.is_some_and(|seconds| seconds >= LONG_ESTABLISHED) {
        return new(Severity::Info, shown.join(", "))
            .why("connections whose end was never seen keep their entries for days")
            .advice(
                "lower net.netfilter.nf_conntrack_tcp_timeout_established, to 86400 as kube-proxy does, \
                 if dead entries fill the table",
            );
    }
    new(Severity::Ok, shown.join(", "))
}

/// Settings that change what is tracked, or what it costs.
fn settings(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("settings", severity, what);
    if let Fact::Unavailable(why) = &facts.table.sysctls {
        return new(Severity::Info, format!("not available: {why}"));
    }
    let unusual = [
        ("acct", 1, "acct counts bytes in every entry"),
        ("timestamp", 1, "timestamp keeps times in every entry"),
        ("events", 1, "events=1 prepares ctnetlink events also where nobody listens"),
        ("events", 0, "events=0 sends no ctnetlink events"),
        ("tcp_be_liberal", 1, "tcp_be_liberal accepts packets outside the window"),
        ("tcp_loose", 0, "tcp_loose=0 takes up no connections that began before"),
    ];
    let unusual: Vec<&str> = unusual
        .into_iter()
        .filter(|(key, value, _)| facts.table.sysctl(key) == Some(*value))
        .map(|(_, _, meaning)| meaning)
        .collect();
    if unusual.is_empty() {
        new(Severity::Ok, "none that matter here".into())
    } else {
        new(Severity::Info, unusual.join(", "))
    }
}

fn statistics(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("statistics", severity, what);
    let seen = match &facts.table.statistics {
        Fact::Known(seen) => seen,
        Fact::Unavailable(why) => {
            let config = facts.kernel.config.known();
            let built_without = config.is_some_and(|all| !all.contains_key("NF_CONNTRACK_PROCFS"));
            let what = if built_without { "built without CONFIG_NF_CONNTRACK_PROCFS" } else { why };
            return new(Severity::Info, what.into())
                .why("the kernel's own counters of drops are not shown; ctmon's do not need them");
        }
    };
    let counters = [
        ("dropped", seen.drop),
        ("evicted", seen.early_drop),
        ("not inserted", seen.insert_failed),
        ("refused for long chains", seen.chaintoolong),
    ];
    let counted: Vec<String> = counters
        .iter()
        .filter_map(|(name, count)| Some((name, (*count).filter(|count| *count > 0)?)))
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    if counted.is_empty() {
        return new(Severity::Ok, "no packet dropped, no entry evicted".into());
    }
    new(Severity::Info, format!("since the start: {}", counted.join(", ")))
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
