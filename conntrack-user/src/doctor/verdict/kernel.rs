//! The kernel: its version, type information, settings, connection tracking, and the hooks.

use super::{Severity, Verdict, no_procfs};
use crate::{
    doctor::facts::{Conntrack, Fact, Facts},
    source::{
        ebpf::{
            self,
            plan::{self, State},
        },
        item::{Hook, ProbedHook},
        live,
    },
};

/// The oldest kernel that ctmon is made for.
const OLDEST: (u32, u32) = (5, 10);

/// What only the programs can tell.
const PROGRAMS: &str = "insert and delete rates, drops, evictions, drift and events";

/// Options without which no tracing program attaches.
const NEEDED_OPTIONS: [&str; 4] =
    ["BPF_SYSCALL", "BPF_JIT", "BPF_EVENTS", "DYNAMIC_FTRACE_WITH_DIRECT_CALLS"];

pub(super) fn verdicts(facts: &Facts) -> Vec<Verdict> {
    let mut verdicts = vec![release(facts), btf(facts), tracing(facts), conntrack(facts)];
    verdicts.extend(hooks(facts));
    verdicts
}

/// The two numbers that a release begins with.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn release(facts: &Facts) -> Verdict {
    let kernel = &facts.kernel;
    let new = |severity, what: String| Verdict::new("release", severity, what);
    let release = match &kernel.release {
        Fact::Known(release) => release,
        Fact::Unavailable(why) => {
            return new(Severity::Warning, why.clone()).advice(no_procfs(facts));
        }
    };
    // `#1 SMP PREEMPT_DYNAMIC Debian ...`: what comes before the maker.
    let build = kernel.build.known().map(String::as_str).unwrap_or_default();
    let flags = build.split_whitespace().skip_while(|word| word.starts_with('#'));
    let flags = flags.take_while(|word| word.starts_with("SMP") || word.starts_with("PREEMPT"));
    let words = [release.as_str(), &kernel.architecture].into_iter().map(str::to_owned);
    let words: Vec<String> = words
        .chain([flags.collect::<Vec<_>>().join(" ")])
        .filter(|word| !word.is_empty())
        .collect();
    let what = words.join(", ");
    match version(release) {
        Some(version) if version < OLDEST => new(Severity::Info, what)
            .why("ctmon is made for Linux 5.10 and newer")
            .advice("if hooks are missing below, a newer kernel has them"),
        _ => new(Severity::Ok, what),
    }
}

fn btf(facts: &Facts) -> Verdict {
    const WHY: &str = "it says which functions there are and where the kernel keeps its data";
    let new = |severity, what: String| Verdict::new("BTF", severity, what);
    let vmlinux = match &facts.kernel.vmlinux_btf {
        Fact::Known(bytes) => super::bytes(*bytes),
        Fact::Unavailable(why) => {
            return new(Severity::Warning, why.clone()).why(format!("{WHY}: without it there are no {PROGRAMS}")).advice(
                "use a kernel built with CONFIG_DEBUG_INFO_BTF; where sysfs is mounted elsewhere, name \
                 the folder with --path.sysfs",
            );
        }
    };
    match (&facts.conntrack, &facts.kernel.module_btf) {
        (_, Fact::Known(bytes)) => new(
            Severity::Ok,
            format!("vmlinux {vmlinux}, module nf_conntrack {}", super::bytes(*bytes)),
        ),
        (Fact::Known(Conntrack::Module { .. }), Fact::Unavailable(why)) => {
            let attaches = facts.attach.hooks.known().is_some();
            let severity = if attaches { Severity::Info } else { Severity::Warning };
            new(severity, format!("vmlinux {vmlinux}, but none of the module: {why}"))
                .why(format!("{WHY}, also in the module nf_conntrack"))
                .advice("use a kernel built with CONFIG_DEBUG_INFO_BTF_MODULES")
        }
        _ => new(Severity::Ok, format!("vmlinux {vmlinux}")),
    }
}

