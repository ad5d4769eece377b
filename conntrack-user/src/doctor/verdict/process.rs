//! What this process may do.

use super::{Severity, Verdict, kernel::version, no_procfs};
use crate::doctor::facts::{Capability, Fact, Facts, Limit};

/// From here on programs and maps do not count as locked memory.
const NO_LOCKED_MEMORY: (u32, u32) = (5, 11);
/// Files that ctmon keeps open besides those of namespaces.
const OTHER_FILES: u64 = 64;
const FILES_A_NAMESPACE: u64 = 2;

pub(super) fn verdicts(facts: &Facts) -> Vec<Verdict> {
    vec![capabilities(facts), lockdown(facts), sandbox(facts), limits(facts)]
}

/// Capabilities that the programs need and this process lacks; none where that is not known.
pub(super) fn missing(facts: &Facts) -> Vec<&'static str> {
    let lacks = |capability| facts.process.has(capability) == Some(false);
    if !lacks(Capability::SysAdmin) {
        // It stands for the others (`bpf_capable`, `perfmon_capable`).
        return vec![];
    }
    let all = [
        (Capability::Bpf, "CAP_BPF"),
        (Capability::Perfmon, "CAP_PERFMON"),
        (Capability::SysAdmin, "CAP_SYS_ADMIN"),
    ];
    all.into_iter().filter(|(one, _)| lacks(*one)).map(|(_, name)| name).collect()
}

fn capabilities(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("capabilities", severity, what);
    let process = &facts.process;
    if let Fact::Unavailable(why) = &process.capabilities {
        return new(Severity::Warning, why.clone()).advice(no_procfs(facts));
    }
    if process.initial_user_namespace.is(&false) {
        return new(Severity::Info, "those of a user namespace: see sandbox".into());
    }
    let mut missing = missing(facts);
    let namespaces = &facts.namespaces;
    let hidden =
        !namespaces.blind_spots.is_empty() || namespaces.unread > namespaces.refused.len() as u64;
    if hidden && process.has(Capability::SysPtrace) == Some(false) {
        missing.push("CAP_SYS_PTRACE");
    }
    let user = match process.user.known() {
        Some(0) => "root".to_owned(),
        Some(id) => format!("user {id}"),
        None => "user not known".to_owned(),
    };
    if missing.is_empty() {
        return new(Severity::Ok, format!("{user}, with all that are needed"));
    }
    let purposes = [
        ("CAP_BPF", "loads programs"),
        ("CAP_PERFMON", "lets them trace"),
        ("CAP_SYS_ADMIN", "finds functions of modules and enters other network namespaces"),
        ("CAP_SYS_PTRACE", "sees the network namespaces of other users' processes"),
    ];
    let purposes = purposes.iter().filter(|(name, _)| missing.contains(name));
    let purposes: Vec<String> =
        purposes.map(|(name, purpose)| format!("{name} {purpose}")).collect();
    let policy = match process.unprivileged_bpf_disabled.known() {
        Some(value) if missing.contains(&"CAP_BPF") => {
            format!(" (kernel.unprivileged_bpf_disabled is {value})")
        }
        _ => String::new(),
    };
    new(Severity::Warning, format!("{user}, without {}{policy}", missing.join(", ")))
        .why(purposes.join("; "))
        .advice(run_with(facts, "these capabilities"))
}

/// Advice to run with `capabilities`: root lacks them only where a container, a unit or a policy has taken them away.
pub(super) fn run_with(facts: &Facts, capabilities: &str) -> String {
    if facts.process.user.is(&0) {
        format!(
            "give ctmon {capabilities}: in the container's securityContext, or in the unit's CapabilityBoundingSet="
        )
    } else {
        format!("run ctmon as root, or with {capabilities}")
    }
}

fn lockdown(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("lockdown", severity, what);
    let attaches = facts.attach.hooks.known().is_some();
    match &facts.process.lockdown {
        Fact::Known(mode) if mode == "confidentiality" && !attaches => {
            new(Severity::Warning, mode.clone())
                .why("in this mode the kernel lets no program read its memory")
                .advice("boot with lockdown=integrity or without lockdown")
        }
        Fact::Known(mode) => new(Severity::Ok, mode.clone()),
        Fact::Unavailable(why) => new(Severity::Info, format!("not available: {why}")),
    }
}

