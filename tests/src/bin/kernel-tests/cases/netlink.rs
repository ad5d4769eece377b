//! `--source netlink`: counts from the events of ctnetlink.

use std::time::Duration;

use anyhow::{Context as _, Result};
use conntrack_tests::traffic::{Exchange, Family, Outcome, Plan, Protocol};

use super::{TRACK, expect_error, expect_no_panic, namespaces::Inhabited, privileges::NOBODY};
use crate::{
    checks::Checks,
    command,
    ctmon::Watch,
    kernel,
    netns::Netns,
    process::Process,
    report::Netns as Seen,
    runner::{Env, Test},
    served::Served,
    stage::{self, Running},
    wait,
};

pub(super) fn tests() -> Vec<Test> {
    let tests = [
        Test::new(
            "netlink-counts-exactly",
            "At a moderate rate every insert and delete is heard, whoever asked for it, and none is lost",
            exact,
        ),
        Test::new(
            "netlink-says-what-it-lost",
            "Without room for events it says how many it lost and what it does not know; afterwards it is right again",
            lost,
        ),
        Test::new(
            "netlink-entries-from-before",
            "Entries from before somebody listened end unheard, or heard, as nf_conntrack_events has it, without drift",
            before,
        ),
        Test::new(
            "netlink-lets-a-namespace-end",
            "A namespace that is listened to ends when nobody is in it any more",
            ends,
        ),
        Test::new(
            "netlink-by-a-helper",
            "What serves has no privileges: the helper of ctmon serve opens the sockets, also in other namespaces",
            helped,
        ),
        Test::new(
            "netlink-without-privileges",
            "Without CAP_NET_ADMIN it says what it lacks",
            unprivileged,
        ),
    ];
    tests.into_iter().map(Test::anywhere).collect()
}

const SOURCE: [&str; 2] = ["--source", "netlink"];

fn start(env: &Env, arguments: &[&str]) -> Result<Watch> {
    let own = ["--netns", "self"];
    Watch::start(env, &[&SOURCE[..], &own, arguments].concat())
}

/// Sends, and keeps the ports taken as long as the outcome is kept.
fn send(plan: Plan, checks: &mut Checks) -> Result<Outcome> {
    Running::start("sender", plan, None).join(checks)
}

fn udp(flows: u64, rate: Option<u32>) -> Plan {
    Plan { rate, ..Plan::new(Protocol::Udp, Family::Ipv4, flows) }
}

fn sent(outcome: &Outcome) -> Result<i64> {
    i64::try_from(outcome.sent).context("flows")
}

/// What holds at every quiet moment. `inserts`, `deletes`: as they must be, where nothing was lost.
fn expect(checks: &mut Checks, when: &str, netns: &Seen, inserts: i64, deletes: i64) -> Result<()> {
    checks.equal(&format!("inserts {when}"), netns.total("inserts"), Some(inserts));
    checks.equal(&format!("deletes {when}"), netns.total("deletes"), Some(deletes));
    right_again(checks, when, netns)
}

fn right_again(checks: &mut Checks, when: &str, netns: &Seen) -> Result<()> {
    checks.equal(&format!("entries {when}"), netns.entries, Some(kernel::count()?));
    checks.equal(&format!("drift {when}"), netns.count_drift, Some(0));
    let max = kernel::max()?;
    checks.equal(&format!("entries_limit {when}"), netns.entries_limit, Some(max));
    Ok(())
}

