//! Who deleted what, where one ruleset and one namespace are not enough for a scenario.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use conntrack_tests::traffic::{Exchange, Family, Plan, Protocol};

use super::{TRACK, namespaces::Inhabited};
use crate::{
    checks::Checks,
    command,
    ctmon::Watch,
    kernel::{self, Limit},
    netns::{self, Netns},
    report,
    runner::{Env, Test},
    stage::{self, Running},
    wait,
};

/// As [`TRACK`], but answers come back: a refused connection is one.
const TRACK_ANSWERS: &str = "table inet track {
  chain output { type filter hook output priority 0; ct state new counter; }
}
";

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "netns-exit-is-a-cause",
            "The last tick of a namespace that ends has its totals, and what its end deleted",
            netns_exit,
        ),
        Test::new(
            "all-causes-at-once",
            "Evictions, flushes, resets, dumps and the end of a namespace at once: each counted as what it is",
            all_at_once,
        ),
    ]
}

/// Sends in the calling thread's namespace, to the end.
pub(super) fn send(checks: &mut Checks, plan: Plan) -> Result<i64> {
    let outcome = Running::start("flows", plan, None).join(checks)?;
    i64::try_from(outcome.sent).context("flows")
}

pub(super) fn udp(flows: u64) -> Plan {
    Plan::new(Protocol::Udp, Family::Ipv4, flows)
}

/// Expects the totals, and that they add up.
fn expect(checks: &mut Checks, whose: &str, netns: &report::Netns, totals: &[(&str, i64)]) {
    for (name, expected) in totals {
        checks.equal(&format!("{name} of {whose}"), netns.total(name), Some(*expected));
    }
    for (beginning, whole) in [
        ("deletes_by_cause_", "deletes"),
        ("deletes_by_status_", "deletes"),
        ("inserts_by_protocol_", "inserts"),
    ] {
        let parts = netns.flat_totals();
        let parts: Option<Vec<i64>> = parts
            .iter()
            .filter(|(name, _)| name.starts_with(beginning))
            .map(|(_, value)| *value)
            .collect();
        let sum = parts.filter(|parts| !parts.is_empty()).map(|parts| parts.iter().sum::<i64>());
        checks.equal(&format!("sum of {beginning}* of {whose}"), sum, netns.total(whole));
    }
}

/// The inode number and the cookie of a namespace. Before 5.14 there is no cookie.
pub(super) type Id = (u64, Option<u64>);

fn id(netns: &report::Netns) -> Id {
    (netns.inode, netns.cookie)
}

/// The last that was said of a namespace, after its end.
fn last_of(watch: &mut Watch, of: Id) -> Result<report::Netns> {
    wait::until(&format!("the end of the namespace {of:?}"), wait::SHORT, || {
        watch.next_tick()?;
        Ok(watch.ended().iter().find(|netns| id(netns) == of).cloned())
    })
}

/// Waits for the namespace's baseline.
pub(super) fn id_of(watch: &mut Watch, inode: u64) -> Result<Id> {
    let tick = watch.baseline(inode)?;
    tick.netns(inode).map(id).context("no namespace with a baseline")
}

fn netns_exit(env: &Env, checks: &mut Checks) -> Result<()> {
    stage::prepare(TRACK)?;
    let own = Netns::own()?.inode();
    let mut watch = Watch::start(env, &[])?;
    watch.baseline(own)?;
    let sent_here = send(checks, udp(100))?;

    let second = Inhabited::new()?;
    let second_id = id_of(&mut watch, second.netns.inode())?;
    let sent = second.send(700, checks)?;
    second.netns.run(|| command::run("conntrack", &["-D", "-p", "udp", "--dport", "1024"]))?;
    drop(second);
    let last = last_of(&mut watch, second_id)?;
    expect(
        checks,
        "a namespace that ended",
        &last,
        &[
            ("inserts", sent),
            ("deletes", sent),
            ("frees", sent),
            ("deletes_by_cause_user", 1),
            ("deletes_by_cause_netns_exit", sent - 1),
            ("deletes_by_status_unreplied_udp", sent),
        ],
    );
    for _ in 0..3 {
        let tick = watch.next_tick()?;
        let seen = tick.netns.iter().any(|netns| id(netns) == second_id);
        checks.that("afterwards it is in no tick", !seen, &tick.netns);
    }
    checks.equal(
        "ticks with its end",
        watch.ended().iter().filter(|netns| id(netns) == second_id).count(),
        1,
    );

    // In the middle of a flood, before a tick has shown it.
    let before = watch.ended().len();
    let mut sent_at_all = 0;
    for _ in 0..3 {
        let short = Netns::new()?;
        sent_at_all += short.run(|| {
            stage::prepare(TRACK)?;
            let mut flood = Running::start("flood", udp(1_000_000), None);
            thread::sleep(Duration::from_millis(70));
            flood.progress().stop();
            i64::try_from(flood.join(checks)?.sent).context("flows")
        })?;
    }
    wait::until("the end of three more namespaces", wait::SHORT, || {
        watch.next_tick()?;
        Ok((watch.ended().len() >= before + 3).then_some(()))
    })?;
    let total = |name| -> Option<i64> {
        watch.ended().iter().skip(before).map(|netns| netns.total(name)).sum()
    };
    for name in ["inserts", "deletes", "frees", "deletes_by_cause_netns_exit"] {
        checks.equal(&format!("{name} of three short lives"), total(name), Some(sent_at_all));
    }

    let netns = watch.quiet_netns(own)?;
    expect(
        checks,
        "the survivor",
        &netns,
        &[("inserts", sent_here), ("deletes", 0), ("deletes_by_cause_netns_exit", 0)],
    );
    checks.equal("drift of the survivor", netns.count_drift, Some(0));
    checks.equal("ctmon ends with 0", watch.terminate()?.status.code(), Some(0));
    Ok(())
}

