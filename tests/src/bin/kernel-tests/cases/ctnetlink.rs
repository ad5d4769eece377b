//! Entries that no packet made.

use anyhow::Result;

use super::TRACK;
use crate::{
    checks::Checks,
    command,
    ctmon::Watch,
    kernel,
    netns::Netns,
    runner::{Env, Test},
    stage,
};

const ENTRIES: i64 = 50;

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "ctnetlink-inserts-are-counted-apart",
        "Entries made with conntrack -I are counted once, and not as a packet's; one that exists already is none",
        inserts,
    )]
}

fn insert(port: i64) -> Result<String> {
    let port = port.to_string();
    let tuple =
        ["-p", "udp", "-s", "192.0.2.1", "-d", "192.0.2.2", "--sport", "1000", "--dport", &port];
    command::run("conntrack", &[&["-I"], tuple.as_slice(), &["-t", "600"]].concat())
}

fn inserts(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let inode = Netns::own()?.inode();
    let mut watch = Watch::start(env, &[])?;
    watch.baseline(inode)?;

    for port in 1..=ENTRIES {
        insert(port)?;
    }
    for protocol in ["tcp", "icmp"] {
        let tuple = ["-I", "-p", protocol, "-s", "192.0.2.1", "-d", "192.0.2.2", "-t", "600"];
        let rest: &[&str] = if protocol == "tcp" {
            &["--sport", "1", "--dport", "2", "--state", "SYN_SENT"]
        } else {
            &["--icmp-type", "8", "--icmp-code", "0", "--icmp-id", "1"]
        };
        command::run("conntrack", &[&tuple, rest].concat())?;
    }
    checks.that("a second insertion of the same entry is refused", insert(1).is_err(), "accepted");
    let netns = watch.quiet_netns(inode)?;
    for (name, expected) in [
        ("inserts_ctnetlink", ENTRIES + 2),
        ("inserts_packet", 0),
        ("inserts", ENTRIES + 2),
        ("inserts_by_protocol_udp", ENTRIES),
        ("inserts_by_protocol_tcp", 1),
        ("inserts_by_protocol_icmp", 1),
        ("deletes", 0),
    ] {
        checks.equal(&format!("{name} after conntrack -I"), netns.total(name), Some(expected));
    }
    checks.equal("entries == nf_conntrack_count", netns.entries, Some(kernel::count()?));
    checks.equal("nf_conntrack_count", kernel::count()?, ENTRIES + 2);
    checks.equal("drift after conntrack -I", netns.count_drift, Some(0));

    command::run("conntrack", &["-D", "-p", "udp", "--dport", "1"])?;
    command::flush()?;
    let tick = watch.quiet()?;
    let netns = tick.netns(inode).cloned().unwrap_or_default();
    for name in ["deletes", "deletes_by_cause_user"] {
        let what = format!("{name} after conntrack -D and -F");
        checks.equal(&what, netns.total(name), Some(ENTRIES + 2));
    }
    checks.equal("entries after conntrack -F", netns.entries, Some(0));
    checks.equal("drift after conntrack -F", netns.count_drift, Some(0));
    let events = tick.events.received.zip(tick.events.lost).map(|(received, lost)| received + lost);
    let expected =
        tick.sum("inserts").zip(tick.sum("deletes")).map(|(inserts, deletes)| inserts + deletes);
    checks.equal("events received + lost == inserts + deletes", events, expected);
    Ok(())
}