fn exact(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let inode = Netns::own()?.inode();
    let mut watch = start(env, &[])?;
    checks.equal("source", watch.started().source.as_str(), "netlink");
    let unavailable = format!("{:?}", watch.started().unavailable);
    checks.that("its price is said", unavailable.contains("dearer"), &unavailable);
    watch.baseline(inode)?;

    let mut outcomes = vec![send(udp(2000, Some(1000)), checks)?];
    for (protocol, exchange) in
        [(Protocol::Tcp, Exchange::Plain), (Protocol::Icmp, Exchange::Plain)]
    {
        let plan = Plan { exchange, rate: Some(200), ..Plan::new(protocol, Family::Ipv4, 100) };
        outcomes.push(send(plan, checks)?);
    }
    let v6 = Plan { rate: Some(200), ..Plan::new(Protocol::Udp, Family::Ipv6, 100) };
    outcomes.push(send(v6, checks)?);
    let all: i64 = outcomes.iter().map(sent).sum::<Result<_>>()?;
    let netns = watch.quiet_netns(inode)?;
    expect(checks, "after the senders", &netns, all, 0)?;
    for (name, expected) in [
        ("inserts_packet", Some(all)),
        ("inserts_ctnetlink", Some(0)),
        ("inserts_by_protocol_udp", Some(2100)),
        ("inserts_by_protocol_tcp", Some(100)),
        ("inserts_by_protocol_icmp", Some(100)),
        ("events_lost", Some(0)),
        // What its events do not tell is no 0.
        ("allocs", None),
        ("frees", None),
        ("table_full_drops", None),
        ("early_drops", None),
        ("deletes_by_cause_kernel", None),
        ("deletes_by_cause_netns_exit", None),
        ("insert_failed_clash", None),
    ] {
        checks.equal(name, netns.total(name), expected);
    }

    let tuple = ["-p", "udp", "-s", "192.0.2.1", "-d", "192.0.2.2", "--sport", "1", "--dport", "2"];
    command::run("conntrack", &[&["-I"], &tuple[..], &["-t", "600"]].concat())?;
    let netns = watch.quiet_netns(inode)?;
    checks.equal("inserts_ctnetlink", netns.total("inserts_ctnetlink"), Some(1));
    expect(checks, "after conntrack -I", &netns, all + 1, 0)?;

    // The answer to each, a reset, has the kernel delete it.
    let closed = Plan { exchange: Exchange::Closed, ..Plan::new(Protocol::Tcp, Family::Ipv4, 50) };
    let closed = sent(&send(closed, checks)?)?;
    let netns = watch.quiet_netns(inode)?;
    expect(checks, "after resets", &netns, all + 1 + closed, closed)?;
    checks.equal("none by a user", netns.total("deletes_by_cause_user"), Some(0));

    // A dump takes out what has expired.
    stage::set_sysctl("nf_conntrack_udp_timeout", 1)?;
    outcomes.push(send(udp(100, Some(1000)), checks)?);
    std::thread::sleep(Duration::from_secs(2));
    command::run("conntrack", &["-L"])?;
    let (inserts, expired) = (all + 1 + closed + 100, closed + 100);
    let netns = watch.quiet_netns(inode)?;
    expect(checks, "after time-outs", &netns, inserts, expired)?;
    checks.equal("none by a user", netns.total("deletes_by_cause_user"), Some(0));

    command::flush()?;
    let tick = watch.quiet()?;
    let netns = tick.netns(inode).cloned().unwrap_or_default();
    expect(checks, "after a flush", &netns, inserts, inserts)?;
    checks.equal("by a user", netns.total("deletes_by_cause_user"), Some(inserts - expired));
    checks.equal("the last entries", netns.entries, Some(0));
    checks.equal("missed_calls_max", tick.missed_calls_max, Some(0));
    checks.equal("events seen", tick.events.seen, Some(2 * inserts));
    // On a slow machine those of some moments come at once, and are beyond the budget.
    let known = tick.events.received.zip(tick.events.sampled_out);
    let known = known.map(|(received, sampled_out)| received + sampled_out);
    checks.equal("events received or left out by the budget", known, Some(2 * inserts));
    let live = tick.flows.get("live").and_then(serde_json::Value::as_i64);
    checks.that("no flow is left alive", live.is_none_or(|live| live == 0), live);

    let ended = watch.terminate()?;
    checks.equal("ctmon ends with 0 by SIGTERM", ended.status.code(), Some(0));
    expect_no_panic(checks, "ctmon", &ended.stderr);
    let other = ended.stderr.lines().filter(|line| !line.contains("source netlink; not available"));
    checks.equal("nothing else on standard error", other.count(), 0);
    Ok(())
}