/// What is done in one namespace; it returns the flows that it sent.
type Part = fn(&mut Checks) -> Result<i64>;

/// Does all parts at the same time.
fn together<'a, const N: usize>(
    checks: &mut Checks,
    parts: [(&'a str, &Netns, Part); N],
) -> Result<BTreeMap<&'a str, i64>> {
    thread::scope(|scope| {
        let threads = parts.map(|(what, place, part)| {
            scope.spawn(move || {
                let mut checks = Checks::default();
                let sent = place.run(|| part(&mut checks))?;
                Ok::<_, anyhow::Error>((what, sent, checks))
            })
        });
        let mut sent = BTreeMap::new();
        for thread in threads {
            let result = thread.join().map_err(|_| anyhow!("a sender panicked"))?;
            let (what, number, inner) = result?;
            let violations = inner.reason(Ok(()));
            checks.that(what, violations.is_none(), &violations);
            sent.insert(what, number);
        }
        Ok(sent)
    })
}

/// Each part in a namespace of its own; all of them at the same time.
fn all_at_once(env: &Env, checks: &mut Checks) -> Result<()> {
    const FLUSHES: i64 = 5;
    const RESETS: i64 = 500;
    stage::prepare(TRACK)?;
    // All namespaces have this limit; only one of them reaches it.
    let _max = Limit::max(&env.init, 1000)?;
    let _buckets = Limit::buckets(&env.init, 512)?;
    let own = Netns::own()?.inode();
    let mut watch = Watch::start(env, &[])?;
    watch.baseline(own)?;
    let [flushed, reset, dumped, ended] = [(); 4].map(|()| Inhabited::new());
    let (flushed, reset, dumped, ended) = (flushed?, reset?, dumped?, ended?);
    reset.netns.run(|| {
        command::run("nft", &["flush", "ruleset"])?;
        stage::prepare(TRACK_ANSWERS)
    })?;
    let ended_id = id_of(&mut watch, ended.netns.inode())?;
    for netns in [&flushed, &reset, &dumped] {
        watch.baseline(netns.netns.inode())?;
    }
    let stat_before = kernel::stat()?;

    let here = Netns::own()?;
    let parts: [(&str, &Netns, Part); 5] = [
        ("evicting", &here, |checks| send(checks, udp(4000))),
        ("flushed", &flushed.netns, |checks| {
            let mut sum = 0;
            for _ in 0..FLUSHES {
                sum += send(checks, udp(100))?;
                command::flush()?;
            }
            Ok(sum)
        }),
        ("reset", &reset.netns, |checks| {
            let tcp = Plan::new(Protocol::Tcp, Family::Ipv4, RESETS.unsigned_abs());
            send(checks, Plan { exchange: Exchange::Closed, ..tcp })
        }),
        ("dumped", &dumped.netns, |checks| {
            netns::write("/proc/sys/net/netfilter/nf_conntrack_udp_timeout", "1")?;
            let sent = send(checks, udp(200))?;
            thread::sleep(Duration::from_millis(1500));
            command::run("conntrack", &["-L"])?;
            Ok(sent)
        }),
        ("ended", &ended.netns, |checks| send(checks, udp(300))),
    ];
    let sent = together(checks, parts)?;
    drop(ended);

    let last = last_of(&mut watch, ended_id)?;
    expect(
        checks,
        "the one that ended",
        &last,
        &[
            ("inserts", 300),
            ("deletes_by_cause_netns_exit", 300),
            ("deletes_by_cause_user", 0),
            ("deletes_by_cause_kernel", 0),
            ("early_drops", 0),
        ],
    );
    let tick = watch.quiet()?;
    let of = |inode: u64| tick.netns(inode).cloned().unwrap_or_default();
    let evicted = kernel::stat()?.get("early_drop").copied().unwrap_or_default()
        - stat_before.get("early_drop").copied().unwrap_or_default();
    let seen = of(own);
    checks.that("something was evicted", evicted > 0, evicted);
    expect(
        checks,
        "the full one",
        &seen,
        &[
            ("inserts", sent.get("evicting").copied().unwrap_or_default()),
            ("deletes_by_cause_early_drop", evicted),
            ("deletes_by_cause_user", 0),
            ("deletes_by_cause_netns_exit", 0),
        ],
    );
    expect(
        checks,
        "the flushed one",
        &of(flushed.netns.inode()),
        &[
            ("inserts", FLUSHES * 100),
            ("deletes", FLUSHES * 100),
            ("deletes_by_cause_user", FLUSHES * 100),
        ],
    );
    expect(
        checks,
        "the one with resets",
        &of(reset.netns.inode()),
        &[
            ("inserts", RESETS),
            ("deletes_by_cause_kernel", RESETS),
            ("deletes_by_status_unreplied_tcp", RESETS),
            ("deletes", RESETS),
        ],
    );
    expect(
        checks,
        "the dumped one",
        &of(dumped.netns.inode()),
        &[("inserts", 200), ("deletes_by_cause_kernel", 200), ("deletes", 200)],
    );
    for inode in [own, flushed.netns.inode(), reset.netns.inode(), dumped.netns.inode()] {
        checks.equal("count_drift", of(inode).count_drift, Some(0));
    }
    Ok(())
}
