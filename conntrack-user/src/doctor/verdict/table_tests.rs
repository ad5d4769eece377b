//! The verdicts of `table.rs`, cell by cell.

use super::*;
use crate::doctor::{
    facts::{EntryBytes, OtherNetns, Refused, SettingsOf, Statistics},
    verdict::test_facts::{check, unknown},
};
use crate::{model::coverage::BlindSpot, severity::THRESHOLDS};

fn set(facts: &mut Facts, name: &str, value: &str) {
    if let Fact::Known(sysctls) = &mut facts.table.sysctls {
        sysctls.insert(name.into(), value.into());
    }
}

fn table(facts: &mut Facts, count: u32, max: u32) {
    facts.namespaces.read[0].entries = Fact::Known(count);
    facts.namespaces.read[0].entries_limit = Fact::Known(max);
}

#[test]
fn namespaces_that_are_seen() {
    use Severity::{Critical, Info, Ok, Warning};
    check(
        namespaces,
        &[
            ("one", |_| {}, Ok, &["1 is read of 1 on the kernel's own list"]),
            ("two", |f| f.namespaces.read.push(f.namespaces.read[0].clone()), Ok, &["2 are read"]),
            (
                "no programs",
                |f| f.namespaces.is_total_exact = false,
                Ok,
                &["1 is read of at least 1"],
            ),
            (
                "kept by an open file",
                |f| {
                    let other = |inode, entries| OtherNetns { inode, entries };
                    f.namespaces.others = vec![other(8, None), other(9, Some(300))];
                    f.namespaces.unread = 2;
                },
                Info,
                &["1 is read of 3", "2 that no process and no file leads to (9, 300 entries)"],
            ),
            (
                "that, and hidden ones",
                |f| {
                    f.namespaces.others = vec![OtherNetns { inode: 9, entries: Some(300) }];
                    f.namespaces.unread = 3;
                    f.process.capabilities = Fact::Known(0);
                },
                Warning,
                &["1 that no process", "2 hidden by their processes", "CAP_SYS_PTRACE"],
            ),
            (
                "refused",
                |f| {
                    f.namespaces.refused.push(Refused { inode: 8, reason: "not allowed".into() });
                    f.namespaces.unread = 1;
                },
                Warning,
                &["1 not entered (not allowed)", "CAP_SYS_ADMIN"],
            ),
            (
                "hidden",
                |f| {
                    f.namespaces.blind_spots = vec![BlindSpot::HiddenProcesses(9)];
                    f.process.capabilities = Fact::Known(0);
                },
                Warning,
                &["9 processes hide theirs"],
            ),
            (
                "hidden from a user namespace",
                |f| {
                    f.namespaces.blind_spots = vec![BlindSpot::HiddenProcesses(9)];
                    f.process.initial_user_namespace = Fact::Known(false);
                },
                Warning,
                &["9 processes hide theirs"],
            ),
            (
                "hidden from root",
                |f| f.namespaces.blind_spots = vec![BlindSpot::HiddenProcesses(1)],
                Info,
                &["a process hides its own", "more capabilities"],
            ),
            (
                "unread",
                |f| {
                    f.namespaces.blind_spots = vec![BlindSpot::Hidepid];
                    f.process.capabilities = Fact::Known(0);
                },
                Warning,
                &["hidepid"],
            ),
            (
                "hidden by its processes",
                |f| {
                    f.namespaces.unread = 2;
                    f.process.capabilities = Fact::Known(0);
                },
                Warning,
                &["2 hidden by their processes", "CAP_SYS_PTRACE"],
            ),
            (
                "a container",
                |f| f.namespaces.blind_spots = vec![BlindSpot::PidNamespace],
                Warning,
                &["own container", "--pid=host", "hostPID"],
            ),
            (
                "a stale file",
                |f| f.namespaces.stale_files = vec!["/run/netns/old".into()],
                Info,
                &[
                    "1 is read of 1 on the kernel's own list, /run/netns/old stands for none",
                    "ip netns delete",
                ],
            ),
            ("none", |f| f.namespaces.read.clear(), Critical, &["none is read"]),
            (
                "no conntrack",
                |f| {
                    f.namespaces.read.clear();
                    f.conntrack = Fact::Known(Conntrack::Absent { loadable: unknown() });
                },
                Info,
                &["none has a table"],
            ),
        ],
    );
}

