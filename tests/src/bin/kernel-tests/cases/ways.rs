//! The ways of attaching: they must tell the same.

use anyhow::Result;
use conntrack_tests::traffic::{Exchange, Family, Plan, Protocol};

use super::TRACK;
use crate::{
    checks::{Checks, Skip},
    command,
    ctmon::Watch,
    kernel::Limit,
    netns::Netns,
    process::{self},
    report,
    runner::{Env, Test},
    stage::{self, Running},
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    vec![Test::new(
        "kprobe-gives-the-same-numbers",
        "One ctmon by fentry and one by kprobe count the same traffic to the same totals",
        same_numbers,
    )]
}

/// Both at the same time: twice the same traffic would not do, because what is evicted hangs on the
/// namespace's hash.
fn same_numbers(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let _max = Limit::max(&env.init, 1000)?;
    let _buckets = Limit::buckets(&env.init, 512)?;
    let inode = Netns::own()?.inode();
    if !has_fentry(env)? {
        return Err(Skip("this kernel has no fentry for conntrack".to_owned()).into());
    }
    let mut watches =
        [Watch::start(env, &["--attach", "fentry"])?, Watch::start(env, &["--attach", "kprobe"])?];
    checks.that("one by kprobe", watches[1].started().is_by_kprobe(), &watches[1].started().hooks);
    checks.that("one by fentry", !watches[0].started().is_by_kprobe(), &watches[0].started().hooks);
    for watch in &mut watches {
        watch.baseline(inode)?;
    }
    let loopback = |protocol, flows| Plan::new(protocol, Family::Ipv4, flows);
    let mut sent = 0;
    for plan in [
        Plan { hold: true, ..loopback(Protocol::Tcp, 200) },
        Plan { exchange: Exchange::Twins, ..loopback(Protocol::Udp, 300) },
        loopback(Protocol::Icmp, 50),
        // The table is full from here on.
        loopback(Protocol::Udp, 3000),
    ] {
        sent += Running::start("flows", plan, None).join(checks)?.sent;
    }
    compare(checks, &mut watches, inode, "with a full table")?;
    command::run("conntrack", &["-D", "-p", "tcp"])?;
    command::flush()?;
    let [_, by_kprobe] = compare(checks, &mut watches, inode, "after a flush")?;
    checks.that(
        "more deletes than the table holds",
        by_kprobe.total("deletes") > Some(1000),
        &by_kprobe,
    );
    checks.that("early_drops", by_kprobe.total("early_drops") > Some(0), &by_kprobe);
    checks.note(format!("{sent} packets sent"));
    for watch in watches {
        checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    }
    Ok(())
}

/// Whether anything can be attached that way.
fn has_fentry(env: &Env) -> Result<bool> {
    let arguments = ["watch", "--attach", "fentry", "--source", "ebpf", "--count", "1"];
    Ok(process::run(env, &arguments)?.status.code() == Some(0))
}

/// What both show while nothing changes. One alone being quiet is not enough: at 95 % of max the kernel's
/// garbage collector goes on deleting now and then, also between two looks.
fn quiet_both(watches: &mut [Watch; 2], inode: u64) -> Result<[report::Netns; 2]> {
    let [fentry, kprobe] = watches;
    wait::until("the same counts before and after the other one's", wait::LONG, || {
        let before = fentry.quiet_netns(inode)?;
        let other = kprobe.quiet_netns(inode)?;
        let after = fentry.quiet_netns(inode)?;
        Ok((before.totals == after.totals).then_some([after, other]))
    })
}

fn compare(
    checks: &mut Checks,
    watches: &mut [Watch; 2],
    inode: u64,
    when: &str,
) -> Result<[report::Netns; 2]> {
    let seen = quiet_both(watches, inode)?;
    let [by_fentry, by_kprobe] = &seen;
    let kprobe = &watches[1];
    for (name, value) in by_fentry.flat_totals() {
        // Of the rings and of the sample, which each has for itself.
        if ["events_lost", "events_sampled_out"].contains(&name.as_str()) {
            continue;
        }
        let other = by_kprobe.total(&name);
        checks.that(&format!("{name} is a number by fentry"), value.is_some(), &by_fentry.totals);
        checks.total(
            &format!("{name} {when}"),
            other,
            value.unwrap_or_default(),
            kprobe.cannot_tell(&name),
        );
    }
    for netns in &seen {
        checks.equal(&format!("drift {when}"), netns.count_drift, Some(0));
    }
    checks.equal(&format!("entries {when}"), by_kprobe.entries, by_fentry.entries);
    Ok(seen)
}