/// Settings of the kernel that tracing programs rest on.
fn tracing(facts: &Facts) -> Verdict {
    let kernel = &facts.kernel;
    let new = |severity, what: String| Verdict::new("tracing", severity, what);
    let why = format!("tracing programs, which tell {PROGRAMS}, do not attach without");
    for (name, setting) in [
        ("net.core.bpf_jit_enable", &kernel.bpf_jit_enable),
        ("kernel.ftrace_enabled", &kernel.ftrace_enabled),
    ] {
        if setting.is(&0) {
            return new(Severity::Warning, format!("{name} is 0"))
                .why(why)
                .advice(format!("sysctl -w {name}=1"));
        }
    }
    let is_set = |name: &str| match kernel.config.known() {
        Some(config) => config.contains_key(name),
        None => true,
    };
    let missing: Vec<String> = NEEDED_OPTIONS
        .into_iter()
        .filter(|name| !is_set(name))
        .map(|name| format!("CONFIG_{name}"))
        .collect();
    if !missing.is_empty() {
        return new(Severity::Warning, format!("built without {}", missing.join(", ")))
            .why(why)
            .advice("use a kernel that is built with it");
    }
    let state = |setting: &Fact<u32>| match setting {
        Fact::Known(_) => "on",
        Fact::Unavailable(_) => "not known",
    };
    let kprobes = match kernel.kprobes {
        Fact::Known(true) => "kprobes",
        Fact::Known(false) => "no kprobes",
        Fact::Unavailable(_) => "kprobes not known",
    };
    let (jit, ftrace) = (state(&kernel.bpf_jit_enable), state(&kernel.ftrace_enabled));
    let known = [&kernel.bpf_jit_enable, &kernel.ftrace_enabled].map(|one| one.known().is_some());
    let severity = if known == [true, true] { Severity::Ok } else { Severity::Info };
    new(severity, format!("JIT {jit}, ftrace {ftrace}, {kprobes}"))
}

fn conntrack(facts: &Facts) -> Verdict {
    let new = |severity, what: String| Verdict::new("nf_conntrack", severity, what);
    let why = "without it this kernel tracks no connections, and there is no table to watch";
    match &facts.conntrack {
        Fact::Known(Conntrack::BuiltIn) => new(Severity::Ok, "built into the kernel".into()),
        Fact::Known(Conntrack::Module { users }) if users.is_empty() => {
            new(Severity::Ok, "a module, needed by no other module".into())
        }
        Fact::Known(Conntrack::Module { users }) => {
            new(Severity::Ok, format!("a module, needed by {}", users.join(", ")))
        }
        Fact::Known(Conntrack::Absent { loadable: Fact::Known(false) }) => {
            new(Severity::Critical, "not loaded, and not among this kernel's modules".into())
                .why(why)
                .advice("install the package that holds the rest of this kernel's modules")
        }
        Fact::Known(Conntrack::Absent { .. }) => new(Severity::Critical, "not loaded".into())
            .why(why)
            .advice(
                "the first firewall rule that needs it loads it, or `modprobe nf_conntrack`; `ctmon \
                 watch --wait` waits for it",
            ),
        Fact::Unavailable(reason) => new(Severity::Critical, reason.clone())
            .why("without the sysctls of conntrack there is no count of entries and no limit")
            .advice(no_procfs(facts)),
    }
}

fn hooks(facts: &Facts) -> Vec<Verdict> {
    let hooks = match &facts.attach.hooks {
        Fact::Known(hooks) => hooks,
        Fact::Unavailable(reason) => return vec![no_hooks(facts, reason)],
    };
    let of = |state| hooks.iter().filter(move |probed| probed.hook.state == state);
    let attached: Vec<_> = of(State::Attached).collect();
    let missing = [State::Unsupported, State::Broken].into_iter().flat_map(of);
    let by_kprobe = attached.iter().any(|probed| is_kprobe(&probed.hook));
    let mut verdicts = Vec::new();
    for group in attached.chunk_by(|a, b| is_kprobe(&a.hook) == is_kprobe(&b.hook)) {
        verdicts.push(attached_hooks(group, hooks.len(), &facts.attach.without));
    }
    let not_exact = attached.iter().filter_map(|probed| {
        let why = probed.hook.not_exact.as_deref()?;
        let what = format!("attached to {}, not exact", probed.hook.function);
        Some(Verdict::new(&probed.hook.name, Severity::Info, what).why(why))
    });
    verdicts.extend(not_exact);
    verdicts.extend(missing.map(|probed| missing_hook(&probed.hook, by_kprobe)));
    verdicts.extend(of(State::NotNeeded).map(|probed| {
        let reason = probed.hook.reason.as_deref().unwrap_or("no reason given");
        Verdict::new(&probed.hook.name, Severity::Ok, format!("not attached: {reason}"))
    }));
    verdicts
}

fn is_kprobe(hook: &Hook) -> bool {
    hook.attached_via.as_ref().is_some_and(|via| via.contains("kprobe"))
}

