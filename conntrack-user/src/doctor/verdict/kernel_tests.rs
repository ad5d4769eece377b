//! The verdicts of `kernel.rs`, cell by cell.

use super::*;
use crate::doctor::{
    facts::Attach,
    verdict::test_facts::{all_well, check, unknown},
};

#[test]
fn releases() {
    use Severity::{Info, Ok, Warning};
    check(
        release,
        &[
            ("well", |_| {}, Ok, &["6.12.117", "x86_64", "SMP PREEMPT_DYNAMIC"]),
            ("old", |f| f.kernel.release = Fact::Known("5.4.0-30-amd64".into()), Info, &["5.10"]),
            ("oldest", |f| f.kernel.release = Fact::Known("5.10.0".into()), Ok, &["5.10.0"]),
            ("odd", |f| f.kernel.release = Fact::Known("custom".into()), Ok, &["custom"]),
            ("build", |f| f.kernel.build = unknown(), Ok, &["6.12.117, x86_64\""]),
            ("unread", |f| f.kernel.release = unknown(), Warning, &["no reason", "--path.procfs"]),
        ],
    );
}

#[test]
fn type_information() {
    use Severity::{Info, Ok, Warning};
    check(
        btf,
        &[
            ("module", |_| {}, Ok, &["vmlinux 6.0 MB", "nf_conntrack 200 kB"]),
            (
                "built in",
                |f| {
                    f.conntrack = Fact::Known(Conntrack::BuiltIn);
                    f.kernel.module_btf = unknown();
                },
                Ok,
                &["vmlinux 6.0 MB\""],
            ),
            (
                "not loaded",
                |f| {
                    f.conntrack = Fact::Known(Conntrack::Absent { loadable: Fact::Known(true) });
                    f.kernel.module_btf = unknown();
                },
                Ok,
                &["vmlinux"],
            ),
            (
                "none",
                |f| f.kernel.vmlinux_btf = unknown(),
                Warning,
                &["CONFIG_DEBUG_INFO_BTF;", "--path.sysfs"],
            ),
            (
                "none of the module",
                |f| {
                    f.kernel.module_btf = unknown();
                    f.attach.hooks = unknown();
                },
                Warning,
                &["CONFIG_DEBUG_INFO_BTF_MODULES"],
            ),
            (
                "none of the module, and not needed",
                |f| f.kernel.module_btf = unknown(),
                Info,
                &["none of the module"],
            ),
        ],
    );
}

#[test]
fn settings_for_tracing() {
    use Severity::{Info, Ok, Warning};
    check(
        tracing,
        &[
            ("well", |_| {}, Ok, &["JIT on, ftrace on, kprobes"]),
            ("no kprobes", |f| f.kernel.kprobes = Fact::Known(false), Ok, &["no kprobes"]),
            (
                "no JIT",
                |f| f.kernel.bpf_jit_enable = Fact::Known(0),
                Warning,
                &["sysctl -w net.core.bpf_jit_enable=1"],
            ),
            (
                "no ftrace",
                |f| f.kernel.ftrace_enabled = Fact::Known(0),
                Warning,
                &["sysctl -w kernel.ftrace_enabled=1"],
            ),
            (
                "config",
                |f| {
                    f.kernel.config = Fact::Known([("BPF_SYSCALL".into(), "y".into())].into());
                },
                Warning,
                &["CONFIG_BPF_JIT", "CONFIG_BPF_EVENTS", "DIRECT_CALLS"],
            ),
            ("config unread", |f| f.kernel.config = unknown(), Ok, &[]),
            (
                "unread",
                |f| {
                    f.kernel.bpf_jit_enable = unknown();
                    f.kernel.kprobes = unknown();
                },
                Info,
                &["JIT not known, ftrace on, kprobes not known"],
            ),
        ],
    );
}

#[test]
fn connection_tracking() {
    use Severity::{Critical, Ok};
    check(
        conntrack,
        &[
            ("module", |_| {}, Ok, &["needed by nft_ct"]),
            (
                "unused",
                |f| f.conntrack = Fact::Known(Conntrack::Module { users: vec![] }),
                Ok,
                &["no other"],
            ),
            ("built in", |f| f.conntrack = Fact::Known(Conntrack::BuiltIn), Ok, &["built into"]),
            (
                "absent",
                |f| {
                    f.conntrack = Fact::Known(Conntrack::Absent { loadable: Fact::Known(true) });
                },
                Critical,
                &["modprobe nf_conntrack", "watch --wait"],
            ),
            (
                "perhaps",
                |f| f.conntrack = Fact::Known(Conntrack::Absent { loadable: unknown() }),
                Critical,
                &["modprobe"],
            ),
            (
                "nowhere",
                |f| {
                    f.conntrack = Fact::Known(Conntrack::Absent { loadable: Fact::Known(false) });
                },
                Critical,
                &["install the package"],
            ),
            ("unread", |f| f.conntrack = unknown(), Critical, &["no reason", "--path.procfs"]),
        ],
    );
}