#[test]
fn whether_anything_tracks() {
    use Severity::{Info, Ok};
    fn no_rules(facts: &mut Facts) {
        facts.surroundings.modules = Fact::Known([("nft_ct".into(), 0)].into());
        facts.namespaces.read[0].entries = Fact::Known(0);
    }
    check(
        tracking,
        &[
            ("rules", |_| {}, Ok, &["nft_ct (2)"]),
            (
                "no rules, entries",
                |f| {
                    no_rules(f);
                    f.namespaces.read[0].entries = Fact::Known(1);
                },
                Ok,
                &["1 entries"],
            ),
            ("neither", no_rules, Info, &["no rule", "ct state"]),
            (
                "built in",
                |f| {
                    no_rules(f);
                    f.conntrack = Fact::Known(Conntrack::BuiltIn);
                },
                Info,
                &["not available", "built-in"],
            ),
            (
                "openvswitch",
                |f| {
                    no_rules(f);
                    f.surroundings.modules = Fact::Known([("openvswitch".into(), 0)].into());
                },
                Info,
                &["not available", "may track"],
            ),
            (
                "unread",
                |f| {
                    no_rules(f);
                    f.surroundings.modules = unknown();
                },
                Info,
                &["not available", "no list"],
            ),
        ],
    );
}

#[test]
fn fill_of_the_fullest() {
    use Severity::{Critical, Info, Ok, Warning};
    check(
        |facts| fill(facts, &THRESHOLDS.on_demand()),
        &[
            ("low", |f| table(f, 799, 1000), Ok, &["799 of 1000"]),
            (
                "high",
                |f| table(f, 800, 1000),
                Warning,
                &["80% in the fullest (800 of 1000)", "ctmon watch"],
            ),
            (
                "the other one",
                |f| {
                    f.namespaces.read.push(f.namespaces.read[0].clone());
                    table(f, 900, 1000);
                },
                Warning,
                &["900 of 1000"],
            ),
            ("no limit", |f| table(f, 900, 0), Warning, &["no limit"]),
            ("unread", |f| f.namespaces.read[0].entries = unknown(), Info, &["not available"]),
            (
                "only counted, at the limit of all",
                |f| {
                    table(f, 5, 1000);
                    f.namespaces.others = vec![OtherNetns { inode: 9, entries: Some(1000) }];
                },
                Critical,
                &["100% in the fullest (1000 of 1000; it is only counted"],
            ),
            (
                "only counted, with limits a namespace",
                |f| {
                    table(f, 5, 1000);
                    f.namespaces.read.push(f.namespaces.read[0].clone());
                    f.namespaces.read[1].entries_limit = Fact::Known(500);
                    f.namespaces.others = vec![OtherNetns { inode: 9, entries: Some(1000) }];
                },
                Ok,
                &["1% in the fullest (5 of 500)"],
            ),
        ],
    );
}

