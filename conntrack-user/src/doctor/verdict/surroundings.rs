//! What else has to do with connection tracking: who sets its size, what goes past it, who listens.

use super::{Severity, Verdict, limit};
use crate::doctor::facts::{Fact, Facts};

/// Modules that flow tables and rules which use them refer to.
const FLOW_TABLES: [&str; 4] =
    ["nf_flow_table_inet", "nf_flow_table_ipv4", "nf_flow_table_ipv6", "nft_flow_offload"];

pub(super) fn verdicts(facts: &Facts) -> Vec<Verdict> {
    vec![limit::verdict(facts), bypass(facts), flow_tables(facts), listeners(facts)]
}

pub(super) fn runs(facts: &Facts, program: &str) -> bool {
    let programs = facts.surroundings.programs.known();
    programs.is_some_and(|programs| programs.iter().any(|name| name == program))
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
    use crate::doctor::verdict::test_facts::{check, unknown};

    fn run(facts: &mut Facts, programs: &[&str]) {
        let programs = programs.iter().map(|name| (*name).to_owned()).collect();
        facts.surroundings.programs = Fact::Known(programs);
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