#[test]
fn single_hooks() {
    let all = hooks(&all_well());
    let what =
        format!("{0} of {0} by fentry/fexit (module nf_conntrack)", ebpf::hook::Hook::ALL.len());
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].severity, &all[0].what), (Severity::Ok, &what));
    fn early_drop(facts: &mut Facts, change: fn(&mut ProbedHook)) {
        let mut probed = ProbedHook {
            hook: Hook {
                name: "early-drop".into(),
                function: "early_drop".into(),
                state: State::Attached,
                attached_via: Some("fentry/fexit (vmlinux)".into()),
                reason: None,
                not_exact: None,
            },
            hits: None,
            misses: Some(0),
            runs: None,
            run_time_ns: None,
        };
        change(&mut probed);
        facts.attach.hooks = Fact::Known(vec![probed]);
    }
    fn missing(hook: &mut Hook, reason: Option<&str>) {
        hook.state = State::Unsupported;
        hook.attached_via = None;
        hook.reason = reason.map(str::to_owned);
    }
    use Severity::{Info, Ok, Warning};
    check(
        only,
        &[
            (
                "kprobe",
                |f| early_drop(f, |probed| probed.hook.attached_via = Some("kprobe".into())),
                Info,
                &["1 of 1 by kprobe", "under load"],
            ),
            (
                "timed",
                |f| {
                    early_drop(f, |probed| {
                        (probed.runs, probed.run_time_ns) = (Some(10), Some(250));
                    });
                },
                Ok,
                &["10 runs of 25 ns"],
            ),
            (
                "missed",
                |f| early_drop(f, |probed| probed.misses = Some(3)),
                Warning,
                &["3 calls missed", "drift"],
            ),
            (
                "missing",
                |f| early_drop(f, |probed| missing(&mut probed.hook, Some("inlined"))),
                Warning,
                &["inlined", "evictions"],
            ),
            (
                "not_needed",
                |f| {
                    early_drop(f, |probed| {
                        missing(&mut probed.hook, Some("the kernel counts the same"));
                        probed.hook.state = State::NotNeeded;
                    });
                },
                Ok,
                &["not attached: the kernel counts the same"],
            ),
            (
                "no reason",
                |f| early_drop(f, |probed| missing(&mut probed.hook, None)),
                Warning,
                &["no reason given"],
            ),
        ],
    );
}

#[test]
fn what_kprobes_cannot_see_is_a_note() {
    let mut facts = all_well();
    let Fact::Known(hooks) = &mut facts.attach.hooks else { panic!("all are known") };
    for ProbedHook { hook, .. } in hooks.iter_mut() {
        hook.attached_via = Some("kprobe".into());
    }
    hooks[3].hook.state = State::Unsupported;
    hooks[3].hook.attached_via = None;
    let severities: Vec<_> = super::hooks(&facts).iter().map(|verdict| verdict.severity).collect();
    assert_eq!(severities, [Severity::Info, Severity::Info]);
}

/// The verdict, where there is one.
fn only(facts: &Facts) -> Verdict {
    let mut all = hooks(facts);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn no_hook_at_all() {
    use Severity::{Critical, Info, Warning};
    fn refused(facts: &mut Facts) {
        facts.attach = Attach {
            hooks: Fact::Unavailable("refused".into()),
            is_refused: true,
            without: vec![],
        };
    }
    check(
        only,
        &[
            ("by policy", refused, Warning, &["refused", "security policy", "polled from procfs"]),
            (
                "no capability",
                |f| {
                    refused(f);
                    f.process.capabilities = Fact::Known(0);
                },
                Warning,
                &["see capabilities"],
            ),
            (
                "no capability and no BTF of the module",
                |f| {
                    refused(f);
                    f.kernel.module_btf = unknown();
                    f.process.capabilities = Fact::Known(0);
                },
                Warning,
                &["see BTF and capabilities"],
            ),
            (
                "user namespace",
                |f| {
                    refused(f);
                    f.process.initial_user_namespace = Fact::Known(false);
                },
                Warning,
                &["see sandbox"],
            ),
            (
                "no BTF",
                |f| {
                    refused(f);
                    f.kernel.vmlinux_btf = unknown();
                },
                Warning,
                &["see BTF"],
            ),
            (
                "no BTF of the module",
                |f| {
                    refused(f);
                    f.kernel.module_btf = unknown();
                },
                Warning,
                &["see BTF"],
            ),
            (
                "a bug",
                |f| {
                    refused(f);
                    f.attach.is_refused = false;
                },
                Warning,
                &["--bundle"],
            ),
            (
                "a build without programs",
                |f| {
                    f.kernel.module_btf = unknown();
                    f.attach.hooks = Fact::Unavailable(ebpf::LEFT_OUT.into());
                },
                Warning,
                &["without its kernel programs", "use a ctmon", "polled from procfs"],
            ),
            (
                "nothing at all",
                |f| {
                    refused(f);
                    f.namespaces.read.clear();
                },
                Critical,
                &["no count"],
            ),
            (
                "no conntrack",
                |f| {
                    refused(f);
                    f.conntrack = Fact::Known(Conntrack::Absent { loadable: Fact::Known(true) });
                },
                Info,
                &[],
            ),
        ],
    );
}