#[test]
fn size_of_the_table() {
    use Severity::{Info, Ok, Warning};
    check(
        size,
        &[
            (
                "one a bucket",
                |_| {},
                Ok,
                &["max 262144, 262144 buckets, 1.0 entries a bucket; 69.2 MB when full"],
            ),
            (
                "estimated",
                |f| {
                    f.table.entry_bytes = Fact::Known(EntryBytes { bytes: 256, is_estimate: true });
                },
                Ok,
                &["about 69.2 MB"],
            ),
            ("unknown memory", |f| f.table.entry_bytes = unknown(), Ok, &["unknown memory"]),
            ("four", |f| set(f, "buckets", "65536"), Ok, &["4.0 entries a bucket"]),
            ("eight", |f| set(f, "buckets", "32768"), Info, &["16 links", "buckets to 262144"]),
            ("32", |f| set(f, "buckets", "8192"), Warning, &["64 links", "refuses entries"]),
            ("few", |f| set(f, "max", "1000"), Info, &["0.004 entries", "eviction"]),
            ("no limit", |f| set(f, "max", "0"), Ok, &["no limit"]),
            ("unread", |f| f.table.sysctls = unknown(), Info, &["no reason"]),
            ("no number", |f| set(f, "buckets", "many"), Info, &["not there"]),
        ],
    );
}

#[test]
fn settings_of_the_table() {
    use Severity::{Info, Ok};
    check(
        timeouts,
        &[
            ("short", |_| {}, Ok, &["TCP established 86400 s, UDP 30 s, UDP stream 120 s"]),
            ("five days", |f| set(f, "tcp_timeout_established", "432000"), Info, &["86400"]),
            ("unread", |f| f.table.sysctls = unknown(), Info, &["not available"]),
        ],
    );
    check(
        settings,
        &[
            ("usual", |_| {}, Ok, &[]),
            ("acct", |f| set(f, "acct", "1"), Info, &["acct counts"]),
            ("events always", |f| set(f, "events", "1"), Info, &["events=1"]),
            ("events never", |f| set(f, "events", "0"), Info, &["events=0"]),
            ("liberal", |f| set(f, "tcp_be_liberal", "1"), Info, &["window"]),
            ("not loose", |f| set(f, "tcp_loose", "0"), Info, &["tcp_loose=0"]),
            ("unread", |f| f.table.sysctls = unknown(), Info, &["no reason"]),
        ],
    );
    check(
        expectations,
        &[
            ("there", |_| {}, Ok, &["4096"]),
            ("unread", |f| f.table.sysctls = unknown(), Info, &["not available"]),
        ],
    );
}

#[test]
fn counters_of_the_kernel() {
    use Severity::{Info, Ok};
    check(
        statistics,
        &[
            ("quiet", |_| {}, Ok, &["no packet dropped"]),
            (
                "drops",
                |f| {
                    let seen =
                        Statistics { drop: Some(3), early_drop: Some(5), ..Statistics::default() };
                    f.table.statistics = Fact::Known(seen);
                },
                Info,
                &["3 dropped, 5 evicted"],
            ),
            ("unread", |f| f.table.statistics = unknown(), Info, &["no reason"]),
            (
                "built without",
                |f| {
                    f.table.statistics = unknown();
                    f.kernel.config = Fact::Known([].into());
                },
                Info,
                &["CONFIG_NF_CONNTRACK_PROCFS"],
            ),
        ],
    );
}

#[test]
fn without_conntrack_there_is_no_table_to_judge() {
    let mut facts = crate::doctor::verdict::test_facts::all_well();
    facts.conntrack = Fact::Known(Conntrack::Absent { loadable: unknown() });
    assert_eq!(verdicts(&facts, &THRESHOLDS).len(), 1);
}

#[test]
fn settings_say_whose_they_are() {
    for (of, words) in [
        (SettingsOf::Container, "of this container, not of the node: "),
        (SettingsOf::Own, "of ctmon's own network namespace, not of process 1's: "),
    ] {
        let mut facts = crate::doctor::verdict::test_facts::all_well();
        set(&mut facts, "tcp_timeout_established", "432000");
        facts.table.settings_of = of;
        for verdict in [timeouts(&facts), settings(&facts), statistics(&facts)] {
            assert!(verdict.what.starts_with(words), "{verdict:?}");
            assert_eq!(verdict.advice, None, "{verdict:?}");
        }
    }
}