fn sandbox(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("sandbox", severity, what);
    let process = &facts.process;
    let mut signs = Vec::new();
    if !process.container_signs.is_empty() {
        signs.push(format!("a container ({})", process.container_signs.join(", ")));
    }
    if process.initial_user_namespace.is(&false) {
        signs.push("a user namespace".into());
    }
    if process.initial_pid_namespace.is(&false) {
        signs.push("a PID namespace".into());
    }
    if process.seccomp.known().is_some_and(|mode| *mode > 0) {
        signs.push("a seccomp filter".into());
    }
    if process.no_new_privs.is(&true) {
        signs.push("no_new_privs".into());
    }
    let what = if signs.is_empty() { "none seen".into() } else { signs.join(", ") };
    let attaches = facts.attach.hooks.known().is_some();
    if process.initial_user_namespace.is(&false) {
        return new(Severity::Warning, what)
            .why("capabilities of a user namespace count neither for BPF nor for other namespaces")
            .advice("run ctmon in the initial user namespace (hostUsers: true in a pod)");
    }
    if process.initial_pid_namespace.is(&false) {
        return new(Severity::Info, what)
            .why("network namespaces are found by processes, and those outside may not be seen")
            .advice(
                "run ctmon in the host's PID namespace (hostPID: true), or with the host's procfs \
                 (--path.procfs)",
            );
    }
    if process.seccomp.known().is_some_and(|mode| *mode > 0) && !attaches {
        return new(Severity::Info, what)
            .why("the filter may be what refuses the programs")
            .advice("let it allow bpf(2), setns(2) and perf_event_open(2)");
    }
    let unread = [&process.initial_user_namespace, &process.initial_pid_namespace];
    match unread.iter().find_map(|fact| fact.unavailable()) {
        Some(why) if signs.is_empty() => new(Severity::Info, format!("not available: {why}")),
        _ => new(Severity::Ok, what),
    }
}