fn lost(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let inode = Netns::own()?.inode();
    // 25 events.
    let mut watch = start(env, &["--netlink-buffer", "16384"])?;
    watch.baseline(inode)?;

    // Fewer than the table of a machine with 512 MB holds (4,096): nothing is evicted.
    let mut outcomes = vec![send(udp(3000, None), checks)?];
    watch.until_notice("are lost")?;
    watch.until_notice("were lost")?;
    let tick = watch.quiet()?;
    let netns = tick.netns(inode).cloned().unwrap_or_default();
    let lost = tick.events.lost.unwrap_or_default();
    checks.that("events are lost", lost > 0, tick.events);
    checks.equal("missed_calls_max", tick.missed_calls_max, Some(lost));
    let inserts = netns.total("inserts").unwrap_or_default();
    checks.equal("inserts + lost == sent", inserts + lost, sent(&outcomes[0])?);
    checks.that("a tick without a rate", watch.ticks_without_a_rate() > 0, &netns);
    right_again(checks, "after a loss", &netns)?;
    checks.note(format!("lost {lost} of {} inserts", inserts + lost));

    outcomes.push(send(udp(100, Some(50)), checks)?);
    let netns = watch.quiet_netns(inode)?;
    checks.equal("inserts once it hears again", netns.total("inserts"), Some(inserts + 100));
    right_again(checks, "once it hears again", &netns)?;

    command::flush()?;
    let tick = watch.quiet()?;
    let netns = tick.netns(inode).cloned().unwrap_or_default();
    let deletes = netns.total("deletes").unwrap_or_default();
    let all: i64 = outcomes.iter().map(sent).sum::<Result<_>>()?;
    let lost_in_all = tick.events.lost.unwrap_or_default();
    checks.that("a flush is too much, too", lost_in_all > lost, lost_in_all);
    checks.equal("deletes + lost == entries", deletes + lost_in_all - lost, all);
    right_again(checks, "after a flush that is not all heard", &netns)?;
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}

fn before(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let inode = Netns::own()?.inode();
    let first = send(udp(50, None), checks)?;
    let mut watch = start(env, &[])?;
    let tick = watch.baseline(inode)?;
    let baseline = tick.netns(inode).and_then(|netns| netns.baseline);
    checks.equal("baseline", baseline, Some(sent(&first)?));
    let second = send(udp(100, Some(1000)), checks)?;
    let netns = watch.quiet_netns(inode)?;
    expect(checks, "with entries from before", &netns, sent(&second)?, 0)?;

    command::flush()?;
    let netns = watch.quiet_netns(inode)?;
    let heard = match stage::sysctl("nf_conntrack_events")? {
        // Only while somebody listens.
        2 => 0,
        _ => sent(&first)?,
    };
    expect(checks, "after the flush", &netns, sent(&second)?, sent(&second)? + heard)?;
    checks.equal("baseline after the flush", netns.baseline, Some(heard));
    checks.note(format!("{heard} of 50 entries from before were heard to end"));
    Ok(())
}

fn ends(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let mut watch = Watch::start(env, &SOURCE)?;
    watch.baseline(own)?;
    let first = send(udp(100, Some(1000)), checks)?;

    let second = Inhabited::new()?;
    let inode = second.netns.inode();
    watch.baseline(inode)?;
    let sent_second = second.send(150, checks)?;
    let netns = watch.quiet_netns(inode)?;
    checks.equal("inserts of the second", netns.total("inserts"), Some(sent_second));
    checks.equal("drift of the second", netns.count_drift, Some(0));

    drop(second);
    // Its count can be read as long as it is there.
    wait::until(&format!("the end of the netns {inode}"), wait::SHORT, || {
        let tick = watch.next_tick()?;
        Ok(tick.netns(inode).is_none().then_some(()))
    })?;
    let netns = watch.quiet_netns(own)?;
    expect(checks, "of the first after the end of the second", &netns, sent(&first)?, 0)?;
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}

fn helped(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let other = Inhabited::new()?;
    let served = Served::start(env, &SOURCE)?;
    let sent_own = sent(&send(udp(100, Some(1000)), checks)?)?;
    let sent_other = other.send(150, checks)?;
    for (inode, sent) in [(own, sent_own), (other.netns.inode(), sent_other)] {
        let series =
            format!("ctmon_inserts_total{{netns=\"{inode}\",path=\"packet\",protocol=\"udp\"}}");
        wait::until(&format!("{sent} inserts in the netns {inode}"), wait::SHORT, || {
            Ok((served.metrics()?.value(&series) == Some(sent as f64)).then_some(()))
        })?;
        checks.equal("count_drift", served.metrics()?.of("ctmon_count_drift", inode), Some(0.0));
    }
    let ended = served.terminate()?;
    checks.equal("ctmon ends with 0", ended.status.code(), Some(0));
    expect_no_panic(checks, "serve", &ended.stderr);
    Ok(())
}

fn unprivileged(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let arguments = ["watch", "--source", "netlink", "--netns", "self"];
    let ended = Process::start_as(env, &arguments, Some(NOBODY))?.end(wait::SHORT)?;
    expect_error(checks, "without root", &ended, &["CAP_NET_ADMIN", "--source procfs"]);
    Ok(())
}