/// Hooks that attach in the same way; `without`: reasons for kprobes where the kernel has fentry.
fn attached_hooks(group: &[&ProbedHook], of: usize, without: &[String]) -> Verdict {
    let mut vias: Vec<_> =
        group.iter().filter_map(|probed| probed.hook.attached_via.as_deref()).collect();
    vias.dedup();
    let mut what = format!("{} of {of} by {}", group.len(), vias.join(" and "));
    let sum =
        |of: fn(&ProbedHook) -> Option<u64>| group.iter().filter_map(|hook| of(hook)).sum::<u64>();
    let (count, time, misses) =
        (sum(|hook| hook.runs), sum(|hook| hook.run_time_ns), sum(|hook| hook.misses));
    if let Some(mean) = time.checked_div(count) {
        what.push_str(&format!(", {count} runs of {mean} ns"));
    }
    if misses > 0 {
        return Verdict::new("hooks", Severity::Warning, format!("{what}, {misses} calls missed"))
            .why("a program that is running already on a CPU is skipped there: counts may be short")
            .advice("watch the drift: `ctmon watch` shows whether entries are missing");
    }
    if is_kprobe(&group[0].hook) && !without.is_empty() {
        return Verdict::new("hooks", Severity::Info, what).why(without.join("; "));
    }
    if is_kprobe(&group[0].hook) {
        return Verdict::new("hooks", Severity::Info, what)
            .why("the kernel can leave out calls of kprobes under load")
            .advice("a kernel with type information of modules (5.11 and later) takes fentry");
    }
    Verdict::new("hooks", Severity::Ok, what)
}

/// One that does not attach. `by_kprobe`: the others are attached by kprobe.
fn missing_hook(hook: &Hook, by_kprobe: bool) -> Verdict {
    let reason = hook.reason.clone().unwrap_or_else(|| "no reason given".into());
    let known = ebpf::hook::Hook::ALL.into_iter().find(|one| one.name() == hook.name);
    let lost = known.map_or("what it counts", live::lost_without);
    let verdict = |severity| {
        Verdict::new(&hook.name, severity, reason.clone())
            .why(format!("it counts {lost}, which are unavailable"))
    };
    if reason.contains(plan::NO_KALLSYMS) {
        return verdict(Severity::Warning)
            .advice("mount procfs without subset=pid: ProcSubset=all in the unit of systemd");
    }
    if reason.contains(plan::HIDES_ADDRESS) {
        return verdict(Severity::Warning).advice(
            "set kernel.kptr_restrict to 0 or 1, and leave CAP_SYSLOG to ctmon: no ProtectKernelLogs=yes in the unit \
             of systemd",
        );
    }
    if by_kprobe && hook.state == State::Unsupported {
        return verdict(Severity::Info)
            .advice("a kernel with type information of modules (5.11 and later) takes fentry");
    }
    verdict(Severity::Warning)
        .advice("report it with a bundle (--bundle FILE): other kernels have this function")
}

/// None attaches.
fn no_hooks(facts: &Facts, reason: &str) -> Verdict {
    let new = |severity, what: &str| Verdict::new("hooks", severity, what);
    if matches!(facts.conntrack, Fact::Known(Conntrack::Absent { .. })) {
        return new(Severity::Info, reason);
    }
    let counts = facts.namespaces.read.iter().any(|netns| netns.entries.known().is_some());
    let (severity, why) = if counts {
        (
            Severity::Warning,
            format!("they tell {PROGRAMS}; entries and fill are polled from procfs"),
        )
    } else {
        (
            Severity::Critical,
            format!("they tell {PROGRAMS}, and procfs tells no count of entries either"),
        )
    };
    let process = &facts.process;
    let causes = [
        (btf(facts).severity >= Severity::Warning, "BTF"),
        (!super::process::missing(facts).is_empty(), "capabilities"),
        (process.initial_user_namespace.is(&false), "sandbox"),
    ];
    let causes: Vec<&str> =
        causes.iter().filter(|(is_one, _)| *is_one).map(|(_, subject)| *subject).collect();
    let advice = if reason == ebpf::LEFT_OUT {
        "use a ctmon that `cargo xtask build` has built".into()
    } else if !causes.is_empty() {
        format!("see {}", causes.join(" and "))
    } else if process.capabilities.known().is_none() {
        no_procfs(facts).into()
    } else if facts.attach.is_refused {
        "all capabilities are there, so this kernel or a security policy refuses tracing programs: \
         allow bpf(2) to ctmon, or use another kernel"
            .into()
    } else {
        "report it with a bundle: --bundle FILE".into()
    };
    new(severity, reason).why(why).advice(advice)
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