fn limits(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("limits", severity, what);
    let (files, memory) = match (&facts.process.open_files, &facts.process.locked_memory) {
        (Fact::Known(files), Fact::Known(memory)) => (files, memory),
        (Fact::Unavailable(why), _) | (_, Fact::Unavailable(why)) => {
            return new(Severity::Info, format!("not available: {why}"));
        }
    };
    let namespaces = facts.namespaces.read.len() as u64;
    let needed = OTHER_FILES + FILES_A_NAMESPACE * namespaces;
    let highest = |limit: &Limit, show: fn(u64) -> String| match limit.hard {
        Some(limit) => format!("up to {}", show(limit)),
        None => "unlimited".into(),
    };
    let what = format!(
        "open files {}, locked memory {}",
        highest(files, |files| files.to_string()),
        highest(memory, super::bytes)
    );
    if files.hard.is_some_and(|hard| hard < needed) {
        return new(Severity::Warning, what)
            .why(format!("{namespaces} network namespaces take {needed} open files"))
            .advice("raise the limit: LimitNOFILE= in the unit, or ulimit -n");
    }
    let counts_memory = facts
        .kernel
        .release
        .known()
        .and_then(|release| version(release))
        .is_some_and(|version| version < NO_LOCKED_MEMORY);
    // Whoever may raises it: so does ctmon.
    let may_raise = facts.process.has(Capability::SysResource) == Some(true);
    if counts_memory && memory.hard.is_some() && !may_raise {
        return new(Severity::Warning, what)
            .why("before Linux 5.11 the programs' maps count as locked memory")
            .advice("raise the limit: LimitMEMLOCK=infinity in the unit, or ulimit -l unlimited");
    }
    new(Severity::Ok, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::verdict::test_facts::{check, unknown},
        model::coverage::BlindSpot,
    };

    const NET_ADMIN: u64 = 1 << 12;
    const SYS_PTRACE: u64 = 1 << 19;
    const SYS_ADMIN: u64 = 1 << 21;
    const PERFMON: u64 = 1 << 38;
    const BPF: u64 = 1 << 39;

    #[test]
    fn capabilities_that_are_needed() {
        use Severity::{Info, Ok, Warning};
        check(
            capabilities,
            &[
                ("root", |_| {}, Ok, &["root"]),
                ("admin alone", |f| f.process.capabilities = Fact::Known(SYS_ADMIN), Ok, &[]),
                (
                    "user",
                    |f| {
                        f.process.user = Fact::Known(65_534);
                        f.process.capabilities = Fact::Known(0);
                    },
                    Warning,
                    &[
                        "user 65534, without CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN (kernel.unprivileged_bpf_disabled is 2)",
                        "run ctmon as root, or with these capabilities",
                    ],
                ),
                (
                    "stripped",
                    |f| f.process.capabilities = Fact::Known(NET_ADMIN | SYS_PTRACE),
                    Warning,
                    // Root gets no advice to be root.
                    &["root, without CAP_BPF", "give ctmon these capabilities"],
                ),
                (
                    "no admin",
                    |f| f.process.capabilities = Fact::Known(BPF | PERFMON),
                    Warning,
                    &["without CAP_SYS_ADMIN\"", "functions of modules"],
                ),
                (
                    "no perfmon",
                    |f| f.process.capabilities = Fact::Known(BPF),
                    Warning,
                    &["without CAP_PERFMON, CAP_SYS_ADMIN\""],
                ),
                (
                    "user namespace",
                    |f| f.process.initial_user_namespace = Fact::Known(false),
                    Info,
                    &["see sandbox"],
                ),
                (
                    "hidden processes",
                    |f| {
                        f.process.capabilities = Fact::Known(SYS_ADMIN);
                        f.namespaces.blind_spots = vec![BlindSpot::HiddenProcesses(3)];
                    },
                    Warning,
                    &["without CAP_SYS_PTRACE"],
                ),
                (
                    "unread",
                    |f| f.process.capabilities = unknown(),
                    Warning,
                    &["no reason", "--path.procfs"],
                ),
                ("user unread", |f| f.process.user = unknown(), Ok, &["not known"]),
            ],
        );
    }

    #[test]
    fn modes_of_lockdown() {
        use Severity::{Info, Ok, Warning};
        check(
            lockdown,
            &[
                ("none", |_| {}, Ok, &["none"]),
                (
                    "integrity",
                    |f| f.process.lockdown = Fact::Known("integrity".into()),
                    Ok,
                    &["integrity"],
                ),
                (
                    "confidentiality that lets them",
                    |f| {
                        f.process.lockdown = Fact::Known("confidentiality".into());
                    },
                    Ok,
                    &["confidentiality"],
                ),
                (
                    "confidentiality",
                    |f| {
                        f.process.lockdown = Fact::Known("confidentiality".into());
                        f.attach.hooks = unknown();
                    },
                    Warning,
                    &["lockdown=integrity"],
                ),
                ("unread", |f| f.process.lockdown = unknown(), Info, &["no reason"]),
            ],
        );
    }

    #[test]
    fn sandboxes() {
        use Severity::{Info, Ok, Warning};
        check(
            sandbox,
            &[
                ("none", |_| {}, Ok, &["none seen"]),
                (
                    "container",
                    |f| f.process.container_signs = vec!["/.dockerenv".into()],
                    Ok,
                    &["a container (/.dockerenv)"],
                ),
                (
                    "user namespace",
                    |f| f.process.initial_user_namespace = Fact::Known(false),
                    Warning,
                    &["hostUsers"],
                ),
                (
                    "PID namespace",
                    |f| f.process.initial_pid_namespace = Fact::Known(false),
                    Info,
                    &["hostPID"],
                ),
                (
                    "filter that lets them",
                    |f| f.process.seccomp = Fact::Known(2),
                    Ok,
                    &["a seccomp filter"],
                ),
                (
                    "filter",
                    |f| {
                        f.process.seccomp = Fact::Known(2);
                        f.attach.hooks = unknown();
                    },
                    Info,
                    &["bpf(2)"],
                ),
                (
                    "no_new_privs",
                    |f| f.process.no_new_privs = Fact::Known(true),
                    Ok,
                    &["no_new_privs"],
                ),
                ("unread", |f| f.process.initial_user_namespace = unknown(), Info, &["no reason"]),
            ],
        );
    }

    #[test]
    fn limits_of_the_process() {
        use Severity::{Info, Ok, Warning};
        check(
            limits,
            &[
                ("well", |_| {}, Ok, &["open files up to 1048576, locked memory up to 1.0 MB"]),
                (
                    "unlimited",
                    |f| {
                        f.process.open_files = Fact::Known(Limit { soft: None, hard: None });
                    },
                    Ok,
                    &["open files unlimited"],
                ),
                (
                    "few files",
                    |f| {
                        f.process.open_files =
                            Fact::Known(Limit { soft: Some(64), hard: Some(65) });
                    },
                    Warning,
                    &["66 open files", "LimitNOFILE"],
                ),
                (
                    "just enough",
                    |f| {
                        f.process.open_files =
                            Fact::Known(Limit { soft: Some(64), hard: Some(66) });
                    },
                    Ok,
                    &[],
                ),
                (
                    "old kernel",
                    |f| {
                        f.kernel.release = Fact::Known("5.10.0".into());
                        f.process.capabilities = Fact::Known(SYS_ADMIN);
                    },
                    Warning,
                    &["LimitMEMLOCK"],
                ),
                (
                    "old kernel that lets it be raised",
                    |f| f.kernel.release = Fact::Known("5.10.0".into()),
                    Ok,
                    &[],
                ),
                (
                    "old kernel without limit",
                    |f| {
                        f.kernel.release = Fact::Known("5.10.0".into());
                        f.process.capabilities = Fact::Known(SYS_ADMIN);
                        f.process.locked_memory = Fact::Known(Limit { soft: None, hard: None });
                    },
                    Ok,
                    &[],
                ),
                ("unread", |f| f.process.locked_memory = unknown(), Info, &["no reason"]),
            ],
        );
    }
}
