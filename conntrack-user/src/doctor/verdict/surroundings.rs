//! What else has to do with connection tracking: who sets its size, what goes past it, who listens.

use super::{Severity, Verdict};
use crate::doctor::facts::{Conntrack, Fact, Facts};

/// Programs that set `nf_conntrack_max` while they run.
const SETTERS: [&str; 3] = ["kube-proxy", "kube-router", "tuned"];
/// Modules that flow tables and rules which use them refer to.
const FLOW_TABLES: [&str; 4] =
    ["nf_flow_table_inet", "nf_flow_table_ipv4", "nf_flow_table_ipv6", "nft_flow_offload"];

pub(super) fn verdicts(facts: &Facts) -> Vec<Verdict> {
    vec![limit(facts), bypass(facts), flow_tables(facts), listeners(facts)]
}

fn runs(facts: &Facts, program: &str) -> bool {
    let programs = facts.surroundings.programs.known();
    programs.is_some_and(|programs| programs.iter().any(|name| name == program))
}

/// Who sets the size of the table.
fn limit(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("limit set by", severity, what);
    let setters: Vec<&str> = SETTERS.into_iter().filter(|name| runs(facts, name)).collect();
    let files = facts.surroundings.settings.iter();
    let files: Vec<String> =
        files.map(|set| format!("{} ({}={})", set.file, set.key, set.value)).collect();
    let what: Vec<String> = setters.iter().map(|name| (*name).to_owned()).chain(files).collect();
    if what.is_empty() {
        return new(Severity::Ok, "nothing seen: the kernel's default, or by hand".into());
    }
    let what = what.join(", ");
    if !setters.is_empty() {
        return new(Severity::Info, what)
            .why("what is set by hand is set back while they run")
            .advice(
                "set the size in their configuration (kube-proxy: conntrack.maxPerCore, .min)",
            );
    }
    let differs = facts.surroundings.settings.iter().find(|set| {
        let key = if set.key == "hashsize" {
            "buckets"
        } else {
            set.key.trim_start_matches("nf_conntrack_")
        };
        let (wanted, real) = (set.value.parse().ok(), facts.table.sysctl(key));
        // The kernel rounds the number of buckets up to whole pages.
        wanted.zip(real).is_some_and(|(wanted, real): (u64, u64)| match key {
            "buckets" => real < wanted,
            _ => real != wanted,
        })
    });
    let is_absent = matches!(facts.conntrack, Fact::Known(Conntrack::Absent { .. }));
    match differs.filter(|_| !is_absent) {
        Some(set) => new(Severity::Info, format!("{what}, but the kernel has another {}", set.key))
            .why(
                "sysctl files are read at boot, often before the module nf_conntrack is loaded, and are \
                 then without effect",
            )
            .advice("load the module early (modules-load.d), or run `sysctl --system` after it"),
        None => new(Severity::Ok, what),
    }
}

/// Whether connections go past netfilter.
fn bypass(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("bypass", severity, what);
    let surroundings = &facts.surroundings;
    let mut signs = surroundings.cilium_signs.clone();
    if runs(facts, "cilium-agent") {
        signs.push("cilium-agent".into());
    }
    if signs.is_empty() {
        return match &surroundings.kube_ipvs {
            Fact::Known(_) => new(Severity::Ok, "no Cilium seen".into()),
            Fact::Unavailable(why) => new(Severity::Info, format!("not available: {why}")),
        };
    }
    let signs = signs.join(", ");
    if runs(facts, "kube-proxy") || surroundings.kube_ipvs.is(&true) {
        return new(Severity::Info, format!("Cilium ({signs}) beside kube-proxy"))
            .why("Cilium tracks pods' connections in tables of its own; Services go through netfilter")
            .advice("`cilium bpf ct list global` shows its tables");
    }
    new(Severity::Warning, format!("Cilium ({signs}) and no kube-proxy seen"))
        .why(
            "connections of pods and Services then bypass netfilter: they are in Cilium's tables, not in \
             the kernel's, and ctmon does not see them",
        )
        .advice("`cilium bpf ct list global` shows its tables; ctmon tells about the node's own traffic")
}

fn flow_tables(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("flow tables", severity, what);
    let modules = match &facts.surroundings.modules {
        Fact::Known(modules) => modules,
        Fact::Unavailable(why) => return new(Severity::Info, format!("not available: {why}")),
    };
    let used = FLOW_TABLES.iter().filter(|name| modules.get(**name).is_some_and(|uses| *uses > 0));
    let used: Vec<&str> = used.copied().collect();
    if used.is_empty() {
        return new(Severity::Ok, "none in use".into());
    }
    new(Severity::Info, format!("in use ({})", used.join(", ")))
        .why("offloaded connections are counted in the table, but most of their packets go past it")
}

