//! Verdict on the programs and files that set the size of the table, and on what is in force.

use super::{Severity, Verdict, surroundings::runs};
use crate::doctor::{
    facts::{Conntrack, Fact, Facts, Setting},
    setters::{SETTERS, Setter},
};

pub(super) fn verdict(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("limit set by", severity, what);
    let setters: Vec<&Setter> = SETTERS.iter().filter(|setter| runs(facts, setter.name)).collect();
    let mut what: Vec<String> =
        setters.iter().map(|setter| format!("{}, {}", setter.name, setter.when)).collect();
    let settings = &facts.surroundings.settings;
    what.extend(settings.iter().filter(|set| set.effective).map(text));
    let not_in_force = not_in_force(facts);
    if let Some((set, real)) = not_in_force {
        what.push(format!("{} is set on disk and not in force: the kernel has {real}", set.key));
    }
    let without_effect: Vec<String> =
        settings.iter().filter(|set| !set.effective).map(text).collect();
    if !without_effect.is_empty() {
        what.push(format!("overridden: {}", without_effect.join(", ")));
    }
    let configure = configure(&setters);
    if let Some(changes) = changes(facts) {
        what.insert(0, changes);
        let advice = if setters.is_empty() {
            "no program that is known to do so runs: stop programs that manage the firewall or the node one after the \
             other, and look again"
                .to_owned()
        } else {
            configure
        };
        return new(Severity::Warning, what.join("; "))
            .why("a program sets the limit, so that what is set by hand does not stay")
            .advice(advice);
    }
    if what.is_empty() {
        return new(Severity::Ok, "nothing seen: the kernel's default, or by hand".into());
    }
    let verdict = |severity| new(severity, what.join("; "));
    if !setters.is_empty() {
        return verdict(Severity::Info)
            .why("what is set by hand is set back by these programs")
            .advice(configure);
    }
    match not_in_force {
        Some((set, _)) if set.file == "/etc/sysctl.conf" => verdict(Severity::Info)
            .why("systemd-sysctl(8) does not read this file at boot; sysctl(8) does when it is asked to")
            .advice("move the setting into a file in /etc/sysctl.d, or run `sysctl --system`"),
        Some(_) => verdict(Severity::Info)
            .why(
                "sysctl files are read at boot, often before the module nf_conntrack is loaded, and are \
                 then without effect",
            )
            .advice("load the module early (modules-load.d), or run `sysctl --system` after it"),
        None => verdict(Severity::Ok),
    }
}

fn text(set: &Setting) -> String {
    format!("{} ({}={})", set.file, set.key, set.value)
}

/// Settings of these programs that hold the size, each once.
fn configure(setters: &[&Setter]) -> String {
    let mut places: Vec<&str> = setters.iter().map(|setter| setter.configure).collect();
    places.dedup();
    format!("set the size there: {}", places.join("; "))
}

/// Changes of the limit while it was looked; none: it stayed.
fn changes(facts: &Facts) -> Option<String> {
    let observed = facts.observed.known().filter(|observed| observed.limits.len() > 1)?;
    let limits: Vec<String> = observed.limits.iter().map(u32::to_string).collect();
    let (seconds, changes) = (observed.interval_ns as f64 / 1e9, limits.len() - 1);
    let times = if changes == 1 { "once".to_owned() } else { format!("{changes} times") };
    Some(format!(
        "nf_conntrack_max was changed {times} in {seconds:.1} s: {}",
        limits.join(", then ")
    ))
}

/// The first value that files set and the kernel does not have, and the one that it has.
fn not_in_force(facts: &Facts) -> Option<(&Setting, u64)> {
    if matches!(facts.conntrack, Fact::Known(Conntrack::Absent { .. })) {
        return None;
    }
    let effective = facts.surroundings.settings.iter().filter(|set| set.effective);
    effective.into_iter().find_map(|set| {
        let key = match set.key.as_str() {
            "hashsize" => "buckets",
            key => key.trim_start_matches("nf_conntrack_"),
        };
        let (wanted, real): (u64, u64) = (set.value.parse().ok()?, facts.table.sysctl(key)?);
        let is_other = match key {
            // The kernel rounds the number of buckets up to whole pages.
            "buckets" => real < wanted,
            _ => real != wanted,
        };
        is_other.then_some((set, real))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::verdict::test_facts::{check, unknown};

    fn run(facts: &mut Facts, programs: &[&str]) {
        let programs = programs.iter().map(|name| (*name).to_owned()).collect();
        facts.surroundings.programs = Fact::Known(programs);
    }

    fn set_in(facts: &mut Facts, file: &str, key: &str, value: &str, effective: bool) {
        let (file, key, value) = (file.into(), key.into(), value.into());
        facts.surroundings.settings.push(Setting { file, key, value, effective });
    }

    fn set(facts: &mut Facts, key: &str, value: &str) {
        set_in(facts, "/etc/sysctl.d/x.conf", key, value, true);
    }

    fn change(facts: &mut Facts, limits: &[u32]) {
        let Fact::Known(observed) = &mut facts.observed else { panic!() };
        observed.limits = limits.to_vec();
    }

    #[test]
    fn who_sets_the_limit() {
        use Severity::{Info, Ok, Warning};
        check(
            verdict,
            &[
                ("nobody", |_| {}, Ok, &["default"]),
                (
                    "kube-proxy",
                    |f| run(f, &["kube-proxy"]),
                    Info,
                    &["maxPerCore", "when it starts"],
                ),
                (
                    "a firewall manager",
                    |f| run(f, &["pve-firewall"]),
                    Info,
                    &["pve-firewall, each 10 s", "host.fw"],
                ),
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
                    &[
                        "nf_conntrack_max is set on disk and not in force: the kernel has 262144",
                        "modules-load.d",
                    ],
                ),
                (
                    "two files, the later one in force",
                    |f| {
                        set_in(f, "/etc/sysctl.d/10-a.conf", "nf_conntrack_max", "1000", false);
                        set(f, "nf_conntrack_max", "262144");
                    },
                    Ok,
                    &["/etc/sysctl.d/x.conf", "overridden: /etc/sysctl.d/10-a.conf"],
                ),
                (
                    "a file that nobody reads at boot",
                    |f| set_in(f, "/etc/sysctl.conf", "nf_conntrack_max", "1000", true),
                    Info,
                    &["systemd-sysctl(8) does not read"],
                ),
                ("buckets rounded up", |f| set(f, "hashsize", "262000"), Ok, &[]),
                (
                    "fewer buckets",
                    |f| set(f, "nf_conntrack_buckets", "524288"),
                    Info,
                    &["nf_conntrack_buckets is set on disk and not in force"],
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
                (
                    "set back by a program that is known",
                    |f| {
                        run(f, &["pve-firewall"]);
                        change(f, &[262_144, 500_000, 262_144]);
                    },
                    Warning,
                    &["changed 2 times in 1.0 s: 262144, then 500000", "pve-firewall", "host.fw"],
                ),
                (
                    "by another one",
                    |f| change(f, &[500_000, 262_144]),
                    Warning,
                    &["changed once", "stop programs"],
                ),
                ("not looked at", |f| f.observed = unknown(), Ok, &["default"]),
            ],
        );
    }
}
