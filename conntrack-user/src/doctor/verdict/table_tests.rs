//! The verdicts of `table.rs`, cell by cell.

use super::*;
use crate::doctor::{
    facts::{EntryBytes, Refused, Statistics},
    verdict::test_facts::{check, unknown},
};
use crate::severity::THRESHOLDS;

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
            ("one", |_| {}, Ok, &["1 is read"]),
            ("two", |f| f.namespaces.read.push(f.namespaces.read[0].clone()), Ok, &["2 are read"]),
            (
                "refused",
                |f| {
                    f.namespaces.refused.push(Refused { inode: 8, reason: "not allowed".into() });
                },
                Warning,
                &["1 not entered (not allowed)", "CAP_SYS_ADMIN"],
            ),
            (
                "hidden",
                |f| {
                    f.namespaces.hidden_processes = Fact::Known(9);
                    f.process.capabilities = Fact::Known(0);
                },
                Warning,
                &["9 processes hide theirs"],
            ),
            (
                "hidden from a user namespace",
                |f| {
                    f.namespaces.hidden_processes = Fact::Known(9);
                    f.process.initial_user_namespace = Fact::Known(false);
                },
                Warning,
                &["9 processes hide theirs"],
            ),
            (
                "hidden from root",
                |f| f.namespaces.hidden_processes = Fact::Known(1),
                Info,
                &["1 process hides its own", "more capabilities"],
            ),
            (
                "unread",
                |f| {
                    f.namespaces.hidden_processes = unknown();
                    f.process.capabilities = Fact::Known(0);
                },
                Warning,
                &["no reason"],
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
    use Severity::{Info, Ok, Warning};
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
