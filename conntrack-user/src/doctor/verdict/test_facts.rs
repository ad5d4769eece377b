//! Facts for tests.

use super::Severity;
use crate::{
    doctor::{
        facts::{
            Attach, Conntrack, EntryBytes, Fact, Facts, Kernel, Limit, Namespace, Namespaces,
            Observed, Process, SettingsOf, Statistics, Surroundings, Table,
        },
        verdict::Verdict,
    },
    source::{
        ebpf::{hook, plan::State},
        item::{Hook, ProbedHook},
    },
};

/// A fact that is not known.
pub(crate) fn unknown<T>() -> Fact<T> {
    Fact::Unavailable("no reason".into())
}

/// A row of a table of verdicts: a name, what differs from [`all_well`], the severity, and words that must
/// be in the verdict.
pub(crate) type Row = (&'static str, fn(&mut Facts), Severity, &'static [&'static str]);

/// Judges row by row.
pub(crate) fn check(judge: impl Fn(&Facts) -> Verdict, rows: &[Row]) {
    for (name, change, severity, words) in rows {
        let mut facts = all_well();
        change(&mut facts);
        let verdict = judge(&facts);
        assert_eq!(verdict.severity, *severity, "{name}: {verdict:?}");
        let all = format!("{verdict:?}");
        for word in *words {
            assert!(all.contains(word), "{name}: no {word:?} in {verdict:?}");
        }
        if *severity >= Severity::Warning {
            assert!(verdict.advice.is_some(), "{name}: {verdict:?}");
        }
    }
}

/// A machine that leaves nothing to say.
pub(crate) fn all_well() -> Facts {
    let hooks = hook::Hook::ALL.map(|hook| ProbedHook {
        hook: Hook {
            name: hook.name().into(),
            function: hook.function().into(),
            state: State::Attached,
            attached_via: Some("fentry/fexit (module nf_conntrack)".into()),
            reason: None,
            not_exact: None,
        },
        hits: Some(1),
        misses: Some(0),
        runs: None,
        run_time_ns: None,
    });
    let sysctls = [
        ("acct", "0"),
        ("buckets", "262144"),
        ("count", "100"),
        ("events", "2"),
        ("expect_max", "4096"),
        ("max", "262144"),
        ("tcp_be_liberal", "0"),
        ("tcp_loose", "1"),
        ("tcp_timeout_established", "86400"),
        ("udp_timeout", "30"),
        ("udp_timeout_stream", "120"),
    ];
    let options = [
        "BPF_SYSCALL",
        "BPF_JIT",
        "BPF_EVENTS",
        "DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
        "NF_CONNTRACK_PROCFS",
    ];
    let limit = Limit { soft: Some(1024), hard: Some(1 << 20) };
    Facts {
        ctmon: "0.1.0".into(),
        kernel: Kernel {
            release: Fact::Known("6.12.117".into()),
            build: Fact::Known("#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1".into()),
            architecture: "x86_64".into(),
            vmlinux_btf: Fact::Known(6_000_000),
            module_btf: Fact::Known(200_000),
            bpf_jit_enable: Fact::Known(1),
            ftrace_enabled: Fact::Known(1),
            kprobes: Fact::Known(true),
            config: Fact::Known(options.map(|name| (name.into(), "y".into())).into()),
        },
        conntrack: Fact::Known(Conntrack::Module { users: vec!["nft_ct".into()] }),
        attach: Attach { hooks: Fact::Known(hooks.into()), is_refused: false, without: vec![] },
        process: Process {
            user: Fact::Known(0),
            capabilities: Fact::Known(0x1ff_ffff_ffff),
            unprivileged_bpf_disabled: Fact::Known(2),
            perf_event_paranoid: Fact::Known(2),
            kptr_restrict: Fact::Known(0),
            lockdown: Fact::Known("none".into()),
            seccomp: Fact::Known(0),
            no_new_privs: Fact::Known(false),
            locked_memory: Fact::Known(limit),
            open_files: Fact::Known(limit),
            initial_user_namespace: Fact::Known(true),
            initial_pid_namespace: Fact::Known(true),
            container_signs: vec![],
        },
        namespaces: Namespaces {
            own: Fact::Known(7),
            read: vec![Namespace {
                inode: 7,
                name: Some("blue".into()),
                entries: Fact::Known(100),
                entries_limit: Fact::Known(262_144),
            }],
            refused: vec![],
            hidden_processes: Fact::Known(0),
            unread: 0,
            others: vec![],
            is_total_exact: true,
            blind_spots: vec![],
            stale_files: vec![],
        },
        table: Table {
            settings_of: SettingsOf::Host,
            sysctls: Fact::Known(sysctls.map(|(name, value)| (name.into(), value.into())).into()),
            entry_bytes: Fact::Known(EntryBytes { bytes: 256, is_estimate: false }),
            statistics: Fact::Known(Statistics {
                drop: Some(0),
                early_drop: Some(0),
                insert_failed: Some(0),
                chaintoolong: Some(0),
            }),
        },
        surroundings: Surroundings {
            modules: Fact::Known([("nf_conntrack".into(), 0), ("nft_ct".into(), 2)].into()),
            listeners: Fact::Known(0),
            settings: vec![],
            programs: Fact::Known(vec![]),
            cilium_signs: vec![],
            kube_ipvs: Fact::Known(false),
        },
        observed: Fact::Known(Observed {
            interval_ns: 1_000_000_000,
            limits: vec![262_144],
            losing: vec![],
        }),
    }
}
