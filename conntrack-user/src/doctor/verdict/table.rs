//! The tables: which can be read, whether anything is tracked, their size and settings.

use super::{Verdict, no_procfs};
use crate::{
    doctor::facts::{Capability, Conntrack, Fact, Facts, Namespace, SettingsOf},
    model::coverage::BlindSpot,
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
        super::losses::verdict(facts, thresholds),
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
    let read = match namespaces.read.len() {
        0 => "none is read".to_owned(),
        1 => "1 is read".to_owned(),
        read => format!("{read} are read"),
    };
    let total = namespaces.read.len() as u64 + namespaces.unread;
    let mut what = vec![match namespaces.is_total_exact {
        true => format!("{read} of {total} on the kernel's own list"),
        false => format!("{read} of at least {total}"),
    }];
    let refused = namespaces.refused.len() as u64;
    if let Some(first) = namespaces.refused.first() {
        what.push(format!("{refused} not entered ({})", first.reason));
    }
    let others = namespaces.others.len() as u64;
    if let Some(first) = namespaces.others.iter().max_by_key(|other| other.entries) {
        let entries =
            first.entries.map_or_else(String::new, |entries| format!(", {entries} entries"));
        let first = format!("{}{entries}", first.inode);
        what.push(format!("{others} that no process and no file leads to ({first})"));
    }
    if namespaces.unread > refused + others {
        what.push(format!("{} hidden by their processes", namespaces.unread - refused - others));
    }
    what.extend(namespaces.blind_spots.iter().map(ToString::to_string));
    what.extend(namespaces.stale_files.iter().map(|file| format!("{file} stands for none")));
    let what = what.join(", ");
    if namespaces.read.is_empty() {
        return new(Severity::Critical, what)
            .why("there is no count of entries")
            .advice(no_procfs(facts));
    }
    if namespaces.unread == 0 && namespaces.blind_spots.is_empty() {
        if namespaces.stale_files.is_empty() {
            return new(Severity::Ok, what);
        }
        return new(Severity::Info, what)
            .why("a failed `ip netns delete` leaves such a file; no table is missing for it")
            .advice("remove it, in /run/netns with `ip netns delete NAME`");
    }
    let why =
        "tables of namespaces that cannot be read are not shown, or without a count of entries";
    if let Some(spot) = namespaces.blind_spots.iter().find(|spot| **spot == BlindSpot::PidNamespace)
    {
        return new(Severity::Warning, what).why(why).advice(spot.advice());
    }
    if others == namespaces.unread && namespaces.blind_spots.is_empty() {
        return new(Severity::Info, what)
            .why("an open file or a socket keeps such a namespace: its entries are counted, and it cannot be entered")
            .advice("`lsns -t net` and lsof(8) of nsfs may show who holds it");
    }
    let may_look = facts.process.has(Capability::SysPtrace) == Some(true)
        && !facts.process.initial_user_namespace.is(&false);
    if refused == 0 && may_look {
        return new(Severity::Info, what).why(
            "a process with more capabilities than ctmon's cannot be looked into (ptrace(2))",
        );
    }
    new(Severity::Warning, what)
        .why(why)
        .advice(super::process::run_with(facts, "CAP_SYS_ADMIN and CAP_SYS_PTRACE"))
}

/// Words before settings that are not those of the machine, whose table this then is not.
fn whose(facts: &Facts) -> Option<&'static str> {
    match facts.table.settings_of {
        SettingsOf::Host => None,
        SettingsOf::Container => Some("of this container, not of the node: "),
        SettingsOf::Own => Some("of ctmon's own network namespace, not of process 1's: "),
    }
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
    let of = |netns: &Namespace| {
        Some((u64::from(*netns.entries.known()?), *netns.entries_limit.known()?, ""))
    };
    let read = facts.namespaces.read.iter().filter_map(of);
    // One that is only counted is full at the limit that all have.
    let common = common_limit(facts);
    let only = "; it is only counted, and the limit is the kernel's one";
    let others = facts.namespaces.others.iter();
    let counted = others.filter_map(|other| Some((other.entries?, common?, only)));
    // 0 is no limit.
    let ratio = |(count, max, _): (u64, u32, &str)| {
        if max == 0 { 0.0 } else { count as f64 / f64::from(max) }
    };
    let fullest = read.chain(counted).max_by(|a, b| ratio(*a).total_cmp(&ratio(*b)));
    let Some((count, max, only)) = fullest else {
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
    let ratio = ratio((count, max, only));
    let what = format!("{} in the fullest ({count} of {max}{only})", units::percent(ratio));
    let severity = thresholds.severity_of_fill(ratio);
    if severity >= Severity::Warning {
        return new(severity, what)
            .why("when a table is full the kernel evicts entries, then drops new connections")
            .advice("`ctmon watch` shows how fast it fills; raise net.netfilter.nf_conntrack_max");
    }
    new(Severity::Ok, what)
}

/// The limit of all tables; none where those that were read have different ones.
fn common_limit(facts: &Facts) -> Option<u32> {
    let mut limits = facts.namespaces.read.iter().filter_map(|netns| netns.entries_limit.known());
    let first = limits.next()?;
    limits.all(|limit| limit == first).then_some(*first)
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
    if let Some(whose) = whose(facts) {
        return new(Severity::Info, format!("{whose}{}", shown.join(", ")));
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
    let whose = whose(facts).unwrap_or_default();
    if unusual.is_empty() {
        new(Severity::Ok, format!("{whose}none that matter here"))
    } else {
        new(Severity::Info, format!("{whose}{}", unusual.join(", ")))
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
    let whose = whose(facts).unwrap_or_default();
    if counted.is_empty() {
        return new(Severity::Ok, format!("{whose}no packet dropped, no entry evicted"));
    }
    new(Severity::Info, format!("{whose}since the start: {}", counted.join(", ")))
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