fn listeners(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("listeners", severity, what);
    match &facts.surroundings.listeners {
        Fact::Known(0) => new(Severity::Ok, "no ctnetlink listener in this namespace".into()),
        Fact::Known(sockets) => {
            new(Severity::Info, format!("{sockets} sockets receive ctnetlink events"))
                .why("every new and every ended connection costs more while somebody listens")
                .advice("`ss -f netlink` shows them; ctmon needs no listener")
        }
        Fact::Unavailable(why) => new(Severity::Info, format!("not available: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        facts::Setting,
        verdict::test_facts::{check, unknown},
    };

    fn run(facts: &mut Facts, programs: &[&str]) {
        let programs = programs.iter().map(|name| (*name).to_owned()).collect();
        facts.surroundings.programs = Fact::Known(programs);
    }

    fn set(facts: &mut Facts, key: &str, value: &str) {
        let (file, key, value) = ("/etc/sysctl.d/x.conf".into(), key.into(), value.into());
        facts.surroundings.settings.push(Setting { file, key, value });
    }

    #[test]
    fn who_sets_the_limit() {
        use Severity::{Info, Ok};
        check(
            limit,
            &[
                ("nobody", |_| {}, Ok, &["default"]),
                ("kube-proxy", |f| run(f, &["kube-proxy"]), Info, &["maxPerCore"]),
                ("another program", |f| run(f, &["conntrackd"]), Ok, &["default"]),
                (
                    "a file",
                    |f| set(f, "nf_conntrack_max", "262144"),
                    Ok,
                    &["/etc/sysctl.d/x.conf (nf_conntrack_max=262144)"],
                ),
                (
                    "a file without effect",
                    |f| set(f, "nf_conntrack_max", "1000"),
                    Info,
                    &["another nf_conntrack_max", "modules-load.d"],
                ),
                ("buckets rounded up", |f| set(f, "hashsize", "262000"), Ok, &[]),
                (
                    "fewer buckets",
                    |f| set(f, "nf_conntrack_buckets", "524288"),
                    Info,
                    &["another nf_conntrack_buckets"],
                ),
                ("no number", |f| set(f, "nf_conntrack_max", "many"), Ok, &[]),
                (
                    "no conntrack",
                    |f| {
                        set(f, "nf_conntrack_max", "1000");
                        f.conntrack = Fact::Known(Conntrack::Absent { loadable: unknown() });
                    },
                    Ok,
                    &[],
                ),
                ("unread", |f| f.surroundings.programs = unknown(), Ok, &["nothing seen"]),
            ],
        );
    }

    #[test]
    fn what_goes_past_netfilter() {
        use Severity::{Info, Ok, Warning};
        fn cilium(facts: &mut Facts) {
            facts.surroundings.cilium_signs = vec!["the interface cilium_host".into()];
        }
        check(
            bypass,
            &[
                ("nothing", |_| {}, Ok, &["no Cilium"]),
                (
                    "Cilium alone",
                    cilium,
                    Warning,
                    &["the interface cilium_host", "bypass netfilter", "cilium bpf ct"],
                ),
                ("by its agent", |f| run(f, &["cilium-agent"]), Warning, &["cilium-agent"]),
                (
                    "with kube-proxy",
                    |f| {
                        cilium(f);
                        run(f, &["kube-proxy"]);
                    },
                    Info,
                    &["beside kube-proxy"],
                ),
                (
                    "with kube-proxy's IPVS",
                    |f| {
                        cilium(f);
                        f.surroundings.kube_ipvs = Fact::Known(true);
                    },
                    Info,
                    &["beside kube-proxy"],
                ),
                ("unread", |f| f.surroundings.kube_ipvs = unknown(), Info, &["no reason"]),
            ],
        );
    }

    #[test]
    fn flow_tables_and_listeners() {
        use Severity::{Info, Ok};
        check(
            flow_tables,
            &[
                ("none", |_| {}, Ok, &["none"]),
                (
                    "loaded only",
                    |f| {
                        f.surroundings.modules =
                            Fact::Known([("nf_flow_table_inet".into(), 0)].into());
                    },
                    Ok,
                    &["none"],
                ),
                (
                    "used",
                    |f| {
                        f.surroundings.modules =
                            Fact::Known([("nf_flow_table_inet".into(), 1)].into());
                    },
                    Info,
                    &["nf_flow_table_inet"],
                ),
                ("unread", |f| f.surroundings.modules = unknown(), Info, &["no reason"]),
            ],
        );
        check(
            listeners,
            &[
                ("none", |_| {}, Ok, &["no ctnetlink"]),
                ("one", |f| f.surroundings.listeners = Fact::Known(1), Info, &["ss -f netlink"]),
                ("unread", |f| f.surroundings.listeners = unknown(), Info, &["no reason"]),
            ],
        );
    }
}
