//! What `ctmon serve` can do with one of its capabilities left out.

use std::thread;

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::Value;

use super::{TRACK, expect_no_panic, namespaces::Inhabited};
use crate::{
    checks::Checks,
    kernel,
    netns::Netns,
    runner::{Env, Test},
    served::Served,
    stage, wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "serve-without-one-capability",
        "With each of the helper's capabilities left out the service works, and says what it cannot tell",
        without_one,
    )]
}

/// What is left where one is left out.
struct Case {
    name: &'static str,
    capability: CapabilitySet,
    /// Whether the programs can be attached.
    counts: bool,
    /// Whether the kernel's numbers of another process's namespace are read.
    sees_others: bool,
    /// Words that it has for what is missing.
    says: &'static [&'static str],
}

/// `CAP_SYS_ADMIN` stands for `CAP_BPF` and `CAP_PERFMON` (`bpf_capable` and `perfmon_capable`,
/// include/linux/capability.h), but for the half that serves and keeps `CAP_BPF` alone, before 5.19. Addresses of functions
/// are for kprobes.
fn cases(env: &Env) -> [Case; 5] {
    let by_kprobe = kernel::is_before((5, 11)) || env.attach.as_deref() == Some("kprobe");
    let needs_bpf = kernel::is_before((5, 19));
    let case = |name, capability, counts, sees_others, says| Case {
        name,
        capability,
        counts,
        sees_others,
        says,
    };
    [
        case(
            "CAP_BPF",
            CapabilitySet::BPF,
            !needs_bpf,
            true,
            if needs_bpf { &["it takes CAP_BPF"] } else { &[] },
        ),
        case("CAP_PERFMON", CapabilitySet::PERFMON, true, true, &[]),
        case(
            "CAP_SYS_ADMIN",
            CapabilitySet::SYS_ADMIN,
            false,
            false,
            &["and CAP_SYS_ADMIN", "the fill level of other network namespaces"],
        ),
        case(
            "CAP_SYS_PTRACE",
            CapabilitySet::SYS_PTRACE,
            true,
            false,
            &["may not trace them (CAP_SYS_PTRACE)"],
        ),
        case(
            "CAP_SYSLOG",
            CapabilitySet::SYSLOG,
            !by_kprobe,
            true,
            if by_kprobe { &["and CAP_SYSLOG"] } else { &[] },
        ),
    ]
}

const FLOWS: u64 = 100;

fn without_one(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    for case in cases(env) {
        let other = Inhabited::new()?;
        let served = without(case.capability, || Served::start(env, &[]))
            .with_context(|| format!("without {}", case.name))?;
        other.send(FLOWS, checks)?;
        let all = FLOWS as f64;
        let inode = other.netns.inode();
        let told = wait::until("what is told of the other namespace", wait::SHORT, || {
            let metrics = served.metrics()?;
            let (entries, allocs) =
                (metrics.of("ctmon_entries", inode), metrics.of("ctmon_allocs_total", inode));
            let is_all = allocs == case.counts.then_some(all)
                && entries == case.sees_others.then_some(all)
                && metrics.of("ctmon_entries", own) == Some(0.0);
            Ok(is_all.then_some(()))
        });
        checks.that(&format!("without {}", case.name), told.is_ok(), served.metrics()?.0);
        let said = served.said();
        for words in case.says {
            checks.that(
                &format!("without {} it says {words:?}", case.name),
                said.contains(words),
                &said,
            );
        }
        let status = served.json("/api/v1/status")?;
        let reasons = status["unavailable"].as_array().into_iter().flatten();
        let of_capabilities = reasons.filter(|one| one["reason"].to_string().contains("CAP_"));
        checks.equal(
            &format!("what is unavailable for want of {}", case.name),
            of_capabilities.count(),
            case.says.len(),
        );
        let source = if case.counts { "ebpf" } else { "procfs" };
        checks.equal("source", status["source"].as_str(), Some(source));
        checks.note(format!("without {}: {}", case.name, Value::from(said)));
        let ended = served.terminate()?;
        checks.equal("exit code", ended.status.code(), Some(0));
        expect_no_panic(checks, case.name, &ended.stderr);
    }
    Ok(())
}

/// Starts something in a thread that has `capability` not in its bounding set: what root executes there does not get it.
pub(super) fn without<T: Send>(
    capability: CapabilitySet,
    start: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            remove_capability_from_bounding_set(capability)
                .context("cannot change the bounding set")?;
            start()
        });
        thread.join().map_err(|_| anyhow!("the thread panicked"))?
    })
}
